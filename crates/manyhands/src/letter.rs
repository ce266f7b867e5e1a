//! A letter: one message over a socket pair, of any size, which never waits for its reader.
//!
//! A short text lies in the socket's own buffer; a long one in sealed memory whose descriptor
//! the socket carries. So a parent that has not started to listen, or a child that never will,
//! holds nobody up, and a letter outlives its writer. Always: a reader that finds no whole
//! letter is told so at once; it waits for the writer's death first, not for bytes.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use manyhands_os::memory::Memfd;
use manyhands_os::{poll, socket};

const MAGIC: u32 = 0x4c68_6d01;
/// Magic, kind, and length of the text.
const HEADER: usize = 16;
/// Texts up to this length go through the socket; fits the smallest socket buffer in use.
const INLINE: usize = 16 << 10;
/// Descriptors that a letter can carry, the memory of its text included.
const MAX_FDS: usize = 250;

/// What was received.
#[derive(Debug)]
pub(crate) struct Letter {
    /// What kind of letter, for the two ends to agree on.
    pub(crate) kind: u32,
    /// Its text.
    pub(crate) text: Vec<u8>,
    /// The descriptors that came along.
    pub(crate) fds: Vec<OwnedFd>,
}

/// Sends the one letter of this direction, whose text is given in parts. Returns at once,
/// whether anybody reads or not.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    kind: u32,
    text: &[&[u8]],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let len: usize = text.iter().map(|part| part.len()).sum();
    let mut message = Vec::with_capacity(HEADER + INLINE.min(len));
    message.extend_from_slice(&MAGIC.to_le_bytes());
    message.extend_from_slice(&kind.to_le_bytes());
    message.extend_from_slice(&(len as u64).to_le_bytes());
    let memory;
    let mut enclosed = fds.to_vec();
    if len <= INLINE {
        text.iter().for_each(|part| message.extend_from_slice(part));
    } else {
        memory = Memfd::create("manyhands letter", len as u64)?;
        let file = file(&memory)?;
        let mut at = 0;
        for part in text {
            file.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        enclosed.push(memory.as_fd());
    }
    socket::send_fds(socket, &message, &enclosed)
}

/// Reads the letter of this direction, if a whole one is there. Does not wait.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Letter>> {
    let mut message = vec![0; HEADER + INLINE];
    let mut fds = Vec::new();
    let mut have = 0;
    let text_len = loop {
        let header = header(&message[..have])?;
        if let Some((_, len)) = header
            && (len > INLINE || have >= HEADER + len)
        {
            break len;
        }
        if !poll::readable(&[socket], Some(Duration::ZERO))?[0] {
            return Ok(None);
        }
        let (more, received) = match socket::recv_fds(socket, &mut message[have..], MAX_FDS) {
            // The other end was closed, or died, before it had read what we wrote.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            other => other?,
        };
        if more == 0 {
            return Ok(None);
        }
        have += more;
        fds.extend(received);
        if fds.len() > MAX_FDS {
            return Err(invalid("more descriptors came than a letter can carry"));
        }
    };
    let kind = u32::from_le_bytes(message[4..8].try_into().expect("four bytes"));
    let text = if text_len <= INLINE {
        message.truncate(HEADER + text_len);
        message.drain(..HEADER);
        message
    } else {
        let memory = fds
            .pop()
            .ok_or_else(|| invalid("a long letter came without its text"))?;
        let memory = Memfd::from_fd(memory)?;
        if memory.len() != text_len as u64 {
            return Err(invalid("a letter's text has another length than it says"));
        }
        // Holes cost their sender nothing, and would cost us their length.
        if memory.taken()? < text_len as u64 {
            return Err(invalid("a letter's text was not written to its end"));
        }
        let mut text = Vec::new();
        text.try_reserve_exact(text_len)
            .map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut file = file(&memory)?;
        file.rewind()?;
        file.take(text_len as u64).read_to_end(&mut text)?;
        text
    };
    Ok(Some(Letter { kind, text, fds }))
}

