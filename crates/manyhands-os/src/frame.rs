//! Messages on a stream, as the standard library's connections frame them: a length, then so many bytes.
//!
//! The length is four bytes, big-endian; from 2 GiB on it is -1 in four bytes and then the length in eight.
//! Always: a length that arrives is an announcement, not a fact. It is compared with what the reader allows
//! before anything is made of it, and memory grows as bytes arrive. A signal ends no message half-way: the
//! call returns `ErrorKind::Interrupted` and goes on where it was when it is made again.
//! Not here: what a message means, who may send it.

use crate::crash_point;
use std::io::{self, IoSlice};

use rustix::io::Errno;
use rustix::net::RecvFlags;

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
        crash_point!("connection.before-message");
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
        crash_point!("connection.before-message");
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
            crash_point!("connection.mid-message");
            return Err(io::ErrorKind::Interrupted.into());
        }
        crash_point!("connection.sent");
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

    /// The first bytes of its length, at most twelve, were read by the caller: no more than four unless those are -1.
    pub fn begun(first: &[u8]) -> Self {
        let mut message = Self::new(None);
        let first = &first[..first.len().min(12)];
        message.header[..first.len()].copy_from_slice(first);
        message.header_have = first.len();
        message
    }

    /// Refuses it if it is longer than that.
    pub fn within(mut self, limit: Option<u64>) -> Self {
        self.limit = Self::new(limit).limit;
        self
    }

    /// Reads of its length what is there; false if that is nothing. True also for what only `advance` can find out.
    pub fn begin_now(&mut self, fd: BorrowedFd<'_>) -> bool {
        let Some(room @ [_, ..]) = self.header.get_mut(self.header_have..4) else {
            return true;
        };
        match pipe::read_if_there(fd, room) {
            Ok(None) => false,
            Ok(Some(n)) if n > 0 => {
                self.header_have += n;
                true
            }
            _ => true,
        }
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
            crash_point!("connection.mid-receive");
            return Err(Failure::System(io::ErrorKind::Interrupted.into()));
        }
        crash_point!("connection.received");
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

/// A message up to this length, with its header, is read together with what follows it; no read takes more.
const ROOM: usize = 4096;

/// Messages on their way in, read together with what follows them: one read for a short message. For who is the only
/// one to read, and keeps this as long as the stream.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// Where in `bytes` the next message begins.
    at: usize,
    /// One that is announced as longer than what is read ahead.
    long: Option<Receiving>,
}

