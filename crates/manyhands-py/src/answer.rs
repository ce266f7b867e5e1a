//! What a worker answered, or why there is no answer, as a value or an exception of Python's.
//!
//! Always: an answer whose decoding failed is still there, to be decoded once more.
//! Not here: which answers a job has, and what it needs them for (`job`).

use manyhands::engine::{Abandoned, Received, Reply};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyModule;

use crate::codec::Pickle;
use crate::stray;

/// How a task's payload is to be read; travels as the engine's `mode`.
pub(crate) mod mode {
    /// `(function, args, kwds)`; no published function.
    pub(crate) const WHOLE: u8 = 0;
    /// `(args, kwds)`
    pub(crate) const CALL: u8 = 1;
    /// `args`
    pub(crate) const ARGS: u8 = 2;
    /// One argument.
    pub(crate) const ONE: u8 = 3;
    /// A list of arguments, for a call each; the answer is the list of their values.
    pub(crate) const MANY: u8 = 4;
    /// A list of argument tuples.
    pub(crate) const MANY_STARRED: u8 = 5;
    /// Of a report: the call could not be unpickled.
    pub(crate) const UNREAD: u8 = 6;
}

/// Whose exceptions a job raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// Those of `manyhands.pool`.
    Pool,
    /// Those of `concurrent.futures`.
    Executor,
}

impl Face {
    /// Makes an exception by a function of the face's module.
    pub(crate) fn made<'py, A>(self, py: Python<'py>, maker: &str, arguments: A) -> PyErr
    where
        A: pyo3::call::PyCallArgs<'py>,
    {
        let module = match self {
            Self::Pool => "manyhands.errors",
            Self::Executor => "manyhands.executor",
        };
        let made =
            PyModule::import(py, module).and_then(|module| module.getattr(maker)?.call1(arguments));
        match made {
            Ok(exception) => PyErr::from_value(exception),
            Err(error) => error,
        }
    }
}

/// An answer that is not decoded yet.
pub(crate) struct Pickled {
    pickle: Pickle,
    /// For an exception: its traceback in the worker.
    traceback: Option<String>,
    /// It is a list of several values.
    several: bool,
    /// The exception is that of unpickling the call.
    unread: bool,
}

/// Why a part has no value.
pub(crate) enum Failure {
    /// That is what became of it.
    Outcome(PyErr),
    /// It could not be decoded; here it is, to try again.
    Decoding(PyErr, Pickled),
}

impl Pickled {
    pub(crate) fn new(py: Python<'_>, reply: Reply, face: Face) -> Result<Self, Failure> {
        let Reply {
            raised,
            mode,
            bytes,
            buffers,
            ran_ns: _,
        } = reply;
        if !raised {
            return Ok(Self {
                pickle: Pickle::new(py, bytes, buffers).map_err(Failure::Outcome)?,
                traceback: None,
                several: mode == mode::MANY,
                unread: false,
            });
        }
        let parts = bytes
            .split_first_chunk::<4>()
            .and_then(|(len, rest)| rest.split_at_checked(u32::from_le_bytes(*len) as usize));
        let Some((text, pickle)) = parts else {
            return Err(Failure::Outcome(PyRuntimeError::new_err(
                "a worker's report of an exception is garbled",
            )));
        };
        let text = String::from_utf8_lossy(text).into_owned();
        match Pickle::new(py, Received::Copied(pickle.to_vec()), buffers) {
            Ok(pickle) => Ok(Self {
                pickle,
                traceback: Some(text),
                several: false,
                unread: mode == mode::UNREAD,
            }),
            Err(error) => {
                let arguments = (text, error.into_value(py));
                Err(Failure::Outcome(face.made(py, "_undecodable", arguments)))
            }
        }
    }

    /// The value, or what the worker raised, with its traceback as the cause.
    pub(crate) fn open(
        self,
        py: Python<'_>,
        face: Face,
    ) -> Result<(Bound<'_, PyAny>, bool), Failure> {
        if let (true, Face::Executor, Some(text)) = (self.unread, face, &self.traceback) {
            return Err(Failure::Outcome(face.made(py, "_unread", (text,))));
        }
        match (self.pickle.load(py), &self.traceback) {
            (Ok(value), None) => Ok((value, self.several)),
            (Ok(exception), Some(text)) => {
                let raised = face.made(py, "_from_worker", (text, exception));
                Err(Failure::Outcome(raised))
            }
            (Err(error), Some(text)) if !stray::is_stray(py, &error) => {
                let error = face.made(py, "_undecodable", (text, error.into_value(py)));
                Err(Failure::Decoding(error, self))
            }
            (Err(error), _) => Err(Failure::Decoding(error, self)),
        }
    }
}

/// Why a pool gave a task up.
pub(crate) fn abandoned(py: Python<'_>, why: &Abandoned, face: Face) -> PyErr {
    let text = |last_words: &Option<Reply>| {
        last_words.as_ref().and_then(|reply| {
            let (len, rest) = reply.bytes.split_first_chunk::<4>()?;
            let (text, _) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            Some(String::from_utf8_lossy(text).into_owned())
        })
    };
    match why {
        Abandoned::Terminated => face.made(py, "_terminated", (why.to_string(),)),
        Abandoned::Cancelled => Face::Executor.made(py, "_cancelled", ()),
        Abandoned::Died {
            death,
            running,
            last_words,
        } => {
            let exitcode = death.status.exitcode();
            let arguments = (death.pid, exitcode, running, text(last_words));
            Face::Executor.made(py, "_broken_by_death", arguments)
        }
        Abandoned::Broken { reason, last_words } => {
            face.made(py, "_broken", (reason, text(last_words)))
        }
    }
}
