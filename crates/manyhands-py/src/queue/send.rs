//! Sending a queue's items: into the ring, or past it through the pipe.
//!
//! Always: as `pipe` says. Not here: receiving (`receive`), the ring's end of it (`ring`).

use std::io::{self, IoSlice};
use std::time::Duration;

use manyhands_os::frame::{Failure, Sending};
use manyhands_os::pipe::{self, ATOMIC};
use manyhands_shm::fifo::Fifo;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use super::pipe::{End, HEADER, NAP, SHORT, to_its_end};
use super::ring::{self, Patience};
use crate::connection::one;
use crate::fds::{os_error, wait_with_signals};
use crate::manager::descriptor;
use crate::sync::{Held, SemLock};

/// Parts that an item is made of, at most.
const MOST_PARTS: usize = 3;

/// How long the feeder waits for a reader to make room in the ring.
const UNHURRIED: Duration = Duration::from_millis(10);

/// What those who send need: the pipe's end, their lock, and the ring if there is one.
#[derive(Clone, Copy)]
pub(super) struct Sender<'a, 'py> {
    pub(super) end: End<'a, 'py>,
    pub(super) lock: &'a SemLock,
    pub(super) fifo: Option<&'a Fifo>,
}

impl Sender<'_, '_> {
    /// Sends an item of `parts` if there is room for it now; false if not. `None` when somebody else is sending.
    ///
    /// by -- past the ring or not; without a ring that is the same
    fn try_send(&self, py: Python<'_>, parts: &[&[u8]], by: Way) -> PyResult<Option<bool>> {
        let Some(held) = self.lock.hold_now()? else {
            return Ok(None);
        };
        if let Some(fifo) = self.fifo {
            let put = ring::put(py, fifo, &held, self.end, parts)?;
            if put || by == Way::Ring {
                return Ok(Some(put));
            }
        }
        let len = total(parts);
        if len > SHORT {
            return Ok(Some(false));
        }
        let header = (len as u32).to_be_bytes();
        let mut pieces = [IoSlice::new(&[]); MOST_PARTS + 1];
        pieces[0] = IoSlice::new(&header);
        for (piece, part) in pieces[1..].iter_mut().zip(parts) {
            *piece = IoSlice::new(part);
        }
        self.write_now(&held, &pieces[..=parts.len()]).map(Some)
    }

    /// The same, but waits for another process that is just sending: that takes microseconds, unless its item is long.
    fn try_twice(&self, py: Python<'_>, parts: &[&[u8]], by: Way) -> PyResult<bool> {
        if let Some(sent) = self.try_send(py, parts, by)? {
            return Ok(sent);
        }
        drop(self.lock.hold(py, Some(Duration::from_millis(1)))?);
        Ok(self.try_send(py, parts, by)?.unwrap_or(false))
    }

