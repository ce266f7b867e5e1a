//! Jobs of the Python face: what was asked of a pool, and what has come of it so far.
//!
//! A job is settled part by part, as bytes, by whichever thread collects; it is decoded
//! by the thread that asks for its value, or by the one that runs its callback.
//! Always: `done` is set after the callback ran, and a job's value never changes.
//! Not here: what the parts make of a value (`value`).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use manyhands::engine::{Abandoned, Job, News, Outcome, Seen, Terms, Trace, Watch};
use manyhands_os::fork_state;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::answer::Face;
use crate::fast;
use crate::progress::Progress;
use crate::watchers::{self, Watchers};
use crate::window::Window;

mod parts;
mod value;

use parts::{Part, State};
pub(crate) use value::Next;
use value::forked;

/// The form of a job's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The value of one call.
    Single,
    /// The list of all values.
    List,
    /// Values one by one, in the order of the input.
    Ordered,
    /// Values one by one, as they come.
    Unordered,
}

/// What to call with the value, and what with the exception.
pub(crate) type Callbacks = (Option<Py<PyAny>>, Option<Py<PyAny>>);

/// What a pool was asked to do in one call.
pub(crate) struct PyJob {
    kind: Kind,
    face: Face,
    /// What messages call the function; known for an executor's.
    name: Option<Arc<str>>,
    state: Mutex<State>,
    done: AtomicBool,
    /// Its call was not handed in yet: it waits for something outside of the pool.
    deferred: AtomicBool,
    /// Nobody will ask for the rest.
    cancelled: AtomicBool,
    /// How far a stream is ahead of its reader.
    pub(crate) window: Window,
    /// Set with the state locked.
    has_callbacks: AtomicBool,
    callbacks: Mutex<Callbacks>,
    watchers: Watchers,
    /// A part was cancelled before a worker began it.
    withdrawn: AtomicBool,
    /// For messages. Taken only by `drop`.
    function: Option<Py<PyAny>>,
    /// Its chunks follow from what its tasks took.
    learns: bool,
    /// What it asks for, if that is not what its pool has for all.
    terms: Option<Terms>,
    /// What those took.
    seen: Mutex<Seen>,
    /// How many items are done, if somebody wants to know.
    progress: Option<Progress>,
    /// Id of what it calls, if that was not published.
    called: AtomicU32,
    /// Its call's place in the timeline, if somebody wants one.
    span: OnceLock<(Trace, u32)>,
    /// Of the process that made it.
    generation: u64,
}

impl PyJob {
    pub(crate) fn new(
        kind: Kind,
        expected: Option<usize>,
        function: Py<PyAny>,
        callback: Option<Py<PyAny>>,
        error_callback: Option<Py<PyAny>>,
    ) -> Self {
        Self {
            kind,
            face: Face::Pool,
            name: None,
            state: Mutex::new(State {
                expected,
                ..State::default()
            }),
            done: AtomicBool::new(false),
            deferred: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            window: Window::None,
            has_callbacks: AtomicBool::new(callback.is_some() || error_callback.is_some()),
            callbacks: Mutex::new((callback, error_callback)),
            watchers: Watchers::default(),
            withdrawn: AtomicBool::new(false),
            function: Some(function),
            learns: false,
            terms: None,
            seen: Mutex::default(),
            progress: None,
            called: AtomicU32::new(0),
            span: OnceLock::new(),
            generation: fork_state::generation(),
        }
    }

    /// Has it note what its tasks take, for a map whose chunks are ours to choose.
    pub(crate) fn that_learns(mut self, learns: bool) -> Self {
        self.learns = learns;
        self
    }

    /// Has its call wait to be handed in.
    pub(crate) fn that_waits(self) -> Self {
        self.deferred.store(true, Ordering::Relaxed);
        self
    }

    /// Ends that wait, for one who then hands the call in, or settles it. `false`: another one did.
    pub(crate) fn end_wait(&self) -> bool {
        self.deferred.swap(false, Ordering::AcqRel)
    }

    /// Has it count the items that are done.
    pub(crate) fn that_counts(mut self, counts: bool) -> Self {
        self.progress = counts.then(Progress::default);
        self
    }

    pub(crate) fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    /// Gives it terms of its own.
    pub(crate) fn with_terms(mut self, terms: Option<Terms>) -> Self {
        self.terms = terms;
        self
    }

    /// Bounds how far a stream's input is drawn ahead of its reader.
    pub(crate) fn with_window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Makes it a job of an executor.
    pub(crate) fn of_executor(mut self, name: Arc<str>) -> Self {
        self.face = Face::Executor;
        self.name = Some(name);
        self
    }

