//! Memory that was written once and never changes, for any number of processes to read and to have copies of.
//!
//! Always: sealed against every change before anybody else hears of it, so what is mapped of it is as it was
//! written, whoever has it; it has no name, and is gone with the last process that has it. A copy of a piece
//! costs nothing but the pages that are looked at, and memory for those alone that are written to.
//! Not here: how another process learns of it (it is told an [`Address`], and opens that through `/proc`).

use std::ffi::c_void;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::{NonNull, null_mut};

use rustix::fs::{Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use crate::error;
use crate::fd::{AsRawFd, BorrowedFd, OwnedFd};
use crate::fork_state::ParentFd;
use crate::memory::create_fd;
use crate::named::file_identity;

/// Nobody can change it any more, nor allow it again.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE)
    .union(SealFlags::SEAL);

/// Pieces begin at multiples of this, a page on every machine that we run on.
const ALIGNED: u64 = 64 << 10;

/// Several pieces of memory that never change.
#[derive(Debug)]
pub struct Frozen {
    fd: ParentFd,
    file: (u64, u64),
    pieces: Vec<Range<u64>>,
}

/// Where another process finds it, as long as the one that made it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The descriptor that it is in that process.
    pub fd: i32,
    /// The file's identity.
    pub file: (u64, u64),
}

impl Frozen {
    /// Copies `pieces`. `name` is for people: `/proc/PID/fd` shows it.
    pub fn create(name: &str, pieces: &[&[u8]]) -> io::Result<Frozen> {
        let mut places = Vec::with_capacity(pieces.len());
        let mut end = 0_u64;
        for piece in pieces {
            let begin = end.next_multiple_of(ALIGNED);
            end = begin + piece.len() as u64;
            places.push(begin..end);
        }
        let fd = written(name, pieces, &places, end)?;
        let file = file_identity(&fd)?;
        Ok(Frozen {
            fd: ParentFd::new(fd),
            file,
            pieces: places,
        })
    }

    /// Copies `pieces`, to be had as one piece, at whose end lies a table of where in it each of them begins and how long
    /// it is, in little-endian words of eight bytes. Also where that table is.
    pub fn create_with_table(name: &str, pieces: &[&[u8]]) -> io::Result<(Frozen, Range<u64>)> {
        let mut end = 0_u64;
        let mut table = Vec::with_capacity(16 * pieces.len());
        for piece in pieces {
            let begin = end.next_multiple_of(ALIGNED);
            end = begin + piece.len() as u64;
            table.extend_from_slice(&begin.to_le_bytes());
            table.extend_from_slice(&(piece.len() as u64).to_le_bytes());
        }
        let all: Vec<&[u8]> = pieces.iter().copied().chain([&table[..]]).collect();
        let mut frozen = Self::create(name, &all)?;
        let place = frozen.pieces[pieces.len()].clone();
        frozen.pieces = Vec::from([Range {
            start: 0,
            end: place.end,
        }]);
        Ok((frozen, place))
    }

    /// What another process is to be told of it, beside the places of its pieces.
    pub fn address(&self) -> io::Result<Address> {
        Ok(Address {
            fd: self.fd.get()?.as_raw_fd(),
            file: self.file,
        })
    }

    /// Where its pieces lie.
    pub fn pieces(&self) -> &[Range<u64>] {
        &self.pieces
    }

    /// What the process `pid` of the same user keeps at `address`; refused if it could still change.
    pub fn open(pid: i32, address: Address, pieces: Vec<Range<u64>>) -> io::Result<Frozen> {
        let what = format!(
            "could not open what process {pid} keeps as descriptor {}",
            address.fd
        );
        let failed = |e: Errno| error::context(e, what.clone());
        let refused =
            |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {why}"));
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let path = format!("/proc/{pid}/fd/{}", address.fd);
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        if file_identity(&fd)? != address.file {
            return Err(refused("it is another file by now"));
        }
        match rustix::fs::fcntl_get_seals(&fd) {
            Ok(seals) if seals.contains(SEALS) => {}
            _ => return Err(refused("it is not sealed")),
        }
        let len = rustix::fs::fstat(&fd).map_err(failed)?.st_size as u64;
        let outside = |place: &Range<u64>| {
            place.start > place.end || place.end > len || !place.start.is_multiple_of(ALIGNED)
        };
        if pieces.iter().any(outside) {
            return Err(refused("a piece lies outside of it"));
        }
        Ok(Frozen {
            fd: ParentFd::new(fd),
            file: address.file,
            pieces,
        })
    }

