//! Messages on a stream, as the standard library's connections frame them: a length, then so many bytes.
//!
//! The length is four bytes, big-endian; from 2 GiB on it is -1 in four bytes and then the length in eight.
//! Always: a length that arrives is an announcement, not a fact. It is compared with what the reader allows
//! before anything is made of it, and memory grows as bytes arrive. A signal ends no message half-way: the
//! call returns `ErrorKind::Interrupted` and goes on where it was when it is made again.
//! Not here: what a message means, who may send it.

use std::io::{self, IoSlice};

use crate::fd::BorrowedFd;
use crate::pipe;

/// The longest message whose length takes four bytes.
const SHORT: u64 = i32::MAX as u64;
/// What is set aside for a message that was announced, before any of it arrived.
const FIRST: usize = 1 << 20;

/// Why no message arrived.
#[derive(Debug)]
pub enum Failure {
    /// The stream ended where a message, or what a message holds, would have begun.
    End,
    /// The stream ended inside.
    Cut,
    /// A message is announced with a length that is out of bounds; what was announced.
    Length(i128),
    /// The system's, among them `Interrupted`.
    System(io::Error),
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Failure::System(error.into())
    }
}

/// A message on its way out.
#[derive(Debug)]
pub struct Sending<'a> {
    header: [u8; 12],
    header_len: usize,
    payload: &'a [u8],
    sent: usize,
}

impl<'a> Sending<'a> {
    /// Nothing of it is written yet.
    pub fn new(payload: &'a [u8]) -> Self {
        let mut header = [0; 12];
        let len = payload.len() as u64;
        let header_len = if len <= SHORT {
            header[..4].copy_from_slice(&(len as u32).to_be_bytes());
            4
        } else {
            header[..4].copy_from_slice(&(-1i32).to_be_bytes());
            header[4..].copy_from_slice(&len.to_be_bytes());
            12
        };
        Self {
            header,
            header_len,
            payload,
            sent: 0,
        }
    }

    /// Writes the message. After `Interrupted` call it again: a signal came, or the kernel took only a part, and
    /// what signals there were meanwhile has to be seen to before the wait for the rest.
    ///
    /// A message that fits into one write is one: writers that share a pipe do not mix up short messages.
    pub fn advance(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let header = &self.header[..self.header_len];
        self.sent += match header.get(self.sent..) {
            Some(rest) if !rest.is_empty() => {
                rustix::io::writev(fd, &[IoSlice::new(rest), IoSlice::new(self.payload)])?
            }
            _ => rustix::io::write(fd, &self.payload[self.sent - self.header_len..])?,
        };
        self.is_sent()
    }

    /// Writes as much of the message as a pipe takes now. After `Interrupted` and `WouldBlock` call it again, when
    /// there is room.
    pub fn advance_now(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let header = &self.header[..self.header_len];
        self.sent += match header.get(self.sent..) {
            Some(rest) if !rest.is_empty() => {
                pipe::write_some(fd, &[IoSlice::new(rest), IoSlice::new(self.payload)])?
            }
            _ => {
                let rest = &self.payload[self.sent - self.header_len..];
                pipe::write_some(fd, &[IoSlice::new(rest)])?
            }
        };
        self.is_sent()
    }

    fn is_sent(&self) -> io::Result<()> {
        if self.sent < self.header_len + self.payload.len() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }
}

/// A message on its way in.
#[derive(Debug)]
pub struct Receiving {
    header: [u8; 12],
    /// How much of the header is there.
    header_have: usize,
    limit: u64,
    /// The length, once the header is whole.
    announced: Option<usize>,
    payload: Vec<u8>,
}

impl Receiving {
    /// Nothing of it has arrived; a message longer than `limit` will be refused.
    pub fn new(limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(u64::MAX).min(isize::MAX as u64);
        Self {
            header: [0; 12],
            header_have: 0,
            limit,
            announced: None,
            payload: Vec::new(),
        }
    }

    /// Its first bytes, at most four, were read by the caller.
    pub fn begun(first: &[u8]) -> Self {
        let mut message = Self::new(None);
        let first = &first[..first.len().min(4)];
        message.header[..first.len()].copy_from_slice(first);
        message.header_have = first.len();
        message
    }

    /// Lets it arrive in memory that the caller has, where its first `have` bytes are already.
    pub fn into_room(mut self, mut room: Vec<u8>, have: usize) -> Self {
        room.truncate(have);
        self.payload = room;
        self
    }

    /// Reads the length of the message, no further.
    fn length(&mut self, fd: BorrowedFd<'_>) -> Result<usize, Failure> {
        if let Some(len) = self.announced {
            return Ok(len);
        }
        loop {
            let wanted = match self.header.first_chunk() {
                Some(short) if self.header_have >= 4 => match i32::from_be_bytes(*short) {
                    -1 if self.header_have < 12 => 12,
                    len => return self.accept(len),
                },
                _ => 4,
            };
            // A number that is cut off at its own beginning is an end, as in the standard library.
            let begun = if wanted == 4 {
                self.header_have > 0
            } else {
                self.header_have > 4
            };
            match rustix::io::read(fd, &mut self.header[self.header_have..wanted])? {
                0 if begun => return Err(Failure::Cut),
                0 => return Err(Failure::End),
                n => self.header_have += n,
            }
        }
    }

    /// Refuses a length that is out of bounds as soon as it is there, before the rest is waited for.
    pub fn check(&mut self) -> Result<(), Failure> {
        match self.header.first_chunk() {
            Some(short) if self.header_have >= 4 => match i32::from_be_bytes(*short) {
                -1 => Ok(()),
                len => self.accept(len).map(drop),
            },
            _ => Ok(()),
        }
    }

