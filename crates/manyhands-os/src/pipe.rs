//! Pipes without waiting: read what is there, write what there is room for.
//!
//! Always: nothing here sleeps, though the descriptor is a blocking one that others share; writes of at most
//! [`ATOMIC`] bytes are done whole or not at all.
//! Not here: waiting (`poll`), what the bytes mean (`frame`).

use std::io::{self, IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, ReadWriteFlags};

use crate::clock;
use crate::fd::BorrowedFd;
use crate::poll;

/// So many bytes arrive together, whoever else writes: the kernel's `PIPE_BUF`.
pub const ATOMIC: usize = 4096;

/// "Where the descriptor stands", for calls that take an offset.
const HERE: u64 = u64::MAX;

/// Whether this kernel reads and writes pipes with `RWF_NOWAIT` (Linux 6.4).
static NOWAIT: AtomicBool = AtomicBool::new(true);

fn is_refusal(error: Errno) -> bool {
    [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::PERM].contains(&error)
}

/// Reads what is there, into one of `room` after the other; 0 is the end. `WouldBlock` when there is nothing.
///
/// Without `RWF_NOWAIT` it looks first; who else reads has to be kept away meanwhile.
pub fn read_now(fd: BorrowedFd<'_>, room: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    if NOWAIT.load(Relaxed) {
        match rustix::io::preadv2(fd, room, HERE, ReadWriteFlags::NOWAIT) {
            Err(e) if is_refusal(e) => NOWAIT.store(false, Relaxed),
            Err(Errno::INTR) => return Err(io::ErrorKind::WouldBlock.into()),
            answer => return Ok(answer?),
        }
    }
    if !poll::is_readable(fd)? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(rustix::io::readv(fd, room)?)
}

