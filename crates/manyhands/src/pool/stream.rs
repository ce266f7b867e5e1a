//! Results as they come: a function over an input of any length, drawn no further ahead than is asked for.
//!
//! The thread that takes the results draws the inputs, so neither need be `Send`. Always: the inputs
//! that were drawn and whose results were not taken are no more than the bound.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::iter::Fuse;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::map::Inbox;
use super::{Pool, decode, shared};
use crate::engine::{Function, Waited, Wish};
use crate::error::Error;

/// How many inputs may be ahead of the results that were taken, unless something else is asked for.
const AHEAD: usize = 1024;

/// The results of [`Pool::imap`] or [`Pool::imap_unordered`], one after the other.
///
/// What is a failure of one input is an `Err` in its place; the others go on. Dropping it takes back
/// what no worker has begun.
///
/// ```
/// # use manyhands::Pool;
/// # fn main() -> Result<(), manyhands::Error> {
/// # manyhands::init();
/// let pool = Pool::new()?;
/// let squares = pool.imap(|n: u64| n * n, 0..)?; // of all numbers
/// let small: Vec<u64> = squares.take(5).collect::<Result<_, _>>()?;
/// assert_eq!(small, [0, 1, 4, 9, 16]);
/// # Ok(())
/// # }
/// ```
#[must_use = "inputs are drawn as results are taken"]
pub struct Results<'p, I: Iterator, R> {
    pool: &'p Pool,
    function: Arc<Function>,
    inputs: Fuse<I>,
    inbox: Arc<Inbox>,
    came: Came<R>,
    /// Inputs that may be drawn and not taken.
    ahead: usize,
    drawn: u64,
    taken: u64,
    /// Inputs that were drawn and whose outcome is not known.
    open: usize,
    ended: bool,
}

/// Results that were not taken.
enum Came<R> {
    InOrder(BTreeMap<u64, Result<R, Error>>),
    AsTheyCome(VecDeque<Result<R, Error>>),
}

impl<'p, I, R> Results<'p, I, R>
where
    I: Iterator,
    I::Item: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    pub(super) fn new(
        pool: &'p Pool,
        function: fn(I::Item) -> R,
        inputs: I,
        in_order: bool,
    ) -> Result<Self, Error> {
        let function = pool.publish(function)?;
        // Workers get on, and their answers are heard, while nobody asks for a result.
        pool.tend();
        Ok(Self {
            pool,
            function,
            inputs: inputs.fuse(),
            inbox: Inbox::of(pool),
            came: match in_order {
                true => Came::InOrder(BTreeMap::new()),
                false => Came::AsTheyCome(VecDeque::new()),
            },
            ahead: AHEAD,
            drawn: 0,
            taken: 0,
            open: 0,
            ended: false,
        })
    }

    /// Draws at most so many inputs ahead of the results that were taken, at least one; without this, 1,024.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let pool = Pool::new()?;
    /// let large = (0..10).map(|n| vec![n; 1 << 20]); // no more than four at a time
    /// for sum in pool.imap(|page: Vec<u8>| page.iter().map(|n| *n as u64).sum::<u64>(), large)?.ahead(4) {
    ///     println!("{}", sum?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn ahead(mut self, inputs: usize) -> Self {
        self.ahead = inputs.max(1);
        self
    }

    fn may_draw(&self) -> bool {
        !self.ended && (self.drawn - self.taken) < self.ahead as u64
    }

    /// Draws what the workers have room for and the bound allows.
    fn draw(&mut self) {
        let mut wanted = match self.pool.crew.room() {
            0 if self.open > 0 => 0,
            room => room + 1,
        };
        while wanted > 0 && self.may_draw() {
            let Some(input) = self.inputs.next() else {
                self.ended = true;
                return;
            };
            let index = self.drawn;
            self.drawn += 1;
            wanted -= 1;
            match self.submit(index, &input) {
                Ok(()) => self.open += 1,
                Err(error) => {
                    // Of a pool that takes no more there is nothing to be had.
                    self.ended |= !matches!(error, Error::Encode { .. });
                    self.note(index, Err(error));
                }
            }
        }
    }

    fn submit(&self, index: u64, input: &I::Item) -> Result<(), Error> {
        let cargo = self.pool.load(input)?;
        self.inbox
            .submit(&self.pool.crew, &self.function, index, cargo)
    }

    fn note(&mut self, index: u64, result: Result<R, Error>) {
        match &mut self.came {
            Came::InOrder(came) => drop(came.insert(index, result)),
            Came::AsTheyCome(came) => came.push_back(result),
        }
    }

    /// Decodes what came.
    fn read(&mut self) {
        for (index, fate) in self.inbox.take() {
            self.open -= 1;
            self.note(index, decode(fate));
        }
    }

    fn take(&mut self) -> Option<Result<R, Error>> {
        let next = match &mut self.came {
            Came::InOrder(came) => came.remove(&self.taken),
            Came::AsTheyCome(came) => came.pop_front(),
        }?;
        self.taken += 1;
        Some(next)
    }
}

impl<I, R> Iterator for Results<'_, I, R>
where
    I: Iterator,
    I::Item: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    type Item = Result<R, Error>;

    fn next(&mut self) -> Option<Result<R, Error>> {
        loop {
            self.read();
            self.draw();
            if let Some(next) = self.take() {
                return Some(next);
            }
            if self.open == 0 {
                if self.ended {
                    return None;
                }
                continue;
            }
            let may_draw = self.may_draw();
            let crew = &self.pool.crew;
            let goal = || !self.inbox.is_empty() || (may_draw && crew.room() > 0);
            if crew.wait(&goal, None, None, Wish::Bulk) == Waited::Forked {
                self.ended = true;
                self.open = 0;
                return Some(Err(Error::Forked));
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let open = (self.drawn - self.taken) as usize;
        let most = match self.ended {
            true => Some(0),
            false => self.inputs.size_hint().1,
        };
        // A pool that is closed meanwhile gives fewer, perhaps none.
        (0, most.and_then(|most| most.checked_add(open)))
    }
}

impl<I: Iterator, R> Drop for Results<'_, I, R> {
    fn drop(&mut self) {
        if self.open > 0 {
            let _ = self.pool.crew.take_back(&shared(&self.inbox));
            self.pool.tend(); // what runs on is heard when it is done, and what it brings is let go
        }
    }
}

impl<I: Iterator, R> fmt::Debug for Results<'_, I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results")
            .field("drawn", &self.drawn)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}
