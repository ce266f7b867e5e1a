//! What moves a queue's items: one process's two ends of a pipe, and the locks that are shared with others.
//!
//! Always: who waits, for an item or for room, holds no lock while it does; a lock is held for calls that do not
//! wait, except for an item that is longer than what a pipe takes as a whole. So a process that is killed while
//! it waits harms nobody. Short items are written whole or not at all.
//! Not here: what the items are (`queue`), items that do not fit into the pipe now (the feeder, `manyhands.queues`), what
//! locks are (`sync`).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::fork_state::ParentFd;
use manyhands_os::frame::{Failure, Receiving, Sending};
use manyhands_os::pipe::{self, ATOMIC};
use manyhands_os::poll;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::awake::Awake;
use crate::connection::{one, raised};
use crate::fds::{os_error, wait_with_signals};
use crate::manager::descriptor;
use crate::message;
use crate::sync::{Held, SemLock};

/// The bytes of a short message's length.
pub(super) const HEADER: usize = 4;
/// What a message may have to be written as one.
pub(super) const SHORT: usize = ATOMIC - HEADER;

/// How long signal handlers wait for a message that has begun to pass: one that is left half-way spoils the pipe
/// for everybody.
const GRACE: Duration = Duration::from_secs(1);

/// How often one who waits for the rest of a message looks whether its sender lives.
const LOOK: Duration = Duration::from_millis(200);

/// How long a wait for an item may be before it is looked whether one can still come.
const NAP: Duration = Duration::from_secs(1);

static AWAKE: Awake = Awake::new();

/// A connection's end of the pipe. Another thread may close the connection while we wait, and its number be somebody
/// else's from then on: so it is asked for anew after each wait, and kept for what takes several calls.
#[derive(Clone, Copy)]
pub(super) struct End<'a, 'py>(pub(super) &'a Bound<'py, PyAny>);

impl End<'_, '_> {
    /// Does with it what gives no other thread a turn.
    fn now<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> PyResult<T> {
        Ok(act(one(&descriptor(self.0)?)?))
    }

    /// The same end, open until this is dropped, but in no forked child.
    fn kept(&self) -> PyResult<ParentFd> {
        self.now(|fd| fd.try_clone_to_owned().map(ParentFd::new))?
            .map_err(|e| os_error(&e))
    }
}

