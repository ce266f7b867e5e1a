//! What moves a queue's items: one process's two ends of a pipe, and the locks that are shared with others.
//!
//! Always: who waits, for an item or for room, holds no lock while it does; a lock is held for calls that do not
//! wait, except for an item that is longer than what a pipe takes as a whole. So a process that is killed while
//! it waits harms nobody. Short items are written whole or not at all.
//! Not here: items that do not fit into the pipe now (the feeder, `manyhands.queues`), what locks are (`sync`).

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use manyhands::engine::Patience;
use manyhands_os::clock::Deadline;
use manyhands_os::frame::{Failure, Receiving, Sending};
use manyhands_os::pipe::{self, ATOMIC};
use manyhands_os::{cpu, poll};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;

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

/// Whether somebody else can run while we look again and again.
static MAY_SPIN: AtomicBool = AtomicBool::new(false);
static PATIENCE: Mutex<Option<Patience>> = Mutex::new(None);
static EMPTY: Once<Py<PyAny>> = Once::new();

fn empty(py: Python<'_>) -> PyErr {
    let class = EMPTY.get_or_try_init(py, || Ok(py.import("queue")?.getattr("Empty")?.unbind()));
    match class.and_then(|class| class.call0(py)) {
        Ok(exception) => PyErr::from_value(exception.into_bound(py)),
        Err(error) => error,
    }
}

// ---- one item ----

/// Writes short messages, at most `ATOMIC` bytes with their lengths, if there is room; false if not.
fn write_now(fd: BorrowedFd<'_>, lock: &SemLock, pieces: &[IoSlice<'_>]) -> PyResult<Option<bool>> {
    let Some(_held) = lock.hold_now()? else {
        return Ok(None);
    };
    match pipe::write_now(fd, pieces) {
        Ok(()) => Ok(Some(true)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Some(false)),
        Err(e) => Err(os_error(&e)),
    }
}

