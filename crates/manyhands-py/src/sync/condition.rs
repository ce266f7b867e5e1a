//! `Condition`: those who wait for a change, beside the lock that guards what changes.

use manyhands_shm::sync::Kind;
use pyo3::exceptions::{PyAssertionError, PyOSError, PyValueError};
use pyo3::prelude::*;

use super::place::Place;
use super::semlock::SemLock;
use super::{block, me};
use crate::fds::{duration, os_error};

const EAGAIN: i32 = 11;

/// The waiters of a condition that processes share.
#[pyclass(frozen, module = "manyhands._engine")]
pub(crate) struct Condition {
    place: Place,
}

#[pymethods]
impl Condition {
    /// Makes one that nobody waits for, or finds the one that `_share()` told of in another process.
    #[new]
    #[pyo3(signature = (board=None, cell=0))]
    fn new(board: Option<i32>, cell: u32) -> PyResult<Self> {
        let place = match board {
            None => Place::make(Kind::Condition, 0, 0)?,
            Some(fd) => Place::inherit(fd, cell)?,
        };
        if place.kind != Kind::Condition {
            return Err(PyValueError::new_err("what lies there is no condition"));
        }
        Ok(Self { place })
    }

    /// Gives `lock` back, which this thread holds, waits at most `timeout` seconds to be called, and takes the
    /// lock again; whether it was called.
    #[pyo3(signature = (lock, timeout=None))]
    fn wait(&self, py: Python<'_>, lock: &SemLock, timeout: Option<f64>) -> PyResult<bool> {
        let me = me();
        if !lock.mine(me) {
            return Err(PyAssertionError::new_err(
                "must acquire() condition before using wait()",
            ));
        }
        let timeout = duration(timeout)?;
        let condition = self.place.board().condition(self.place.cell);
        let seat = condition
            .enter(me.process)
            .or_else(|| {
                condition.clear_away(me.process, |process| self.place.is_dead(process));
                condition.enter(me.process)
            })
            .ok_or_else(|| {
                PyOSError::new_err((
                    EAGAIN,
                    "too many threads wait for conditions: every seat on the board is taken",
                ))
            })?;
        let count = match lock.give_up_all() {
            Ok(count) => count,
            Err(e) => {
                seat.leave();
                return Err(e);
            }
        };
        let waited = block(py, &seat, timeout);
        let called = seat.leave();
        let again = lock.take_again(py, count);
        if called && (waited.is_err() || again.is_err()) && lock.mine(me) {
            self.call(py, lock, 1); // we cannot follow the call, another may
        }
        again?;
        waited.map(|_| called)
    }

    /// Calls up to `n` of those who wait, who came first first; this thread holds `lock`.
    fn notify(&self, py: Python<'_>, lock: &SemLock, n: isize) -> PyResult<()> {
        if !lock.mine(me()) {
            return Err(PyAssertionError::new_err("lock is not owned"));
        }
        self.call(py, lock, n);
        Ok(())
    }

    /// How many wait now.
    fn waiting(&self) -> usize {
        self.place.board().condition(self.place.cell).waiting()
    }

    /// This process, as others that have the condition know it.
    #[pyo3(name = "_me")]
    fn me(&self) -> u32 {
        me().process
    }

    /// Whether the process that was so known has ended for certain.
    #[pyo3(name = "_is_dead")]
    fn is_dead(&self, process: u32) -> bool {
        self.place.is_dead(process)
    }

    /// What a child needs to have it too: a descriptor, which stays this object's, and a number.
    #[pyo3(name = "_share")]
    fn share(&self) -> PyResult<(i32, u32)> {
        self.place.share().map_err(|e| os_error(&e))
    }
}

impl Condition {
    fn call(&self, py: Python<'_>, lock: &SemLock, n: isize) {
        let condition = self.place.board().condition(self.place.cell);
        let oldest = condition.oldest();
        if oldest.is_empty() {
            return;
        }
        let (place, me) = (&self.place, me());
        let is_dead = |process| place.is_dead(process);
        py.detach(|| {
            let mut left = n;
            for found in oldest {
                if left <= 0 {
                    return;
                }
                let Some(state) = condition.call(found) else {
                    continue; // it has left
                };
                // Nobody asleep: it is about to sleep, or looks at a signal, or was killed.
                if !lock.wake_with_release(condition.word(found), state)
                    && is_dead(condition.sitter(found))
                {
                    condition.clear_away(me.process, is_dead);
                    continue;
                }
                left -= 1;
            }
        });
    }
}