/// Reads what is there, of a pipe or a socket, at most `room`; 0 is the end, `None` that there is nothing. An error also
/// where this kernel cannot say so of this descriptor: then only a read that may wait can.
pub fn read_if_there(fd: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<Option<usize>> {
    let room = &mut [IoSliceMut::new(room)];
    match rustix::io::preadv2(fd, room, HERE, ReadWriteFlags::NOWAIT) {
        Err(Errno::AGAIN) => Ok(None),
        answer => Ok(Some(answer?)),
    }
}

/// Writes `pieces`, in all at most [`ATOMIC`] bytes, as one. `WouldBlock` when there is no room.
///
/// Without `RWF_NOWAIT` it looks first; who else writes has to be kept away meanwhile.
pub fn write_now(fd: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> io::Result<()> {
    debug_assert!(pieces.iter().map(|piece| piece.len()).sum::<usize>() <= ATOMIC);
    if NOWAIT.load(Relaxed) {
        match rustix::io::pwritev2(fd, pieces, HERE, ReadWriteFlags::NOWAIT) {
            Err(e) if is_refusal(e) => NOWAIT.store(false, Relaxed),
            Err(Errno::INTR) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(e) => return Err(e.into()),
            Ok(_) => return Ok(()),
        }
    }
    if !wait_for_room(fd, Some(Duration::ZERO))? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    rustix::io::writev(fd, pieces)?;
    Ok(())
}

/// Writes what there is room for of `pieces`; returns how much that was. `WouldBlock` when there is no room.
///
/// Without `RWF_NOWAIT` it looks first, and writes at most [`ATOMIC`] bytes of the first piece; who else writes
/// has to be kept away meanwhile.
pub fn write_some(fd: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    if NOWAIT.load(Relaxed) {
        match rustix::io::pwritev2(fd, pieces, HERE, ReadWriteFlags::NOWAIT) {
            Err(e) if is_refusal(e) => NOWAIT.store(false, Relaxed),
            Err(Errno::INTR) => return Err(io::ErrorKind::WouldBlock.into()),
            answer => return Ok(answer?),
        }
    }
    if !wait_for_room(fd, Some(Duration::ZERO))? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let first = pieces.first().map_or(&[][..], |piece| piece);
    Ok(rustix::io::write(fd, &first[..first.len().min(ATOMIC)])?)
}

/// How many bytes nobody has read yet.
pub fn unread(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(fd)?)
}

/// Makes the pipe hold at least `size` bytes. Without privileges that is at most `/proc/sys/fs/pipe-max-size`.
/// Who waits for room wakes.
pub fn grow(fd: BorrowedFd<'_>, size: usize) -> io::Result<()> {
    if rustix::pipe::fcntl_getpipe_size(fd)? < size {
        rustix::pipe::fcntl_setpipe_size(fd, size)?;
    }
    Ok(())
}

/// Waits until there is room for [`ATOMIC`] bytes, or nobody is left to read; false when the time is up.
pub fn wait_for_room(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    Ok(rustix::event::poll(&mut polled, clock::timespec(timeout).as_ref())? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fd::{AsFd, pipe};

    fn is_late<T: std::fmt::Debug>(answer: &io::Result<T>) -> bool {
        matches!(answer, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    fn both_ways(check: impl Fn()) {
        check();
        NOWAIT.store(false, Relaxed);
        check();
        NOWAIT.store(true, Relaxed);
    }

    #[test]
    fn an_empty_pipe_is_not_waited_for() {
        both_ways(|| {
            let (read, write) = pipe().unwrap();
            let mut room = [0; 8];
            assert!(is_late(&read_now(
                read.as_fd(),
                &mut [IoSliceMut::new(&mut room)]
            )));
            write_now(write.as_fd(), &[IoSlice::new(b"ab"), IoSlice::new(b"c")]).unwrap();
            assert_eq!(
                read_now(read.as_fd(), &mut [IoSliceMut::new(&mut room)]).unwrap(),
                3
            );
            assert_eq!(&room[..3], b"abc");
            drop(write);
            assert_eq!(
                read_now(read.as_fd(), &mut [IoSliceMut::new(&mut room)]).unwrap(),
                0
            );
        });
    }

    #[test]
    fn what_is_there_is_read_of_pipes_and_sockets() {
        for (ours, theirs) in [pipe().unwrap(), crate::socket::pair().unwrap()] {
            let mut room = [0; 4];
            match read_if_there(ours.as_fd(), &mut room) {
                Ok(nothing) => assert_eq!(nothing, None),
                Err(_) => continue, // a kernel that cannot say
            }
            assert_eq!(rustix::io::write(&theirs, b"abcdef"), Ok(6));
            assert_eq!(read_if_there(ours.as_fd(), &mut room).unwrap(), Some(4));
            assert_eq!(&room, b"abcd");
            drop(theirs);
            assert_eq!(read_if_there(ours.as_fd(), &mut room).unwrap(), Some(2));
            assert_eq!(read_if_there(ours.as_fd(), &mut room).unwrap(), Some(0));
        }
    }

    #[test]
    fn a_full_pipe_takes_all_or_nothing() {
        both_ways(|| {
            let (read, write) = pipe().unwrap();
            let piece = [7; 3000];
            let mut written = 0;
            while write_now(write.as_fd(), &[IoSlice::new(&piece)]).is_ok() {
                written += piece.len();
            }
            assert!(is_late(&write_now(write.as_fd(), &[IoSlice::new(&piece)])));
            assert!(!wait_for_room(write.as_fd(), Some(Duration::ZERO)).unwrap());
            let mut room = vec![0; 1 << 20];
            let mut got = 0;
            while let Ok(n) = read_now(read.as_fd(), &mut [IoSliceMut::new(&mut room)]) {
                got += n;
            }
            assert_eq!(got, written);
            assert!(wait_for_room(write.as_fd(), None).unwrap());
        });
    }

    #[test]
    fn a_full_pipe_takes_what_there_is_room_for() {
        both_ways(|| {
            let (read, write) = pipe().unwrap();
            let message: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
            let (mut sent, mut got) = (0, Vec::new());
            while got.len() < message.len() {
                match write_some(write.as_fd(), &[IoSlice::new(&message[sent..])]) {
                    Ok(n) if sent < message.len() => {
                        assert!(n > 0);
                        sent += n;
                    }
                    answer => {
                        assert!(sent == message.len() || is_late(&answer));
                        let mut room = vec![0; 10_000];
                        let n = read_now(read.as_fd(), &mut [IoSliceMut::new(&mut room)]).unwrap();
                        got.extend_from_slice(&room[..n]);
                    }
                }
            }
            assert_eq!(got, message);
        });
    }

    #[test]
    fn a_pipe_grows() {
        let (_read, write) = pipe().unwrap();
        let piece = [7; 4096];
        while write_now(write.as_fd(), &[IoSlice::new(&piece)]).is_ok() {}
        grow(write.as_fd(), 1 << 18).unwrap();
        write_now(write.as_fd(), &[IoSlice::new(&piece)]).unwrap();
        grow(write.as_fd(), 4096).unwrap();
        assert!(grow(write.as_fd(), usize::MAX).is_err());
    }

    #[test]
    fn nobody_left_to_read_is_an_error_not_a_wait() {
        both_ways(|| {
            let (read, write) = pipe().unwrap();
            drop(read);
            assert!(wait_for_room(write.as_fd(), None).unwrap());
            let error = write_now(write.as_fd(), &[IoSlice::new(b"x")]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        });
    }
}
