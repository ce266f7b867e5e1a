//! A pool's engine as a Python object: submitting, waiting, ending.
//!
//! Always: a wait lets go of the interpreter's lock, ends for signals, and works for the
//! pool meanwhile; nothing of the engine is locked while Python runs.
//! Not here: how calls and maps are handed in (`calls`).

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use manyhands::engine::{
    self, Config, Crew, Launch, Limit, MaxRestarts, Offer, Seat, Terms, Waited, Wish,
};
use manyhands_os::death::Child;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::answer::{Face, abandoned};
use crate::fast;
use crate::fds::os_error;
use crate::handle::{Handle, PULSE, wait};
use crate::items::tell;
use crate::job::{Callbacks, Kind, PyJob};
use crate::naming::Names;
use crate::seat;
use crate::shared::{self, Shared};
use crate::stray;
use crate::window::Window;

mod calls;

use calls::{Published, name_of};

/// Starts workers by calling back into `manyhands.pool`.
struct Starter(Py<PyAny>);

impl Launch for Starter {
    fn launch(&self, seat: Seat) -> io::Result<Arc<Child>> {
        // Its text alone: the engine drops the error wherever it is.
        let other = |error: PyErr| io::Error::other(error.to_string());
        Python::attach(|py| {
            let seat = Bound::new(py, seat::Seat::new(seat)).map_err(other)?;
            let process = fast::call1(self.0.bind(py), seat.as_any()).map_err(|error| {
                stray::keep(py, &error);
                other(error)
            })?;
            child_of(&process).map_err(other)
        })
    }

    fn drops_anywhere(&self) -> bool {
        false
    }
}

/// The child behind a `Process` that was started.
fn child_of(process: &Bound<'_, PyAny>) -> PyResult<Arc<Child>> {
    let child = process
        .getattr("_popen")
        .and_then(|popen| popen.getattr("_child"));
    match child
        .as_ref()
        .map(|child| child.cast::<crate::process::Child>())
    {
        Ok(Ok(child)) => child.get().inner(),
        _ => Err(PyTypeError::new_err(format!(
            "the context's Process made {}, which manyhands did not start; a pool needs a context of manyhands.get_context()",
            process.get_type()
        ))),
    }
}

/// The engine of one pool.
#[pyclass(frozen, name = "Crew", module = "manyhands._engine")]
struct PyCrew {
    crew: Arc<Crew>,
    face: Face,
    kept: Mutex<Vec<(Py<PyAny>, Published)>>,
    names: Names,
    function_type: Py<PyAny>,
    /// Threads that draw input, once there is some that needs it: one, unless several were started at once.
    feeders: Mutex<Vec<Py<PyAny>>>,
}

/// The parent's half of a seat, while its worker is being started.
#[pyclass(frozen, name = "Offer", module = "manyhands._engine")]
struct PyOffer(Mutex<Option<Offer>>);

impl PyOffer {
    fn take(&self) -> PyResult<Offer> {
        let offer = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        offer.ok_or_else(|| PyValueError::new_err("this offer was answered before"))
    }
}

#[pymethods]
impl PyCrew {
    /// A pool's engine, without workers yet. `starter(seat)` starts one and returns its `Process`.
    /// `executor`: with the exceptions of `concurrent.futures`, and broken by the death of a worker;
    /// `on_demand`: workers are offered by `grow`.
    /// `terms`: what holds for tasks that have none of their own; `max_restarts`: so many deaths in so many seconds
    /// are borne; `idle_timeout`: seconds after which workers leave that have nothing to do.
    #[new]
    #[allow(clippy::too_many_arguments, reason = "what a pool is made with")]
    #[pyo3(signature = (workers, max_tasks, starter, executor=false, on_demand=false, terms=None, max_restarts=None, idle_timeout=None))]
    fn new(
        py: Python<'_>,
        workers: usize,
        max_tasks: Option<u64>,
        starter: Py<PyAny>,
        executor: bool,
        on_demand: bool,
        terms: Option<PyTerms>,
        max_restarts: Option<(usize, f64)>,
        idle_timeout: Option<f64>,
    ) -> PyResult<Self> {
        let max_restarts = match max_restarts {
            None => None,
            Some((restarts, seconds)) => Some(MaxRestarts {
                restarts,
                within: seconds_of(seconds)?,
            }),
        };
        let config = Config {
            workers,
            max_tasks_per_worker: max_tasks,
            cores: None,
            on_demand,
            breaks: executor,
            terms: terms.map_or_else(Terms::default, |terms| terms.0),
            max_restarts,
            idle_timeout: idle_timeout.map(seconds_of).transpose()?,
        };
        let crew = Crew::new(config, Box::new(Starter(starter))).map_err(|e| os_error(&e))?;
        let function_type = py.import("types")?.getattr("FunctionType")?.unbind();
        crew.set_face(if executor {
            engine::Face::Executor
        } else {
            engine::Face::Pool
        });
        Ok(Self {
            crew: Arc::new(crew),
            face: if executor { Face::Executor } else { Face::Pool },
            kept: Mutex::default(),
            names: Names::default(),
            function_type,
            feeders: Mutex::default(),
        })
    }