    /// Writes short messages with their lengths, at most `ATOMIC` bytes, to the pipe, if there is room; false if not.
    fn write_now(&self, _held: &Held<'_>, pieces: &[IoSlice<'_>]) -> PyResult<bool> {
        match self.end.now(|fd| pipe::write_now(fd, pieces))? {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(os_error(&e)),
        }
        // Afterwards: the pipe is readable for a message, not for the promise of one.
        let turned = self.fifo.map_or(Ok(()), ring::turn_to_pipe);
        turned.map(|()| true).map_err(|e| os_error(&e))
    }

    /// Sends an item if there is room, or the ring will have some in time; and nobody is sending something long.
    pub(super) fn send_now(
        &self,
        py: Python<'_>,
        parts: &[&[u8]],
        patience: Patience,
    ) -> PyResult<bool> {
        let len = total(parts);
        if let Some(fifo) = self.fifo.filter(|fifo| len <= fifo.max_payload()) {
            let by_ring = || self.try_twice(py, parts, Way::Ring);
            if by_ring()? || ring::wait_for_room(py, fifo, len, patience, by_ring)? {
                return Ok(true);
            }
        }
        Ok(len <= SHORT && self.try_twice(py, parts, Way::Either)?)
    }

    /// Does `act` until it succeeds, waiting for room; gives up when `is_over`.
    ///
    /// len -- what is to be sent
    fn until_there_is_room(
        &self,
        py: Python<'_>,
        len: usize,
        mut act: impl FnMut(Way) -> PyResult<Option<bool>>,
        is_over: impl Fn() -> bool,
    ) -> PyResult<()> {
        if let Some(fifo) = self.fifo {
            let mut by_ring = || match act(Way::Ring)? {
                Some(sent) => Ok(sent),
                None => {
                    drop(self.lock.hold(py, Some(UNHURRIED))?);
                    Ok(act(Way::Ring)?.unwrap_or(false))
                }
            };
            let patience = Patience::WhileTheyRead(UNHURRIED);
            if by_ring()? || ring::wait_for_room(py, fifo, len, patience, by_ring)? {
                return Ok(());
            }
        }
        loop {
            match act(Way::Either)? {
                Some(true) => return Ok(()),
                Some(false) => {
                    let number = descriptor(self.end.0)?;
                    let fd = one(&number)?;
                    wait_with_signals(py, Some(NAP), |left| pipe::wait_for_room(fd, left))?;
                    if is_over() {
                        return Ok(());
                    }
                }
                // Whoever holds it is about to give it back, or sends something long.
                None => drop(self.lock.hold(py, None)?),
            }
        }
    }

    /// Sends items that are short enough to pass together, at most `ATOMIC` bytes with their lengths.
    pub(super) fn send_together(
        &self,
        py: Python<'_>,
        items: &Together,
        is_over: impl Fn() -> bool,
    ) -> PyResult<()> {
        let mut sent = 0;
        let act = |by| {
            let Some(held) = self.lock.hold_now()? else {
                return Ok(None);
            };
            if let Some(fifo) = self.fifo {
                while let Some(item) = items.item(sent)
                    && ring::put(py, fifo, &held, self.end, &[item])?
                {
                    sent += 1;
                }
            }
            match items.from(sent) {
                [] => Ok(Some(true)),
                _ if by == Way::Ring => Ok(Some(false)),
                rest => self.write_now(&held, &[IoSlice::new(rest)]).map(Some),
            }
        };
        self.until_there_is_room(py, items.bytes.len(), act, is_over)
    }

    /// Sends an item of `parts`, however long that takes; gives up when `is_over`.
    pub(super) fn send(
        &self,
        py: Python<'_>,
        parts: &[&[u8]],
        is_over: impl Fn() -> bool + Sync,
    ) -> PyResult<()> {
        let len = total(parts);
        if len <= SHORT {
            return self.until_there_is_room(py, len, |by| self.try_send(py, parts, by), is_over);
        }
        // Through the pipe it passes in pieces, and more slowly: but without a reader, who may come later, the pipe
        // takes what it can.
        if self.send_now(py, parts, Patience::WhileTheyRead(UNHURRIED))? {
            return Ok(());
        }
        match parts {
            [bytes] => self.send_in_pieces(py, bytes, is_over),
            parts => self.send_in_pieces(py, &parts.concat(), is_over),
        }
    }

    fn send_in_pieces(
        &self,
        py: Python<'_>,
        bytes: &[u8],
        is_over: impl Fn() -> bool + Sync,
    ) -> PyResult<()> {
        let Some(held) = self.lock.hold(py, None)? else {
            return Ok(());
        };
        let kept = self.end.kept()?;
        let fd = kept.get().map_err(|e| os_error(&e))?;
        while !wait_with_signals(py, Some(NAP), |left| pipe::wait_for_room(fd, left))? {
            if is_over() {
                return Ok(());
            }
        }
        let mut message = Sending::new(bytes);
        let mut unmarked = self.fifo;
        held.is_half_way();
        let sent = to_its_end(
            py,
            held,
            |nap| pipe::wait_for_room(fd, Some(nap)),
            &is_over,
            || {
                let advanced = message.advance_now(fd);
                if !matches!(&advanced, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
                    && let Some(fifo) = unmarked.take()
                {
                    ring::turn_to_pipe(fifo).map_err(Failure::System)?;
                }
                advanced.map_err(Failure::System)
            },
        );
        match sent {
            Err(error) if is_over() && error.is_instance_of::<PyOSError>(py) => Ok(()),
            sent => sent,
        }
    }
}

/// Which way an item may take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Ring,
    /// The pipe, if the ring has no room.
    Either,
}

pub(super) fn total(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

/// Items that pass together: each with its length before it, as in the pipe.
#[derive(Default)]
pub(super) struct Together {
    bytes: Vec<u8>,
    /// Where each begins.
    begins: Vec<usize>,
}

impl Together {
    /// Adds an item of at most `SHORT` bytes, if there is room for it.
    pub(super) fn add(&mut self, item: &[u8]) -> bool {
        if HEADER + item.len() + self.bytes.len() > ATOMIC {
            return false;
        }
        self.begins.push(self.bytes.len());
        self.bytes
            .extend_from_slice(&(item.len() as u32).to_be_bytes());
        self.bytes.extend_from_slice(item);
        true
    }

    pub(super) fn len(&self) -> usize {
        self.begins.len()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.begins.clear();
    }

    /// All from item number `at` on.
    fn from(&self, at: usize) -> &[u8] {
        self.begins.get(at).map_or(&[], |at| &self.bytes[*at..])
    }

    fn item(&self, at: usize) -> Option<&[u8]> {
        let end = self.begins.get(at + 1).copied().unwrap_or(self.bytes.len());
        self.begins.get(at).map(|at| &self.bytes[at + HEADER..end])
    }
}