impl Inbox {
    /// Nothing has arrived.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing has arrived of the next message.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len() && self.long.is_none()
    }

    /// Reads the next message, if `wait` is false only what is there: `WouldBlock` when that is nothing, or this kernel
    /// cannot say. After that and after `Interrupted` call it again, as `Receiving::advance`.
    pub fn advance(&mut self, fd: BorrowedFd<'_>, wait: bool) -> Result<Vec<u8>, Failure> {
        if self.long.is_none() {
            if let Some(message) = self.whole()? {
                return Ok(message);
            }
            if self.long.is_none() {
                self.fill(fd, wait)?;
                if let Some(message) = self.whole()? {
                    return Ok(message);
                }
                return Err(Failure::System(io::ErrorKind::Interrupted.into()));
            }
        }
        if !wait {
            return Err(Failure::System(io::ErrorKind::WouldBlock.into())); // its reads wait
        }
        let mut message = self.long.take().unwrap_or_else(|| Receiving::new(None));
        match message.advance(fd) {
            Ok(()) => Ok(message.into_bytes()),
            Err(failure) => {
                self.long = Some(message);
                Err(failure)
            }
        }
    }

    /// The next message if all of it is in `bytes`. One that is too long for that is `long` from then on.
    fn whole(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let have = &self.bytes[self.at..];
        let Some((header, payload)) = have.split_first_chunk() else {
            return Ok(None);
        };
        let len = i32::from_be_bytes(*header);
        if let Ok(len) = usize::try_from(len)
            && len <= ROOM - header.len()
        {
            let message = payload.get(..len).map(<[u8]>::to_vec);
            if message.is_some() {
                self.at += header.len() + len;
            }
            return Ok(message);
        }
        let (header, payload) = have.split_at(have.len().min(if len == -1 { 12 } else { 4 }));
        // A short one may be announced as if it were long, and others follow it.
        let announced = match header.split_last_chunk::<8>() {
            Some(([_, _, _, _], len)) => {
                usize::try_from(u64::from_be_bytes(*len)).unwrap_or(usize::MAX)
            }
            _ => usize::MAX,
        };
        let payload = &payload[..payload.len().min(announced)];
        let mut long = Receiving::begun(header).into_room(payload.to_vec(), payload.len());
        long.check()?;
        self.long = Some(long);
        let begun = self.at + header.len() + payload.len();
        self.bytes.drain(..begun);
        self.at = 0;
        Ok(None)
    }

    /// Reads once, behind what is there of a short message.
    fn fill(&mut self, fd: BorrowedFd<'_>, wait: bool) -> Result<(), Failure> {
        self.bytes.drain(..self.at);
        self.at = 0;
        let have = self.bytes.len();
        self.bytes.reserve_exact(ROOM - have);
        let spare = self.bytes.spare_capacity_mut();
        let n = if wait {
            rustix::io::read(fd, spare)?.0.len()
        } else {
            match rustix::net::recv(fd, spare, RecvFlags::DONTWAIT) {
                Err(Errno::NOTSOCK) => return Err(Errno::WOULDBLOCK.into()),
                answer => answer?.1,
            }
        };
        // SAFETY: `n` bytes of the spare capacity were filled, the first ones.
        unsafe { self.bytes.set_len(have + n) };
        match (n, have) {
            // Where the standard library sees an end, and no message that is cut off.
            (0, 0 | 4) => Err(Failure::End),
            (0, _) => Err(Failure::Cut),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fd::{AsFd, OwnedFd, pipe};
    use crate::socket;
    use rustix::net::SendFlags;

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

    /// All messages that an inbox finds in `bytes`, written in steps of `step`, and how the stream ended.
    fn found(bytes: &[u8], step: usize, wait: bool) -> (Vec<Vec<u8>>, Failure) {
        let (ours, theirs) = socket::pair().unwrap();
        let (mut inbox, mut messages) = (Inbox::new(), Vec::new());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for step in bytes.chunks(step) {
                    // Who has read a length that makes no sense reads no further.
                    if rustix::net::send(&theirs, step, SendFlags::NOSIGNAL).is_err() {
                        break;
                    }
                }
            });
            let end = loop {
                let wait = wait || inbox.long.is_some();
                match inbox.advance(ours.as_fd(), wait) {
                    Ok(message) => messages.push(message),
                    Err(Failure::System(e)) if wait => {
                        assert_eq!(e.kind(), io::ErrorKind::Interrupted);
                    }
                    Err(Failure::System(_)) => {}
                    Err(end) => break end,
                }
            };
            drop(ours);
            (messages, end)
        })
    }

    #[test]
    fn messages_that_arrive_together_are_all_found() {
        let sizes = [0, 3, 1, 4092, 0, 4093, 5, 9000, 2];
        let messages: Vec<Vec<u8>> = sizes.iter().map(|n| vec![*n as u8; *n]).collect();
        let mut bytes = Vec::new();
        for message in &messages {
            bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
            bytes.extend_from_slice(message);
        }
        for (step, wait) in [
            (bytes.len(), true),
            (bytes.len(), false),
            (1000, false),
            (7, false),
            (1, false),
        ] {
            let (found, end) = found(&bytes, step, wait);
            assert_eq!(found, messages, "in steps of {step}");
            assert!(matches!(end, Failure::End));
        }
    }

    #[test]
    fn an_inbox_believes_no_length() {
        for (bytes, message, length) in [
            (
                &b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x02hi"[..],
                Some(&b"hi"[..]),
                None,
            ),
            (
                b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x02hi\0\0\0\x01x",
                Some(b"hi"),
                None,
            ),
            (b"\0\0\0\x02hi\xff\xff\xff\xfe", Some(b"hi"), Some(-2)),
            (b"\x80\0\0\0hi", None, Some(i128::from(i32::MIN))),
            (&[0xff; 12], None, Some(i128::from(u64::MAX))),
        ] {
            for step in [1, 4, 100] {
                let (found, end) = found(bytes, step, step > 1);
                assert_eq!(found.first().map(Vec::as_slice), message, "{bytes:?}");
                match (end, length) {
                    (Failure::End, None) => {}
                    (Failure::Length(n), Some(length)) => assert_eq!(n, length),
                    (end, _) => panic!("{bytes:?} gave {end:?}"),
                }
            }
        }
    }

    #[test]
    fn an_inbox_tells_where_the_stream_ends() {
        for (bytes, inside) in ENDS {
            match found(bytes, 100, false).1 {
                Failure::Cut => assert!(inside, "{bytes:?}"),
                Failure::End => assert!(!inside, "{bytes:?}"),
                other => panic!("{bytes:?} gave {other:?}"),
            }
        }
    }

    /// Beginnings of messages, and whether that is inside one.
    const ENDS: [(&[u8], bool); 6] = [
        (b"", false),
        (b"\0\0", true),
        (b"\0\0\0\x05", false),
        (b"\0\0\0\x05hi", true),
        (b"\xff\xff\xff\xff", false),
        (b"\xff\xff\xff\xff\0", true),
    ];

    #[test]
    fn where_the_stream_ends_is_told() {
        for (bytes, inside) in ENDS {
            match received(&arrives(bytes), None) {
                Err(Failure::Cut) => assert!(inside, "{bytes:?}"),
                Err(Failure::End) => assert!(!inside, "{bytes:?}"),
                other => panic!("{bytes:?} gave {other:?}"),
            }
        }
    }
}
