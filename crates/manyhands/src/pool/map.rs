//! A function over many inputs: drawn as workers get ready, results in the inputs' order.
//!
//! The calling thread draws, encodes, waits and decodes, so inputs and results need not be
//! `Send`, and the iterator may do whatever it likes. Always: no further ahead is drawn than
//! the workers can take, and little more, so that none of them runs dry meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::shelf::{Kept, Shelf};
use super::{Cargo, Fate, Pool, decode, lock, refused, shared};
use crate::engine::{self, Crew, Function, Job, News, Outcome, Waited, Wish};
use crate::error::Error;

/// The engine's view of a map: outcomes that nobody has looked at yet.
pub(super) struct Inbox {
    came: Mutex<Vec<(u64, Fate)>>,
    /// Where the descriptors of answers are.
    shelf: Weak<Shelf>,
    /// What is kept for each task that has no outcome.
    kept: Mutex<HashMap<u64, Kept>>,
}

impl Job for Inbox {
    fn settle(&self, index: u64, outcome: Outcome) -> News {
        let fate = Fate::of(outcome, &self.shelf);
        lock(&self.came).push((index, fate));
        let kept = lock(&self.kept).remove(&index);
        drop(kept);
        News::Look
    }
}

impl Inbox {
    pub(super) fn of(pool: &Pool) -> Arc<Self> {
        Arc::new(Self {
            came: Mutex::default(),
            shelf: pool.clerk.shelf(),
            kept: Mutex::default(),
        })
    }

    /// Keeps a task's parcel until it has an outcome.
    fn keep(&self, index: u64, kept: Option<Kept>) {
        if let Some(kept) = kept {
            lock(&self.kept).insert(index, kept);
        }
    }

    /// Hands in the call that is input `index`, whose outcome comes here.
    pub(super) fn submit(
        self: &Arc<Self>,
        crew: &Crew,
        function: &Arc<Function>,
        index: u64,
        cargo: Cargo,
    ) -> Result<(), Error> {
        self.keep(index, cargo.kept);
        let task = engine::Task {
            job: shared(self),
            index,
            function: Some(Arc::clone(function)),
            mode: cargo.mode,
            payload: cargo.payload,
            losses: 0,
        };
        crew.submit(task).map_err(|refusal| refused(&refusal))
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.came).is_empty()
    }

    /// What came since this was last asked.
    pub(super) fn take(&self) -> Vec<(u64, Fate)> {
        std::mem::take(&mut *lock(&self.came))
    }
}

/// A map in progress.
struct Run<'a, R> {
    pool: &'a Pool,
    crew: &'a Crew,
    function: Arc<Function>,
    inbox: Arc<Inbox>,
    /// What is known of each input that was drawn.
    results: Vec<Option<Result<R, Error>>>,
    /// Inputs that were drawn and whose outcome is not known.
    open: usize,
    /// The first input, in their order, that failed as far as is known.
    first_failure: Option<usize>,
}

/// The results of every call, or the first failure.
pub(super) fn all<A, R>(
    pool: &Pool,
    function: fn(A) -> R,
    inputs: impl Iterator<Item = A>,
) -> Result<Vec<R>, Error>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    let mut run = Run::new(pool, function)?;
    run.through(inputs, |run| match run.first_failure {
        // What was drawn before the failed input decides whether it is the first.
        Some(failed) => Progress::of(run.results[..failed].iter().all(Option::is_some)),
        None => Progress::More,
    })?;
    run.take_results().collect()
}

/// The fate of every call.
pub(super) fn each<A, R>(
    pool: &Pool,
    function: fn(A) -> R,
    inputs: impl Iterator<Item = A>,
) -> Result<Vec<Result<R, Error>>, Error>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    let mut run = Run::new(pool, function)?;
    run.through(inputs, |_| Progress::More)?;
    Ok(run.take_results().collect())
}