/// Sends short messages as one, waiting for room.
fn send_short(
    py: Python<'_>,
    fd: BorrowedFd<'_>,
    lock: &SemLock,
    pieces: &[IoSlice<'_>],
) -> PyResult<()> {
    loop {
        match write_now(fd, lock, pieces)? {
            Some(true) => return Ok(()),
            Some(false) => {
                wait_with_signals(py, None, |left| pipe::wait_for_room(fd, left))?;
            }
            // Whoever holds it is about to give it back, or sends something long.
            None => drop(lock.hold(py, None)?),
        }
    }
}

/// Moves a message that has begun to pass. Signal handlers run when it has, or when it takes too long.
///
/// held -- the lock of the side that moves it, which is half-way meanwhile
fn to_its_end(
    py: Python<'_>,
    held: &Held<'_>,
    mut advance: impl FnMut() -> Result<(), Failure> + Send,
) -> PyResult<()> {
    held.is_half_way();
    loop {
        let grace = Deadline::after(Some(GRACE));
        let answer = py.detach(|| {
            loop {
                match advance() {
                    Err(Failure::System(e))
                        if e.kind() == io::ErrorKind::Interrupted && !grace.passed() => {}
                    answer => return answer,
                }
            }
        });
        match answer {
            Err(Failure::System(e)) if e.kind() == io::ErrorKind::Interrupted => {
                py.check_signals()?;
            }
            answer => {
                held.is_through();
                return answer.map_err(|failure| raised(&failure));
            }
        }
    }
}

/// Sends a message, however long that takes.
fn send(py: Python<'_>, fd: BorrowedFd<'_>, lock: &SemLock, bytes: &[u8]) -> PyResult<()> {
    if bytes.len() <= SHORT {
        let header = (bytes.len() as u32).to_be_bytes();
        return send_short(py, fd, lock, &[IoSlice::new(&header), IoSlice::new(bytes)]);
    }
    let Some(held) = lock.hold(py, None)? else {
        return Ok(());
    };
    wait_with_signals(py, None, |left| pipe::wait_for_room(fd, left))?;
    let mut message = Sending::new(bytes);
    to_its_end(py, &held, || message.advance(fd).map_err(Failure::System))
}

/// Takes a message out of the pipe if one has begun to arrive, and nobody else is taking one.
fn receive_now(
    py: Python<'_>,
    fd: BorrowedFd<'_>,
    lock: &SemLock,
    senders: &SemLock,
) -> PyResult<Option<Vec<u8>>> {
    let Some(held) = lock.hold_now()? else {
        return Ok(None);
    };
    let mut first = [0; HEADER];
    let mut short = false;
    held.is_half_way();
    let begun = pipe::read_now(fd, &mut first);
    let mut message = match begun {
        Ok(HEADER) => {
            // These are there as a whole. Of a longer one the rest has yet to come, and its sender may be killed.
            let len = i32::from_be_bytes(first);
            short = len != -1 && len <= SHORT as i32;
            let room = usize::try_from(len).ok().and_then(message::room_for);
            Receiving::begun(first).into_room(room.unwrap_or_default())
        }
        Ok(0) => return Err(raised(&Failure::End)),
        // Nobody writes less at once, except a plain connection on a pipe that was almost full.
        Ok(have) => {
            let mut rest = first;
            read_rest(py, fd, &mut rest[have..])?;
            Receiving::begun(rest)
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(e) => return Err(os_error(&e)),
    };
    to_its_end(py, &held, || {
        while !short && !poll::readable(&[fd], Some(LOOK)).map_err(Failure::System)?[0] {
            if senders.is_wreck() {
                return Err(Failure::Cut);
            }
        }
        message.advance(fd)
    })?;
    Ok(Some(message.into_bytes()))
}

fn read_rest(py: Python<'_>, fd: BorrowedFd<'_>, mut room: &mut [u8]) -> PyResult<()> {
    while !room.is_empty() {
        wait_with_signals(py, None, |left| poll::readable(&[fd], left))?;
        match pipe::read_now(fd, room) {
            Ok(0) => return Err(raised(&Failure::Cut)),
            Ok(n) => room = &mut room[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(os_error(&e)),
        }
    }
    Ok(())
}

/// Takes a message out of the pipe, waiting for one until the deadline; None when that has passed.
fn receive(
    py: Python<'_>,
    fd: BorrowedFd<'_>,
    lock: &SemLock,
    senders: &SemLock,
    block: bool,
    deadline: Deadline,
) -> PyResult<Option<Vec<u8>>> {
    let mut fresh = true;
    loop {
        if let Some(bytes) = receive_now(py, fd, lock, senders)? {
            return Ok(Some(bytes));
        }
        if !block || deadline.passed() {
            if lock.left() == 0 && lock.free_of_the_dead()? {
                continue;
            }
            return Ok(None);
        }
        if std::mem::take(&mut fresh) && py.detach(|| look(fd)) {
            continue;
        }
        let slice = Deadline::after(Some(deadline.left().map_or(NAP, |left| left.min(NAP))));
        if !wait_with_signals(py, slice.left(), |left| poll::readable(&[fd], left))?[0] {
            if senders.is_wreck() {
                return Err(raised(&Failure::Cut));
            }
            continue;
        }
        // There is something, and perhaps somebody who takes it: then wait until that is done.
        if let Some(held) = lock.hold(py, deadline.left())? {
            drop(held);
        }
    }
}

/// Looks for an item for a moment, if moments were worth it lately.
fn look(fd: BorrowedFd<'_>) -> bool {
    if !MAY_SPIN.load(Relaxed) {
        return false;
    }
    // One thread of a process at a time: two that spin want two cores.
    let Ok(mut patience) = PATIENCE.try_lock() else {
        return false;
    };
    let patience = patience.get_or_insert_with(Patience::new);
    patience.is_worth_it() && patience.spin(|| poll::is_readable(fd).unwrap_or(true))
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
    let sent = send(py, one(&descriptor(connection)?)?, lock.get(), &bytes);
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
    match receive(
        py,
        one(&descriptor(connection)?)?,
        lock.get(),
        senders.get(),
        true,
        Deadline::after(None),
    )? {
        Some(bytes) => message::loads(py, bytes),
        None => Err(empty(py)),
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
    /// exception that pickling raised.
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
        if self.send_now(py, &bytes)? {
            Ok(None)
        } else {
            Ok(Some(Bound::new(py, Pickled { bytes })?.into_any()))
        }
    }

    /// Sends a list of items, `Pickled` ones among them, one after the other, waiting for room; returns how many
    /// were sent. Short ones go together. Raises what is wrong with the first one only.
    fn send_all(&self, py: Python<'_>, items: &Bound<'_, PyList>) -> PyResult<usize> {
        let fd = descriptor(self.writer.bind(py))?;
        let fd = one(&fd)?;
        let lock = self.wlock.get();
        let mut chunk = Vec::with_capacity(ATOMIC);
        let (mut sent, mut pending) = (0, 0);
        let flush = |chunk: &mut Vec<u8>| -> PyResult<()> {
            if !chunk.is_empty() {
                send_short(py, fd, lock, &[IoSlice::new(chunk)])?;
                chunk.clear();
            }
            Ok(())
        };
        let mut add = |bytes: &[u8]| -> PyResult<()> {
            if HEADER + bytes.len() + chunk.len() > ATOMIC {
                flush(&mut chunk)?;
                sent += std::mem::take(&mut pending);
            }
            if bytes.len() > SHORT {
                send(py, fd, lock, bytes)?;
                sent += 1;
            } else {
                chunk.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                chunk.extend_from_slice(bytes);
                pending += 1;
            }
            Ok(())
        };
        let mut outcome = Ok(());
        for item in items {
            outcome = match item.cast_exact::<Pickled>() {
                Ok(pickled) => add(&pickled.get().bytes),
                Err(_) => message::dumps(py, &item).and_then(|bytes| {
                    let added = add(&bytes);
                    message::let_go(bytes);
                    added
                }),
            };
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
        let phase = this.phase.get().left();
        if phase == DROPPED || phase != 0 && this.places.get().left() >= this.size {
            return Ok(slf.get_type().into_any());
        }
        let fd = descriptor(this.reader.bind(py))?;
        let Some(bytes) = receive(
            py,
            one(&fd)?,
            this.rlock.get(),
            this.wlock.get(),
            block.is_truthy()?,
            deadline,
        )?
        else {
            return Err(empty(py));
        };
        if bytes.is_empty() {
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
        let fd = descriptor(self.writer.bind(py))?;
        let fd = one(&fd)?;
        let header = (bytes.len() as u32).to_be_bytes();
        let pieces = [IoSlice::new(&header), IoSlice::new(bytes)];
        if let Some(sent) = write_now(fd, self.wlock.get(), &pieces)? {
            return Ok(sent);
        }
        // Another process is just writing: that takes microseconds, unless its item is long.
        drop(self.wlock.get().hold(py, Some(Duration::from_millis(1)))?);
        Ok(write_now(fd, self.wlock.get(), &pieces)?.unwrap_or(false))
    }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    MAY_SPIN.store(cpu::available() > 1, Relaxed);
    m.add_function(wrap_pyfunction!(put_object, m)?)?;
    m.add_function(wrap_pyfunction!(take_object, m)?)?;
    m.add_function(wrap_pyfunction!(grow_pipe, m)?)?;
    m.add_class::<Pickled>()?;
    m.add_class::<QueueEnds>()
}
