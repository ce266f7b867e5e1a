//! Packets: messages between processes that arrive whole or not at all, with descriptors.
//!
//! Two sockets of `SOCK_SEQPACKET`, each of which any number of processes may have: the kernel keeps packets apart
//! and in order, gives each to one reader, and tells either side when nobody has the other one any more, however
//! its holders ended.
//!
//! Always: no call here waits, so whoever does waits for the descriptor (`poll`); a descriptor that arrives is closed on
//! exec. A packet is one byte long at least: one of none would look like the end.
//! Not here: what a packet says, how many may be on their way.

use std::io::{self, IoSlice};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::ancillary;
use crate::error;
use crate::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Two connected sockets.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|e| error::context(e, "could not create a pair of packet sockets"))
}

/// Whether `fd` is one of such a pair, as far as its kind shows.
pub fn is_one(fd: BorrowedFd<'_>) -> bool {
    matches!(
        rustix::net::sockopt::socket_type(fd),
        Ok(SocketType::SEQPACKET)
    )
}

/// Sends `parts` as one packet. `WouldBlock` while there is no room, `BrokenPipe` when nobody has the other end.
pub fn send(sock: BorrowedFd<'_>, parts: &[&[u8]], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    ancillary::check_count(fds)?;
    let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    match ancillary::send(sock, &slices, fds, flags) {
        Ok(_) => Ok(()),
        // Whoever read there has closed it with something left to read.
        Err(Errno::CONNRESET) => Err(Errno::PIPE.into()),
        // So many descriptors are on their way that the kernel takes no more: until some have arrived.
        Err(Errno::TOOMANYREFS) => Err(Errno::AGAIN.into()),
        Err(e) => Err(e.into()),
    }
}

/// Receives one packet of at most `room` bytes and the descriptors that came with it; `None` at the end. `WouldBlock`
/// while there is none.
pub fn recv(sock: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let came = match ancillary::recv(sock, room, RecvFlags::DONTWAIT) {
        // The other end was closed before it had read what was sent to it.
        Err(Errno::CONNRESET) => return Ok(None),
        answer => answer?,
    };
    if came.bytes == 0 {
        return Ok(None);
    }
    let came = came.with_all_fds()?;
    if came.is_cut() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message longer than {} bytes came", room.len()),
        ));
    }
    Ok(Some((came.bytes, came.fds)))
}

/// Whether something that was sent on this end is still unread.
pub fn is_unread(sock: BorrowedFd<'_>) -> io::Result<bool> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: for a socket the kernel writes one int, to a live one.
    let answer = unsafe { libc::ioctl(sock.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fd::{AsFd, pipe};

    #[test]
    fn packets_keep_their_ends_and_bring_descriptors() {
        let (a, b) = pair().unwrap();
        let (read, write) = pipe().unwrap();
        send(a.as_fd(), &[b"on", b"e"], &[]).unwrap();
        send(a.as_fd(), &[b"two"], &[write.as_fd()]).unwrap();
        drop(write);
        let mut room = [0; 16];
        let (len, fds) = recv(b.as_fd(), &mut room).unwrap().unwrap();
        assert_eq!((&room[..len], fds.len()), (&b"one"[..], 0));
        assert!(is_unread(a.as_fd()).unwrap());
        let (len, fds) = recv(b.as_fd(), &mut room).unwrap().unwrap();
        assert_eq!(&room[..len], b"two");
        assert!(!is_unread(a.as_fd()).unwrap());
        rustix::io::write(&fds[0], b"x").unwrap();
        assert_eq!(rustix::io::read(&read, &mut room), Ok(1));
    }

    #[test]
    fn nothing_there_and_nobody_there_are_told_apart() {
        let (a, b) = pair().unwrap();
        let mut room = [0; 4];
        let error = recv(b.as_fd(), &mut room).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        send(a.as_fd(), &[b"last"], &[]).unwrap();
        drop(a);
        assert_eq!(recv(b.as_fd(), &mut room).unwrap().unwrap().0, 4);
        assert!(recv(b.as_fd(), &mut room).unwrap().is_none());
        assert!(is_one(b.as_fd()));
    }

    #[test]
    fn who_sends_to_nobody_is_told_so() {
        for unread in [false, true] {
            let (a, b) = pair().unwrap();
            if unread {
                send(a.as_fd(), &[b"unread"], &[]).unwrap();
            }
            drop(b);
            let error = send(a.as_fd(), &[b"more"], &[]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn a_full_socket_says_so_at_once() {
        let (a, _b) = pair().unwrap();
        let packet = [7; 4096];
        let error = loop {
            if let Err(error) = send(a.as_fd(), &[&packet], &[]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_packet_longer_than_the_room_is_an_error() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), &[b"long"], &[]).unwrap();
        let error = recv(b.as_fd(), &mut [0; 2]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
