//! The worker of a Python pool: unpickles calls, runs them, pickles what they return or raise.

use manyhands_os::crash_point;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use manyhands::engine::{Answer, Call, Desk, Execute, Left, Limit, Payload, Received, Stopwatch};
use manyhands_os::clock::now_ns;
use manyhands_os::{fork_state, limits, timer};
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyList, PyModule, PyTuple, PyType};

use crate::answer::mode;
use crate::fds::os_error;
use crate::seat::Seat;
use crate::{codec, fast, shared};

/// A function that tasks name.
enum Function<'py> {
    /// Its pickle is a name, so it is the same object for every task anyway.
    Named(Bound<'py, PyAny>),
    /// What may have a state, which is fresh for each task: as if it came with the task.
    Fresh(codec::Kept),
}

struct Worker<'py> {
    py: Python<'py>,
    functions: HashMap<u32, Result<Function<'py>, PyErr>>,
    /// `map` and `itertools.starmap`.
    map: Bound<'py, PyAny>,
    starmap: Bound<'py, PyAny>,
    function_type: Bound<'py, PyAny>,
    /// What ends this process: a signal handler raised it while the worker waited, or a task's fork did.
    raised: Option<PyErr>,
    generation: u64,
    /// The call that it has was unpickled.
    begun: bool,
    /// There is a handler for the signal that asks a call to end; `None`: nobody tried yet.
    listens: Option<bool>,
    /// What cannot be pickled is reported as that, not as a `MaybeEncodingError`.
    plain: bool,
}

/// When the call that is being run is to be asked to end, on the monotonic clock; 0: never. For the signal's handler.
static DUE_NS: AtomicU64 = AtomicU64::new(0);
/// How long it may take.
static LIMIT_MS: AtomicU32 = AtomicU32::new(0);

/// What running a call came to: the value, and whether it is a list of several.
type Ran<'py> = PyResult<(Bound<'py, PyAny>, u8)>;

