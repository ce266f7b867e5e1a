//! Shared memory without a name: sealed memfds and their mappings.
//!
//! Always: a memfd is as long as it was made, for good (sealed against shrinking and growing), so a mapping
//! never faults because another process truncated the file; nothing is left behind when every process
//! that has it is gone; only the same user may open it through `/proc`.
//! Not here: what lies in it, and who may touch which byte when (`manyhands-shm`). A mapping gives a pointer,
//! never a slice: another process may write at any time.

use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

mod exclusive;

pub use exclusive::Exclusive;

use crate::error;
use crate::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use crate::fork_state::{self, ParentFd};

/// What keeps a mapping from faulting: nobody can cut the file short, and nobody can take that away.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// Up to this, memory is got when it is made, where the kernel counts it.
const GOT_WHOLE: u64 = 64 << 20;

/// What helps where the kernel counts memory.
const NO_MORE: &str = "all memory is promised to somebody (`sysctl vm.overcommit_memory` is 2): use fewer workers, or \
                       raise `vm.overcommit_ratio`";

/// Whether the kernel promises no more memory than there is (`vm.overcommit_memory` is 2). A new page of shared
/// memory that it has none for is a bus error then, so pages have to be got before they are written.
pub fn is_counted() -> bool {
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    match KNOWN.load(Relaxed) {
        0 => {
            let told = std::fs::read("/proc/sys/vm/overcommit_memory").unwrap_or_default();
            let counted = told.first() == Some(&b'2');
            KNOWN.store(1 + u8::from(counted), Relaxed); // whoever reads it finds out the same
            counted
        }
        known => known == 2,
    }
}

/// `len`, or as much as a file of this process may have (`ulimit -f`): for what may be shorter.
pub fn at_most(len: u64) -> u64 {
    const WHOLE: u64 = 64 << 10;
    match error::limit(libc::RLIMIT_FSIZE) {
        Some(limit) if limit < len => (limit & !(WHOLE - 1)).max(WHOLE),
        _ => len,
    }
}

/// An anonymous file of a fixed length, to be mapped by several processes.
#[derive(Debug)]
pub struct Memfd {
    fd: OwnedFd,
    len: u64,
}

impl Memfd {
    /// A new one of `len` bytes, all zero; memory is used only for pages that are touched.
    ///
    /// `name` is for people: `/proc/PID/fd` shows it.
    pub fn create(name: &str, len: u64) -> io::Result<Memfd> {
        Memfd::make(name, len, Mode::RUSR | Mode::WUSR)
    }

    fn make(name: &str, len: u64, mode: Mode) -> io::Result<Memfd> {
        if len == 0 || i64::try_from(len).is_err() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "could not create shared memory of {len} bytes: it has to be 1 to 2^63 - 1"
                ),
            ));
        }
        let what = || {
            format!(
                "could not create {} of shared memory for {name}",
                error::bytes(len)
            )
        };
        let fd = create_fd(name).map_err(|e| error::context(e, what()))?;
        rustix::fs::fchmod(&fd, mode).map_err(|e| error::context(e, what()))?;
        rustix::fs::ftruncate(&fd, len).map_err(|e| error::context(e, what()))?;
        if is_counted() && len <= GOT_WHOLE {
            rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, len)
                .map_err(|e| error::advised(e, what(), NO_MORE))?;
        }
        rustix::fs::fcntl_add_seals(&fd, SEALS).map_err(|e| error::context(e, what()))?;
        Ok(Memfd { fd, len })
    }

    /// The memfd that another process made and passed on; refused unless its length is sealed, and if it is
    /// [`Exclusive`].
    pub fn from_fd(fd: OwnedFd) -> io::Result<Memfd> {
        Memfd::check(fd, false)
    }

    fn check(fd: OwnedFd, is_exclusive: bool) -> io::Result<Memfd> {
        let number = fd.as_raw_fd();
        let refused = |why: &str| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("descriptor {number} is not shared memory of manyhands: {why}"),
            )
        };
        let seals = match rustix::fs::fcntl_get_seals(&fd) {
            Ok(seals) => seals,
            Err(Errno::INVAL) => return Err(refused("it is not a memfd")),
            Err(e) => {
                return Err(error::context(
                    e,
                    format!("could not look at descriptor {number}"),
                ));
            }
        };
        if !seals.contains(SEALS) {
            return Err(refused("its length is not sealed"));
        }
        let stat = rustix::fs::fstat(&fd)
            .map_err(|e| error::context(e, format!("could not look at descriptor {number}")))?;
        if exclusive::is_marked(&stat) != is_exclusive {
            return Err(refused("it is memory of another kind"));
        }
        match u64::try_from(stat.st_size) {
            Ok(len) if len > 0 => Ok(Memfd { fd, len }),
            _ => Err(refused("it is empty")),
        }
    }

    /// The memfd behind a path of `/proc/PID/fd`: of a process of the same user, or as root. Refused unless its length is
    /// sealed, so that nobody cuts it short under a mapping.
    pub fn open(path: &std::path::Path, may_write: bool) -> io::Result<Memfd> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(may_write)
            .open(path)?;
        Memfd::from_fd(file.into())
    }

    /// Its length in bytes, which never changes and is never 0.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// How much memory it takes now, in bytes; what was never written takes none.
    pub fn taken(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstat(&self.fd)
            .map_err(|e| error::context(e, "could not look at shared memory"))?;
        Ok((stat.st_blocks as u64).saturating_mul(512)) // the unit that `stat` counts in
    }

    /// Gives the memory of the whole pages in `range` back to the kernel; they read as zero afterwards.
    ///
    /// Parts of pages at either end are zeroed and kept.
    pub fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        if range.start >= range.end {
            return Ok(());
        }
        let len = range.end - range.start;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        loop {
            match rustix::fs::fallocate(&self.fd, flags, range.start, len) {
                Err(Errno::INTR) => {}
                answer => {
                    return answer.map_err(|e| {
                        error::context(
                            e,
                            format!(
                                "could not give back {} of shared memory at {}",
                                error::bytes(len),
                                range.start
                            ),
                        )
                    });
                }
            }
        }
    }

    /// A second descriptor of the same memory.
    pub fn try_clone(&self) -> io::Result<Memfd> {
        Ok(Memfd {
            fd: crate::fd::duplicate(self.fd.as_fd())?,
            len: self.len,
        })
    }
}

