//! Waiting for many descriptors at once, to the microsecond.
//!
//! Always: a wait that a signal ends returns `ErrorKind::Interrupted`, so that the caller can run its
//! handlers; a wait is never shorter than asked for because a kernel counts in milliseconds.
//! Not here: waiting for a word in memory (`futex`), what a ready descriptor means.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, epoll};

use crate::clock;
use crate::error;
use crate::fd::{AsRawFd, BorrowedFd};
use crate::fork_state::ParentFd;

/// The most descriptors that one [`Poller::wait`] reports; the others are reported by the next.
const BATCH: usize = 64;

/// A standing set of descriptors to wait for: an epoll instance.
///
/// A forked child would share the set with its parent, so the child's copy is closed and refuses to be used.
#[derive(Debug)]
pub struct Poller(ParentFd);

impl Poller {
    /// An empty set.
    pub fn new() -> io::Result<Poller> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|e| error::context(e, "could not create an epoll instance"))?;
        Ok(Poller(ParentFd::new(fd)))
    }

    /// The set's own descriptor, readable while any watched one is: one set can watch another.
    pub fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.0.get()
    }

    /// Adds a descriptor; `token` is what [`wait`](Poller::wait) reports when it is readable or hung up.
    ///
    /// Remove it before it is closed: while a copy of it lives in another process, epoll goes on reporting it.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(self.0.get()?, fd, data, epoll::EventFlags::IN).map_err(|e| {
            error::context(e, format!("could not watch descriptor {}", fd.as_raw_fd()))
        })
    }

    /// Takes a descriptor out of the set.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        epoll::delete(self.0.get()?, fd).map_err(|e| {
            error::context(
                e,
                format!("could not stop watching descriptor {}", fd.as_raw_fd()),
            )
        })
    }

    /// Waits until a descriptor is ready or the time is up; `ready` then holds the tokens of the ready ones.
    ///
    /// It may be woken with nothing ready. Without a time-out it waits without end.
    pub fn wait(&self, ready: &mut Vec<u64>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        let fd = self.0.get()?;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        let n = match wait_precisely(fd, &mut events, timeout) {
            None => wait_in_milliseconds(fd, &mut events, timeout)?,
            Some(n) => n?,
        };
        ready.extend(events[..n].iter().map(|event| event.u64));
        Ok(())
    }
}

/// Whether `epoll_pwait2` is known to be missing (Linux before 5.11) or refused (an old container profile).
static COARSE: AtomicBool = AtomicBool::new(false);

/// `epoll_pwait2`; `None` where there is none.
fn wait_precisely(
    fd: BorrowedFd<'_>,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> Option<io::Result<usize>> {
    if COARSE.load(Relaxed) {
        return None;
    }
    let timeout = clock::timespec(timeout);
    let timeout = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `events` is valid for writes of its length, the time-out is null or points to a live `Timespec`,
    // whose layout is the kernel's on 64-bit targets, and a null signal mask leaves the mask alone.
    let n = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            fd.as_raw_fd(),
            events.as_mut_ptr(),
            events.len() as libc::c_int,
            timeout,
            std::ptr::null::<u64>(),
            0usize,
        )
    };
    if n >= 0 {
        return Some(Ok(n as usize));
    }
    let error = io::Error::last_os_error();
    if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
        COARSE.store(true, Relaxed);
        return None;
    }
    Some(Err(error))
}

/// `epoll_wait`, which counts in milliseconds: rounded up, so that nobody spins through the last one.
fn wait_in_milliseconds(
    fd: BorrowedFd<'_>,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let timeout = match timeout {
        None => -1,
        Some(timeout) => timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32,
    };
    // SAFETY: `events` is valid for writes of its length.
    let n = unsafe {
        libc::epoll_wait(
            fd.as_raw_fd(),
            events.as_mut_ptr(),
            events.len() as libc::c_int,
            timeout,
        )
    };
    if n < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(n as usize)
    }
}

/// Waits until one of `fds` is readable or hung up, or the time is up; says which are.
pub fn readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<_> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    rustix::event::poll(&mut polled, clock::timespec(timeout).as_ref())?;
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// Waits until `fd` can be written to or is hung up, or the time is up; says whether it is.
pub fn writable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    Ok(rustix::event::poll(&mut polled, clock::timespec(timeout).as_ref())? > 0)
}

/// Whether the other end of the socket `fd` sends nothing any more: it is closed, most likely.
pub fn is_hung_up(fd: BorrowedFd<'_>) -> io::Result<bool> {
    any_now(fd, PollFlags::RDHUP)
}

/// Whether `fd` is readable or hung up, now.
pub fn is_readable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    any_now(fd, PollFlags::IN)
}

fn any_now(fd: BorrowedFd<'_>, events: PollFlags) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(fd, events)];
    loop {
        match rustix::event::poll(&mut polled, clock::timespec(Some(Duration::ZERO)).as_ref()) {
            Ok(n) => return Ok(n > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
