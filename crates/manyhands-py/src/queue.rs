//! What moves a queue's items: one process's two ends of a pipe, and the locks that are shared with others.
//!
//! Always: who waits, for an item or for room, holds no lock while it does; a lock is held for calls that do not
//! wait, except for an item that is longer than what a pipe takes as a whole. So a process that is killed while
//! it waits harms nobody. Short items are written whole or not at all.
//! Not here: items that do not fit into the pipe now (the feeder, `manyhands.queues`), what locks are (`sync`).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::fork_state::ParentFd;
use manyhands_os::frame::{Failure, Receiving, Sending};
use manyhands_os::pipe::{self, ATOMIC};
use manyhands_os::poll;
use pyo3::exceptions::{PyException, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString};

use crate::awake::Awake;
use crate::connection::{one, raised};
use crate::fds::{duration, os_error, wait_with_signals};
use crate::manager::descriptor;
use crate::message;
use crate::once::Once;
use crate::sync::{Held, SemLock};

/// The bytes of a short message's length.
const HEADER: usize = 4;
/// What a message may have to be written as one.
const SHORT: usize = ATOMIC - HEADER;

/// How long signal handlers wait for a message that has begun to pass: one that is left half-way spoils the pipe
/// for everybody.
const GRACE: Duration = Duration::from_secs(1);

/// How often one who waits for the rest of a message looks whether its sender lives.
const LOOK: Duration = Duration::from_millis(200);

/// How long a wait for an item may be before it is looked whether one can still come.
const NAP: Duration = Duration::from_secs(1);

static AWAKE: Awake = Awake::new();
static EMPTY: Once<Py<PyAny>> = Once::new();

fn empty(py: Python<'_>) -> PyErr {
    let class = EMPTY.get_or_try_init(py, || Ok(py.import("queue")?.getattr("Empty")?.unbind()));
    match class.and_then(|class| class.call0(py)) {
        Ok(exception) => PyErr::from_value(exception.into_bound(py)),
        Err(error) => error,
    }
}

// ---- one item ----

