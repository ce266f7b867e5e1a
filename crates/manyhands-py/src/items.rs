//! A job's input: tasks drawn from a Python iterator when workers are about to need them.

use std::sync::Arc;

use manyhands::engine::{self, Chunking, Crew, Drawer, Drawn, Function, News, Source, Task};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyFrozenSet, PyIterator, PyList, PyTuple};

use crate::answer::{Face, abandoned, mode};
use crate::codec;
use crate::fast;
use crate::job::PyJob;
use crate::once::Once;
use crate::shared;
use crate::stray;

/// Whether an iterator is one of CPython's own over its own collections: it runs no code of the user's
/// and waits for nothing.
pub(crate) fn is_prompt(iterator: &Bound<'_, PyIterator>) -> PyResult<bool> {
    static PROMPT: Once<Py<PyFrozenSet>> = Once::new();
    let py = iterator.py();
    let prompt = PROMPT.get_or_try_init(py, || {
        let types = py.eval(
            c"frozenset(type(iter(x)) for x in ([], (), range(0), range(1 << 70), '', chr(8364), b'', bytearray(), {}, {}.values(), {}.items(), set()))",
            None,
            None,
        )?;
        Ok(types.cast_into::<PyFrozenSet>()?.unbind())
    })?;
    prompt.bind(py).contains(iterator.get_type())
}

/// Draws a job's tasks from a Python iterator.
pub(crate) struct Items {
    pub(crate) job: Arc<PyJob>,
    pub(crate) crew: std::sync::Weak<Crew>,
    pub(crate) function: Arc<Function>,
    /// Taken only by `drop`.
    pub(crate) iterator: Option<Py<PyIterator>>,
    pub(crate) chunking: Chunking,
    pub(crate) starred: bool,
    /// One value a task, or a list of them.
    pub(crate) single: bool,
    pub(crate) drawn: usize,
    pub(crate) index: u64,
    pub(crate) ended: bool,
    /// What was drawn when a signal handler interrupted its pickling: it is pickled once more.
    pub(crate) interrupted: Option<Py<PyAny>>,
    pub(crate) drawer: Drawer,
}

/// What came of drawing one part.
enum One {
    Task(Task),
    /// It failed on its own; the input goes on.
    Failed,
    /// The thread that draws has something else to raise first.
    Interrupted,
    End,
}

impl Items {
    fn draw_one(&mut self, py: Python<'_>) -> PyResult<One> {
        let Some(iterator) = &self.iterator else {
            return Ok(One::End);
        };
        let iterator = iterator.bind(py);
        let again = self.interrupted.take().map(|part| part.into_bound(py));
        let is_again = again.is_some();
        let part = match again {
            Some(part) => part,
            None if self.single => {
                let Some(item) = fast::next(iterator)? else {
                    return Ok(One::End);
                };
                self.drawn += 1;
                item
            }
            None => {
                let size = self.chunking.next(self.drawn, &self.job.seen());
                let items = islice(py)?.call1((iterator, size))?;
                let items = fast::call1(py.get_type::<PyList>().as_any(), &items)?;
                let len = items.len()?;
                if len == 0 {
                    return Ok(One::End);
                }
                self.drawn += len;
                items
            }
        };
        let pool = self.function.pool();
        let payload = if self.single && self.starred {
            let args = fast::call1(py.get_type::<PyTuple>().as_any(), &part)?;
            shared::for_pool(pool, || codec::encode(py, &args))
        } else {
            shared::for_pool(pool, || codec::encode(py, &part))
        };
        if let Err(error) = &payload
            && !is_again
            && stray::is_main_thread(py)
            && stray::keep(py, error)
        {
            self.interrupted = Some(part.unbind());
            return Ok(One::Interrupted);
        }
        let index = self.index;
        self.index += 1;
        let items = || part.cast::<PyList>().map_or(1, |items| items.len());
        if let Some(progress) = self.job.progress() {
            progress.began(index, if self.single { 1 } else { items() });
        }
        let payload = match payload {
            Ok(payload) => payload,
            Err(error) => {
                // This part alone failed: the input goes on.
                self.tell(self.job.fail(py, index, error));
                return Ok(One::Failed);
            }
        };
        if self.chunking.learns() {
            self.job.seen().began(index, items(), payload.len());
        }
        let mode = match (self.single, self.starred) {
            (true, false) => mode::ONE,
            (true, true) => mode::ARGS,
            (false, false) => mode::MANY,
            (false, true) => mode::MANY_STARRED,
        };
        let job: Arc<dyn engine::Job> = self.job.clone();
        Ok(One::Task(Task {
            job,
            index,
            function: Some(Arc::clone(&self.function)),
            mode,
            payload,
            losses: 0,
        }))
    }

