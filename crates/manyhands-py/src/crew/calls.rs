//! Calls and maps on their way into the engine: what is published, encoded, and drawn as workers can use it.
//!
//! Always: what cannot be encoded is what became of the job, and raises where its value is asked for; what only
//! interrupted us, or a pool that takes no more, raises at the call.
//! Not here: which jobs there are (`crew`), how items become tasks (`items`).

use std::sync::{Arc, MutexGuard, PoisonError};

use manyhands::engine::{self, Chunking, Crew, Drawer, Function, Refused, Task};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::PyCrew;
use crate::answer::{Face, abandoned, mode};
use crate::codec;
use crate::fast;
use crate::handle::Handle;
use crate::items::{Items, is_prompt, tell};
use crate::job::PyJob;
use crate::naming;
use crate::shared;
use crate::stray;

/// Functions whose pickle is kept between calls.
const KEPT_FUNCTIONS: usize = 32;

/// A function, as Python has it, as workers have it, and what it is called.
pub(super) type Published = (Arc<Function>, Arc<str>);

/// What the feeding thread runs.
#[pyclass(frozen, module = "manyhands._engine")]
struct Feeder(Arc<Crew>);

#[pymethods]
impl Feeder {
    fn __call__(&self, py: Python<'_>) {
        py.detach(|| self.0.feed());
        drop(stray::take());
    }
}

impl PyCrew {
    /// Publishes `function`, or finds it published: plain functions pickle as their name.
    pub(super) fn published(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Published>> {
        if !function.get_type().is(&self.function_type) {
            return Ok(None);
        }
        let find = || {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.iter()
                .find(|(known, _)| known.is(function))
                .map(|(_, published)| published.clone())
        };
        if let Some(published) = find() {
            return Ok(Some(published));
        }
        let published = self.crew.publish(codec::pickled(py, function)?);
        self.crew
            .name_function(&published, &naming::title(function));
        let published = (published, name_of(function));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = (kept.len() >= KEPT_FUNCTIONS).then(|| kept.remove(0));
        kept.push((function.clone().unbind(), published.clone()));
        drop(kept);
        drop(oldest);
        Ok(Some(published))
    }

    /// The exception for what the engine refused.
    pub(super) fn refused(&self, py: Python<'_>, refused: &Refused) -> PyErr {
        if self.face == Face::Executor && matches!(refused, Refused::Closed) {
            return PyRuntimeError::new_err("cannot schedule new futures after shutdown");
        }
        match refused {
            Refused::Closed => PyValueError::new_err("Pool not running"),
            Refused::Over(why) if matches!(**why, engine::Abandoned::Terminated) => {
                PyValueError::new_err("Pool not running")
            }
            Refused::Over(why) => abandoned(py, why, self.face),
            Refused::Forked => PyRuntimeError::new_err(refused.to_string()),
        }
    }

    /// Raises what a pool that takes nothing more raises.
    pub(super) fn must_be_open(&self, py: Python<'_>) -> PyResult<()> {
        if !self.crew.is_ours() {
            return Err(self.refused(py, &Refused::Forked));
        }
        if self.crew.is_open() {
            return Ok(());
        }
        let why = self.crew.over().map_or(Refused::Closed, Refused::Over);
        Err(self.refused(py, &why))
    }

    /// Hands in the call of a job.
    pub(super) fn call(
        &self,
        py: Python<'_>,
        job: &Arc<PyJob>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwds: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let published = self
            .published(py, function)
            .map(|published| published.map(|(function, _)| function));
        self.call_as(py, job, function, published, args, kwds)
    }

    /// `call`, of a function that was looked up.
    pub(super) fn call_as(
        &self,
        py: Python<'_>,
        job: &Arc<PyJob>,
        function: &Bound<'_, PyAny>,
        published: PyResult<Option<Arc<Function>>>,
        args: &Bound<'_, PyTuple>,
        kwds: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let encoded = || {
            let published = published?;
            let encode = |whole: &Bound<'_, PyAny>| {
                shared::for_pool(self.crew.pool(), || codec::encode(py, whole))
            };
            let (mode, payload) = match (&published, kwds.is_empty()) {
                (Some(_), true) => (mode::ARGS, encode(args.as_any())?),
                (Some(_), false) => (
                    mode::CALL,
                    encode(PyTuple::new(py, [args.as_any(), kwds.as_any()])?.as_any())?,
                ),
                (None, _) => {
                    job.call_it(self.names.id_of(&self.crew, function));
                    let whole = PyTuple::new(py, [function, args.as_any(), kwds.as_any()])?;
                    (mode::WHOLE, encode(whole.as_any())?)
                }
            };
            PyResult::Ok((published, mode, payload))
        };
        let (function, mode, payload) = match encoded() {
            Ok(encoded) => encoded,
            Err(error) if stray::is_stray(py, &error) => return Err(error),
            Err(error) => {
                tell(job, job.fail(py, 0, error), Some(&*self.crew));
                return Ok(());
            }
        };
        let dynamic: Arc<dyn engine::Job> = job.clone();
        let task = Task {
            job: dynamic,
            index: 0,
            function,
            mode,
            payload,
            losses: 0,
        };
        self.crew.bury();
        self.crew
            .submit(task)
            .map_err(|refused| self.refused(py, &refused))
    }

