//! What connections do with their descriptor: send a message, receive one, look whether there is one.
//!
//! Always: other threads run while a call waits, and Python's signal handlers do: what one raises ends the
//! wait. A length from the other end is bounded before it is believed (`manyhands_os::frame`).
//! Not here: `Connection` itself, listeners, authentication (`manyhands.connection`).

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::frame::{Failure, Receiving, Sending};
use manyhands_os::poll;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBlockingIOError, PyEOFError, PyMemoryError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::awake::Awake;
use crate::codec::Held;
use crate::fds::{borrowed, duration, os_error, wait_with_signals};
use crate::message;
use crate::once::name;

/// How long it is worth waiting awake for a message.
static AWAKE: Awake = Awake::new();

pub(crate) fn one(fd: &[RawFd; 1]) -> PyResult<BorrowedFd<'_>> {
    Ok(borrowed(fd)?[0])
}

/// Goes on with a transfer that signals interrupt, running their handlers.
pub(crate) fn through_signals<T: Send>(
    py: Python<'_>,
    mut advance: impl FnMut() -> Result<T, Failure> + Send,
) -> PyResult<T> {
    loop {
        match py.detach(&mut advance) {
            Err(Failure::System(e)) if e.kind() == io::ErrorKind::Interrupted => {
                py.check_signals()?
            }
            answer => return answer.map_err(|failure| raised(&failure)),
        }
    }
}

/// Goes on with a transfer over a descriptor that does not block, until it is done or `deadline` has passed, which
/// raises BlockingIOError. Neither signals nor bytes that drip in put it off.
fn until<T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    ready: impl Fn(Option<Duration>) -> io::Result<bool> + Sync,
    mut advance: impl FnMut() -> Result<T, Failure> + Send,
) -> PyResult<T> {
    loop {
        let blocked = match py.detach(&mut advance) {
            Err(Failure::System(e)) if e.kind() == io::ErrorKind::Interrupted => false,
            Err(Failure::System(e)) if e.kind() == io::ErrorKind::WouldBlock => true,
            answer => return answer.map_err(|failure| raised(&failure)),
        };
        py.check_signals()?;
        if deadline.passed() {
            return Err(PyBlockingIOError::new_err("the time is up"));
        }
        if blocked {
            wait_with_signals(py, deadline.left(), &ready)?;
        }
    }
}

/// The standard library's exception for a message that did not arrive.
pub(crate) fn raised(failure: &Failure) -> PyErr {
    match failure {
        Failure::End => PyEOFError::new_err(()),
        Failure::Cut => PyOSError::new_err("got end of file during message"),
        Failure::Length(_) => PyOSError::new_err("bad message length"),
        Failure::System(e)
            if e.kind() == io::ErrorKind::OutOfMemory && e.raw_os_error().is_none() =>
        {
            PyMemoryError::new_err("no memory for the message that is arriving")
        }
        Failure::System(e) => os_error(e),
    }
}

/// Sends `data[start:stop]` as one message; returns when the kernel has all of it.
///
/// data -- bytes, or another object with contiguous bytes
#[pyfunction]
fn send_message(
    py: Python<'_>,
    fd: RawFd,
    data: &Bound<'_, PyAny>,
    start: usize,
    stop: usize,
) -> PyResult<()> {
    let held;
    let bytes = match data.cast::<PyBytes>() {
        Ok(bytes) => bytes.as_bytes(),
        Err(_) => {
            held = Held(PyBuffer::get(data)?);
            &*held
        }
    };
    let part = bytes.get(start..stop).ok_or_else(|| {
        PyValueError::new_err(format!(
            "no bytes {start} to {stop} in a buffer of {}",
            bytes.len()
        ))
    })?;
    let fd = [fd];
    let fd = one(&fd)?;
    let mut message = Sending::new(part);
    through_signals(py, || message.advance(fd).map_err(Failure::System))
}

/// Sends bytes as one message within `seconds`, over a descriptor that does not block. Raises BlockingIOError when
/// they are not enough.
#[pyfunction]
fn send_within(py: Python<'_>, fd: RawFd, data: &[u8], seconds: f64) -> PyResult<()> {
    let fd = [fd];
    let fd = one(&fd)?;
    let mut message = Sending::new(data);
    until(
        py,
        Deadline::after(duration(Some(seconds))?),
        |left| poll::writable(fd, left),
        || message.advance(fd).map_err(Failure::System),
    )
}

/// Receives one message within `seconds`, over a descriptor that does not block. Raises BlockingIOError when they
/// are not enough; otherwise as `recv_message`.
#[pyfunction]
fn recv_within<'py>(
    py: Python<'py>,
    fd: RawFd,
    limit: Option<u64>,
    seconds: f64,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let fd = [fd];
    let fd = one(&fd)?;
    let mut message = Receiving::new(limit);
    let arrived = until(
        py,
        Deadline::after(duration(Some(seconds))?),
        |left| poll::readable(&[fd], left).map(|ready| ready[0]),
        || whole(&mut message, fd),
    )?;
    Ok(arrived.is_none().then(|| PyBytes::new(py, message.bytes())))
}

