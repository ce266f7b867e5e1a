//! A worker's seat as a Python object, on its way to the process that will use it.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use manyhands::engine;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The worker's end of its mailbox: open descriptors, used once.
///
/// A forked child uses the object it inherited; for other start methods
/// `manyhands.pool` pickles it as descriptors.
#[pyclass(frozen, module = "manyhands._engine")]
pub(crate) struct Seat {
    seat: Mutex<Option<engine::Seat>>,
    /// Number of the worker in its pool.
    #[pyo3(get)]
    number: u64,
    /// Process id of the pool's owner.
    #[pyo3(get)]
    parent: i32,
}

impl Seat {
    pub(crate) fn new(seat: engine::Seat) -> Self {
        Self {
            number: seat.number,
            parent: seat.parent,
            seat: Mutex::new(Some(seat)),
        }
    }

    /// Takes the seat; it can be used once.
    pub(crate) fn take(&self) -> PyResult<engine::Seat> {
        let seat = self
            .seat
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        seat.ok_or_else(|| PyValueError::new_err("this worker's seat was used or closed before"))
    }
}

#[pymethods]
impl Seat {
    /// The descriptors, still owned by the seat, in the order of `from_fds`.
    fn fds(&self) -> PyResult<Vec<RawFd>> {
        let seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        let seat = seat
            .as_ref()
            .ok_or_else(|| PyValueError::new_err("this worker's seat was used or closed before"))?;
        let fds = &seat.fds;
        Ok([
            &fds.mailbox,
            &fds.arguments,
            &fds.results,
            &fds.worker_bell,
            &fds.parent_bell,
            &fds.lifeline,
        ]
        .map(AsRawFd::as_raw_fd)
        .to_vec())
    }

    /// Puts a seat together from descriptors, which it owns from now on.
    #[staticmethod]
    fn from_fds(number: u64, parent: i32, fds: [RawFd; engine::SEAT_FDS]) -> PyResult<Self> {
        if let Some(bad) = fds.iter().find(|fd| **fd < 0) {
            return Err(PyValueError::new_err(format!(
                "{bad} is no file descriptor"
            )));
        }
        // SAFETY: the caller, `manyhands.pool`, hands over descriptors that it just received
        // and does not use again.
        let fds = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self::new(engine::Seat::from_fds(number, parent, fds)))
    }

    /// Closes the descriptors, once the worker has its own.
    fn close(&self) {
        self.seat
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Seat>()
}