/// Kind and length of text, once the header is there.
fn header(message: &[u8]) -> io::Result<Option<(u32, usize)>> {
    let Some(header) = message.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let (magic, rest) = header.split_first_chunk::<4>().expect("16 bytes");
    let (kind, len) = rest.split_first_chunk::<4>().expect("12 bytes");
    if u32::from_le_bytes(*magic) != MAGIC {
        return Err(invalid("what came is no letter"));
    }
    let len = u64::from_le_bytes(len.try_into().expect("eight bytes"));
    let len = usize::try_from(len).map_err(|_| invalid("a letter of an absurd length"))?;
    Ok(Some((u32::from_le_bytes(*kind), len)))
}

fn file(memory: &Memfd) -> io::Result<File> {
    Ok(File::from(memory.as_fd().try_clone_to_owned()?))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn letters_of_every_size_arrive_whole() {
        for len in [0, 1, INLINE - 1, INLINE, INLINE + 1, 3 << 20] {
            let (here, there) = UnixStream::pair().unwrap();
            let text: Vec<u8> = (0..len).map(|at| at as u8).collect();
            send(here.as_fd(), 5, &[&text[..len / 3], &text[len / 3..]], &[]).unwrap();
            drop(here);
            let letter = receive(there.as_fd()).unwrap().unwrap();
            assert_eq!((letter.kind, letter.fds.len()), (5, 0));
            assert!(letter.text == text, "{len} bytes");
        }
    }

    #[test]
    fn descriptors_travel_along() {
        for len in [3, INLINE + 3] {
            let (here, there) = UnixStream::pair().unwrap();
            let (mut one, other) = UnixStream::pair().unwrap();
            send(here.as_fd(), 1, &[&vec![7; len]], &[other.as_fd()]).unwrap();
            drop(other);
            let mut letter = receive(there.as_fd()).unwrap().unwrap();
            assert_eq!(letter.text, vec![7; len]);
            let mut other = UnixStream::from(letter.fds.remove(0));
            assert!(letter.fds.is_empty());
            one.write_all(b"x").unwrap();
            let mut byte = [0];
            other.read_exact(&mut byte).unwrap();
            assert_eq!(byte, *b"x");
        }
    }

    #[test]
    fn nothing_and_half_a_letter_are_no_letter() {
        let (mut here, there) = UnixStream::pair().unwrap();
        assert!(receive(there.as_fd()).unwrap().is_none());
        let mut half = Vec::new();
        half.extend_from_slice(&MAGIC.to_le_bytes());
        half.extend_from_slice(&1u32.to_le_bytes());
        half.extend_from_slice(&9u64.to_le_bytes());
        half.extend_from_slice(b"abc");
        here.write_all(&half).unwrap();
        drop(here);
        assert!(receive(there.as_fd()).unwrap().is_none());
    }

    #[test]
    fn an_end_that_closed_without_reading_sent_no_letter() {
        let (here, there) = UnixStream::pair().unwrap();
        send(here.as_fd(), 1, &[b"unread"], &[]).unwrap();
        drop(there);
        assert!(receive(here.as_fd()).unwrap().is_none());
    }

    #[test]
    fn descriptors_that_come_bit_by_bit_are_no_more_than_a_letter_can_carry() {
        let (here, there) = UnixStream::pair().unwrap();
        let header = [&MAGIC.to_le_bytes()[..], &[1; 4], &[0; 7]].concat();
        for byte in &header {
            socket::send_fds(here.as_fd(), &[*byte], &[there.as_fd(); 20]).unwrap();
        }
        let error = receive(there.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_text_of_holes_takes_no_memory() {
        let (here, there) = UnixStream::pair().unwrap();
        let len = 1_u64 << 40;
        let memory = Memfd::create("holes", len).unwrap();
        file(&memory).unwrap().write_all_at(&[1; 9], 0).unwrap();
        let header = [&MAGIC.to_le_bytes()[..], &[1; 4], &len.to_le_bytes()].concat();
        socket::send_fds(here.as_fd(), &header, &[memory.as_fd()]).unwrap();
        let error = receive(there.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn rubbish_is_an_error() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&[0xa5; 64]).unwrap();
        assert_eq!(
            receive(there.as_fd()).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        let (mut here, there) = UnixStream::pair().unwrap();
        let mut endless = Vec::new();
        endless.extend_from_slice(&MAGIC.to_le_bytes());
        endless.extend_from_slice(&1u32.to_le_bytes());
        endless.extend_from_slice(&u64::MAX.to_le_bytes());
        here.write_all(&endless).unwrap();
        assert_eq!(
            receive(there.as_fd()).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
