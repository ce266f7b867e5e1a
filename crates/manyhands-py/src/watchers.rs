//! Those who want to be told of a job without waiting for it: futures, and tasks of an event loop.
//!
//! Always: each is called once, by the thread that finishes the job, or told at once that there is nothing to wait for.
//! Not here: when a job is done (`job`).

use std::sync::{Mutex, PoisonError};

use manyhands::engine::Watch;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::fast;

/// What to call, and what has the pool hurry meanwhile.
type Watcher = (Py<PyAny>, Watch);

#[derive(Default)]
pub(crate) struct Watchers(Mutex<Vec<Watcher>>);

impl Watchers {
    /// Adds one, unless `is_late` says that the others were called already. `false`: it was.
    pub(crate) fn add(&self, watcher: Watcher, is_late: impl FnOnce() -> bool) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let late = is_late();
        let refused = if late {
            Some(watcher)
        } else {
            all.push(watcher);
            None
        };
        drop(all);
        drop(refused); // without the lock: what goes may run code of the user
        !late
    }

    /// Takes all, after `before` with the lock that `add` asks `is_late` under.
    pub(crate) fn take(&self, before: impl FnOnce()) -> Vec<Watcher> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        before();
        std::mem::take(&mut *all)
    }

    /// What is left of a job that nobody else has.
    pub(crate) fn leave(&mut self) -> Vec<Watcher> {
        std::mem::take(self.0.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of them, if no thread is in the midst of something.
    pub(crate) fn try_take(&self) -> Option<Vec<Watcher>> {
        Some(std::mem::take(&mut *self.0.try_lock().ok()?))
    }

    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.0.try_lock() {
            Ok(all) => all.iter().try_for_each(|(watcher, _)| visit.call(watcher)),
            Err(_) => Ok(()),
        }
    }
}

/// Calls them, with the interpreter's lock taken for it.
pub(crate) fn call(watchers: Vec<Watcher>) {
    if watchers.is_empty() {
        return;
    }
    Python::attach(|py| {
        for (watcher, _watch) in watchers {
            if let Err(error) = fast::call0(watcher.bind(py)) {
                error.write_unraisable(py, None);
            }
        }
    });
}
