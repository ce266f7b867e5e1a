//! What moves a queue's items: one process's two ends of a pipe, and the locks that are shared with others.
//!
//! Always: who waits, for an item or for room, holds no lock while it does; a lock is held for calls that do not
//! wait, except for an item that is longer than what a pipe takes as a whole. So a process that is killed while
//! it waits harms nobody. Short items are written whole or not at all.
//! Not here: sending (`send`) and receiving (`receive`), the memory beside the pipe (`ring`), items that have no room
//! now (the feeder, `manyhands.queues`), what locks are (`sync`).

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::fork_state::ParentFd;
use manyhands_os::frame::Failure;
use manyhands_os::pipe::ATOMIC;
use pyo3::prelude::*;

use crate::connection::{one, raised};
use crate::fds::os_error;
use crate::manager::descriptor;
use crate::sync::{Held, SemLock};

/// The bytes of a short message's length.
pub(super) const HEADER: usize = 4;
/// What a message may have to be written as one.
pub(super) const SHORT: usize = ATOMIC - HEADER;

/// How long signal handlers wait for a message that has begun to pass: one that is left half-way spoils the pipe
/// for everybody. A user who types Ctrl-C takes more for a hang.
const GRACE: Duration = Duration::from_millis(150);

/// How often one who waits for the rest of a message looks whether its sender lives.
const LOOK: Duration = Duration::from_millis(200);

/// How long a wait for an item may be before it is looked whether one can still come.
pub(super) const NAP: Duration = Duration::from_secs(1);

/// A connection's end of the pipe. Another thread may close the connection while we wait, and its number be somebody
/// else's from then on: so it is asked for anew after each wait, and kept for what takes several calls.
#[derive(Clone, Copy)]
pub(super) struct End<'a, 'py>(pub(super) &'a Bound<'py, PyAny>);

impl End<'_, '_> {
    /// Does with it what gives no other thread a turn.
    pub(super) fn now<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> PyResult<T> {
        Ok(act(one(&descriptor(self.0)?)?))
    }

    /// The same end, open until this is dropped, but in no forked child.
    pub(super) fn kept(&self) -> PyResult<ParentFd> {
        self.now(|fd| fd.try_clone_to_owned().map(ParentFd::new))?
            .map_err(|e| os_error(&e))
    }
}

/// Moves a message that has begun to pass. Signal handlers run when it has, or when it takes too long: what they raise
/// then leaves half a message behind, and the lock tells everybody.
///
/// held -- the lock of the side that moves it; ready -- waits until something can be moved, false when that took
/// its time; given_up -- whether there is no use in waiting; advance -- moves what can be moved now
pub(super) fn to_its_end(
    py: Python<'_>,
    held: Held<'_>,
    ready: impl Fn(Duration) -> io::Result<bool> + Sync,
    given_up: impl Fn() -> bool + Sync,
    mut advance: impl FnMut() -> Result<(), Failure> + Send,
) -> PyResult<()> {
    // Since a signal came.
    let mut grace: Option<Deadline> = None;
    loop {
        let answer = py.detach(|| {
            loop {
                // Handlers may have to run now. Before, a signal is only remembered.
                let nap = match &grace {
                    Some(grace) if grace.passed() => {
                        return Err(Failure::System(io::ErrorKind::Interrupted.into()));
                    }
                    Some(grace) => grace.left().map_or(LOOK, |left| left.min(LOOK)),
                    None => LOOK,
                };
                match ready(nap) {
                    Ok(true) => match advance() {
                        Err(Failure::System(e)) if goes_on(&e) => {}
                        answer => return answer,
                    },
                    Ok(false) if given_up() => return Err(Failure::Cut),
                    Ok(false) => {}
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                        grace.get_or_insert_with(|| Deadline::after(Some(GRACE)));
                    }
                    Err(e) => return Err(Failure::System(e)),
                }
            }
        });
        match answer {
            Err(Failure::System(e)) if e.kind() == io::ErrorKind::Interrupted => {
                grace = None;
                if let Err(raised) = py.check_signals() {
                    held.ruin();
                    return Err(raised);
                }
            }
            answer => {
                held.is_through();
                return answer.map_err(|failure| raised(&failure));
            }
        }
    }
}

/// Whether a transfer is only half done, or found no room: it goes on when there is something to move.
fn goes_on(error: &io::Error) -> bool {
    [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock].contains(&error.kind())
}

/// The length of the next message, as far as somebody has read it with the message before: its bytes, and how many.
///
/// Kept in the memo of the readers' lock, in one word. The message itself is in the pipe, which so stays readable.
#[derive(Clone, Copy, Default)]
pub(super) struct Ahead {
    pub(super) bytes: [u8; HEADER],
    pub(super) have: usize,
}

impl Ahead {
    pub(super) fn new(bytes: [u8; HEADER], have: usize) -> Self {
        Self { bytes, have }
    }

    pub(super) fn of(lock: &SemLock) -> Self {
        let memo = lock.memo().load(Relaxed); // what the last holder wrote: the lock orders it
        Self {
            bytes: (memo as u32).to_be_bytes(),
            have: ((memo >> 32) as usize).min(HEADER), // anybody may have written it
        }
    }

    pub(super) fn keep(self, lock: &SemLock) {
        let memo = (self.have as u64) << 32 | u64::from(u32::from_be_bytes(self.bytes));
        lock.memo().store(memo, Relaxed);
    }

    /// For one who reads the pipe himself.
    pub(super) fn taken(lock: &SemLock) -> Self {
        let ahead = Self::of(lock);
        Self::default().keep(lock);
        ahead
    }

    /// The length, if all of it is there.
    pub(super) fn length(&self) -> Option<i32> {
        (self.have == HEADER).then(|| i32::from_be_bytes(self.bytes))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.have]
    }
}
