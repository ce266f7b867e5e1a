//! Frames on a stream: what comes out is what a plain reading of the same bytes says, however they are cut.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::slice::Chunks;

use manyhands_os::frame::{Failure, Inbox, Receiving};

use crate::script::Script;

/// What a reader saw: messages, and why there are no more.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    messages: Vec<Vec<u8>>,
    end: String,
}

/// What so many bytes on a stream say, by the format alone.
fn plainly(mut bytes: &[u8], limit: Option<u64>) -> Seen {
    let limit = limit.unwrap_or(u64::MAX).min(isize::MAX as u64);
    let mut seen = Seen::default();
    let end = loop {
        let Some((short, rest)) = bytes.split_first_chunk::<4>() else {
            break if bytes.is_empty() { "end" } else { "cut" }.to_owned();
        };
        let (len, payload) = match i32::from_be_bytes(*short) {
            -1 => match rest.split_first_chunk::<8>() {
                Some((long, rest)) => (i128::from(u64::from_be_bytes(*long)), rest),
                None => break if rest.is_empty() { "end" } else { "cut" }.to_owned(),
            },
            len => (i128::from(len), rest),
        };
        if len < 0 || len > i128::from(limit) {
            break format!("length {len}");
        }
        match payload.split_at_checked(len as usize) {
            Some((message, rest)) => {
                seen.messages.push(message.to_vec());
                bytes = rest;
            }
            None => break if payload.is_empty() { "end" } else { "cut" }.to_owned(),
        }
    };
    seen.end = end;
    seen
}

fn told(failure: Failure) -> Option<String> {
    Some(match failure {
        Failure::System(e) if e.kind() == io::ErrorKind::Interrupted => return None,
        Failure::System(e) if e.kind() == io::ErrorKind::WouldBlock => return None,
        Failure::System(e) => format!("system {e}"),
        Failure::End => "end".to_owned(),
        Failure::Cut => "cut".to_owned(),
        Failure::Length(len) => format!("length {len}"),
    })
}

/// The writer's end, and what is still to be written.
struct Writer<'a> {
    socket: Option<UnixStream>,
    pieces: Chunks<'a, u8>,
}

impl Writer<'_> {
    /// Sends one piece more, or ends the stream.
    fn send(&mut self) {
        match (self.pieces.next(), &mut self.socket) {
            (Some(piece), Some(socket)) => socket.write_all(piece).expect("room in a socket"),
            _ => self.socket = None,
        }
    }
}

/// First byte: how it is read. Second: what is allowed. Third: how long the pieces are that it comes in.
pub(crate) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let (Some(way), Some(allowed), Some(piece)) = (script.byte(), script.byte(), script.byte())
    else {
        return;
    };
    let bytes = script.bytes(16 << 10);
    let is_inbox = way & 1 != 0;
    let limit = (!is_inbox && allowed > 0).then(|| u64::from(allowed) << (allowed % 16));
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    // So that one thread can have both ends.
    ours.set_nonblocking(true).expect("a socket");
    let piece = 1 + usize::from(piece) * 8;
    let mut writer = Writer {
        socket: Some(theirs),
        pieces: bytes.chunks(piece.max(bytes.len() / 8)),
    };
    let fd = ours.as_fd();
    let mut seen = Seen::default();
    let mut inbox = Inbox::new();
    let mut message = Receiving::new(limit);
    seen.end = loop {
        let answer = if is_inbox {
            // A long message is read by who may wait alone.
            inbox
                .advance(fd, way & 2 != 0 || writer.socket.is_none())
                .map(|message| seen.messages.push(message))
        } else {
            if way & 4 != 0 {
                message.begin_now(fd);
            }
            let checked = if way & 8 != 0 {
                message.check()
            } else {
                Ok(())
            };
            checked.and_then(|()| message.advance(fd)).map(|()| {
                let whole = std::mem::replace(&mut message, Receiving::new(limit));
                seen.messages.push(whole.into_bytes());
            })
        };
        match answer.map_err(told) {
            Ok(()) => {}
            Err(Some(end)) => break end,
            Err(None) => writer.send(),
        }
    };
    assert_eq!(seen, plainly(bytes, limit), "way {way}, limit {limit:?}");
}