    /// Says what it calls, by the id of a name.
    pub(crate) fn call_it(&self, name: u32) {
        self.called.store(name, Ordering::Relaxed); // before the task goes to the engine, under whose lock it is read
    }

    /// Has it noted in the timeline: it begins now, and calls this.
    pub(crate) fn traced(&self, trace: &Trace, name: u32) {
        let how = match (self.face, self.kind) {
            (Face::Executor, _) => 4,
            (_, Kind::Ordered) => 2,
            (_, Kind::Unordered) => 3,
            _ => 1,
        };
        let _ = self.span.set((trace.clone(), trace.call_began(name, how)));
    }

    pub(crate) fn face(&self) -> Face {
        self.face
    }

    /// Whether it was cancelled before a worker began it.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire) // pairs with the store in `settle`
    }

    /// Has `watcher` called when the job is done. `false`: it is done already.
    pub(crate) fn watch(&self, watcher: Py<PyAny>, watch: Watch) -> bool {
        let state = self.state();
        if !self.is_done() {
            self.has_callbacks.store(true, Ordering::Relaxed); // ordered by the lock
        }
        drop(state);
        // Either it is not done yet, and whoever completes it sees the flag; or it is being finished, which takes all
        // watchers when its callbacks have run.
        self.watchers.add((watcher, watch), || self.is_done())
    }

    /// Has `watcher` called when a stream may have something for its reader. `false`: it has already.
    pub(crate) fn watch_next(&self, watcher: Py<PyAny>, watch: Watch) -> bool {
        let state = self.state();
        if state.has_next(self.kind) {
            return false;
        }
        self.has_callbacks.store(true, Ordering::Relaxed); // ordered by the lock
        self.watchers.add((watcher, watch), || false)
    }

    fn is_stream(&self) -> bool {
        matches!(self.kind, Kind::Ordered | Kind::Unordered)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its tasks took so far, if it is a map whose chunks are ours to choose.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state for a reader, who may be in a forked child: a thread that is not there may hold the lock.
    fn state_anywhere(&self) -> PyResult<MutexGuard<'_, State>> {
        if fork_state::generation() == self.generation {
            return Ok(self.state());
        }
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(forked()),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire) // pairs with the stores of `conclude`, `finish` and `tell_reader`
    }

    /// The caller gave up: nothing more is drawn for it.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Nobody wants what is left of it: if there is input that was not drawn yet, none is any more. Whether there was.
    pub(crate) fn withdraw(&self) -> bool {
        if self.state().expected.is_some() {
            return false;
        }
        self.withdrawn.store(true, Ordering::Release); // pairs with the load in `is_withdrawn`
        self.cancel();
        true
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn add(&self, index: u64, part: Part) -> News {
        if let Some(progress) = &self.progress {
            progress.ended(index);
        }
        let mut state = self.state();
        let failed = match &part {
            Part::Raised(_) => true,
            Part::Pickled(_) | Part::List(_) => false, // these are never added
            Part::Outcome(Outcome::Replied(reply)) => reply.raised,
            Part::Outcome(_) => true,
        };
        if failed && state.failed.is_none() {
            state.failed = Some(index);
        }
        state.arrived += 1;
        self.window.came(part.size());
        if self.kind == Kind::Unordered {
            state.arrivals.push_back((index, part));
        } else {
            let at = index as usize - state.base;
            if state.parts.len() <= at {
                state.parts.resize_with(at + 1, || None);
            }
            state.parts[at] = Some(part);
        }
        self.conclude(&state)
    }

    fn conclude(&self, state: &State) -> News {
        let complete = state.expected == Some(state.arrived);
        let is_heard = self.has_callbacks.load(Ordering::Relaxed);
        if complete && let Some((trace, call)) = self.span.get() {
            trace.call_ended(*call, state.arrived, state.failed.is_some());
        }
        match (complete, self.kind) {
            (true, _) if is_heard => News::Finish,
            (true, _) => {
                self.done.store(true, Ordering::Release);
                News::Look
            }
            (false, Kind::Single | Kind::List) => News::None,
            (false, _) if is_heard && state.has_next(self.kind) => News::Finish,
            (false, Kind::Ordered | Kind::Unordered) => News::Look,
        }
    }

    /// Part `index` failed before it reached a worker. The caller sees to `News`.
    pub(crate) fn fail(&self, py: Python<'_>, index: u64, error: PyErr) -> News {
        self.add(index, Part::Raised(error.into_value(py).into_any()))
    }

    /// There are `count` parts, no more.
    pub(crate) fn expect(&self, count: usize) -> News {
        let mut state = self.state();
        state.expected = Some(count);
        if state.arrived == count {
            self.conclude(&state)
        } else {
            News::Look
        }
    }

    /// Whether the reader of a stream has something to take.
    pub(crate) fn has_next(&self) -> bool {
        self.state().has_next(self.kind)
    }

    /// Shows the garbage collector what a job refers to. Only for the job's last owner.
    ///
    /// A value, or the traceback of an exception, may lead back to whoever holds the job.
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)?;
        let Ok(callbacks) = self.callbacks.try_lock() else {
            return Ok(());
        };
        visit.call(&callbacks.0)?;
        visit.call(&callbacks.1)?;
        self.watchers.visit(visit)?;
        let Ok(state) = self.state.try_lock() else {
            return Ok(());
        };
        if let Some(Ok(object) | Err(object)) = &state.value {
            visit.call(object)?;
        }
        state
            .opened
            .iter()
            .try_for_each(|value| visit.call(value))?;
        let parts = state
            .parts
            .iter()
            .flatten()
            .chain(state.arrivals.iter().map(|(_, part)| part));
        for part in parts {
            if let Part::Raised(object) | Part::List(object) = part {
                visit.call(object)?;
            }
        }
        Ok(())
    }

    /// Lets go of what `visit` shows.
    pub(crate) fn let_go(&self) {
        let callbacks = self
            .callbacks
            .try_lock()
            .map(|mut callbacks| std::mem::take(&mut *callbacks));
        let watchers = self.watchers.try_take();
        let state = self
            .state
            .try_lock()
            .map(|mut state| std::mem::take(&mut *state));
        // Dropped without the locks: what goes may run code of the user.
        drop((callbacks, watchers, state));
    }
}

