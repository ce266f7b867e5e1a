//! Child processes as Python sees them: starting a program, waiting for its end, signals.
//!
//! Always: what became of a child is known once and for all threads, also after `close()`.
//! Not here: what a child runs (`manyhands.spawn`), forking (Python's own, with its hooks).

use std::ffi::CString;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_os::child::{self, Exec};
use manyhands_os::death;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::fds::{borrowed, duration, os_error, taken, wait_with_signals};

/// A child of this process, or of a fork server that reports on it.
#[pyclass(frozen, module = "manyhands._engine")]
pub(crate) struct Child {
    pid: i32,
    state: Mutex<State>,
}

/// What is kept of a child.
enum State {
    Open(Arc<death::Child>),
    /// Its descriptors are given back; its exit code, if it had one then.
    Closed(Option<i32>),
}

impl Child {
    fn new(child: death::Child) -> Self {
        Self {
            pid: child.pid(),
            state: Mutex::new(State::Open(Arc::new(child))),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's child, or, after `close()`, the exit code.
    fn open(&self) -> Result<Arc<death::Child>, Option<i32>> {
        match &*self.state() {
            State::Open(child) => Ok(Arc::clone(child)),
            State::Closed(code) => Err(*code),
        }
    }

    /// The engine's child, for the pool. An error after `close()`.
    // The pool is the only caller.
    #[allow(dead_code)]
    pub(crate) fn inner(&self) -> PyResult<Arc<death::Child>> {
        self.open().map_err(|_| closed(self.pid))
    }
}

fn closed(pid: i32) -> PyErr {
    PyValueError::new_err(format!(
        "the child {pid} is closed: close() gave its descriptors back"
    ))
}

#[pymethods]
impl Child {
    /// Takes charge of a process that this one has just started.
    #[staticmethod]
    fn own(pid: i32) -> PyResult<Self> {
        death::Child::own(pid)
            .map(Self::new)
            .map_err(|e| os_error(&e))
    }

    /// Takes charge of a process that a fork server started: its pidfd, or -1, and the socket or pipe that
    /// its exit code comes through. Both descriptors are this object's from now on.
    #[staticmethod]
    fn remote(pid: i32, pidfd: RawFd, status: RawFd) -> PyResult<Self> {
        let status = taken(status)?;
        let pidfd = if pidfd < 0 { None } else { Some(taken(pidfd)?) };
        death::Child::remote(pid, pidfd, status)
            .map(Self::new)
            .map_err(|e| os_error(&e))
    }

    /// The process's number.
    #[getter]
    fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor, an int, that turns readable when the process ends; it stays this object's.
    #[getter]
    fn sentinel(&self) -> PyResult<RawFd> {
        let child = self.inner()?;
        let sentinel = child.sentinel().map_err(|e| os_error(&e))?;
        Ok(sentinel.as_raw_fd())
    }

    /// Returns the exit code, -N for signal N, or None while the process runs.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        match self.open() {
            Err(code) => Ok(code),
            Ok(child) => {
                let status = wait_with_signals(py, None, |_| child.try_wait())?;
                Ok(status.map(death::ExitStatus::exitcode))
            }
        }
    }

    /// Waits for the end of the process, at most `timeout` seconds (None: for ever); returns the exit code, or
    /// None if it runs still. Other threads and signal handlers run meanwhile.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<i32>> {
        match self.open() {
            Err(code) => Ok(code),
            Ok(child) => {
                let status = wait_with_signals(py, duration(timeout)?, |left| child.wait(left))?;
                Ok(status.map(death::ExitStatus::exitcode))
            }
        }
    }

    /// Sends a signal; nothing if the process has ended.
    fn signal(&self, signal: i32) -> PyResult<()> {
        match self.open() {
            Err(Some(_)) => Ok(()),
            Err(None) => Err(closed(self.pid)),
            Ok(child) => child.signal(signal).map_err(|e| os_error(&e)),
        }
    }

    /// Gives the descriptors back, once nobody waits any more; the exit code stays known.
    fn close(&self) {
        let mut state = self.state();
        if let State::Open(child) = &*state {
            let status = child.try_wait().ok().flatten();
            *state = State::Closed(status.map(death::ExitStatus::exitcode));
        }
    }

    fn __repr__(&self) -> String {
        match &*self.state() {
            State::Open(_) => format!("<Child {}>", self.pid),
            State::Closed(_) => format!("<Child {}, closed>", self.pid),
        }
    }
}

/// Starts a program and returns its pid. It has descriptors 0 to 2 and `keep_fds`, under the same numbers.
///
/// executable -- bytes, the path; argv -- list of bytes; env -- list of b"NAME=value", None for this process's
#[pyfunction]
fn spawn(
    py: Python<'_>,
    executable: Vec<u8>,
    argv: Vec<Vec<u8>>,
    env: Option<Vec<Vec<u8>>>,
    keep_fds: Vec<RawFd>,
) -> PyResult<i32> {
    let program = c_string(executable)?;
    let argv = argv
        .into_iter()
        .map(c_string)
        .collect::<PyResult<Vec<_>>>()?;
    let env = env
        .map(|env| env.into_iter().map(c_string).collect::<PyResult<Vec<_>>>())
        .transpose()?;
    let keep = borrowed(&keep_fds)?;
    let exec = Exec {
        env: env.as_deref(),
        keep: &keep,
        ..Exec::new(&program, &argv)
    };
    // The program's start may take a while: it is read from disk.
    py.detach(|| child::spawn(&exec)).map_err(|e| os_error(&e))
}

fn c_string(bytes: Vec<u8>) -> PyResult<CString> {
    CString::new(bytes).map_err(|e| {
        PyValueError::new_err(format!(
            "embedded null byte in {:?}",
            String::from_utf8_lossy(&e.into_vec())
        ))
    })
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Child>()?;
    m.add_function(wrap_pyfunction!(spawn, m)?)
}
