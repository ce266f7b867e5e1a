//! A job as Python holds it, and waiting for it.
//!
//! Always: a wait lets go of the interpreter's lock, ends for signals, and works for the
//! pool meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use manyhands::engine::{self, Abandoned, Crew, Outcome, Refused, Waited, Wish};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::items::tell;
use crate::job::{Next, PyJob};
use crate::progress::Progress;
use crate::stray;
use crate::window::Window;

/// How long a wait may go on before signal handlers are run, should one have slipped in
/// between two looks.
pub(crate) const PULSE: Duration = Duration::from_millis(100);

/// Waits for `goal`, running signal handlers. `false`: `timeout` seconds passed.
pub(crate) fn wait(
    py: Python<'_>,
    crew: &Crew,
    goal: &(dyn Fn() -> bool + Sync),
    deadline: Option<Instant>,
    wish: Wish,
) -> PyResult<bool> {
    wait_and(py, crew, goal, deadline, wish, &|| false)
}

/// Waits as `wait` does, and has `meanwhile` do something, without the interpreter's lock, while there is nothing to
/// do for the pool.
fn wait_and(
    py: Python<'_>,
    crew: &Crew,
    goal: &(dyn Fn() -> bool + Sync),
    deadline: Option<Instant>,
    wish: Wish,
    meanwhile: &(dyn Fn() -> bool + Sync),
) -> PyResult<bool> {
    loop {
        let waited = py.detach(|| crew.wait_and(goal, deadline, Some(PULSE), wish, meanwhile));
        crew.bury();
        if let Some(error) = stray::take() {
            return Err(error);
        }
        match waited {
            // Ctrl-C reaches workers too: what it made them raise is not the answer to it.
            Waited::Reached => return py.check_signals().map(|()| true),
            Waited::TimedOut => return Ok(false),
            Waited::Pulse => py.check_signals()?,
            Waited::Forked => return Err(PyRuntimeError::new_err(Refused::Forked.to_string())),
        }
    }
}

fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else {
        return Ok(None);
    };
    if seconds.is_nan() {
        return Err(PyValueError::new_err(
            "a timeout is a number of seconds, not nan",
        ));
    }
    let seconds = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    Ok(Instant::now().checked_add(seconds))
}

/// One call's job: its state, its value, or its values one by one.
#[pyclass(frozen, name = "Job", module = "manyhands._engine")]
pub(crate) struct Handle {
    pub(crate) crew: Arc<Crew>,
    pub(crate) job: Arc<PyJob>,
}

#[pymethods]
impl Handle {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Whoever else has the job is the engine, which will settle it: then it is not garbage.
        if Arc::strong_count(&self.job) == 1 {
            self.job.visit(&visit)
        } else {
            Ok(())
        }
    }

    fn __clear__(&self) {
        if Arc::strong_count(&self.job) == 1 {
            self.job.let_go();
        }
    }

    /// Whether the value is there.
    fn ready(&self) -> bool {
        self.job.is_done()
    }

    /// Whether the job ended without an exception.
    fn successful(&self, py: Python<'_>) -> PyResult<bool> {
        self.job.was_successful(py)
    }

    /// Ends a deferred job with an exception, unless its call was handed in.
    fn fail(&self, py: Python<'_>, error: &Bound<'_, PyAny>) {
        if self.job.end_wait() {
            let error = PyErr::from_value(error.clone());
            tell(&self.job, self.job.fail(py, 0, error), Some(&*self.crew));
        }
    }

    /// How many items are done, of a job that counts them.
    fn progress(&self) -> usize {
        self.job.progress().map_or(0, Progress::done)
    }

    /// Waits until the value is there, `timeout` seconds at most.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        if self.job.is_done() {
            return Ok(true);
        }
        wait_and(
            py,
            &self.crew,
            &|| self.job.is_done(),
            deadline(timeout)?,
            Wish::Bulk,
            &|| self.job.read_ahead(),
        )
    }

    /// Waits as `wait` does. `(value, None)` or `(None, exception)`; `()`: it was cancelled; `None`: not done.
    #[pyo3(signature = (timeout=None))]
    fn outcome<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        if !self.wait(py, timeout)? {
            return Ok(None);
        }
        if self.job.is_withdrawn() {
            return Ok(Some(PyTuple::empty(py)));
        }
        let outcome = match self.job.outcome(py)? {
            Ok(value) => [value, py.None()],
            Err(exception) => [py.None(), exception],
        };
        PyTuple::new(py, outcome).map(Some)
    }

    /// Has `watcher()` called by the tending thread when the job is done. `false`: it is done already.
    fn watch(&self, watcher: Py<PyAny>) -> bool {
        self.job.watch(watcher, self.crew.watch())
    }

    /// Has `watcher()` called by the tending thread when a stream may have something to take. `false`: it has already.
    fn watch_next(&self, watcher: Py<PyAny>) -> bool {
        self.job.watch_next(watcher, self.crew.watch())
    }

    /// Whether a worker has begun it.
    fn has_begun(&self) -> bool {
        let job: Arc<dyn engine::Job> = self.job.clone();
        self.crew.has_begun(&job)
    }

    /// Cancels the job, unless a worker has begun it; whether that was done.
    fn withdraw(&self, py: Python<'_>) -> bool {
        let job: Arc<dyn engine::Job> = self.job.clone();
        py.detach(|| self.crew.cancel(Some(&job)))
    }

    /// Cancels what no worker has begun, and, with `force`, what one is running, by killing it; whether there was any.
    fn abort(&self, py: Python<'_>, force: bool) -> bool {
        if self.job.is_done() {
            return false;
        }
        if self.job.end_wait() {
            let why = Outcome::Abandoned(Arc::new(Abandoned::Cancelled));
            tell(
                &self.job,
                engine::Job::settle(&*self.job, 0, why),
                Some(&*self.crew),
            );
            return true;
        }
        let undrawn = self.job.withdraw();
        let job: Arc<dyn engine::Job> = self.job.clone();
        py.detach(|| {
            let queued = self.crew.cancel(Some(&job));
            let running = force && self.crew.cancel_running(&job);
            undrawn || queued || running
        })
    }

    /// The value; call it only when ready.
    fn value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.job.value(py)
    }

    /// The next value of a stream as `(value,)`; `()` at the end, `None` when `timeout` seconds passed.
    #[pyo3(signature = (timeout=None))]
    fn next<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let deadline = deadline(timeout)?;
        loop {
            let mut go_on = false;
            let next = self.job.next(py, &mut go_on);
            if go_on {
                py.detach(|| self.crew.resume());
            }
            match next {
                Next::Value(value) => return PyTuple::new(py, [value]).map(Some),
                Next::Failure(error) => return Err(error),
                Next::End => return Ok(Some(PyTuple::empty(py))),
                Next::NotYet => {}
            }
            if !wait(
                py,
                &self.crew,
                &|| self.job.has_next(),
                deadline,
                Wish::Each,
            )? {
                return Ok(None);
            }
        }
    }

    /// Draws no more of the input and takes back what no worker has begun.
    fn cancel(&self) {
        self.job.cancel();
        let job: Arc<dyn engine::Job> = self.job.clone();
        let _ = self.crew.take_back(&job);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        match self.job.window {
            Window::None => return,
            // Its reader is gone: nothing more is drawn for it.
            _ if self.job.window.leave() => self.job.cancel(),
            _ => {}
        }
        self.crew.resume();
    }
}
