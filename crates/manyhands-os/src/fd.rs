//! Descriptors: owned ends, pipes, and the bell that wakes a sleeping process.
//!
//! Always: whatever is made here is closed on exec; a descriptor travels as [`OwnedFd`] or [`BorrowedFd`].
//! Not here: descriptors that a forked child must not keep (`fork_state`), passing them on (`socket`).

use std::io;
pub use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error;

/// A bell between processes: an eventfd, readable from the first ring until it is drained.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A silent bell.
    pub fn new() -> io::Result<EventFd> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| error::context(e, "could not create an eventfd"))?;
        Ok(EventFd(fd))
    }

    /// The bell that another process made and passed on. That it is one shows at the first ring.
    pub fn from_fd(fd: OwnedFd) -> EventFd {
        EventFd(fd)
    }

    /// Rings. A bell that is full of rings already is still ringing, so `EAGAIN` is success.
    pub fn ring(&self) -> io::Result<()> {
        loop {
            match rustix::io::write(&self.0, &1u64.to_ne_bytes()) {
                Ok(_) | Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(error::context(e, "could not ring an eventfd")),
            }
        }
    }

    /// Silences the bell; the number of rings since the last time.
    pub fn drain(&self) -> io::Result<u64> {
        let mut rings = [0; 8];
        loop {
            match rustix::io::read(&self.0, &mut rings) {
                Ok(_) => return Ok(u64::from_ne_bytes(rings)),
                Err(Errno::AGAIN) => return Ok(0),
                Err(Errno::INTR) => {}
                Err(e) => return Err(error::context(e, "could not drain an eventfd")),
            }
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<EventFd> for OwnedFd {
    fn from(bell: EventFd) -> OwnedFd {
        bell.0
    }
}

/// A pipe: the end to read from, the end to write to.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|e| error::context(e, "could not create a pipe"))
}

/// What is left to read of a file that says nothing of its size: `/proc`'s and its like, which are short.
pub(crate) fn read_all(file: impl AsFd) -> io::Result<Vec<u8>> {
    const ROOM: usize = 4096;
    let mut text = Vec::new();
    loop {
        let len = text.len();
        text.resize(len + ROOM, 0);
        let n = match rustix::io::read(&file, &mut text[len..]) {
            Err(Errno::INTR) => 0,
            Err(e) => return Err(e.into()),
            Ok(0) => {
                text.truncate(len);
                return Ok(text);
            }
            Ok(n) => n,
        };
        text.truncate(len + n);
    }
}

/// A second descriptor of the same open file. Never 0, 1 or 2: those mean something to a new program.
pub fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|e| {
        error::context(
            e,
            format!("could not duplicate descriptor {}", fd.as_raw_fd()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll;

    #[test]
    fn a_bell_rings_until_it_is_drained() {
        let bell = EventFd::new().unwrap();
        assert_eq!(bell.drain().unwrap(), 0);
        assert!(!poll::is_readable(bell.as_fd()).unwrap());
        bell.ring().unwrap();
        bell.ring().unwrap();
        assert!(poll::is_readable(bell.as_fd()).unwrap());
        assert_eq!(bell.drain().unwrap(), 2);
        assert!(!poll::is_readable(bell.as_fd()).unwrap());
    }

    #[test]
    fn a_full_bell_is_rung_all_the_same() {
        let bell = EventFd::new().unwrap();
        rustix::io::write(&bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        bell.ring().unwrap();
        assert_eq!(bell.drain().unwrap(), u64::MAX - 1);
    }

    #[test]
    fn everything_made_here_is_closed_on_exec() {
        let (read, write) = pipe().unwrap();
        let copy = duplicate(read.as_fd()).unwrap();
        let bell = OwnedFd::from(EventFd::new().unwrap());
        for fd in [&read, &write, &copy, &bell] {
            assert!(
                rustix::io::fcntl_getfd(fd)
                    .unwrap()
                    .contains(rustix::io::FdFlags::CLOEXEC)
            );
        }
        assert!(copy.as_raw_fd() > 2);
    }
}