    /// Whether this process can open what `pid` keeps, as far as can be told beforehand.
    pub fn can_open_of(pid: i32) -> bool {
        // The kernel asks for the same right as for a descriptor.
        rustix::fs::readlink(format!("/proc/{pid}/exe"), Vec::new()).is_ok()
    }

    /// A piece as memory of one's own.
    ///
    /// # Panics
    /// If there are not so many pieces.
    pub fn copy(&self, piece: usize) -> io::Result<FrozenCopy> {
        let place = &self.pieces[piece];
        let len = (place.end - place.start) as usize;
        FrozenCopy::map(self.fd.get()?, place.start, len)
    }
}

/// Writes `pieces` to their places in memory of `end` bytes, and seals it.
fn written(name: &str, pieces: &[&[u8]], places: &[Range<u64>], end: u64) -> io::Result<OwnedFd> {
    let what = || format!("could not keep {} for {name}", error::bytes(end));
    let failed = |e: Errno| error::context(e, what());
    let fd = create_fd(name).map_err(failed)?;
    rustix::fs::fchmod(&fd, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    rustix::fs::ftruncate(&fd, end.max(1)).map_err(failed)?;
    for (piece, place) in pieces.iter().zip(places) {
        // Written, not mapped and copied: that takes half the time where the pages are new.
        write_at(&fd, piece, place.start).map_err(failed)?;
    }
    rustix::fs::fcntl_add_seals(&fd, SEALS).map_err(failed)?;
    Ok(fd)
}

/// Bytes that never change, as a descriptor to be passed on; see [`open_sealed`].
pub fn seal(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let place = 0..bytes.len() as u64;
    let end = place.end;
    written(name, &[bytes], &[place], end)
}

/// The `len` bytes that somebody has [sealed](seal); refused if they could still change.
pub fn open_sealed(fd: BorrowedFd<'_>, len: usize) -> io::Result<FrozenCopy> {
    let refused = |why: &str| {
        let what = format!("descriptor {} is no sealed memory: {why}", fd.as_raw_fd());
        io::Error::new(io::ErrorKind::InvalidData, what)
    };
    match rustix::fs::fcntl_get_seals(fd) {
        Ok(seals) if seals.contains(SEALS) => {}
        Ok(_) => return Err(refused("it could still change")),
        Err(_) => return Err(refused("it is not a memfd")),
    }
    if rustix::fs::fstat(fd)?.st_size as u64 != (len as u64).max(1) {
        return Err(refused("it has another length than was said"));
    }
    FrozenCopy::map(fd, 0, len)
}

fn write_at(fd: &OwnedFd, mut bytes: &[u8], mut at: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(fd, bytes, at) {
            Ok(n) => {
                bytes = &bytes[n..];
                at += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// A piece as this process has it: what it writes there is its own. A forked child has it too.
#[derive(Debug)]
pub struct FrozenCopy {
    base: NonNull<u8>,
    len: usize,
}

impl FrozenCopy {
    /// The `len` bytes at `at` of a file that is sealed and has them.
    fn map(fd: BorrowedFd<'_>, at: u64, len: usize) -> io::Result<FrozenCopy> {
        if len == 0 {
            let base = NonNull::dangling();
            return Ok(FrozenCopy { base, len });
        }
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, so none that exists is touched.
        let base = unsafe { rustix::mm::mmap(null_mut(), len, rights, MapFlags::PRIVATE, fd, at) };
        let base = base.map_err(|e| {
            error::advised(
                e,
                format!("could not map {}", error::bytes(len as u64)),
                "ask for less, or raise the limit of address space (`ulimit -v`)",
            )
        })?;
        let base = NonNull::new(base.cast()).expect("a mapping is never at 0");
        Ok(FrozenCopy { base, len })
    }
}

// SAFETY: memory that belongs to the value alone, like a boxed slice.
unsafe impl Send for FrozenCopy {}
// SAFETY: as for `Send`; shared references give out shared bytes only.
unsafe impl Sync for FrozenCopy {}

impl Deref for FrozenCopy {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped for `len` bytes in `map`, until it is dropped. The file is sealed against writes and
        // against shrinking, so pages that are not ours yet do not change, nor go away.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl DerefMut for FrozenCopy {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`; a private mapping, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for FrozenCopy {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: exactly the mapping made in `map`, unmapped once; nobody borrows from it any more.
            let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast::<c_void>(), self.len) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fd::AsFd;

    fn me() -> i32 {
        std::process::id() as i32
    }

    #[test]
    fn every_copy_begins_as_it_was_written() {
        let large = vec![7_u8; 300_000];
        let frozen = Frozen::create("test", &[b"one", &large, b""]).unwrap();
        let again =
            Frozen::open(me(), frozen.address().unwrap(), frozen.pieces().to_vec()).unwrap();
        let mut first = again.copy(1).unwrap();
        first.fill(8);
        assert_eq!(again.copy(1).unwrap()[..], large[..]);
        assert!(first.iter().all(|byte| *byte == 8));
        assert_eq!(again.copy(0).unwrap()[..], *b"one");
        assert!(again.copy(2).unwrap().is_empty());
        let kept = again.copy(1).unwrap();
        drop((frozen, again));
        assert_eq!(kept[..], large[..]);
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_descriptor() {
        for text in [&b""[..], b"one", &[7; 300_000]] {
            let fd = seal("test", text).unwrap();
            assert_eq!(open_sealed(fd.as_fd(), text.len()).unwrap()[..], *text);
            let error = open_sealed(fd.as_fd(), text.len() + 2).unwrap_err();
            assert!(error.to_string().contains("another length"), "{error}");
        }
        let open = crate::memory::Memfd::create("test", 8).unwrap();
        let error = open_sealed(open.as_fd(), 8).unwrap_err();
        assert!(error.to_string().contains("could still change"), "{error}");
    }

    #[test]
    fn pieces_in_one_are_found_by_their_table() {
        let large = vec![7_u8; 100_000];
        let pieces: [&[u8]; 3] = [b"one", &large, b""];
        let (frozen, place) = Frozen::create_with_table("test", &pieces).unwrap();
        let whole = frozen.copy(0).unwrap();
        let table = &whole[place.start as usize..place.end as usize];
        let (words, rest) = table.as_chunks::<8>();
        assert!(rest.is_empty());
        let words: Vec<usize> = words
            .iter()
            .map(|word| u64::from_le_bytes(*word) as usize)
            .collect();
        assert_eq!(words.len(), 6);
        for (pair, piece) in words.chunks(2).zip(pieces) {
            assert_eq!(whole[pair[0]..pair[0] + pair[1]], *piece);
        }
    }

    #[test]
    fn nobody_can_change_it_any_more() {
        let frozen = Frozen::create("test", &[b"one"]).unwrap();
        let fd = frozen.fd.get().unwrap();
        assert_eq!(rustix::io::pwrite(fd, b"two", 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(fd, 0), Err(Errno::PERM));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let frozen = Frozen::create("test", &[b"one"]).unwrap();
        let address = frozen.address().unwrap();
        let beyond = Frozen::open(me(), address, [0..3, 0..1 << 20].to_vec());
        assert!(beyond.unwrap_err().to_string().contains("outside"));
        let other = Address {
            file: (0, 0),
            ..address
        };
        assert!(Frozen::open(me(), other, Vec::new()).is_err());
        let open = crate::memory::Memfd::create("test", 10).unwrap();
        let changing = Address {
            fd: open.as_fd().as_raw_fd(),
            file: file_identity(&open).unwrap(),
        };
        let refused = Frozen::open(me(), changing, Vec::new()).unwrap_err();
        assert!(refused.to_string().contains("not sealed"), "{refused}");
        assert!(Frozen::can_open_of(me()));
        drop(frozen);
        assert!(Frozen::open(me(), address, Vec::new()).is_err());
    }
}
