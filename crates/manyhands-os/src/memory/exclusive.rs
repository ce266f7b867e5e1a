//! Memory that is one thing to all who have it, and never plain shared memory to anybody.
//!
//! A [`Memfd`] is mapped as whatever its holder takes it for. That will not do for bytes that a holder reads and writes
//! as if they were its own while a lock says so: to nobody may they be a ring, or words to be changed at any time. So
//! the file of such memory has a mark that no bytes can forge: it cannot be opened anew for writing, its mode is 0400.
//! Always: a descriptor with the mark is no `Memfd`, one without it is not this, and no safe code turns one
//! into the other.
//! Not here: who may touch the bytes when (`manyhands-shm`'s `guarded`).

use std::io;
use std::ptr::NonNull;

use rustix::fs::{Mode, Stat};

use super::{Mapping, Memfd};
use crate::fd::{BorrowedFd, OwnedFd, duplicate};

/// The mark: whoever has the descriptor may write, but nobody can open it anew for that.
const MARK: Mode = Mode::RUSR;

pub(super) fn is_marked(stat: &Stat) -> bool {
    Mode::from_raw_mode(stat.st_mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO) == MARK
}

/// Such memory, mapped here readable and writable, also for children that are forked later.
#[derive(Debug)]
pub struct Exclusive(Mapping);

impl Exclusive {
    /// New memory of `len` bytes, all zero, and the descriptor that it is passed on as.
    pub fn create(name: &str, len: u64) -> io::Result<(Self, OwnedFd)> {
        let memory = Memfd::make(name, len, MARK)?;
        let mapping = Mapping::shared_with_children(&memory)?;
        Ok((Self(mapping), memory.into()))
    }

    /// What another process made and passed on; refused without the mark.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let memory = Memfd::check(duplicate(fd)?, true)?;
        Mapping::shared_with_children(&memory).map(Self)
    }

    /// Where it begins: the start of a page.
    pub fn base(&self) -> NonNull<u8> {
        self.0.base()
    }

    /// Its length in bytes, never 0.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fd::AsFd;

    #[test]
    fn what_is_exclusive_is_no_memfd_and_no_memfd_is_exclusive() {
        let (memory, fd) = Exclusive::create("test", 4096).unwrap();
        let again = Exclusive::of(fd.as_fd()).unwrap();
        assert_eq!((memory.len(), again.len()), (4096, 4096));
        let plain = Memfd::create("test", 4096).unwrap();
        for error in [
            Memfd::from_fd(fd).map(drop).unwrap_err(),
            Exclusive::of(plain.as_fd()).map(drop).unwrap_err(),
        ] {
            assert!(error.to_string().contains("of another kind"), "{error}");
        }
    }
}