    /// Hands in a map, whose input is drawn by whoever may.
    #[allow(clippy::too_many_arguments, reason = "what a map is asked with")]
    pub(super) fn feed(
        &self,
        py: Python<'_>,
        job: PyJob,
        function: &Bound<'_, PyAny>,
        iterable: &Bound<'_, PyAny>,
        len: Option<usize>,
        chunksize: Option<usize>,
        starred: bool,
        waits: bool,
    ) -> PyResult<Handle> {
        let job = Arc::new(job);
        let handle = Handle {
            crew: Arc::clone(&self.crew),
            job: Arc::clone(&job),
        };
        self.must_be_open(py)?;
        let published = match self.published(py, function) {
            Ok(Some((published, _))) => Ok(published),
            Ok(None) => {
                shared::for_pool(self.crew.pool(), || codec::pickled(py, function)).map(|payload| {
                    let published = self.crew.publish(payload);
                    self.crew
                        .name_function(&published, &naming::title(function));
                    published
                })
            }
            Err(error) => Err(error),
        };
        let iterator = fast::iter(iterable);
        let (function, iterator) = match (published, iterator) {
            (Ok(published), Ok(iterator)) => (published, iterator),
            (Err(error), _) | (_, Err(error)) if stray::is_stray(py, &error) => return Err(error),
            (Err(error), _) | (_, Err(error)) => {
                let _ = job.expect(1);
                tell(&job, job.fail(py, 0, error), Some(&*self.crew));
                return Ok(handle);
            }
        };
        if let Some(trace) = self.crew.trace() {
            job.traced(trace, function.id());
        }
        let drawer = if is_prompt(&iterator)? {
            Drawer::Anyone
        } else if waits {
            Drawer::Owner(std::thread::current().id())
        } else {
            self.start_feeder(py)?;
            Drawer::Feeder
        };
        let workers = self.crew.size();
        let chunking = match (chunksize, len) {
            (Some(size), _) => Chunking::Fixed(size),
            (None, Some(len)) => Chunking::Guided { len, workers },
            (None, None) => Chunking::Growing { workers },
        };
        let single = chunksize == Some(1);
        let items = Items {
            job,
            crew: Arc::downgrade(&self.crew),
            function,
            iterator: Some(iterator.unbind()),
            chunking,
            starred,
            single,
            drawn: 0,
            index: 0,
            ended: false,
            interrupted: None,
            drawer,
        };
        self.crew.bury();
        self.crew
            .submit_source(Box::new(items))
            .map_err(|refused| self.refused(py, &refused))?;
        Ok(handle)
    }

    /// Starts the thread that draws input which may wait for something, unless it runs.
    fn start_feeder(&self, py: Python<'_>) -> PyResult<()> {
        if !self.feeders().is_empty() {
            return Ok(());
        }
        self.add_feeder(py)
    }

    /// Starts one more.
    pub(super) fn add_feeder(&self, py: Python<'_>) -> PyResult<()> {
        let feeder = Bound::new(py, Feeder(Arc::clone(&self.crew)))?;
        let options = PyDict::new(py);
        options.set_item("target", feeder)?;
        options.set_item("name", "manyhands-feeder")?;
        options.set_item("daemon", true)?;
        let thread = py
            .import("threading")?
            .getattr("Thread")?
            .call((), Some(&options))?;
        // Starting gives the interpreter up, so no lock is held; and only a thread that runs is kept.
        thread.call_method0("start")?;
        self.feeders().push(thread.unbind());
        Ok(())
    }

    pub(super) fn feeders(&self) -> MutexGuard<'_, Vec<Py<PyAny>>> {
        self.feeders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What messages call a function.
pub(super) fn name_of(function: &Bound<'_, PyAny>) -> Arc<str> {
    let name = function
        .getattr("__qualname__")
        .and_then(|name| name.extract::<String>());
    let name = name.or_else(|_| Ok::<_, PyErr>(function.get_type().qualname()?.to_string()));
    name.unwrap_or_default().into()
}