    /// A seat for one more worker and the offer to answer, or None when none is missing.
    fn offer<'py>(&self, py: Python<'py>) -> PyResult<Option<Offered<'py>>> {
        let offered = self.crew.offer().map_err(|e| os_error(&e))?;
        offered
            .map(|(seat, offer)| offered_in_python(py, seat, offer))
            .transpose()
    }

    /// Like `offer`, for a pool that starts workers on demand: None when it has all that it may have, or
    /// idle ones for so many tasks.
    fn grow<'py>(&self, py: Python<'py>, tasks: usize) -> PyResult<Option<Offered<'py>>> {
        let offered = self.crew.grow(tasks).map_err(|e| os_error(&e))?;
        offered
            .map(|(seat, offer)| offered_in_python(py, seat, offer))
            .transpose()
    }

    /// Takes in the worker that was started for an offer.
    fn enroll(&self, offer: &Bound<'_, PyOffer>, process: &Bound<'_, PyAny>) -> PyResult<()> {
        let child = child_of(process)?;
        self.crew
            .enroll(offer.get().take()?, child)
            .map_err(|e| os_error(&e))
    }

    /// Says that no worker could be started for an offer.
    fn decline(&self, offer: &Bound<'_, PyOffer>, why: &str) -> PyResult<()> {
        self.crew
            .decline(offer.get().take()?, &io::Error::other(why));
        Ok(())
    }

    /// Publishes an object for all workers and calls.
    fn share<'py>(
        &self,
        py: Python<'py>,
        object: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Shared>> {
        self.must_be_open(py)?;
        shared::share(py, &self.crew, object)
    }

    /// Calls `function(*args, **kwds)` in a worker and waits for its value.
    #[pyo3(signature = (function, args, kwds, terms=None))]
    fn apply(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwds: &Bound<'_, PyDict>,
        terms: Option<PyTerms>,
    ) -> PyResult<Py<PyAny>> {
        let job = Arc::new(job_of_a_call(function, (None, None), terms));
        self.call(py, &job, function, args, kwds)?;
        match wait(py, &self.crew, &|| job.is_done(), None, Wish::Each) {
            Ok(_) => job.value(py),
            Err(error) => {
                let dynamic: Arc<dyn engine::Job> = job;
                let _ = self.crew.take_back(&dynamic);
                Err(error)
            }
        }
    }

    /// Calls `function(*args, **kwds)` in a worker; gives the job.
    #[allow(clippy::too_many_arguments, reason = "what a call is asked with")]
    #[pyo3(signature = (function, args, kwds, callback, error_callback, terms=None))]
    fn apply_async(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwds: &Bound<'_, PyDict>,
        callback: Option<Py<PyAny>>,
        error_callback: Option<Py<PyAny>>,
        terms: Option<PyTerms>,
    ) -> PyResult<Handle> {
        let job = Arc::new(job_of_a_call(function, (callback, error_callback), terms));
        self.call(py, &job, function, args, kwds)?;
        self.crew.attend();
        Ok(Handle {
            crew: Arc::clone(&self.crew),
            job,
        })
    }

    /// A job whose call is handed in by `launch`, or that is told by its `fail` why it is not.
    #[pyo3(signature = (function, callback=None, error_callback=None, terms=None))]
    fn defer(
        &self,
        function: &Bound<'_, PyAny>,
        callback: Option<Py<PyAny>>,
        error_callback: Option<Py<PyAny>>,
        terms: Option<PyTerms>,
    ) -> Handle {
        let job = job_of_a_call(function, (callback, error_callback), terms);
        Handle {
            crew: Arc::clone(&self.crew),
            job: Arc::new(job.that_waits()),
        }
    }

    /// Hands in the call of a job that was deferred, unless it was cancelled meanwhile.
    fn launch(
        &self,
        py: Python<'_>,
        handle: &Bound<'_, Handle>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwds: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let job = &handle.get().job;
        if !job.end_wait() {
            return Ok(());
        }
        if let Err(error) = self.call(py, job, function, args, kwds) {
            let is_stray = stray::is_stray(py, &error);
            tell(job, job.fail(py, 0, error.clone_ref(py)), Some(&*self.crew));
            return if is_stray { Err(error) } else { Ok(()) };
        }
        self.crew.attend();
        Ok(())
    }

    /// Calls `function(*args, **kwds)` in a worker; gives the job, whose exceptions are those of an executor.
    fn submit(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwds: &Bound<'_, PyDict>,
    ) -> PyResult<Handle> {
        let (published, name) = match self.published(py, function) {
            Ok(Some((published, name))) => (Ok(Some(published)), name),
            Ok(None) => (Ok(None), name_of(function)),
            Err(error) => (Err(error), name_of(function)),
        };
        let job = Arc::new(job_of_a_call(function, (None, None), None).of_executor(name));
        self.call_as(py, &job, function, published, args, kwds)?;
        self.crew.attend();
        Ok(Handle {
            crew: Arc::clone(&self.crew),
            job,
        })
    }

    /// Maps `function` over `iterable`, which has `len` items if that is known. `waits`: this thread
    /// is about to wait for it, and draws it.
    #[allow(clippy::too_many_arguments, reason = "what a map is asked with")]
    #[pyo3(signature = (function, iterable, len, chunksize, starred, callback=None, error_callback=None, waits=false,
                        terms=None, counts=false))]
    fn map(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        iterable: &Bound<'_, PyAny>,
        len: Option<usize>,
        chunksize: Option<usize>,
        starred: bool,
        callback: Option<Py<PyAny>>,
        error_callback: Option<Py<PyAny>>,
        waits: bool,
        terms: Option<PyTerms>,
        counts: bool,
    ) -> PyResult<Handle> {
        let job = PyJob::new(
            Kind::List,
            None,
            function.clone().unbind(),
            callback,
            error_callback,
        )
        .that_learns(chunksize.is_none())
        .that_counts(counts)
        .with_terms(terms.map(|terms| terms.0));
        self.feed(py, job, function, iterable, len, chunksize, starred, waits)
    }

    /// Gives the values of `function` over `iterable` one by one, drawing no more than `buffersize` items
    /// ahead of the reader, and none while values of `buffer_bytes` wait for him.
    #[allow(clippy::too_many_arguments, reason = "what a map is asked with")]
    #[pyo3(signature = (
        function, iterable, chunksize, ordered, buffersize=None, starred=false, terms=None, buffer_bytes=None,
        counts=false
    ))]
    fn stream(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        iterable: &Bound<'_, PyAny>,
        chunksize: usize,
        ordered: bool,
        buffersize: Option<usize>,
        starred: bool,
        terms: Option<PyTerms>,
        buffer_bytes: Option<u64>,
        counts: bool,
    ) -> PyResult<Handle> {
        let kind = if ordered {
            Kind::Ordered
        } else {
            Kind::Unordered
        };
        let window = match (self.face, buffersize) {
            // Everything is submitted at once, as its interface says.
            (Face::Executor, None) => Window::None,
            _ => Window::new(buffersize, buffer_bytes, chunksize, self.crew.size()),
        };
        let mut job = PyJob::new(kind, None, function.clone().unbind(), None, None)
            .with_window(window)
            .that_counts(counts)
            .with_terms(terms.map(|terms| terms.0));
        if self.face == Face::Executor {
            job = job.of_executor(name_of(function));
        }
        let handle = self.feed(
            py,
            job,
            function,
            iterable,
            None,
            Some(chunksize),
            starred,
            false,
        )?;
        self.crew.attend();
        Ok(handle)
    }

    /// Calls the tending thread for work that nobody waits for.
    fn attend(&self) {
        self.crew.attend();
    }

    /// Does what the pool needs while nobody waits; ends after `stop_tending`.
    fn tend(&self, py: Python<'_>) {
        while py.detach(|| self.crew.tend()) {
            self.crew.bury();
            let known = self.feeders().len();
            if self.crew.wants_feeder(known)
                && let Err(error) = self.add_feeder(py)
            {
                // No thread could be started. Its input waits for one that draws another.
                error.write_unraisable(py, None);
                py.detach(|| std::thread::sleep(PULSE));
            }
        }
        self.crew.bury();
        drop(stray::take());
    }

    /// Ends `tend`, and the thread that draws input; one whose input waits for something is left to it.
    fn stop_tending(&self, py: Python<'_>) -> PyResult<()> {
        self.crew.stop_tending();
        let feeders = std::mem::take(&mut *self.feeders());
        for thread in feeders {
            let thread = thread.bind(py);
            let current = py.import("threading")?.call_method0("current_thread")?;
            if !thread.is(&current) && !self.crew.is_drawing() {
                thread.call_method0("join")?;
            }
        }
        Ok(())
    }

    /// Cancels all that no worker has begun.
    fn cancel(&self, py: Python<'_>) {
        py.detach(|| self.crew.cancel(None));
    }

    /// What raises when something is submitted to a pool that is over, or None.
    fn over(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let why = self.crew.over()?;
        Some(abandoned(py, &why, self.face).into_value(py).into_any())
    }

    /// Changes how many workers there should be; missing ones are for `offer`.
    fn resize(&self, py: Python<'_>, workers: usize) -> PyResult<()> {
        py.detach(|| self.crew.resize(workers))
            .map_err(|refused| self.refused(py, &refused))
    }

    /// Takes no more tasks.
    fn close(&self) {
        self.crew.close();
    }

    /// Gives up all tasks and asks the workers to end.
    fn terminate(&self, py: Python<'_>) {
        py.detach(|| self.crew.terminate());
    }

    /// Waits until the workers are gone; those of a terminated pool that outlive `grace` seconds are killed.
    fn join(&self, py: Python<'_>, grace: f64) -> PyResult<()> {
        let grace = Duration::try_from_secs_f64(grace)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let began = Instant::now();
        loop {
            let left = grace.saturating_sub(began.elapsed());
            let waited = py.detach(|| self.crew.join(left, None, Some(PULSE)));
            self.crew.bury();
            if let Some(error) = stray::take() {
                return Err(error);
            }
            match waited {
                Waited::Pulse | Waited::TimedOut => py.check_signals()?,
                Waited::Reached | Waited::Forked => return py.check_signals(),
            }
        }
    }

    /// Whether any accepted task is unfinished.
    fn has_work(&self, py: Python<'_>) -> bool {
        py.detach(|| self.crew.has_work())
    }

    /// Whether this process owns the pool.
    fn is_ours(&self) -> bool {
        self.crew.is_ours()
    }

    /// Process ids of the workers.
    fn pids(&self) -> Vec<i32> {
        self.crew.pids()
    }
}

