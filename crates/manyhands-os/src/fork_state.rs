//! Forks: which process this is, and what a forked child must not keep.
//!
//! A fork copies everything, so a child wakes up holding its parent's rings, bells and children. Whoever owns
//! such a thing remembers the [`generation`] it was made in; in another one it does nothing, neither on use
//! (a clear error) nor on drop.
//!
//! Always: the generation grows in a forked child, and the parent's descriptors registered here are closed
//! there, before any code after the `fork` runs; memory registered here is made private before the child is
//! there, so that neither process sees what the other one writes. Handlers of `pthread_atfork` do so, so it holds
//! for whoever forks, Python, Rust or a C library. The registry's lock is held across the fork, so that no
//! child begins with a lock that nobody will release; no code of others runs meanwhile (as it would between
//! hooks of `os.register_at_fork`), so none can wait for that lock in vain.
//! Not here: forking (`child`). A program started by exec or `child::spawn` is no forked child.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::*};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

static GENERATION: AtomicU64 = AtomicU64::new(0);
static PID: AtomicI32 = AtomicI32::new(0);
static FORKS: AtomicU64 = AtomicU64::new(0);
static HOOKED: AtomicBool = AtomicBool::new(false);

/// How many forks lie between the first process and this one: a number that no ancestor had.
#[inline]
pub fn generation() -> u64 {
    hooked();
    GENERATION.load(Relaxed)
}

/// This process's number, without the system call.
#[inline]
pub fn pid() -> i32 {
    hooked();
    PID.load(Relaxed)
}

/// How often this process, or an ancestor before it was forked off, was about to fork: what was made
/// since this number last changed is in no other process's memory.
#[inline]
pub fn forks() -> u64 {
    hooked();
    FORKS.load(Relaxed)
}

#[inline]
fn hooked() {
    // Acquire pairs with the Release in `hook`: the pid is visible.
    if !HOOKED.load(Acquire) {
        hook();
    }
}

/// Registers the handlers. Two threads may both do so, without a lock that a fork could catch them holding:
/// handlers registered twice count a fork twice, which is as good.
#[cold]
fn hook() {
    PID.store(std::process::id() as i32, Relaxed);
    // SAFETY: the handlers are functions of this image, which glibc forgets if the image is unloaded.
    let refused = unsafe {
        libc::pthread_atfork(
            Some(at_fork),
            Some(at_fork_in_parent),
            Some(at_fork_in_child),
        )
    };
    assert_eq!(
        refused, 0,
        "could not register the fork handlers: out of memory"
    );
    HOOKED.store(true, Release); // pairs with the load in `hooked`
}

/// Descriptors to be closed in a forked child, and memory to be parted from the file behind it before a
/// fork, by the key of their registration.
struct Registry {
    next: u64,
    fds: BTreeMap<u64, RawFd>,
    spans: BTreeMap<u64, Span>,
}

/// Whole pages of a shared mapping of `fd`, which begin at `at` of both; perhaps none.
pub(crate) struct Span {
    pub(crate) base: usize,
    pub(crate) at: usize,
    pub(crate) len: usize,
    pub(crate) fd: RawFd,
}

impl Registry {
    /// Makes all registered memory private, which is then registered no more.
    fn part(&mut self) {
        for Span { base, at, len, fd } in std::mem::take(&mut self.spans).into_values() {
            if len == 0 {
                continue;
            }
            // Where the kernel refuses, parent and child go on seeing each other's writes.
            // SAFETY: the span lies within a mapping of `fd` that lives as long as its registration, and
            // the same pages of the same file come to lie there: whoever reads or writes them sees the
            // same bytes. In one step, so that no thread finds nothing there meanwhile.
            unsafe {
                let place = (base + at) as *mut libc::c_void;
                let rights = libc::PROT_READ | libc::PROT_WRITE;
                let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
                if libc::mmap(place, len, rights, flags, fd, at as libc::off_t) == place {
                    libc::madvise(place, len, libc::MADV_DONTDUMP);
                }
            }
        }
    }
}

/// Has `span` made private before this process next forks. Its mapping and its descriptor stay as long as
/// it is registered.
pub(crate) fn part_at_fork(span: Span) -> u64 {
    hooked();
    let mut registry = registry();
    let key = registry.next;
    registry.next += 1;
    registry.spans.insert(key, span);
    key
}