impl Drop for PyJob {
    fn drop(&mut self) {
        // A thread that works for the pool may be the last that has it, and has no interpreter.
        let mut goes = Some((
            self.function.take(),
            std::mem::take(
                self.callbacks
                    .get_mut()
                    .unwrap_or_else(PoisonError::into_inner),
            ),
            self.watchers.leave(),
            std::mem::take(self.state.get_mut().unwrap_or_else(PoisonError::into_inner)),
        ));
        if Python::try_attach(|_| drop(goes.take())).is_none() {
            // There is no interpreter any more, or we are asked by its garbage collector.
            std::mem::forget(goes);
        }
    }
}

impl Job for PyJob {
    fn settle(&self, index: u64, outcome: Outcome) -> News {
        if let (true, Outcome::Replied(reply)) = (self.learns, &outcome) {
            let bytes = reply
                .buffers
                .iter()
                .map(|buffer| buffer.len())
                .sum::<usize>();
            self.seen()
                .ended(index, reply.ran_ns, reply.bytes.len() + bytes);
        }
        if matches!(&outcome, Outcome::Abandoned(why) if matches!(**why, Abandoned::Cancelled)) {
            self.withdrawn.store(true, Ordering::Release); // pairs with the load in `is_withdrawn`
        }
        self.add(index, Part::Outcome(outcome))
    }

    fn terms(&self) -> Option<Terms> {
        self.terms
    }

    fn called(&self) -> u32 {
        self.called.load(Ordering::Relaxed)
    }

    fn label(&self) -> Option<String> {
        self.name.as_deref().map(str::to_owned)
    }

    fn finish(&self) {
        if self.is_stream() {
            self.tell_reader();
            return;
        }
        let callbacks = std::mem::take(
            &mut *self
                .callbacks
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        if callbacks.0.is_some() || callbacks.1.is_some() {
            self.call_back(callbacks);
        }
        // The outcome is there; what a watcher calls may wait for it.
        let watchers = self
            .watchers
            .take(|| self.done.store(true, Ordering::Release));
        watchers::call(watchers);
    }
}

impl PyJob {
    fn tell_reader(&self) {
        let state = self.state();
        self.has_callbacks.store(false, Ordering::Relaxed); // ordered by the lock
        let is_complete = state.expected == Some(state.arrived);
        let watchers = self.watchers.take(|| {
            if is_complete {
                self.done.store(true, Ordering::Release);
            }
        });
        drop(state);
        watchers::call(watchers);
    }

    fn call_back(&self, (callback, error_callback): Callbacks) {
        Python::attach(|py| {
            let called = match self.value(py) {
                Ok(value) => {
                    callback.map(|callback| fast::call1(callback.bind(py), value.bind(py)))
                }
                Err(error) => {
                    let error = error.into_value(py).into_any();
                    error_callback.map(|callback| fast::call1(callback.bind(py), error.bind(py)))
                }
            };
            if let Some(Err(error)) = called {
                // There is nobody to raise it to, not even if it is one that ends programs;
                // losing it silently would be worse.
                error.write_unraisable(py, None);
            }
        });
    }
}