/// Writes short messages, at most `ATOMIC` bytes with their lengths, if there is room; false if not.
pub(super) fn write_now(
    end: End<'_, '_>,
    lock: &SemLock,
    pieces: &[IoSlice<'_>],
) -> PyResult<Option<bool>> {
    let Some(_held) = lock.hold_now()? else {
        return Ok(None);
    };
    match end.now(|fd| pipe::write_now(fd, pieces))? {
        Ok(()) => Ok(Some(true)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Some(false)),
        Err(e) => Err(os_error(&e)),
    }
}

/// Sends short messages as one, waiting for room; gives up when `is_over`.
pub(super) fn send_short(
    py: Python<'_>,
    end: End<'_, '_>,
    lock: &SemLock,
    pieces: &[IoSlice<'_>],
    is_over: impl Fn() -> bool,
) -> PyResult<()> {
    loop {
        match write_now(end, lock, pieces)? {
            Some(true) => return Ok(()),
            Some(false) => {
                let number = descriptor(end.0)?;
                let fd = one(&number)?;
                wait_with_signals(py, Some(NAP), |left| pipe::wait_for_room(fd, left))?;
                if is_over() {
                    return Ok(());
                }
            }
            // Whoever holds it is about to give it back, or sends something long.
            None => drop(lock.hold(py, None)?),
        }
    }
}

/// Moves a message that has begun to pass. Signal handlers run when it has, or when it takes too long: what they raise
/// then leaves half a message behind, and the lock tells everybody.
///
/// held -- the lock of the side that moves it; ready -- waits until something can be moved, false when that took
/// its time; given_up -- whether there is no use in waiting; advance -- moves what can be moved now
fn to_its_end(
    py: Python<'_>,
    held: Held<'_>,
    ready: impl Fn(Duration) -> io::Result<bool> + Sync,
    given_up: impl Fn() -> bool + Sync,
    mut advance: impl FnMut() -> Result<(), Failure> + Send,
) -> PyResult<()> {
    let grace = Deadline::after(Some(GRACE));
    let mut signalled = false;
    loop {
        let answer = py.detach(|| {
            loop {
                // Handlers may have to run now. Before, a signal is only remembered.
                if signalled && grace.passed() {
                    return Err(Failure::System(io::ErrorKind::Interrupted.into()));
                }
                let nap = match grace.left() {
                    Some(left) if signalled => left.min(LOOK),
                    _ => LOOK,
                };
                match ready(nap) {
                    Ok(true) => match advance() {
                        Err(Failure::System(e)) if goes_on(&e) => {}
                        answer => return answer,
                    },
                    Ok(false) if given_up() => return Err(Failure::Cut),
                    Ok(false) => {}
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => signalled = true,
                    Err(e) => return Err(Failure::System(e)),
                }
            }
        });
        match answer {
            Err(Failure::System(e)) if e.kind() == io::ErrorKind::Interrupted => {
                signalled = false;
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

/// Sends a message, however long that takes; gives up when `is_over`.
pub(super) fn send(
    py: Python<'_>,
    end: End<'_, '_>,
    lock: &SemLock,
    bytes: &[u8],
    is_over: impl Fn() -> bool + Sync,
) -> PyResult<()> {
    if bytes.len() <= SHORT {
        let header = (bytes.len() as u32).to_be_bytes();
        let pieces = [IoSlice::new(&header), IoSlice::new(bytes)];
        return send_short(py, end, lock, &pieces, is_over);
    }
    let Some(held) = lock.hold(py, None)? else {
        return Ok(());
    };
    let kept = end.kept()?;
    let fd = kept.get().map_err(|e| os_error(&e))?;
    while !wait_with_signals(py, Some(NAP), |left| pipe::wait_for_room(fd, left))? {
        if is_over() {
            return Ok(());
        }
    }
    let mut message = Sending::new(bytes);
    held.is_half_way();
    let sent = to_its_end(
        py,
        held,
        |nap| pipe::wait_for_room(fd, Some(nap)),
        &is_over,
        || message.advance_now(fd).map_err(Failure::System),
    );
    match sent {
        Err(error) if is_over() && error.is_instance_of::<PyOSError>(py) => Ok(()),
        sent => sent,
    }
}

/// The length of the next message, as far as somebody has read it with the message before: its bytes, and how many.
///
/// Kept in the memo of the readers' lock, in one word. The message itself is in the pipe, which so stays readable.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ahead {
    bytes: [u8; HEADER],
    have: usize,
}

impl Ahead {
    fn new(bytes: [u8; HEADER], have: usize) -> Self {
        Self { bytes, have }
    }

    fn of(lock: &SemLock) -> Self {
        let memo = lock.memo().load(Relaxed); // what the last holder wrote: the lock orders it
        Self {
            bytes: (memo as u32).to_be_bytes(),
            have: ((memo >> 32) as usize).min(HEADER), // anybody may have written it
        }
    }

    fn keep(self, lock: &SemLock) {
        let memo = (self.have as u64) << 32 | u64::from(u32::from_be_bytes(self.bytes));
        lock.memo().store(memo, Relaxed);
    }

    /// For one who reads the pipe himself.
    pub(crate) fn taken(lock: &SemLock) -> Self {
        let ahead = Self::of(lock);
        Self::default().keep(lock);
        ahead
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.have]
    }
}

/// Takes a message out of the pipe if some of it is there, and nobody else is taking one. Of a short one that is one
/// read, which also takes the length of the next, if somebody has read this one's.
fn receive_now(
    py: Python<'_>,
    end: End<'_, '_>,
    lock: &SemLock,
    senders: &SemLock,
) -> PyResult<Option<Vec<u8>>> {
    let Some(held) = lock.hold_now()? else {
        return Ok(None);
    };
    let mut ahead = Ahead::of(lock);
    held.is_half_way();
    // Until something waits, no other thread has a turn, and the number is the connection's.
    if ahead.have < HEADER {
        match end
            .now(|fd| pipe::read_now(fd, &mut [IoSliceMut::new(&mut ahead.bytes[ahead.have..])]))?
        {
            Ok(0) if ahead.have > 0 => return Err(raised(&Failure::Cut)),
            Ok(0) => return Err(raised(&Failure::End)),
            Ok(n) => ahead.have += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(os_error(&e)),
        }
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
            match end.now(|fd| pipe::read_now(fd, &mut pieces))? {
                Ok(0) => return Err(raised(&Failure::Cut)),
                Ok(n) => have = n,
                // Who waits for it holds nothing meanwhile.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    ahead.keep(lock);
                    return Ok(None);
                }
                Err(e) => return Err(os_error(&e)),
            }
        }
        if have >= len {
            Ahead::new(next, have - len).keep(lock);
            held.is_through();
            return Ok(Some(arrived));
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
    let kept = end.kept()?;
    let fd = kept.get().map_err(|e| os_error(&e))?;
    to_its_end(
        py,
        held,
        |nap| Ok(poll::readable(&[fd], Some(nap))?[0]),
        || senders.is_wreck(),
        || message.advance(fd),
    )?;
    Ok(Some(message.into_bytes()))
}

/// What a wait for a message came to.
pub(super) enum Got {
    Message(Vec<u8>),
    /// The time is up.
    Nothing,
    /// No message will come any more, or none is anybody's.
    Over,
}

/// Takes a message out of the pipe, waiting for one until the deadline, or until `is_over`.
pub(super) fn receive(
    py: Python<'_>,
    end: End<'_, '_>,
    lock: &SemLock,
    senders: &SemLock,
    block: bool,
    deadline: Deadline,
    is_over: impl Fn() -> bool,
) -> PyResult<Got> {
    let mut fresh = true;
    loop {
        if let Some(bytes) = receive_now(py, end, lock, senders)? {
            return Ok(Got::Message(bytes));
        }
        if !block || deadline.passed() {
            if lock.left() == 0 && lock.free_of_the_dead()? {
                continue;
            }
            return Ok(Got::Nothing);
        }
        let number = descriptor(end.0)?;
        let fd = one(&number)?;
        let there = if std::mem::take(&mut fresh)
            && py.detach(|| AWAKE.wait(|| poll::is_readable(fd).unwrap_or(true)))
        {
            true
        } else {
            let slice = Deadline::after(Some(deadline.left().map_or(NAP, |left| left.min(NAP))));
            let there = wait_with_signals(py, slice.left(), |left| poll::readable(&[fd], left))?[0];
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
