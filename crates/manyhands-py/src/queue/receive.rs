//! Receiving a queue's items: from the ring, or from the pipe.
//!
//! Always: as `pipe` says. Not here: sending (`send`), the ring's end of it (`ring`).

use manyhands_os::crash_point;
use std::io::{self, IoSliceMut};

use manyhands_os::clock::Deadline;
use manyhands_os::frame::{Failure, Receiving};
use manyhands_os::pipe;
use manyhands_os::poll;
use manyhands_shm::fifo::Fifo;
use pyo3::prelude::*;

use super::pipe::{Ahead, End, HEADER, NAP, SHORT, to_its_end};
use super::ring::{As, Message, SOON, Side, Taken};
use crate::awake::Awake;
use crate::connection::{one, raised};
use crate::fds::{os_error, wait_with_signals};
use crate::manager::descriptor;
use crate::message;
use crate::sync::{Held, SemLock};

static AWAKE: Awake = Awake::new();

/// What those who receive need: the pipe's end, their lock, that of those who send, and the ring if there is one.
#[derive(Clone, Copy)]
pub(super) struct Receiver<'a, 'py> {
    pub(super) end: End<'a, 'py>,
    pub(super) lock: &'a SemLock,
    pub(super) senders: &'a SemLock,
    pub(super) fifo: Option<&'a Fifo>,
}

/// What a look for a message came to.
enum Look<'py> {
    There(Message<'py>),
    /// Nothing is there, or somebody else is taking it.
    Nothing,
    /// Somebody is just putting something.
    Soon,
}

/// What a wait for a message came to.
pub(super) enum Got<'py> {
    Message(Message<'py>),
    /// The time is up.
    Nothing,
    /// No message will come any more, or none is anybody's.
    Over,
}

impl<'a, 'py> Receiver<'a, 'py> {
    pub(super) fn side(&self) -> Option<Side<'a, 'py>> {
        Some(Side {
            end: self.end,
            lock: self.lock,
            senders: self.senders,
            fifo: self.fifo?,
        })
    }

    /// Whether no message can be taken now.
    pub(super) fn is_empty(&self) -> PyResult<bool> {
        if !self.end.now(poll::is_readable)?.map_err(|e| os_error(&e))? {
            return Ok(true);
        }
        let Some(side) = self.side() else {
            return Ok(false);
        };
        let _held = loop {
            if self.lock.is_held_by_me() {
                break None;
            }
            match self.lock.hold_now()? {
                None if self.lock.free_of_the_dead()? => {}
                None => return Ok(false), // somebody is taking it
                held => break held,
            }
        };
        let mut ahead = Ahead::of(self.lock);
        if ahead.have < HEADER {
            let half_way = self.lock.half_way();
            self.read_length(&mut ahead)?;
            ahead.keep(self.lock);
            drop(half_way);
        }
        if Side::is_next(&ahead) {
            side.heal()?;
        }
        let there = self.end.now(poll::is_readable)?;
        there.map(|there| !there).map_err(|e| os_error(&e))
    }

