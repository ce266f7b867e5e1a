//! How far a job has come, in items: what a progress bar shows.
//!
//! Always: an item counts once, when its outcome is there, whatever it is and however often it was tried.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct State {
    /// Items of the tasks that are under way.
    under_way: HashMap<u64, usize>,
    done: usize,
}

#[derive(Default)]
pub(crate) struct Progress(Mutex<State>);

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Task `index` of so many items was drawn.
    pub(crate) fn began(&self, index: u64, items: usize) {
        self.state().under_way.insert(index, items);
    }

    /// Its outcome is there. What was never drawn, like an input that failed, counts for nothing.
    pub(crate) fn ended(&self, index: u64) {
        let mut state = self.state();
        state.done += state.under_way.remove(&index).unwrap_or(0);
    }

    pub(crate) fn done(&self) -> usize {
        self.state().done
    }
}