/// A connection's end of the pipe. Another thread may close the connection while we wait, and its number be somebody
/// else's from then on: so it is asked for anew after each wait, and kept for what takes several calls.
#[derive(Clone, Copy)]
struct End<'a, 'py>(&'a Bound<'py, PyAny>);

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
fn write_now(end: End<'_, '_>, lock: &SemLock, pieces: &[IoSlice<'_>]) -> PyResult<Option<bool>> {
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
fn send_short(
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
fn send(
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
enum Got {
    Message(Vec<u8>),
    /// The time is up.
    Nothing,
    /// No message will come any more, or none is anybody's.
    Over,
}

/// Takes a message out of the pipe, waiting for one until the deadline, or until `is_over`.
fn receive(
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

/// Makes a pipe's room at least `size` bytes; false if this process may not.
#[pyfunction]
fn grow_pipe(connection: &Bound<'_, PyAny>, size: usize) -> PyResult<bool> {
    Ok(pipe::grow(one(&descriptor(connection)?)?, size).is_ok())
}

// ---- for SimpleQueue ----

/// Sends an object over a connection to a pipe, waiting for room; `lock` is shared by those who send.
#[pyfunction]
fn put_object(
    py: Python<'_>,
    connection: &Bound<'_, PyAny>,
    lock: &Bound<'_, SemLock>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let bytes = message::dumps(py, value)?;
    let sent = send(py, End(connection), lock.get(), &bytes, || false);
    message::let_go(bytes);
    sent
}

/// Waits for an object from a connection to a pipe; `lock` is shared by those who receive,
/// `senders` by those who send.
#[pyfunction]
fn take_object<'py>(
    py: Python<'py>,
    connection: &Bound<'py, PyAny>,
    lock: &Bound<'py, SemLock>,
    senders: &Bound<'py, SemLock>,
) -> PyResult<Bound<'py, PyAny>> {
    let got = receive(
        py,
        End(connection),
        lock.get(),
        senders.get(),
        true,
        Deadline::after(None),
        || false,
    )?;
    match got {
        Got::Message(bytes) => message::loads(py, bytes),
        Got::Nothing | Got::Over => Err(empty(py)),
    }
}

// ---- for Queue ----

/// An item that is pickled already, and left to be sent.
#[pyclass(frozen, module = "manyhands._engine")]
struct Pickled {
    bytes: Vec<u8>,
}

impl Drop for Pickled {
    fn drop(&mut self) {
        message::let_go(std::mem::take(&mut self.bytes));
    }
}

#[pymethods]
impl Pickled {
    /// What a queue sends: bytes.
    #[new]
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The item, as the other side would have got it.
    fn item<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        message::loads(py, self.bytes.clone())
    }
}

/// One process's ends of a queue's pipe, and what all processes share: the locks, the count of free places, and
/// whether the queue was shut down.
#[pyclass(frozen, module = "manyhands._engine")]
struct QueueEnds {
    reader: Py<PyAny>,
    writer: Py<PyAny>,
    rlock: Py<SemLock>,
    wlock: Py<SemLock>,
    places: Py<SemLock>,
    size: u32,
    phase: Py<SemLock>,
}

/// What tells who gets it that the queue was shut down: no pickle, and not empty, because of `Ahead`.
const LAST: &[u8] = b"\0";

/// In `phase`: the queue was shut down, and what is in it is nobody's any more.
const DROPPED: u32 = 2;

#[pymethods]
impl QueueEnds {
    /// reader, writer -- connections to a pipe; size -- int, how many places there are
    #[new]
    fn new(
        reader: Py<PyAny>,
        writer: Py<PyAny>,
        rlock: Py<SemLock>,
        wlock: Py<SemLock>,
        places: Py<SemLock>,
        size: u32,
        phase: Py<SemLock>,
    ) -> Self {
        Self {
            reader,
            writer,
            rlock,
            wlock,
            places,
            size,
            phase,
        }
    }

    /// Puts an item, if it has a place and there is room in the pipe now. Returns None when that is done; False
    /// when there is no place; True when the queue was shut down; a `Pickled` that is left to be sent; or the
    /// exception that pickling raised. After that exception, and after what is raised, its place is free again.
    fn put<'py>(
        &self,
        py: Python<'py>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.phase.get().left() != 0 {
            return Ok(Some(true.into_pyobject(py)?.to_owned().into_any()));
        }
        if !self.places.get().take_now()? {
            return Ok(Some(false.into_pyobject(py)?.to_owned().into_any()));
        }
        self.post(py, item)
    }

    /// The same for an item that has a place.
    fn post<'py>(
        &self,
        py: Python<'py>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let bytes = match message::dumps(py, item) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.places.get().give();
                if error.is_instance_of::<PyException>(py) {
                    return Ok(Some(error.into_value(py).into_bound(py).into_any()));
                }
                return Err(error);
            }
        };
        match self.send_now(py, &bytes) {
            Ok(true) => Ok(None),
            Ok(false) => Ok(Some(Bound::new(py, Pickled { bytes })?.into_any())),
            Err(error) => {
                self.places.get().give();
                Err(error)
            }
        }
    }

    /// Sends a list of items, `Pickled` ones among them, one after the other, waiting for room; returns how many
    /// are off its hands: sent, or dropped because the queue was shut down at once. Short ones go together. Raises
    /// what is wrong with the first one only.
    fn send_all(&self, py: Python<'_>, items: &Bound<'_, PyList>) -> PyResult<usize> {
        let end = End(self.writer.bind(py));
        let lock = self.wlock.get();
        let phase = self.phase.get();
        let is_over = || phase.left() >= DROPPED;
        let mut chunk = Vec::with_capacity(ATOMIC);
        let (mut sent, mut pending) = (0, 0);
        let flush = |chunk: &mut Vec<u8>| -> PyResult<()> {
            if !chunk.is_empty() {
                send_short(py, end, lock, &[IoSlice::new(chunk)], is_over)?;
                chunk.clear();
            }
            Ok(())
        };
        let mut outcome = Ok(());
        for item in items {
            if is_over() {
                return Ok(items.len());
            }
            let pickled = item.cast_exact::<Pickled>();
            let made;
            let bytes = match &pickled {
                Ok(pickled) => &pickled.get().bytes,
                Err(_) => {
                    // Pickling it may run code of the user's, for a while: those before it do not wait for that.
                    if !is_plain(&item) {
                        outcome = flush(&mut chunk);
                        sent += std::mem::take(&mut pending);
                    }
                    match outcome.and_then(|()| message::dumps(py, &item)) {
                        Ok(bytes) => made = bytes,
                        Err(error) => {
                            outcome = Err(error);
                            break;
                        }
                    }
                    &made
                }
            };
            outcome = (|| {
                if HEADER + bytes.len() + chunk.len() > ATOMIC {
                    flush(&mut chunk)?;
                    sent += std::mem::take(&mut pending);
                }
                if bytes.len() > SHORT {
                    send(py, end, lock, bytes, is_over)?;
                    sent += 1;
                } else {
                    chunk.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                    chunk.extend_from_slice(bytes);
                    pending += 1;
                }
                Ok(())
            })();
            if outcome.is_err() {
                break;
            }
        }
        // What is wrong with a later one does not keep those before it.
        let flushed = flush(&mut chunk);
        if flushed.is_ok() {
            sent += pending;
        }
        match outcome.and(flushed) {
            Err(error) if sent == 0 => Err(error),
            _ => Ok(sent),
        }
    }

    /// Takes the oldest item out of the queue. Raises queue.Empty when there is none in time. Returns this object
    /// when somebody says that the queue was shut down, and its class when it was and has no items.
    #[pyo3(signature = (block, timeout=None))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let deadline = Deadline::after(duration(timeout)?);
        let over = || Ok(slf.get_type().into_any());
        if this.is_over() {
            return over();
        }
        let got = receive(
            py,
            End(this.reader.bind(py)),
            this.rlock.get(),
            this.wlock.get(),
            block.is_truthy()?,
            deadline,
            || this.is_over(),
        )?;
        let bytes = match got {
            Got::Message(bytes) => bytes,
            Got::Nothing => return Err(empty(py)),
            Got::Over => return over(),
        };
        if bytes == LAST {
            return Ok(slf.clone().into_any());
        }
        if !this.places.get().give() {
            return Err(PyValueError::new_err(
                "an item was got from a queue that has none: did a process write to it?",
            ));
        }
        message::loads(py, bytes)
    }

    /// Sends short bytes if there is room, and nobody is sending something long.
    fn send_now(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<bool> {
        if bytes.len() > SHORT {
            return Ok(false);
        }
        let end = End(self.writer.bind(py));
        let header = (bytes.len() as u32).to_be_bytes();
        let pieces = [IoSlice::new(&header), IoSlice::new(bytes)];
        if let Some(sent) = write_now(end, self.wlock.get(), &pieces)? {
            return Ok(sent);
        }
        // Another process is just writing: that takes microseconds, unless its item is long.
        drop(self.wlock.get().hold(py, Some(Duration::from_millis(1)))?);
        Ok(write_now(end, self.wlock.get(), &pieces)?.unwrap_or(false))
    }
}

impl QueueEnds {
    /// Whether there is nothing to get any more: the queue was shut down, and is empty or was emptied.
    fn is_over(&self) -> bool {
        match self.phase.get().left() {
            0 => false,
            DROPPED.. => true,
            _ => self.places.get().left() >= self.size,
        }
    }
}

/// Whether pickling an item runs no code of the user's.
fn is_plain(item: &Bound<'_, PyAny>) -> bool {
    item.is_none()
        || item.is_exact_instance_of::<PyInt>()
        || item.is_exact_instance_of::<PyString>()
        || item.is_exact_instance_of::<PyBytes>()
        || item.is_exact_instance_of::<PyFloat>()
        || item.is_exact_instance_of::<PyBool>()
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(put_object, m)?)?;
    m.add_function(wrap_pyfunction!(take_object, m)?)?;
    m.add_function(wrap_pyfunction!(grow_pipe, m)?)?;
    m.add_class::<Pickled>()?;
    m.add_class::<QueueEnds>()
}
