//! A message as a packet: a header, then its text, or the descriptor of memory that the text is in.
//!
//! Always: what came is checked before it is used; memory that a text comes in is sealed, so nobody
//! changes it while it is read.

use std::cell::{Cell, OnceCell};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use manyhands_os::frozen::{self, FrozenCopy};
use manyhands_os::packet;

use crate::error::Error;
use crate::parcel::{Arrived, Parcel};

const MAGIC: u32 = 0x4c68_6d02;
/// The text is in memory of its own, whose descriptor is the last.
const LONG: u32 = 1;
/// Magic, flags, number, length of the text.
const HEADER: usize = 24;
/// The message is too long: its number on every Linux.
const EMSGSIZE: i32 = 90;
/// Texts up to this length are in the packet.
const INLINE: usize = 16 << 10;

/// A message that is to be sent.
pub(super) struct Message<'a> {
    text: &'a [u8],
    fds: Vec<BorrowedFd<'a>>,
    memory: OnceCell<OwnedFd>,
}

impl<'a> Message<'a> {
    pub(super) fn new(text: &'a [u8], parcel: &'a Parcel) -> Result<Self, Error> {
        let message = Self {
            text,
            fds: parcel.borrowed(),
            memory: OnceCell::new(),
        };
        if text.len() > INLINE {
            let failed = Error::system(format!("send {} bytes", text.len()));
            message.seal().map_err(failed)?;
        }
        Ok(message)
    }

    fn seal(&self) -> io::Result<()> {
        let memory = frozen::seal("manyhands message", self.text)?;
        let _ = self.memory.set(memory);
        Ok(())
    }

    /// Sends it, if there is room.
    pub(super) fn send(&self, socket: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        let flags = if self.memory.get().is_some() { LONG } else { 0 };
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[4..8].copy_from_slice(&flags.to_le_bytes());
        header[8..16].copy_from_slice(&number.to_le_bytes());
        header[16..].copy_from_slice(&(self.text.len() as u64).to_le_bytes());
        match self.memory.get() {
            None => match packet::send(socket, &[&header, self.text], &self.fds) {
                // Longer than the system lets sockets hold (`net.core.wmem_default`).
                Err(error) if error.raw_os_error() == Some(EMSGSIZE) => {
                    self.seal()?;
                    self.send(socket, number)
                }
                answer => answer,
            },
            Some(memory) => {
                let mut fds = self.fds.clone();
                fds.push(memory.as_fd());
                packet::send(socket, &[&header], &fds)
            }
        }
    }
}

/// What a look at the socket found.
pub(super) enum Came {
    Nothing,
    /// Nothing, and nobody who could send something.
    End,
    Message(Received),
}

/// A message that was received.
pub(super) struct Received {
    pub(super) number: u64,
    flags: u32,
    len: u64,
    text: Vec<u8>,
    fds: Vec<OwnedFd>,
}

thread_local! {
    /// Where packets are received, kept from one to the next.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Receives a message if there is one.
pub(super) fn receive(socket: BorrowedFd<'_>) -> io::Result<Came> {
    let mut room = ROOM.take();
    room.resize(HEADER + INLINE, 0);
    let came = match packet::recv(socket, &mut room) {
        Ok(None) => Ok(Came::End),
        Ok(Some((len, fds))) => read(&room[..len], fds).map(Came::Message),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Came::Nothing),
        Err(error) => Err(error),
    };
    ROOM.set(room);
    came
}

fn read(packet: &[u8], fds: Vec<OwnedFd>) -> io::Result<Received> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let (header, text) = packet
        .split_first_chunk::<HEADER>()
        .ok_or_else(|| invalid("what came is too short for a message"))?;
    let (words, _) = header.as_chunks::<4>();
    let [magic, flags, number, number_high, len, len_high] =
        [0, 1, 2, 3, 4, 5].map(|at| u32::from_le_bytes(words[at]));
    let wide = |low, high| u64::from(high) << 32 | u64::from(low);
    if magic != MAGIC {
        return Err(invalid("what came is no message"));
    }
    Ok(Received {
        number: wide(number, number_high),
        flags,
        len: wide(len, len_high),
        text: text.to_vec(),
        fds,
    })
}

/// The text of a message.
pub(super) enum Text {
    Short(Vec<u8>),
    Long(FrozenCopy),
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(text) => text,
            Self::Long(text) => text,
        }
    }
}

impl Received {
    /// Its text, and what came with it.
    pub(super) fn open(mut self) -> Result<(Text, Arrived), Error> {
        let text = self.read().map_err(Error::system("read a message"))?;
        Ok((text, Arrived::of(self.fds, Vec::new())))
    }

    fn read(&mut self) -> io::Result<Text> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        if self.flags & LONG == 0 {
            let text = std::mem::take(&mut self.text);
            return match text.len() as u64 == self.len {
                true => Ok(Text::Short(text)),
                false => Err(invalid("its text has another length than it says")),
            };
        }
        let memory = self
            .fds
            .pop()
            .ok_or_else(|| invalid("it came without its text"))?;
        let len = usize::try_from(self.len).map_err(|_| invalid("it is of an absurd length"))?;
        frozen::open_sealed(memory.as_fd(), len).map(Text::Long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bytes: &[u8]) -> io::Result<Came> {
        let (a, b) = packet::pair().unwrap();
        packet::send(a.as_fd(), &[bytes], &[]).unwrap();
        receive(b.as_fd())
    }

    #[test]
    fn messages_of_every_length_arrive() {
        let (a, b) = packet::pair().unwrap();
        for len in [0, 1, INLINE, INLINE + 1, 1 << 20] {
            let text = vec![7; len];
            let parcel = Parcel::default();
            Message::new(&text, &parcel)
                .unwrap()
                .send(a.as_fd(), 9)
                .unwrap();
            let Came::Message(message) = receive(b.as_fd()).unwrap() else {
                panic!("nothing came");
            };
            assert_eq!(message.number, 9);
            assert_eq!(message.open().unwrap().0[..], text[..]);
        }
        assert!(matches!(receive(b.as_fd()), Ok(Came::Nothing)));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        assert!(sent(b"short").is_err());
        assert!(sent(&[7; HEADER]).is_err());
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[16] = 1;
        for flags in [0, 1] {
            header[4] = flags;
            let Ok(Came::Message(message)) = sent(&header) else {
                panic!("a header of a message is one");
            };
            assert!(message.open().is_err());
        }
    }
}
