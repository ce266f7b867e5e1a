//! What a job comes to: its parts, decoded and put together.
//!
//! Always: nothing is locked while a part is decoded, which may run code of the user; what could not be decoded for no
//! fault of its own is there to be decoded again, and a value that was there once stays.
//! Not here: how the parts come, and when there are all (`job`).

use std::collections::VecDeque;
use std::time::Duration;

use manyhands::engine::{Cause, Outcome, Refused};
use manyhands_os::fork_state;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::parts::Part;
use super::{Kind, PyJob};
use crate::answer::{Face, Failure, Pickled, abandoned, mode};
use crate::{codec, stray};

/// What a stream has to say.
pub(crate) enum Next {
    Value(Py<PyAny>),
    Failure(PyErr),
    NotYet,
    End,
}

impl PyJob {
    /// The next value of a stream. `go_on`: the input, which waited for that, is to be drawn from again.
    pub(crate) fn next(&self, py: Python<'_>, go_on: &mut bool) -> Next {
        let mut state = match self.state_anywhere() {
            Ok(state) => state,
            Err(error) => return Next::Failure(error),
        };
        loop {
            if let Some(value) = state.opened.pop_front() {
                return Next::Value(value);
            }
            let returned = state.returned.pop_front();
            if returned.is_none() && state.expected == Some(state.taken) {
                return Next::End;
            }
            let at = state.base as u64;
            let is_new = returned.is_none();
            let taken = match self.kind {
                _ if !is_new => returned,
                Kind::Unordered => state.arrivals.pop_front(),
                _ => match state.parts.front_mut().and_then(Option::take) {
                    Some(part) => {
                        state.parts.pop_front();
                        state.base += 1;
                        Some((at, part))
                    }
                    None => None,
                },
            };
            let Some((index, part)) = taken else {
                return Next::NotYet;
            };
            if is_new {
                state.taken += 1;
                *go_on |= self.window.took_one(part.size());
            }
            // Unpickling runs code of the user, which may use this very job.
            drop(state);
            let (value, several) = match self.open(py, index, part) {
                Ok(opened) => opened,
                Err(Failure::Decoding(error, pickled)) => {
                    // What cannot be decoded is passed by; what was only interrupted is next again.
                    if stray::is_stray(py, &error) {
                        let part = Part::Pickled(pickled);
                        self.state().returned.push_back((index, part));
                    }
                    return Next::Failure(error);
                }
                Err(Failure::Outcome(error)) => return Next::Failure(error),
            };
            if !several {
                return Next::Value(value.unbind());
            }
            state = self.state();
            match value.cast::<PyList>() {
                Ok(list) => state.opened.extend(list.iter().map(Bound::unbind)),
                Err(error) => return Next::Failure(error.into()),
            }
        }
    }