impl<'py> Worker<'py> {
    fn function(&mut self, id: u32) -> PyResult<Bound<'py, PyAny>> {
        let function = match self.functions.get(&id) {
            Some(Ok(Function::Named(function))) => return Ok(function.clone()),
            Some(Ok(Function::Fresh(pickle))) => pickle.decode(self.py)?,
            Some(Err(error)) => return Err(error.clone_ref(self.py)),
            None => {
                return Err(PyRuntimeError::new_err(format!(
                    "the pool did not send function {id} to this worker"
                )));
            }
        };
        if self.is_named(&function) {
            let named = Function::Named(function.clone());
            self.functions.insert(id, Ok(named));
        }
        Ok(function)
    }

    /// Whether pickles of it say where it is, not what it is: a plain function, a class, a module's builtin.
    fn is_named(&self, function: &Bound<'_, PyAny>) -> bool {
        let of_module = |builtin: &Bound<'_, PyCFunction>| {
            builtin
                .getattr("__self__")
                .is_ok_and(|owner| owner.is_none() || owner.is_instance_of::<PyModule>())
        };
        function.get_type().is(&self.function_type)
            || function.is_instance_of::<PyType>()
            || function.cast::<PyCFunction>().is_ok_and(of_module)
    }

    /// Whether this process can ask its calls to end; has it listen first.
    fn listens(&mut self) -> PyResult<bool> {
        if let Some(listens) = self.listens {
            return Ok(listens);
        }
        let limits = self.py.import("manyhands._limits")?;
        let listens = limits.getattr("listen")?.call0()?.extract()?;
        self.listens = Some(listens);
        Ok(listens)
    }

    /// Runs code of the user, which may take so long.
    fn timed<T>(
        &mut self,
        stopwatch: &mut Stopwatch,
        mut limit: Limit,
        call: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<T> {
        if !stopwatch.is_needed(limit) {
            return call();
        }
        if limit.soft_ms > 0 && !self.listens()? {
            limit.soft_ms = 0;
        }
        if limit.soft_ms > 0 {
            LIMIT_MS.store(limit.soft_ms, Relaxed);
            DUE_NS.store(now_ns() + u64::from(limit.soft_ms) * 1_000_000, Relaxed);
        }
        stopwatch.start(limit)?;
        let came_to = call();
        stopwatch.stop();
        // The signal may be on its way: its handler sees that there is nothing to ask any more.
        DUE_NS.store(0, Relaxed);
        came_to
    }

    fn execute(&mut self, call: Call, stopwatch: &mut Stopwatch) -> Ran<'py> {
        let py = self.py;
        let (id, how, limit) = (call.function, call.mode, call.limit);
        self.begun = false;
        // The function first: if it could not be unpickled, its arguments tell nothing.
        let function = if how == mode::WHOLE {
            None
        } else {
            Some(self.function(id)?)
        };
        let argument = codec::decode(py, call.bytes, call.buffers)?;
        self.begun = true;
        let Some(function) = function else {
            let (function, args, kwds): (
                Bound<'py, PyAny>,
                Bound<'py, PyTuple>,
                Bound<'py, PyDict>,
            ) = argument.extract()?;
            drop(argument);
            let value = self.timed(stopwatch, limit, || function.call(args, Some(&kwds)))?;
            return Ok((value, mode::ONE));
        };
        let value = match how {
            mode::ONE => self.timed(stopwatch, limit, || fast::call1(&function, &argument))?,
            mode::ARGS => {
                let args = argument.cast_into::<PyTuple>()?;
                self.timed(stopwatch, limit, || function.call1(args))?
            }
            mode::CALL => {
                let (args, kwds): (Bound<'py, PyTuple>, Bound<'py, PyDict>) = argument.extract()?;
                drop(argument);
                self.timed(stopwatch, limit, || function.call(args, Some(&kwds)))?
            }
            mode::MANY | mode::MANY_STARRED if stopwatch.is_needed(limit) => {
                let values = PyList::empty(py);
                for item in argument.try_iter()? {
                    let item = item?;
                    let value = if how == mode::MANY {
                        self.timed(stopwatch, limit, || fast::call1(&function, &item))?
                    } else {
                        let args = fast::call1(py.get_type::<PyTuple>().as_any(), &item)?;
                        let args = args.cast_into::<PyTuple>()?;
                        self.timed(stopwatch, limit, || function.call1(args))?
                    };
                    values.append(value)?;
                }
                return Ok((values.into_any(), mode::MANY));
            }
            mode::MANY | mode::MANY_STARRED => {
                // `list(map(function, items))`: CPython's own loop is the fastest there is.
                let map = if how == mode::MANY {
                    &self.map
                } else {
                    &self.starmap
                };
                let values = map.call1((function, argument))?;
                return Ok((py.get_type::<PyList>().call1((values,))?, mode::MANY));
            }
            how => {
                return Err(PyRuntimeError::new_err(format!(
                    "a task of unknown mode {how}"
                )));
            }
        };
        Ok((value, mode::ONE))
    }

    /// Reports an exception: the text of its traceback, then its pickle.
    fn report(&self, error: PyErr) -> Answer {
        let py = self.py;
        let exception = error.into_value(py).into_bound(py).into_any();
        let told = || -> PyResult<(String, Payload)> {
            let errors = py.import("manyhands.errors")?;
            let text: String = errors
                .getattr("_describe")?
                .call1((&exception,))?
                .extract()?;
            let payload = match codec::encode(py, &exception) {
                Ok(payload) => payload,
                Err(why) if self.plain => codec::encode(py, why.into_value(py).bind(py).as_any())?,
                Err(why) => {
                    let stand_in = errors
                        .getattr("_unsendable")?
                        .call1((why.into_value(py), &exception))?;
                    codec::encode(py, &stand_in)?
                }
            };
            Ok((text, payload))
        };
        // Even an exception whose repr raises is reported, if only by its type.
        let (text, payload) =
            told().unwrap_or_else(|error| (format!("{error}"), Payload::default()));
        let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(&payload.bytes);
        Answer {
            raised: true,
            mode: if self.begun { 0 } else { mode::UNREAD },
            payload: Payload {
                bytes,
                buffers: payload.buffers,
                ..Payload::default()
            },
        }
    }

    fn answer(&self, value: Bound<'py, PyAny>, how: u8) -> Answer {
        match codec::encode(self.py, &value) {
            Ok(payload) => Answer {
                raised: false,
                mode: how,
                payload,
            },
            Err(why) if self.plain => self.report(why),
            Err(why) => {
                let made = self.py.import("manyhands.errors").and_then(|errors| {
                    errors
                        .getattr("_unsendable")?
                        .call1((why.into_value(self.py), value))
                });
                self.report(made.map_or_else(|error| error, PyErr::from_value))
            }
        }
    }
}