/// Tries a transfer that does not wait, until it moves something; `None` when it did not in time.
pub(crate) fn some(
    py: Python<'_>,
    deadline: Deadline,
    ready: impl Fn(Option<Duration>) -> io::Result<bool> + Sync,
    mut transfer: impl FnMut() -> io::Result<usize> + Send,
) -> PyResult<Option<usize>> {
    loop {
        match py.detach(&mut transfer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => py.check_signals()?,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if !wait_with_signals(py, deadline.left(), &ready)? {
                    return Ok(None);
                }
            }
            answer => return answer.map(Some).map_err(|e| os_error(&e)),
        }
    }
}

/// Pickles an object as `reduction.ForkingPickler` does and sends it as one message.
#[pyfunction]
fn send_object(py: Python<'_>, fd: RawFd, object: &Bound<'_, PyAny>) -> PyResult<()> {
    let bytes = message::dumps(py, object)?;
    let fd = [fd];
    message::send(py, one(&fd)?, &bytes)
}

/// Receives one message, bytes. Raises EOFError when the other end is closed, OSError for a message that is
/// cut off. None is the answer to a message that is announced as longer than `limit`, or as less than nothing:
/// it is not read, and the stream is of no more use.
#[pyfunction]
#[pyo3(signature = (fd, limit=None))]
fn recv_message<'py>(
    py: Python<'py>,
    fd: RawFd,
    limit: Option<u64>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let fd = [fd];
    let fd = one(&fd)?;
    let mut message = Receiving::new(limit);
    let arrived = received(py, fd, &mut message)?;
    Ok(arrived.is_none().then(|| PyBytes::new(py, message.bytes())))
}

/// Receives an object. Raises what `recv_message` does, and what unpickling raises; for a message of no possible length
/// what `connection._bad_message_length` does.
#[pyfunction]
fn recv_object<'py>(
    py: Python<'py>,
    connection: &Bound<'py, PyAny>,
    fd: RawFd,
) -> PyResult<Bound<'py, PyAny>> {
    let fd = [fd];
    let fd = one(&fd)?;
    let mut message = Receiving::new(None);
    if received(py, fd, &mut message)?.is_some() {
        return connection.call_method0(name!(py, "_bad_message_length"));
    }
    message::loads(py, message.into_bytes())
}

/// Receives a message of which `first` was read: its bytes, or the length by which it is refused.
pub(crate) fn receive_begun(
    py: Python<'_>,
    fd: BorrowedFd<'_>,
    first: &[u8],
    limit: Option<u64>,
) -> PyResult<Result<Vec<u8>, i128>> {
    let mut message = Receiving::begun(first).within(limit);
    Ok(match received(py, fd, &mut message)? {
        None => Ok(message.into_bytes()),
        Some(length) => Err(length),
    })
}

/// Receives a message, or what is said to be its length if that is out of bounds.
fn received(py: Python<'_>, fd: BorrowedFd<'_>, message: &mut Receiving) -> PyResult<Option<i128>> {
    let mut fresh = true;
    through_signals(py, || {
        if std::mem::take(&mut fresh) {
            let mut looked = false;
            let found = AWAKE.wait(|| {
                looked = true;
                message.begin_now(fd)
            });
            // A signal that came meanwhile would not end the wait that begins now.
            if looked && !found {
                return Err(Failure::System(io::ErrorKind::Interrupted.into()));
            }
        }
        whole(message, fd)
    })
}

fn whole(message: &mut Receiving, fd: BorrowedFd<'_>) -> Result<Option<i128>, Failure> {
    match message.advance(fd) {
        Err(Failure::Length(length)) => Ok(Some(length)),
        answer => answer.map(|()| None),
    }
}

/// Whether a message, or the end of the stream, can be read within `timeout` seconds (None: for ever).
#[pyfunction]
#[pyo3(signature = (fd, timeout=None))]
fn poll_message(py: Python<'_>, fd: RawFd, timeout: Option<f64>) -> PyResult<bool> {
    let fd = [fd];
    let fd = [one(&fd)?];
    Ok(wait_with_signals(py, duration(timeout)?, |left| poll::readable(&fd, left))?[0])
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(send_message, m)?)?;
    m.add_function(wrap_pyfunction!(send_within, m)?)?;
    m.add_function(wrap_pyfunction!(recv_within, m)?)?;
    m.add_function(wrap_pyfunction!(send_object, m)?)?;
    m.add_function(wrap_pyfunction!(recv_message, m)?)?;
    m.add_function(wrap_pyfunction!(recv_object, m)?)?;
    m.add_function(wrap_pyfunction!(poll_message, m)?)
}