/// A job that is one call, with what to call with its value and with its exception.
fn job_of_a_call(
    function: &Bound<'_, PyAny>,
    (callback, error_callback): Callbacks,
    terms: Option<PyTerms>,
) -> PyJob {
    let function = function.clone().unbind();
    PyJob::new(Kind::Single, Some(1), function, callback, error_callback)
        .with_terms(terms.map(|terms| terms.0))
}

/// What a call, or every call of a pool, asks for: `(retries, soft limit, hard limit, priority)`, the limits in seconds or
/// None.
#[derive(Clone, Copy)]
struct PyTerms(Terms);

impl<'py> FromPyObject<'_, 'py> for PyTerms {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let (retries, soft, hard, priority): (u32, Option<f64>, Option<f64>, i32) =
            object.extract()?;
        let seconds = |time: Option<f64>| time.map(seconds_of).transpose();
        let limit = Limit::new(seconds(soft)?, seconds(hard)?);
        Ok(Self(Terms {
            retries,
            limit,
            priority,
        }))
    }
}

fn seconds_of(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// A seat for a worker, and the parent's half of it.
type Offered<'py> = (Bound<'py, seat::Seat>, Bound<'py, PyOffer>);

fn offered_in_python(py: Python<'_>, seat: Seat, offer: Offer) -> PyResult<Offered<'_>> {
    Ok((
        Bound::new(py, seat::Seat::new(seat))?,
        Bound::new(py, PyOffer(Mutex::new(Some(offer))))?,
    ))
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyCrew>()?;
    m.add_class::<PyOffer>()?;
    m.add_class::<Handle>()
}