    fn accept(&mut self, short: i32) -> Result<usize, Failure> {
        let len = match short {
            -1 => {
                let long = self.header.last_chunk().copied().unwrap_or_default();
                i128::from(u64::from_be_bytes(long))
            }
            len => i128::from(len),
        };
        if len < 0 || len > i128::from(self.limit) {
            return Err(Failure::Length(len));
        }
        self.announced = Some(len as usize);
        Ok(len as usize)
    }

    /// Reads the message. After `Interrupted` call it again: a signal came, or only a part of the message, and what
    /// signals there were meanwhile has to be seen to before the wait for the rest.
    pub fn advance(&mut self, fd: BorrowedFd<'_>) -> Result<(), Failure> {
        let len = self.length(fd)?;
        let have = self.payload.len();
        if have == len {
            return Ok(());
        }
        if have == self.payload.capacity() {
            // As much again as has arrived: what is set aside is what the sender has paid for.
            let more = (len - have).min(have.max(FIRST));
            self.payload
                .try_reserve_exact(more)
                .map_err(|_| Failure::System(io::ErrorKind::OutOfMemory.into()))?;
        }
        let spare = self.payload.spare_capacity_mut();
        let room = spare.len().min(len - have);
        // What `read` returns first is the part it filled, which begins where the message's bytes end.
        let n = rustix::io::read(fd, &mut spare[..room])?.0.len();
        match n {
            0 if have > 0 => return Err(Failure::Cut),
            0 => return Err(Failure::End),
            // SAFETY: `read` filled the first `n` bytes of the spare capacity.
            n => unsafe { self.payload.set_len(have + n) },
        }
        if have + n < len {
            return Err(Failure::System(io::ErrorKind::Interrupted.into()));
        }
        Ok(())
    }

    /// What has arrived of the message: all of it after `advance` has returned `Ok`.
    pub fn bytes(&self) -> &[u8] {
        &self.payload
    }

    /// The same, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fd::{AsFd, OwnedFd, pipe};
    use crate::socket;

    fn received(fd: &OwnedFd, limit: Option<u64>) -> Result<Vec<u8>, Failure> {
        let mut message = Receiving::new(limit);
        all_of(&mut message, fd).map(|()| message.into_bytes())
    }

    fn all_of(message: &mut Receiving, fd: &OwnedFd) -> Result<(), Failure> {
        loop {
            match message.advance(fd.as_fd()) {
                Err(Failure::System(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                answer => return answer,
            }
        }
    }

    fn arrives(bytes: &[u8]) -> OwnedFd {
        let (read, write) = pipe().unwrap();
        assert_eq!(rustix::io::write(&write, bytes), Ok(bytes.len()));
        read
    }

    #[test]
    fn a_message_arrives_as_it_was_sent() {
        for len in [0usize, 1, 4, 5000, 3 << 20] {
            let message: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let (a, b) = socket::pair().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut message = Sending::new(&message);
                    while let Err(e) = message.advance(a.as_fd()) {
                        assert_eq!(e.kind(), io::ErrorKind::Interrupted);
                    }
                });
                assert_eq!(received(&b, None).unwrap(), message);
            });
        }
    }

    #[test]
    fn a_message_arrives_in_memory_that_is_there() {
        for room in [Vec::new(), Vec::with_capacity(2), vec![7; 9]] {
            let fd = arrives(b"\0\0\0\x03abcrest");
            let mut message = Receiving::new(None).into_room(room, 0);
            all_of(&mut message, &fd).unwrap();
            assert_eq!(message.into_bytes(), b"abc");
        }
    }

    #[test]
    fn the_frame_is_the_standard_librarys() {
        let (read, write) = pipe().unwrap();
        Sending::new(b"abc").advance(write.as_fd()).unwrap();
        let mut bytes = [0; 16];
        assert_eq!(rustix::io::read(&read, &mut bytes), Ok(7));
        assert_eq!(&bytes[..7], b"\0\0\0\x03abc");
    }

    #[test]
    fn a_length_in_eight_bytes_is_understood() {
        let fd = arrives(b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x02hi");
        assert_eq!(received(&fd, None).unwrap(), b"hi");
    }

    #[test]
    fn a_negative_length_is_refused() {
        assert!(matches!(
            received(&arrives(b"\xff\xff\xff\xfehi"), None),
            Err(Failure::Length(-2))
        ));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_read() {
        let fd = arrives(b"\0\0\x01\x01rest");
        assert!(matches!(
            received(&fd, Some(256)),
            Err(Failure::Length(257))
        ));
        let mut rest = [0; 8];
        assert_eq!(rustix::io::read(&fd, &mut rest), Ok(4));
    }

    #[test]
    fn a_length_beyond_all_memory_is_refused() {
        let fd = arrives(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
        assert!(
            matches!(received(&fd, None), Err(Failure::Length(n)) if n == i128::from(u64::MAX))
        );
    }

    #[test]
    fn an_announcement_alone_takes_little_memory() {
        let fd = arrives(b"\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xffhi");
        let mut message = Receiving::new(None);
        assert!(matches!(all_of(&mut message, &fd), Err(Failure::Cut)));
        assert!(message.payload.capacity() <= FIRST);
    }

    #[test]
    fn where_the_stream_ends_is_told() {
        for (bytes, inside) in [
            (&b""[..], false),
            (b"\0\0", true),
            (b"\0\0\0\x05", false),
            (b"\0\0\0\x05hi", true),
            (b"\xff\xff\xff\xff", false),
            (b"\xff\xff\xff\xff\0", true),
        ] {
            match received(&arrives(bytes), None) {
                Err(Failure::Cut) => assert!(inside, "{bytes:?}"),
                Err(Failure::End) => assert!(!inside, "{bytes:?}"),
                other => panic!("{bytes:?} gave {other:?}"),
            }
        }
    }
}
