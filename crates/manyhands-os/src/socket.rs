//! Socket pairs, descriptors that travel through them, and bytes as they come.
//!
//! Always: a descriptor that arrives is closed on exec, and one that arrives unasked for is closed at once.
//! A signal does not end a send or a receive half-way: both go on.
//! Not here: what the bytes mean, and remote connections.

use std::io::{self, IoSlice};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::ancillary::{self, retried};
use crate::error;
use crate::fd::{BorrowedFd, OwnedFd};

pub use crate::ancillary::MAX_FDS;

/// Two connected Unix stream sockets.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|e| error::context(e, "could not create a socket pair"))
}

/// Sends all of `bytes`, at least one, on a blocking socket; the descriptors travel with the first of them.
pub fn send_fds(sock: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "descriptors travel with bytes: send at least one",
        ));
    }
    ancillary::check_count(fds)?;
    let mut sent = ancillary::send(sock, &[IoSlice::new(bytes)], fds, SendFlags::NOSIGNAL)
        .map_err(|e| error::context(e, format!("could not send {} descriptors", fds.len())))?;
    while sent < bytes.len() {
        sent += retried(|| rustix::net::send(sock, &bytes[sent..], SendFlags::NOSIGNAL))?;
    }
    Ok(())
}

/// Sends what the socket takes now of `bytes`; `WouldBlock` when that is nothing.
pub fn send_now(sock: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let now = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(rustix::net::send(sock, bytes, now)?)
}

/// Receives what is there, at most `room`; 0 is the end. `WouldBlock` when there is nothing.
pub fn recv_now(sock: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<usize> {
    let (received, _) = rustix::net::recv(sock, room, RecvFlags::DONTWAIT)?;
    Ok(received)
}

/// Receives up to `bytes.len()` bytes and the descriptors that came with them, at most `max_fds`.
///
/// Zero bytes mean that the other end is closed. More descriptors than `max_fds` are an error, and are closed.
pub fn recv_fds(
    sock: BorrowedFd<'_>,
    bytes: &mut [u8],
    max_fds: usize,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let came = ancillary::recv(sock, bytes, RecvFlags::empty())
        .map_err(|e| error::context(e, "could not receive descriptors"))?
        .with_all_fds()?;
    if came.fds.len() > max_fds {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} descriptors arrived where at most {max_fds} were expected",
                came.fds.len()
            ),
        ));
    }
    Ok((came.bytes, came.fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fd::{AsFd, pipe};

    #[test]
    fn a_descriptor_travels_and_works_at_the_other_end() {
        let (a, b) = pair().unwrap();
        let (read, write) = pipe().unwrap();
        send_fds(a.as_fd(), b"here", &[write.as_fd()]).unwrap();
        let mut bytes = [0; 16];
        let (n, fds) = recv_fds(b.as_fd(), &mut bytes, 1).unwrap();
        assert_eq!((&bytes[..n], fds.len()), (&b"here"[..], 1));
        assert!(
            rustix::io::fcntl_getfd(&fds[0])
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
        );
        rustix::io::write(&fds[0], b"x").unwrap();
        let mut byte = [0];
        assert_eq!(rustix::io::read(&read, &mut byte), Ok(1));
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn as_many_descriptors_as_the_kernel_takes_travel_at_once() {
        let (a, b) = pair().unwrap();
        let fds = vec![a.as_fd(); MAX_FDS];
        send_fds(a.as_fd(), b"!", &fds).unwrap();
        let (_, arrived) = recv_fds(b.as_fd(), &mut [0; 8], MAX_FDS).unwrap();
        assert_eq!(arrived.len(), MAX_FDS);
        let too_many = vec![a.as_fd(); MAX_FDS + 1];
        assert_eq!(
            send_fds(a.as_fd(), b"!", &too_many).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn descriptors_nobody_asked_for_are_an_error_and_are_closed() {
        let (a, b) = pair().unwrap();
        let (read, write) = pipe().unwrap();
        send_fds(a.as_fd(), b"!", &[write.as_fd(), write.as_fd()]).unwrap();
        drop(write);
        let error = recv_fds(b.as_fd(), &mut [0; 8], 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "2 descriptors arrived where at most 1 were expected"
        );
        // End of file: no writing end is left open anywhere.
        assert_eq!(rustix::io::read(&read, &mut [0u8; 1]), Ok(0));
    }

    #[test]
    fn a_closed_end_is_zero_bytes_to_the_reader_and_an_error_to_the_writer() {
        let (a, b) = pair().unwrap();
        drop(a);
        let (n, fds) = recv_fds(b.as_fd(), &mut [0; 8], 1).unwrap();
        assert_eq!((n, fds.len()), (0, 0));
        let error = send_fds(b.as_fd(), b"!", &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_message_without_bytes_is_refused() {
        let (a, _b) = pair().unwrap();
        assert_eq!(
            send_fds(a.as_fd(), b"", &[]).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
