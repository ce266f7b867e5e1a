//! Queues: what puts and gets do, apart from what Python's half of them decides (`manyhands.queues`).
//!
//! Always: what cannot be sent now, or in a moment, is handed back, for the feeder; an item that was got has given its
//! place back.
//! Not here: how an item passes (`send`, `receive`, and what both rest on: `pipe`, `ring`), the feeder's thread.

mod pipe;
mod receive;
mod ring;
mod send;

use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::pipe::grow;
use manyhands_shm::fifo::Fifo;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString};

use self::pipe::{Ahead, End, SHORT};
use self::receive::{Got, Receiver};
use self::ring::{As, Message, Patience, QueueRing, Side, Taken};
use self::send::{Sender, Together};
use crate::connection::{one, receive_begun};
use crate::fds::duration;
use crate::manager::descriptor;
use crate::message;
use crate::once::{Once, name};
use crate::shorthand;
use crate::sync::SemLock;

/// How long a put waits for a reader to make room: then the pipe has it, or the feeder.
const SOON: Patience = Patience::For(Duration::from_millis(2));

static EMPTY: Once<Py<PyAny>> = Once::new();

fn empty(py: Python<'_>) -> PyErr {
    let class = EMPTY.get_or_try_init(py, || Ok(py.import("queue")?.getattr("Empty")?.unbind()));
    match class.and_then(|class| class.call0(py)) {
        Ok(exception) => PyErr::from_value(exception.into_bound(py)),
        Err(error) => error,
    }
}

/// Makes a pipe's room at least `size` bytes; false if this process may not.
#[pyfunction]
fn grow_pipe(connection: &Bound<'_, PyAny>, size: usize) -> PyResult<bool> {
    Ok(grow(one(&descriptor(connection)?)?, size).is_ok())
}

/// A queue's locks, of the readers and of the writers, and its ring.
type Parts<'py> = (
    Bound<'py, SemLock>,
    Bound<'py, SemLock>,
    Option<Bound<'py, QueueRing>>,
);

fn receiver<'a, 'py>(
    connection: &'a Bound<'py, PyAny>,
    parts: &'a Parts<'py>,
) -> Receiver<'a, 'py> {
    let (lock, senders, ring) = parts;
    Receiver {
        end: End(connection),
        lock: lock.get(),
        senders: senders.get(),
        fifo: ring.as_ref().map(|ring| ring.get().fifo()),
    }
}

/// Whether nothing can be taken now, though the pipe may be readable.
#[pyfunction]
fn queue_is_empty(connection: &Bound<'_, PyAny>, parts: Parts<'_>) -> PyResult<bool> {
    receiver(connection, &parts).is_empty()
}

// ---- for SimpleQueue ----

/// Sends an object over a connection to a pipe, or through the memory beside it, waiting for room; `lock` is shared by
/// those who send.
#[pyfunction]
fn put_object(
    py: Python<'_>,
    connection: &Bound<'_, PyAny>,
    lock: &Bound<'_, SemLock>,
    ring: Option<&Bound<'_, QueueRing>>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let sender = Sender {
        end: End(connection),
        lock: lock.get(),
        fifo: ring.map(|ring| ring.get().fifo()),
    };
    if let Some((before, bytes, after)) = shorthand::around(value) {
        return sender.send(py, &[&before, bytes, &after], || false);
    }
    let bytes = message::dumps(py, value)?;
    let sent = sender.send(py, &[&bytes], || false);
    message::let_go(bytes);
    sent
}

/// Waits for an object from a connection to a pipe, or from the memory beside it.
#[pyfunction]
fn take_object<'py>(
    py: Python<'py>,
    connection: &Bound<'py, PyAny>,
    parts: Parts<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let receiver = receiver(connection, &parts);
    match receiver.receive(py, true, Deadline::after(None), || false)? {
        Got::Message(message) => message.value(py),
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
    ring: Option<Py<QueueRing>>,
}

