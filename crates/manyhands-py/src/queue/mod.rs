//! Queues: what puts and gets do, apart from what Python's half of them decides (`manyhands.queues`).
//!
//! Always: what cannot be sent now without a wait is handed back, for the feeder; an item that was got has given its
//! place back.
//! Not here: how an item passes (`pipe`), the feeder's thread.

mod pipe;

use std::io::IoSlice;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::pipe::{ATOMIC, grow};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString};

use self::pipe::{End, Got, HEADER, SHORT, receive, send, send_short, write_now};
use crate::connection::one;
use crate::fds::duration;
use crate::manager::descriptor;
use crate::message;
use crate::once::Once;
use crate::sync::SemLock;

pub(crate) use self::pipe::Ahead;

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