/// What is left to be done of a map that goes on until its input ends.
#[derive(PartialEq, Eq)]
enum Progress {
    /// Draw, and wait for what was drawn.
    More,
    /// Draw no more, but wait.
    Last,
    /// Leave.
    Enough,
}

impl Progress {
    fn of(enough: bool) -> Self {
        if enough { Self::Enough } else { Self::Last }
    }
}

impl<'a, R: Serialize + DeserializeOwned> Run<'a, R> {
    fn new<A>(pool: &'a Pool, function: fn(A) -> R) -> Result<Self, Error>
    where
        A: Serialize + DeserializeOwned,
    {
        Ok(Self {
            pool,
            crew: &pool.crew,
            function: pool.publish(function)?,
            inbox: Inbox::of(pool),
            results: Vec::new(),
            open: 0,
            first_failure: None,
        })
    }

    /// Draws and waits, as far as `progress` wants it.
    fn through<A: Serialize>(
        &mut self,
        mut inputs: impl Iterator<Item = A>,
        progress: impl Fn(&Self) -> Progress,
    ) -> Result<(), Error> {
        self.results.reserve(inputs.size_hint().0.min(1 << 16));
        let mut ended = false;
        loop {
            match progress(self) {
                Progress::Enough => return Ok(()),
                Progress::Last => ended = true,
                Progress::More => {}
            }
            if !ended {
                ended = self.draw(&mut inputs)?;
            }
            if ended && self.open == 0 {
                return Ok(());
            }
            self.wait(!ended)?;
            self.read();
        }
    }

    /// Draws as many inputs as the workers have room for. `true`: there are no more.
    fn draw<A: Serialize>(&mut self, inputs: &mut impl Iterator<Item = A>) -> Result<bool, Error> {
        // One beyond the room: the engine then knows that more is coming, and wants to hear of
        // results while workers still have something to do.
        let wanted = match self.crew.room() {
            0 if self.open > 0 => 0,
            room => room + 1,
        };
        for _ in 0..wanted {
            let Some(input) = inputs.next() else {
                return Ok(true);
            };
            let index = self.results.len();
            self.results.push(None);
            match self.pool.load(&input) {
                Ok(cargo) => self.submit(index, cargo)?,
                Err(error) => self.note(index, Err(error)),
            }
            if self.first_failure.is_some() {
                break;
            }
        }
        Ok(false)
    }

    fn submit(&mut self, index: usize, cargo: Cargo) -> Result<(), Error> {
        self.inbox
            .submit(self.crew, &self.function, index as u64, cargo)?;
        self.open += 1;
        Ok(())
    }

    /// Works for the pool until results came or, if `more` are to be drawn, until there is room.
    fn wait(&self, more: bool) -> Result<(), Error> {
        let goal = || !self.inbox.is_empty() || (more && self.crew.room() > 0);
        loop {
            match self.crew.wait(&goal, None, None, Wish::Bulk) {
                Waited::Reached => return Ok(()),
                Waited::Forked => return Err(Error::Forked),
                Waited::Pulse | Waited::TimedOut => {}
            }
        }
    }

    /// Decodes what came.
    fn read(&mut self) {
        for (index, fate) in self.inbox.take() {
            self.open -= 1;
            self.note(index as usize, decode(fate));
        }
    }

    fn note(&mut self, index: usize, result: Result<R, Error>) {
        if result.is_err() {
            self.first_failure = Some(self.first_failure.map_or(index, |first| first.min(index)));
        }
        self.results[index] = Some(result);
    }

    /// The results as far as they are known, in order.
    fn take_results(&mut self) -> impl Iterator<Item = Result<R, Error>> + use<R> {
        std::mem::take(&mut self.results)
            .into_iter()
            .map_while(|result| result)
    }
}

impl<R> Drop for Run<'_, R> {
    fn drop(&mut self) {
        // A map that leaves early, perhaps because its iterator panicked.
        if self.open > 0 {
            let _ = self.crew.take_back(&shared(&self.inbox));
            self.pool.tend(); // what runs on is heard when it is done, and what it brings is let go
        }
    }
}