pub(crate) fn page_size() -> usize {
    // SAFETY: asks for a constant of the system.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// A memfd that nobody can execute, where the kernel knows how to say so (Linux 6.3), else a plain one.
pub(crate) fn create_fd(name: &str) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        answer => answer,
    }
}

impl AsFd for Memfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Memfd> for OwnedFd {
    fn from(memfd: Memfd) -> OwnedFd {
        memfd.fd
    }
}

/// What a forked child gets of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InChild {
    /// Nothing: its addresses are free there, or somebody else's.
    Unmapped,
    /// The same.
    Mapped,
}

/// Memory that a user's object lies in, until it is dropped: if the process forks meanwhile, both
/// processes have it as it was then, and go on with it on their own, as with any memory that a program has.
#[derive(Debug)]
pub struct Parting {
    key: u64,
    mapping: Arc<Mapping>,
}

impl Parting {
    /// Ends it. `false`: the process forked, so that a child may look at the file's bytes for as long as it
    /// lives: nobody must change them any more.
    pub fn end(self) -> bool {
        fork_state::stay_whole(self.key)
    }
}

impl Drop for Parting {
    fn drop(&mut self) {
        // In a forked child there is no such registration, and another one may have the same number.
        if self.mapping.generation == fork_state::generation() {
            fork_state::stay_whole(self.key);
        }
    }
}

/// A memfd's whole length in this process's address space.
///
/// Valid at [`base`](Mapping::base) for [`len`](Mapping::len) bytes until it is dropped.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    in_child: InChild,
    generation: u64,
    /// The file, where parts of it are to be mapped anew.
    file: Option<ParentFd>,
}