    fn tell(&self, news: News) {
        tell(&self.job, news, self.crew.upgrade().as_deref());
    }
}

fn islice(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static ISLICE: Once<Py<PyAny>> = Once::new();
    let islice = ISLICE.get_or_try_init(py, || {
        Ok(py.import("itertools")?.getattr("islice")?.unbind())
    })?;
    Ok(islice.bind(py))
}

pub(crate) fn tell(job: &Arc<PyJob>, news: News, crew: Option<&Crew>) {
    if news == News::Finish {
        match crew {
            Some(crew) => {
                let job: Arc<dyn engine::Job> = job.clone();
                crew.finish(vec![job]);
            }
            None => engine::Job::finish(&**job),
        }
    }
    if let Some(crew) = crew.filter(|_| news != News::None) {
        crew.call_followers();
    }
}

impl Source for Items {
    fn drawer(&self) -> Drawer {
        self.drawer
    }

    fn priority(&self) -> i32 {
        engine::Job::terms(&*self.job).map_or(0, |terms| terms.priority)
    }

    fn is_over(&self) -> bool {
        self.job.is_cancelled()
    }

    fn draw(&mut self, want: usize, take: &mut dyn FnMut(Task) -> bool) -> Drawn {
        if self.job.is_cancelled() {
            return Drawn::Done;
        }
        let hurry = self.crew.upgrade().is_some_and(|crew| crew.is_joining());
        Python::attach(|py| {
            for _ in 0..want {
                if self.job.is_cancelled() {
                    return Drawn::Done;
                }
                if !self.is_ready(hurry) {
                    // The engine asks once more before it lets it wait: the reader may come just now.
                    self.job.window.wait_at(self.index);
                    return Drawn::Paused;
                }
                if stray::is_kept(py) {
                    return Drawn::More;
                }
                match self.draw_one(py) {
                    Ok(One::Task(task)) => {
                        if !take(task) {
                            return Drawn::More;
                        }
                    }
                    Ok(One::Failed) => {}
                    Ok(One::Interrupted) => return Drawn::More,
                    Ok(One::End) => {
                        self.ended = true;
                        self.tell(self.job.expect(self.index as usize));
                        return Drawn::Done;
                    }
                    Err(error) => {
                        stray::keep(py, &error);
                        // The input itself failed: nothing comes after it.
                        self.ended = true;
                        let index = self.index;
                        let _ = self.job.expect(index as usize + 1);
                        self.tell(self.job.fail(py, index, error));
                        return Drawn::Done;
                    }
                }
            }
            Drawn::More
        })
    }

    fn is_ready(&self, hurry: bool) -> bool {
        hurry || self.job.is_cancelled() || self.job.window.has_room_for(self.index)
    }

    fn grow(&mut self) -> bool {
        self.job.window.grow()
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        Python::attach(|py| {
            // A generator is closed here and now, not when somebody next takes the interpreter's lock.
            if let Some(iterator) = self.iterator.take() {
                fast::let_go(iterator.into_bound(py));
            }
            drop(self.interrupted.take());
            if self.ended {
                return;
            }
            // The pool is over, or its reader gone, before the input was: say so to whoever waits.
            let why = self.crew.upgrade().and_then(|crew| crew.over());
            let error = match why {
                Some(why) => abandoned(py, &why, self.job.face()),
                None if self.job.face() == Face::Executor || self.job.is_withdrawn() => {
                    abandoned(py, &engine::Abandoned::Cancelled, Face::Executor)
                }
                None => PyRuntimeError::new_err(
                    "the call was given up before all of its input was read",
                ),
            };
            let _ = self.job.expect(self.index as usize + 1);
            self.tell(self.job.fail(py, self.index, error));
        });
    }
}