/// What tells who gets it that the queue was shut down: no pickle, and not empty, because of `Ahead`.
const LAST: &[u8] = b"\0";

/// In `phase`: the queue was shut down, and what is in it is nobody's any more.
const DROPPED: u32 = 2;

#[pymethods]
impl QueueEnds {
    /// reader, writer -- connections to a pipe; size -- int, how many places there are; ring -- None: there is none
    #[new]
    #[allow(clippy::too_many_arguments, reason = "what a queue is made of")]
    fn new(
        reader: Py<PyAny>,
        writer: Py<PyAny>,
        rlock: Py<SemLock>,
        wlock: Py<SemLock>,
        places: Py<SemLock>,
        size: u32,
        phase: Py<SemLock>,
        ring: Option<Py<QueueRing>>,
    ) -> Self {
        Self {
            reader,
            writer,
            rlock,
            wlock,
            places,
            size,
            phase,
            ring,
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
        let sender = self.sender(py);
        if let Some((before, bytes, after)) = shorthand::around(item) {
            // Into the ring without a copy in between.
            match sender.send_now(py, &[&before, bytes, &after], SOON) {
                Ok(true) => return Ok(None),
                Ok(false) => {}
                Err(error) => {
                    self.places.get().give();
                    return Err(error);
                }
            }
        }
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
        match sender.send_now(py, &[&bytes], SOON) {
            Ok(true) => {
                message::let_go(bytes);
                Ok(None)
            }
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
        let sender = self.sender(py);
        let phase = self.phase.get();
        let is_over = || phase.left() >= DROPPED;
        let mut together = Together::default();
        let mut sent = 0;
        let flush = |together: &mut Together| -> PyResult<usize> {
            if together.len() > 0 {
                sender.send_together(py, together, is_over)?;
            }
            let count = together.len();
            together.clear();
            Ok(count)
        };
        let mut outcome = Ok(());
        for item in items {
            if is_over() {
                return Ok(items.len());
            }
            let pickled = item.cast_exact::<Pickled>();
            let around = shorthand::around(&item);
            let mut made = Vec::new();
            let (one, three);
            let parts: &[&[u8]] = if let Some((before, bytes, after)) = &around {
                three = [&before[..], bytes, after];
                &three
            } else {
                if pickled.is_err() {
                    // Pickling it may run code of the user's, for a while: those before it do not wait for that.
                    if !is_plain(&item) {
                        outcome = flush(&mut together).map(|count| sent += count);
                    }
                    match outcome.and_then(|()| message::dumps(py, &item)) {
                        Ok(bytes) => made = bytes,
                        Err(error) => {
                            outcome = Err(error);
                            break;
                        }
                    }
                }
                one = [pickled.as_ref().map_or(&made[..], |it| &it.get().bytes)];
                &one
            };
            outcome = (|| {
                if let [bytes] = parts
                    && bytes.len() <= SHORT
                {
                    if !together.add(bytes) {
                        sent += flush(&mut together)?;
                        together.add(bytes);
                    }
                } else {
                    sent += flush(&mut together)?;
                    sender.send(py, parts, is_over)?;
                    sent += 1;
                }
                Ok(())
            })();
            message::let_go(made);
            if outcome.is_err() {
                break;
            }
        }
        // What is wrong with a later one does not keep those before it.
        let flushed = flush(&mut together).map(|count| sent += count);
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
        let receiver = this.receiver(py);
        let got = receiver.receive(py, block.is_truthy()?, deadline, || this.is_over())?;
        let message = match got {
            Got::Message(Message::Pickle(bytes)) if bytes == LAST => {
                return Ok(slf.clone().into_any());
            }
            Got::Message(message) => message,
            Got::Nothing => return Err(empty(py)),
            Got::Over => return over(),
        };
        if !this.places.get().give() {
            return Err(PyValueError::new_err(
                "an item was got from a queue that has none: did a process write to it?",
            ));
        }
        message.value(py)
    }

    /// Sends short bytes if there is room, and nobody is sending something long.
    fn send_now(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<bool> {
        self.sender(py).send_now(py, &[bytes], Patience::None)
    }
}

impl QueueEnds {
    fn fifo(&self) -> Option<&Fifo> {
        self.ring.as_ref().map(|ring| ring.get().fifo())
    }

    fn sender<'a, 'py>(&'a self, py: Python<'py>) -> Sender<'a, 'py> {
        Sender {
            end: End(self.writer.bind(py)),
            lock: self.wlock.get(),
            fifo: self.fifo(),
        }
    }

    fn receiver<'a, 'py>(&'a self, py: Python<'py>) -> Receiver<'a, 'py> {
        Receiver {
            end: End(self.reader.bind(py)),
            lock: self.rlock.get(),
            senders: self.wlock.get(),
            fifo: self.fifo(),
        }
    }

    /// Whether there is nothing to get any more: the queue was shut down, and is empty or was emptied.
    fn is_over(&self) -> bool {
        match self.phase.get().left() {
            0 => false,
            DROPPED.. => true,
            _ => self.places.get().left() >= self.size,
        }
    }
}

// ---- for who receives from the pipe himself ----

/// What comes next to a connection to a queue's pipe: bytes, or None if that is longer than `limit`. As
/// `_engine.recv_message` does it, but for what others have read of it, and for the ring.
///
/// parts -- the queue's locks, of the readers and of the writers, and its ring or None
#[pyfunction]
fn recv_queued<'py>(
    py: Python<'py>,
    connection: &Bound<'py, PyAny>,
    limit: Option<u64>,
    parts: Parts<'py>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let bytes = queued(py, connection, limit, &parts)?;
    Ok(bytes.map(|bytes| PyBytes::new(py, &bytes)))
}

/// The same as an object. Raises what unpickling raises; for a message of no possible length what
/// `connection._bad_message_length` does.
#[pyfunction]
fn recv_queued_object<'py>(
    py: Python<'py>,
    connection: &Bound<'py, PyAny>,
    parts: Parts<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    match queued(py, connection, None, &parts)? {
        Some(bytes) => message::loads(py, bytes),
        None => connection.call_method0(name!(py, "_bad_message_length")),
    }
}

fn queued(
    py: Python<'_>,
    connection: &Bound<'_, PyAny>,
    limit: Option<u64>,
    parts: &Parts<'_>,
) -> PyResult<Option<Vec<u8>>> {
    let receiver = receiver(connection, parts);
    let (lock, side) = (receiver.lock, receiver.side());
    loop {
        let number = descriptor(connection)?;
        if let Some(side) = &side
            && Side::is_next(&Ahead::of(lock))
        {
            // Whoever receives by himself holds the lock, if there are others.
            let held = lock.hold_unless_mine(py)?;
            match side.take(py, As::Pickle(limit.unwrap_or(u64::MAX)))? {
                Taken::Item(message) => return Ok(message.pickle()),
                Taken::Again => {}
                Taken::TooLong => return Ok(None),
                Taken::Busy => drop(receiver.senders.hold(py, Some(ring::SOON))?),
            }
            drop(held);
            continue;
        }
        let ahead = Ahead::taken(lock);
        match (
            receive_begun(py, one(&number)?, ahead.bytes(), limit)?,
            &side,
        ) {
            (Ok(bytes), _) => return Ok(Some(bytes)),
            (Err(length), Some(side)) if Side::is_note(length) => side.noted(),
            (Err(_), _) => return Ok(None),
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
    m.add_function(wrap_pyfunction!(queue_is_empty, m)?)?;
    m.add_function(wrap_pyfunction!(recv_queued, m)?)?;
    m.add_function(wrap_pyfunction!(recv_queued_object, m)?)?;
    m.add_class::<QueueRing>()?;
    m.add_class::<Pickled>()?;
    m.add_class::<QueueEnds>()
}