// SAFETY: the mapping belongs to the process, not to a thread; the value gives out an address and no access.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; no method changes the value.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Readable, writable, shared. A forked child does not get it (touching it there is a segmentation
    /// fault), so that no second writer comes to be behind the first one's back.
    pub fn shared(memfd: &Memfd) -> io::Result<Mapping> {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        Mapping::map(memfd, rights, MapFlags::SHARED, InChild::Unmapped)
    }

    /// Readable, writable, shared, also with children that are forked later: for memory that a user's
    /// objects lie in, which a user's fork is expected to keep.
    pub fn shared_with_children(memfd: &Memfd) -> io::Result<Mapping> {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        Mapping::map(memfd, rights, MapFlags::SHARED, InChild::Mapped)
    }

    /// Has the system put pages to the `len` bytes at `at`, of which there are none yet: in one go, half of what it
    /// costs page by page as they are written. An error if it has no memory for them; where the kernel cannot do it
    /// (before Linux 5.14) nothing happens.
    ///
    /// # Panics
    /// If they are not within the mapping.
    pub fn populate(&self, at: usize, len: usize) -> io::Result<()> {
        assert!(
            at <= self.len && len <= self.len - at,
            "cannot populate {len} bytes at {at} of a mapping of {}",
            self.len
        );
        let page = page_size();
        let begin = at / page * page;
        // SAFETY: within our own mapping; makes pages present, which changes nothing that they hold.
        let done = unsafe {
            let place = self.base.as_ptr().add(begin).cast::<c_void>();
            rustix::mm::madvise(place, at + len - begin, Advice::LinuxPopulateWrite)
        };
        match done {
            Ok(()) | Err(Errno::INVAL | Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(e) => Err(error::context(
                e,
                format!(
                    "could not get {} of shared memory",
                    error::bytes(len as u64)
                ),
            )),
        }
    }

    /// Readable, writable, shared with other processes, and parted by a fork: see [`Mapping::part`].
    pub fn parted_by_fork(memfd: &Memfd) -> io::Result<Mapping> {
        let mut mapping = Mapping::shared_with_children(memfd)?;
        let file = memfd.try_clone()?;
        mapping.file = Some(ParentFd::new(file.into()));
        Ok(mapping)
    }

    /// Has a user's object lie in the `len` bytes at `at` until what is returned is dropped. They must be whole
    /// pages that hold nothing else, and nobody else must write to them until then; of what is no
    /// whole pages, only the fork itself is noticed.
    ///
    /// # Panics
    /// If they are not within the mapping.
    pub fn part(self: &Arc<Mapping>, at: usize, len: usize) -> Parting {
        assert!(
            at <= self.len && len <= self.len - at,
            "cannot part {len} bytes at {at} of a mapping of {}",
            self.len
        );
        let page = page_size();
        let whole = at.is_multiple_of(page) && len.is_multiple_of(page);
        let fd = self.file.as_ref().and_then(|file| file.get().ok());
        let span = fork_state::Span {
            base: self.base.as_ptr().addr(),
            at,
            len: if whole && fd.is_some() { len } else { 0 },
            fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        };
        Parting {
            key: fork_state::part_at_fork(span),
            mapping: self.clone(),
        }
    }

    /// Readable only; others' writes are seen. A forked child keeps it.
    pub fn read_only(memfd: &Memfd) -> io::Result<Mapping> {
        Mapping::map(memfd, ProtFlags::READ, MapFlags::SHARED, InChild::Mapped)
    }

    /// Readable and writable; a page is shared until it is written here, and private from then on.
    /// Until then others' writes are seen. A forked child keeps it.
    pub fn copy_on_write(memfd: &Memfd) -> io::Result<Mapping> {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        Mapping::map(memfd, rights, MapFlags::PRIVATE, InChild::Mapped)
    }

    fn map(
        memfd: &Memfd,
        rights: ProtFlags,
        flags: MapFlags,
        in_child: InChild,
    ) -> io::Result<Mapping> {
        let failed = |e: Errno| {
            error::advised(
                e,
                format!("could not map {} of shared memory", error::bytes(memfd.len)),
                "ask for less, or raise the limit of address space (`ulimit -v`)",
            )
        };
        let len = usize::try_from(memfd.len).map_err(|_| failed(Errno::NOMEM))?;
        // SAFETY: a new mapping at an address of the kernel's choice, so none that exists is touched.
        let base = unsafe { rustix::mm::mmap(null_mut(), len, rights, flags, memfd, 0) };
        let base = NonNull::new(base.map_err(failed)?.cast()).expect("a mapping is never at 0");
        let mapping = Mapping {
            base,
            len,
            in_child,
            generation: fork_state::generation(),
            file: None,
        };
        if in_child == InChild::Unmapped {
            mapping.advise(Advice::LinuxDontFork).map_err(failed)?;
        }
        // A core dump with gigabytes of somebody's arrays helps nobody.
        mapping.advise(Advice::LinuxDontDump).map_err(failed)?;
        Ok(mapping)
    }

    fn advise(&self, advice: Advice) -> Result<(), Errno> {
        // SAFETY: exactly our own mapping; neither advice used here changes what its memory holds.
        unsafe { rustix::mm::madvise(self.base.as_ptr().cast::<c_void>(), self.len, advice) }
    }

    /// Where it begins: the start of a page.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Its length in bytes, never 0.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.in_child == InChild::Unmapped && self.generation != fork_state::generation() {
            return; // The child never had it; what lies there now is not ours.
        }
        // SAFETY: exactly the mapping made in `map`, unmapped once; whoever uses `base` keeps `self` alive.
        // It cannot fail for a range that is mapped as a whole.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