    /// Decodes a part: its value, and whether that is a list of several values.
    fn open<'py>(
        &self,
        py: Python<'py>,
        index: u64,
        part: Part,
    ) -> Result<(Bound<'py, PyAny>, bool), Failure> {
        match self.open_once(py, index, part) {
            // An executor's future has one outcome: that is it.
            Err(Failure::Decoding(error, _))
                if self.face == Face::Executor
                    && !stray::is_stray_or_exit_of_handler(py, &error) =>
            {
                let arguments = (error.into_value(py),);
                Err(Failure::Outcome(self.face.made(
                    py,
                    "_unreadable",
                    arguments,
                )))
            }
            opened => opened,
        }
    }

    fn open_once<'py>(
        &self,
        py: Python<'py>,
        index: u64,
        part: Part,
    ) -> Result<(Bound<'py, PyAny>, bool), Failure> {
        let error = match part {
            Part::Raised(exception) => PyErr::from_value(exception.into_bound(py)),
            Part::List(list) => return Ok((list.into_bound(py), true)),
            Part::Pickled(pickled) => return pickled.open(py, self.face),
            Part::Outcome(Outcome::Replied(reply)) => {
                return Pickled::new(py, reply, self.face)?.open(py, self.face);
            }
            Part::Outcome(Outcome::Died(death)) => {
                let arguments = (
                    death.pid,
                    death.status.exitcode(),
                    index,
                    self.function.as_ref().map(|function| function.bind(py)),
                    match death.cause {
                        Cause::Unknown => "",
                        Cause::TimeLimit => "time",
                        Cause::OutOfMemory => "memory",
                    },
                );
                Face::Pool.made(py, "_worker_died", arguments)
            }
            Part::Outcome(Outcome::Abandoned(why)) => abandoned(py, &why, self.face),
        };
        Err(Failure::Outcome(error))
    }

    /// Decodes the next part of a list, if it is there and plain, so that no code of the user runs. `true`: it did.
    pub(crate) fn read_ahead(&self) -> bool {
        if self.kind != Kind::List {
            return false;
        }
        let is_there = {
            let state = self.state();
            matches!(state.parts.get(state.ahead), Some(Some(_)))
        };
        // With the interpreter's lock from here on: no other thread forks meanwhile.
        is_there && Python::attach(|py| self.read_one_ahead(py))
    }

    fn read_one_ahead(&self, py: Python<'_>) -> bool {
        let mut state = self.state();
        let is_free = state.decoding.is_none() && state.value.is_none() && state.failed.is_none();
        let at = state.ahead;
        let (true, Some(Some(part))) = (is_free, state.parts.get(at)) else {
            return false;
        };
        let is_plain = matches!(part, Part::Outcome(Outcome::Replied(reply))
            if reply.mode == mode::MANY && codec::is_plain(reply));
        state.ahead += 1;
        if !is_plain {
            return true;
        }
        state.decoding = Some(self.generation);
        let part = state.parts[at].take();
        drop(state);
        let part = match part {
            Some(Part::Outcome(Outcome::Replied(reply))) => Some(
                codec::read_plain(py, &reply)
                    .map_or(Part::Outcome(Outcome::Replied(reply)), Part::List),
            ),
            part => part,
        };
        let mut state = self.state();
        if let Some(place) = state.parts.get_mut(at) {
            *place = part;
        }
        state.decoding = None;
        true
    }

    /// The job's value; only for jobs that are done or being finished. It is decoded until that succeeds:
    /// what a signal handler raised meanwhile, or the want of memory, is not what became of the job.
    pub(crate) fn value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let here = fork_state::generation();
        let (mut parts, failed) = loop {
            let mut state = self.state_anywhere()?;
            if let Some(value) = &state.value {
                return copy(py, value);
            }
            match state.decoding {
                None => {
                    state.decoding = Some(here);
                    break (std::mem::take(&mut state.parts), state.failed);
                }
                // The thread that decodes it is in the parent, with the bytes.
                Some(there) if there != here => return Err(forked()),
                Some(_) => drop(state),
            }
            // Another thread decodes it, running code of the user perhaps: let it.
            py.detach(|| std::thread::sleep(Duration::from_micros(100)));
        };
        let kept = match self.assemble(py, &mut parts, failed) {
            Ok(value) => Ok(value),
            Err(Failure::Outcome(error)) => Err(error.into_value(py).into_any()),
            Err(Failure::Decoding(error, pickled)) => {
                match failed {
                    Some(index) => parts[index as usize] = Some(Part::Pickled(pickled)),
                    None => {
                        let at = usize::from(matches!(parts.front(), Some(Some(Part::List(_)))));
                        parts.insert(at, Some(Part::Pickled(pickled)));
                    }
                }
                let mut state = self.state();
                state.parts = parts;
                state.decoding = None;
                return Err(error);
            }
        };
        let value = copy(py, &kept);
        self.state().value = Some(kept);
        value
    }

    /// What became of the job: a value or an exception; an error is of its decoding, which may be tried again.
    pub(crate) fn outcome(&self, py: Python<'_>) -> PyResult<Result<Py<PyAny>, Py<PyAny>>> {
        let tried = self.value(py);
        match (&self.state_anywhere()?.value, tried) {
            (Some(Ok(value)), _) => Ok(Ok(value.clone_ref(py))),
            (Some(Err(exception)), _) => Ok(Err(exception.clone_ref(py))),
            (None, Ok(value)) => Ok(Ok(value)),
            (None, Err(error)) => Err(error),
        }
    }

    fn assemble(
        &self,
        py: Python<'_>,
        parts: &mut VecDeque<Option<Part>>,
        failed: Option<u64>,
    ) -> Result<Py<PyAny>, Failure> {
        let missing = || {
            Failure::Outcome(PyRuntimeError::new_err(
                "a part of this job's value is missing",
            ))
        };
        if let Some(index) = failed {
            let part = parts
                .get_mut(index as usize)
                .and_then(Option::take)
                .ok_or_else(missing)?;
            return self.open(py, index, part).map(|(value, _)| value.unbind());
        }
        if self.kind == Kind::Single {
            let part = parts.pop_front().flatten().ok_or_else(missing)?;
            return self.open(py, 0, part).map(|(value, _)| value.unbind());
        }
        let list = PyList::empty(py);
        while let Some(part) = parts.pop_front() {
            let (value, several) = match self.open(py, 0, part.ok_or_else(missing)?) {
                Ok(opened) => opened,
                Err(failure) => {
                    // The next attempt goes on from here.
                    parts.push_front(Some(Part::List(list.into_any().unbind())));
                    return Err(failure);
                }
            };
            let added = if several {
                value
                    .cast::<PyList>()
                    .map_err(PyErr::from)
                    .and_then(|several| {
                        list.as_sequence()
                            .in_place_concat(several.as_sequence())
                            .map(|_| ())
                    })
            } else {
                list.append(value)
            };
            added.map_err(Failure::Outcome)?;
        }
        Ok(list.into_any().unbind())
    }

    /// Whether the job ended without failure; only for jobs that are done.
    pub(crate) fn was_successful(&self, py: Python<'_>) -> PyResult<bool> {
        if self.state_anywhere()?.failed.is_some() {
            return Ok(false);
        }
        match self.value(py) {
            Ok(_) => Ok(true),
            Err(error) if stray::is_stray(py, &error) => Err(error),
            Err(_) => Ok(false),
        }
    }
}

/// The value again, or the exception to raise again.
fn copy(py: Python<'_>, value: &Result<Py<PyAny>, Py<PyAny>>) -> PyResult<Py<PyAny>> {
    match value {
        Ok(value) => Ok(value.clone_ref(py)),
        Err(exception) => Err(PyErr::from_value(exception.bind(py).clone())),
    }
}

pub(super) fn forked() -> PyErr {
    PyRuntimeError::new_err(Refused::Forked.to_string())
}
