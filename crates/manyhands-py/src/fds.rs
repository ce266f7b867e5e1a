//! Descriptors as Python has them, numbers: waiting for them, sending them, the engine's errors.
//!
//! Always: every wait lets other threads run and Python's signal handlers too, so that a
//! `KeyboardInterrupt` ends it at once. A number is borrowed for one call alone.
//! Not here: connections (`manyhands.connection`), what arrives.

use manyhands_os::crash_point;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::memory::Memfd;
use manyhands_os::{cpu, error, named, poll, socket};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The OSError, of the class that fits its number, for an error of the engine's.
pub(crate) fn os_error(cause: &io::Error) -> PyErr {
    match error::errno(cause) {
        Some(number) => {
            let text = cause.to_string();
            // Python says the number itself.
            let end = text.rfind(" (os error ").unwrap_or(text.len());
            PyOSError::new_err((number, text[..end].to_owned()))
        }
        None => PyOSError::new_err(cause.to_string()),
    }
}

/// A time-out in seconds, None for none; what is below zero is zero, what is beyond all measure is none.
pub(crate) fn duration(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    if seconds.is_nan() {
        return Err(PyValueError::new_err(
            "a time-out of NaN seconds: give a number, or None to wait for ever",
        ));
    }
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).ok())
}

/// Repeats a wait that signals end, running Python's handlers, until it answers or `deadline` is there.
/// The wait itself runs without the interpreter.
pub(crate) fn wait_with_signals<T: Send>(
    py: Python<'_>,
    timeout: Option<Duration>,
    wait: impl Fn(Option<Duration>) -> io::Result<T> + Sync,
) -> PyResult<T> {
    let deadline = Deadline::after(timeout);
    loop {
        match py.detach(|| wait(deadline.left())) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => py.check_signals()?,
            answer => return answer.map_err(|e| os_error(&e)),
        }
    }
}

fn check(fd: RawFd) -> PyResult<RawFd> {
    if fd < 0 {
        return Err(PyValueError::new_err(format!(
            "{fd} is not a file descriptor"
        )));
    }
    Ok(fd)
}

/// Borrows descriptors that Python holds, for one call.
pub(crate) fn borrowed(fds: &[RawFd]) -> PyResult<Vec<BorrowedFd<'_>>> {
    fds.iter()
        .map(|&fd| {
            // SAFETY: not negative. That the number stays open for the call is up to the Python caller,
            // as with `os.read`; if it does not, the kernel answers EBADF or takes another open file, and
            // no memory is touched on its account.
            check(fd).map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
        })
        .collect()
}

/// Takes a descriptor over from Python, which must not close it any more.
pub(crate) fn taken(fd: RawFd) -> PyResult<OwnedFd> {
    // SAFETY: not negative; the caller in Python gives it up, as with `os.fdopen`.
    check(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Shared memory that is mapped, with the descriptor by which it may be sent to others.
///
/// A program may close every descriptor it does not know, as daemons do. Then the number may be some other file's, which
/// is no business of ours: the memory stays mapped, and cannot be sent to anybody any more.
pub(crate) struct Sendable {
    /// Some until it is dropped.
    memory: Option<Memfd>,
    file: (u64, u64),
}

impl Sendable {
    pub(crate) fn new(memory: Memfd) -> io::Result<Self> {
        Ok(Self {
            file: named::file_identity(&memory)?,
            memory: Some(memory),
        })
    }

    /// The file's identity.
    pub(crate) fn file(&self) -> (u64, u64) {
        self.file
    }

    /// The descriptor, if the number still is this memory's.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let fd = self.memory.as_ref()?.as_fd();
        let file = named::file_identity(fd).ok();
        (file == Some(self.file)).then_some(fd)
    }
}

impl Drop for Sendable {
    fn drop(&mut self) {
        if self.descriptor().is_none()
            && let Some(memory) = self.memory.take()
        {
            let _ = OwnedFd::from(memory).into_raw_fd(); // somebody else's to close
        }
    }
}

/// Waits until one of the descriptors is readable or hung up, at most `timeout` seconds (None: for ever);
/// returns those that are.
#[pyfunction]
#[pyo3(signature = (fds, timeout=None))]
fn wait_readable(py: Python<'_>, fds: Vec<RawFd>, timeout: Option<f64>) -> PyResult<Vec<RawFd>> {
    let watched = borrowed(&fds)?;
    let ready = wait_with_signals(py, duration(timeout)?, |left| {
        poll::readable(&watched, left)
    })?;
    Ok(watched
        .iter()
        .zip(ready)
        .filter_map(|(fd, ready)| ready.then_some(fd.as_raw_fd()))
        .collect())
}

/// Returns two connected Unix stream sockets, as descriptors that are closed on exec.
#[pyfunction]
fn socket_pair() -> PyResult<(RawFd, RawFd)> {
    let (one, other) = socket::pair().map_err(|e| os_error(&e))?;
    Ok((one.into_raw_fd(), other.into_raw_fd()))
}

/// Sends bytes, at least one, over a Unix socket; the descriptors travel with the first of them.
#[pyfunction]
fn send_fds(py: Python<'_>, sock: RawFd, data: &[u8], fds: Vec<RawFd>) -> PyResult<()> {
    let (sock, fds) = ([sock], borrowed(&fds)?);
    let sock = borrowed(&sock)?[0];
    crash_point!("descriptors.before-send");
    py.detach(|| socket::send_fds(sock, data, &fds))
        .map_err(|e| os_error(&e))?;
    crash_point!("descriptors.sent");
    Ok(())
}

/// Receives at most `size` bytes from a Unix socket, and at most `max_fds` descriptors that came with them:
/// a pair of bytes and a list. No bytes mean that the other end is closed.
#[pyfunction]
fn recv_fds(
    py: Python<'_>,
    sock: RawFd,
    size: usize,
    max_fds: usize,
) -> PyResult<(Bound<'_, PyBytes>, Vec<RawFd>)> {
    let sock = [sock];
    let sock = borrowed(&sock)?[0];
    let (data, fds) = py
        .detach(|| {
            let mut data = vec![0; size];
            let (received, fds) = socket::recv_fds(sock, &mut data, max_fds)?;
            data.truncate(received);
            Ok((data, fds))
        })
        .map_err(|e: io::Error| os_error(&e))?;
    crash_point!("descriptors.received");
    Ok((
        PyBytes::new(py, &data),
        fds.into_iter().map(IntoRawFd::into_raw_fd).collect(),
    ))
}

/// Returns how many processors this process may use: affinity and the container's quota, at least 1.
#[pyfunction]
fn cpu_count() -> usize {
    cpu::available()
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(wait_readable, m)?)?;
    m.add_function(wrap_pyfunction!(socket_pair, m)?)?;
    m.add_function(wrap_pyfunction!(send_fds, m)?)?;
    m.add_function(wrap_pyfunction!(recv_fds, m)?)?;
    m.add_function(wrap_pyfunction!(cpu_count, m)?)
}