impl Execute for Worker<'_> {
    fn define(&mut self, id: u32, bytes: Received, mut buffers: Vec<Received>) {
        if bytes.first() == Some(&codec::SHARED) {
            let memory = buffers.pop().unwrap_or(Received::Missing(0));
            return shared::define(id, &bytes, memory);
        }
        let kept = codec::Kept::new(self.py, bytes, buffers);
        self.functions.insert(id, kept.map(Function::Fresh));
    }

    fn forget(&mut self, id: u32) {
        self.functions.remove(&id);
        shared::forget(id);
    }

    fn run(&mut self, call: Call, stopwatch: &mut Stopwatch) -> Answer {
        match self.execute(call, stopwatch) {
            Ok((value, how)) => self.answer(value, how),
            // A child that the task forked ends as any child that raises, and answers nothing.
            Err(error) if self.generation != fork_state::generation() => {
                self.raised = Some(error);
                Answer {
                    raised: true,
                    mode: 0,
                    payload: Payload::default(),
                }
            }
            Err(error) => self.report(error),
        }
    }

    fn tidy(&mut self) {
        let collected = self
            .py
            .import("gc")
            .and_then(|gc| gc.call_method0("collect"));
        if let Err(error) = collected {
            error.write_unraisable(self.py, None);
        }
    }

    fn while_waiting(&mut self, wait: &mut (dyn FnMut() + Send)) {
        self.py.detach(wait);
    }

    fn interrupted(&mut self) -> bool {
        match self.py.check_signals() {
            Ok(()) => true,
            Err(error) => {
                self.raised = Some(error);
                false
            }
        }
    }
}

/// Seconds that the call which is being run was allowed, if it has taken longer; for the handler of `request_signal`.
#[pyfunction]
fn overdue() -> Option<f64> {
    let due = DUE_NS.load(Relaxed);
    (due != 0 && now_ns() >= due).then(|| f64::from(LIMIT_MS.load(Relaxed)) / 1000.0)
}

/// The number of the signal that has a process say what it is doing.
#[pyfunction]
fn stacks_signal() -> i32 {
    timer::stacks_signal()
}

/// The number of the signal that asks a call to end.
#[pyfunction]
fn request_signal() -> i32 {
    timer::request_signal()
}

/// Serves a pool from `seat` until dismissed: runs `initializer(*initargs)`, then calls. `max_memory`: bytes of private
/// memory that this process may have; `cpu_time`: seconds of processor time that a call may take; `max_growth`: bytes of
/// memory of its own that it may get beyond what it had when it was ready, before another takes its place.
#[pyfunction]
#[pyo3(signature = (seat, initializer=None, initargs=None, plain=false, max_memory=None, cpu_time=None, max_growth=None))]
#[allow(clippy::too_many_arguments, reason = "what a worker is told")]
fn serve(
    py: Python<'_>,
    seat: &Bound<'_, Seat>,
    initializer: Option<Bound<'_, PyAny>>,
    initargs: Option<Bound<'_, PyTuple>>,
    plain: bool,
    max_memory: Option<u64>,
    cpu_time: Option<f64>,
    max_growth: Option<u64>,
) -> PyResult<()> {
    crash_point!("worker.seated");
    codec::never_interactive();
    shared::begin();
    let mut desk = Desk::sit(seat.get().take()?)?;
    let mut worker = Worker {
        py,
        functions: HashMap::new(),
        map: py.import("builtins")?.getattr("map")?,
        starmap: py.import("itertools")?.getattr("starmap")?,
        function_type: py.import("types")?.getattr("FunctionType")?,
        raised: None,
        generation: fork_state::generation(),
        begun: false,
        listens: None,
        plain,
    };
    if let Some(seconds) = cpu_time {
        let time = Duration::try_from_secs_f64(seconds);
        desk.limit_processor_time(
            time.map_err(|error| PyRuntimeError::new_err(format!("cpu_time: {error}")))?,
        );
    }
    if let Some(bytes) = max_growth {
        desk.limit_growth(bytes).map_err(|e| os_error(&e))?;
    }
    if let Some(Err(error)) = max_memory.map(limits::limit_data) {
        let error = PyRuntimeError::new_err(format!("max_memory: {error}"));
        let why = worker.report(error.clone_ref(py));
        desk.fail(&mut worker, why);
        return Err(error);
    }
    if let Some(initializer) = initializer {
        let initialised = match initargs {
            Some(initargs) => initializer.call1(initargs),
            None => initializer.call0(),
        };
        if let Err(error) = initialised {
            let why = worker.report(error.clone_ref(py));
            desk.fail(&mut worker, why);
            return Err(error);
        }
    }
    let left = desk.serve(&mut worker);
    match (left, worker.raised) {
        // Ctrl-C reaches the whole group: the parent tells the user, its workers just end.
        (Ok(Left::Interrupted), Some(error)) if error.is_instance_of::<PyKeyboardInterrupt>(py) => {
            Ok(())
        }
        (Ok(Left::Interrupted | Left::Forked), Some(error)) => Err(error),
        (Ok(_), _) => Ok(()),
        (Err(garbled), _) => Err(PyRuntimeError::new_err(format!(
            "what the pool sent to this worker cannot be read: {garbled}"
        ))),
    }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(overdue, m)?)?;
    m.add_function(wrap_pyfunction!(request_signal, m)?)?;
    m.add_function(wrap_pyfunction!(stacks_signal, m)?)?;
    m.add_function(wrap_pyfunction!(serve, m)?)
}