    /// Takes a message if some of it is there, and nobody else is taking one. Of a short one that is one read, which
    /// also takes the length of the next, if somebody has read this one's; of one in the ring none.
    fn receive_now(&self, py: Python<'py>) -> PyResult<Look<'py>> {
        descriptor(self.end.0)?; // an error if it is closed, though nothing may have to be read from it
        let lock = self.lock;
        let Some(held) = lock.hold_now()? else {
            return Ok(Look::Nothing);
        };
        let side = self.side();
        let mut ahead = Ahead::of(lock);
        loop {
            if let Some(side) = &side
                && Side::is_next(&ahead)
            {
                match side.take(py, As::Value)? {
                    Taken::Item(message) => return Ok(Look::There(message)),
                    Taken::Busy | Taken::TooLong => return Ok(Look::Soon),
                    Taken::Again => ahead = Ahead::of(lock),
                }
                continue;
            }
            if ahead.have == HEADER {
                break;
            }
            held.is_half_way();
            let read = self.read_length(&mut ahead)?;
            crash_point!("queue.length-read");
            match read {
                Some(0) if ahead.have > 0 => return Err(raised(&Failure::Cut)),
                Some(0) => return Err(raised(&Failure::End)),
                Some(_) => {}
                None => return Ok(Look::Nothing),
            }
            if side.is_none() || !Side::is_next(&ahead) {
                break;
            }
            ahead.keep(lock);
            held.is_through();
        }
        self.receive_from_pipe(py, held, ahead)
    }

    /// Reads what is there of the next message's length; how much that was, 0 at the stream's end, `None` if nothing.
    fn read_length(&self, ahead: &mut Ahead) -> PyResult<Option<usize>> {
        // Until something waits, no other thread has a turn, and the number is the connection's.
        let room = &mut [IoSliceMut::new(&mut ahead.bytes[ahead.have..])];
        match self.end.now(|fd| pipe::read_now(fd, room))? {
            Ok(n) => {
                ahead.have += n;
                Ok(Some(n))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(os_error(&e)),
        }
    }

    /// Takes a message out of the pipe of which `ahead` was read.
    fn receive_from_pipe(
        &self,
        py: Python<'py>,
        held: Held<'_>,
        ahead: Ahead,
    ) -> PyResult<Look<'py>> {
        let lock = self.lock;
        if !held.was_half_way() {
            held.is_half_way();
        }
        let len = i32::from_be_bytes(ahead.bytes);
        let short = usize::try_from(len)
            .ok()
            .filter(|len| ahead.have == HEADER && *len <= SHORT);
        let mut message = Receiving::begun(ahead.bytes());
        if let Some(len) = short {
            // It is there as a whole, unless a stranger wrote it.
            let mut arrived = vec![0; len];
            let mut next = [0; HEADER];
            let mut have = 0;
            if len > 0 {
                let mut pieces = [IoSliceMut::new(&mut arrived), IoSliceMut::new(&mut next)];
                match self.end.now(|fd| pipe::read_now(fd, &mut pieces))? {
                    Ok(0) => return Err(raised(&Failure::Cut)),
                    Ok(n) => have = n,
                    // Who waits for it holds nothing meanwhile.
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        ahead.keep(lock);
                        return Ok(Look::Nothing);
                    }
                    Err(e) => return Err(os_error(&e)),
                }
            }
            if have >= len {
                Ahead::new(next, have - len).keep(lock);
                held.is_through();
                return Ok(Look::There(Message::Pickle(arrived)));
            }
            message = message.into_room(arrived, have);
        } else {
            message.check().map_err(|failure| raised(&failure))?;
            if ahead.have == HEADER
                && let Some(room) = usize::try_from(len).ok().and_then(message::room_for)
            {
                message = message.into_room(room, 0);
            }
        }
        // The rest of a long one has yet to come, and its sender may be killed meanwhile.
        Ahead::default().keep(lock);
        let kept = self.end.kept()?;
        let fd = kept.get().map_err(|e| os_error(&e))?;
        to_its_end(
            py,
            held,
            |nap| Ok(poll::readable(&[fd], Some(nap))?[0]),
            || self.senders.is_wreck(),
            || message.advance(fd),
        )?;
        Ok(Look::There(Message::Pickle(message.into_bytes())))
    }

    /// Takes a message, waiting for one until the deadline, or until `is_over`.
    pub(super) fn receive(
        &self,
        py: Python<'py>,
        block: bool,
        deadline: Deadline,
        is_over: impl Fn() -> bool,
    ) -> PyResult<Got<'py>> {
        let Self { lock, senders, .. } = *self;
        let mut fresh = true;
        loop {
            let looked = self.receive_now(py)?;
            if let Look::There(message) = looked {
                return Ok(Got::Message(message));
            }
            if !block || deadline.passed() {
                if lock.left() == 0 && lock.free_of_the_dead()? {
                    continue;
                }
                if matches!(looked, Look::Soon) && senders.free_of_the_dead()? {
                    continue;
                }
                return Ok(Got::Nothing);
            }
            let slice = deadline.left().map_or(NAP, |left| left.min(NAP));
            if let Look::Soon = looked {
                // Briefly: it may be sending something past the ring, and leave the mark that we wait for.
                drop(senders.hold(py, Some(slice.min(SOON)))?);
                if is_over() {
                    return Ok(Got::Over);
                }
                continue;
            }
            let number = descriptor(self.end.0)?;
            let fd = one(&number)?;
            let there = if std::mem::take(&mut fresh)
                && py.detach(|| AWAKE.wait(|| poll::is_readable(fd).unwrap_or(true)))
            {
                true
            } else {
                let slice = Deadline::after(Some(slice));
                let there =
                    wait_with_signals(py, slice.left(), |left| poll::readable(&[fd], left))?[0];
                // There is something, and perhaps somebody who takes it: then wait until that is done.
                if there && lock.left() == 0 {
                    drop(lock.hold(py, deadline.left())?);
                }
                there
            };
            if is_over() {
                return Ok(Got::Over);
            }
            if !there {
                // Nobody takes what will not come: who died, or gave up, in the midst of an item?
                lock.free_of_the_dead()?;
                if senders.is_wreck() {
                    return Err(raised(&Failure::Cut));
                }
            }
        }
    }
}
