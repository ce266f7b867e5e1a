//! `Event`: set or not; who waits is woken when it is set.

use manyhands_os::futex::{self, Scope};
use manyhands_shm::sync::Kind;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::block;
use super::place::Place;
use crate::fds::{duration, os_error};

/// An event that processes share.
#[pyclass(frozen, module = "manyhands._engine")]
pub(crate) struct Event {
    place: Place,
}

#[pymethods]
impl Event {
    /// Makes an event that is not set, or finds the one that `_share()` told of in another process.
    #[new]
    #[pyo3(signature = (board=None, cell=0))]
    fn new(board: Option<i32>, cell: u32) -> PyResult<Self> {
        let place = match board {
            None => Place::make(Kind::Event, 0, 0)?,
            Some(fd) => Place::inherit(fd, cell)?,
        };
        if place.kind != Kind::Event {
            return Err(PyValueError::new_err("what lies there is no event"));
        }
        Ok(Self { place })
    }

    /// Whether it is set.
    fn is_set(&self) -> bool {
        self.place.board().event(self.place.cell).is_set()
    }

    /// Sets it, and wakes all who wait for that.
    fn set(&self) {
        if self.place.board().event(self.place.cell).set() {
            futex::wake(
                self.place.board().word(self.place.cell),
                usize::MAX,
                Scope::Shared,
            );
        }
    }

    /// Takes that back.
    fn clear(&self) {
        self.place.board().event(self.place.cell).clear();
    }

    /// Waits at most `timeout` seconds, None is for ever; whether it was set meanwhile.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        match self.place.board().event(self.place.cell).wait() {
            None => Ok(true),
            Some(wait) => block(py, &wait, duration(timeout)?),
        }
    }

    /// What a child needs to have it too: a descriptor, which stays this object's, and a number.
    #[pyo3(name = "_share")]
    fn share(&self) -> PyResult<(i32, u32)> {
        self.place.share().map_err(|e| os_error(&e))
    }
}