/// Ends such a registration. `false`: there was a fork since.
pub(crate) fn stay_whole(key: u64) -> bool {
    registry().spans.remove(&key).is_some()
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    next: 0,
    fds: BTreeMap::new(),
    spans: BTreeMap::new(),
});

fn registry() -> MutexGuard<'static, Registry> {
    // Nothing that runs under the lock leaves the map half changed when it panics.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The registry's lock while this thread forks; the depth counts handlers that were registered twice.
struct Held {
    depth: u32,
    guard: Option<MutexGuard<'static, Registry>>,
}

thread_local! {
    static HELD: RefCell<Held> = const { RefCell::new(Held { depth: 0, guard: None }) };
}

extern "C" fn at_fork() {
    FORKS.fetch_add(1, Relaxed);
    // A thread on its way out may have no thread-locals left; it then forks without the lock.
    let held = HELD.try_with(|held| {
        let mut held = held.borrow_mut();
        held.depth += 1;
        held.guard.get_or_insert_with(registry).part();
    });
    if held.is_err() {
        registry().part();
    }
}

/// Runs also when the fork failed.
extern "C" fn at_fork_in_parent() {
    let _ = HELD.try_with(|held| held.borrow_mut().leave());
}

extern "C" fn at_fork_in_child() {
    PID.store(std::process::id() as i32, Relaxed);
    GENERATION.fetch_add(1, Relaxed);
    let _ = HELD.try_with(|held| {
        let mut held = held.borrow_mut();
        if let Some(registry) = held.guard.as_mut() {
            for fd in std::mem::take(&mut registry.fds).into_values() {
                // SAFETY: a registered descriptor is owned by a value that, in another generation than its
                // own, neither uses nor closes it (`Registration`'s contract), so this is its only close.
                unsafe { libc::close(fd) };
            }
        }
        held.leave();
    });
}

impl Held {
    fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 {
            self.guard = None;
        }
    }
}

/// A note that a descriptor is to be closed in forked children, until it is dropped.
///
/// The owner drops it before the descriptor is closed, and in another [`generation`] neither uses the
/// descriptor nor closes it. [`ParentFd`] does both.
#[derive(Debug)]
pub struct Registration {
    key: u64,
    generation: u64,
}

/// Has `fd` closed in every child that is forked from now on; see [`Registration`] for the owner's part.
pub fn close_in_child(fd: &OwnedFd) -> Registration {
    let generation = generation();
    let mut registry = registry();
    let key = registry.next;
    registry.next += 1;
    registry.fds.insert(key, fd.as_raw_fd());
    Registration { key, generation }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.generation == generation() {
            registry().fds.remove(&self.key);
        }
    }
}

/// A descriptor that belongs to this process alone: closed in forked children, where it refuses to be used.
#[derive(Debug)]
pub struct ParentFd {
    fd: ManuallyDrop<OwnedFd>,
    registration: ManuallyDrop<Registration>,
}

impl ParentFd {
    /// Takes `fd` for this process alone.
    pub fn new(fd: OwnedFd) -> ParentFd {
        let registration = close_in_child(&fd);
        ParentFd {
            fd: ManuallyDrop::new(fd),
            registration: ManuallyDrop::new(registration),
        }
    }

    /// The descriptor; an error in a forked child, where it is closed.
    pub fn get(&self) -> io::Result<BorrowedFd<'_>> {
        if self.registration.generation == generation() {
            Ok(self.fd.as_fd())
        } else {
            Err(forked("a descriptor"))
        }
    }
}

impl Drop for ParentFd {
    fn drop(&mut self) {
        if self.registration.generation != generation() {
            return;
        }
        // Under the lock, so that no child is forked between: one that is neither registered nor closed.
        let mut registry = registry();
        registry.fds.remove(&self.registration.key);
        // SAFETY: dropped once, here; nothing uses the field afterwards.
        unsafe { ManuallyDrop::drop(&mut self.fd) };
    }
}

/// The error for using, in a forked child, what belongs to its parent.
pub fn forked(what: &str) -> io::Error {
    io::Error::other(format!(
        "{what} of the parent process cannot be used in process {}, which was forked from it",
        pid()
    ))
}
