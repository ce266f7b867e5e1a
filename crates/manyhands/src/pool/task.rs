//! One submitted call, and the way to its result.
//!
//! Always: the outcome is kept as bytes until somebody asks, and decoded on the thread that
//! does. A thread that waits works for the pool meanwhile.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::shelf::{Kept, Shelf};
use super::{Cargo, Fate, decode, lock, refused, shared};
use crate::engine::{self, Crew, Function, Job, News, Outcome, Waited, Watch, Wish};
use crate::error::Error;

/// A call that was handed to a [`Pool`](crate::Pool), as [`Pool::submit`](crate::Pool::submit)
/// returns it.
///
/// ```
/// use manyhands::Pool;
/// # fn main() -> Result<(), manyhands::Error> {
/// # manyhands::init();
/// let pool = Pool::new()?;
/// let tasks: Vec<_> = (0..4).map(|n: u64| pool.submit(|n| n + 1, n)).collect::<Result<_, _>>()?;
/// for task in tasks {
///     println!("{}", task.wait()?);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Task<R> {
    crew: Arc<Crew>,
    job: Arc<Single>,
    /// What becomes of the call when this is dropped: whether it is cancelled, and then by force.
    on_drop: Option<bool>,
    result: PhantomData<fn() -> R>,
}

/// The engine's view of a task: one outcome.
struct Single {
    done: AtomicBool,
    fate: Mutex<Option<Fate>>,
    /// Where the descriptors of an answer are.
    shelf: Weak<Shelf>,
    /// Kept until there is an outcome.
    kept: Mutex<Option<Kept>>,
    /// Who awaits it, and has the pool hear of it at once.
    awaited: Mutex<Option<(Waker, Watch)>>,
}

impl Job for Single {
    fn settle(&self, _: u64, outcome: Outcome) -> News {
        *lock(&self.fate) = Some(Fate::of(outcome, &self.shelf));
        let kept = lock(&self.kept).take();
        drop(kept);
        self.done.store(true, Ordering::Release); // pairs with the load in `is_done`
        match lock(&self.awaited).is_some() {
            true => News::Finish,
            false => News::Look,
        }
    }

    fn finish(&self) {
        let awaited = lock(&self.awaited).take();
        if let Some((waker, _)) = awaited {
            waker.wake();
        }
    }
}

impl Single {
    fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

impl<R> Task<R> {
    pub(super) fn submit(
        crew: &Arc<Crew>,
        shelf: Weak<Shelf>,
        function: Arc<Function>,
        cargo: Cargo,
    ) -> Result<Self, Error> {
        let job = Arc::new(Single {
            done: AtomicBool::new(false),
            fate: Mutex::default(),
            shelf,
            kept: Mutex::new(cargo.kept),
            awaited: Mutex::default(),
        });
        let task = engine::Task {
            job: shared(&job),
            index: 0,
            function: Some(function),
            mode: cargo.mode,
            payload: cargo.payload,
            losses: 0,
        };
        crew.submit(task).map_err(|refusal| refused(&refusal))?;
        Ok(Self {
            crew: Arc::clone(crew),
            job,
            on_drop: None,
            result: PhantomData,
        })
    }

    /// Whether the call has ended, well or badly: then [`wait`](Task::wait) returns at once.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let pool = Pool::new()?;
    /// let task = pool.submit(|x: u64| x * x, 7)?;
    /// while !task.is_done() {
    ///     std::thread::yield_now(); // or something more useful
    /// }
    /// assert_eq!(task.wait()?, 49);
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_done(&self) -> bool {
        self.job.is_done() || matches!(self.wait_until(Some(Instant::now())), Ok(true))
    }

    /// Works for the pool until the call has ended; `false` if the deadline comes first.
    fn wait_until(&self, deadline: Option<Instant>) -> Result<bool, Error> {
        loop {
            match self
                .crew
                .wait(&|| self.job.is_done(), deadline, None, Wish::Each)
            {
                Waited::Reached => return Ok(true),
                Waited::TimedOut => return Ok(false),
                Waited::Forked => return Err(Error::Forked),
                Waited::Pulse => {}
            }
        }
    }
}

impl<R> Task<R> {
    /// Takes the call back if no worker has begun it; with `force` also one that is running, by killing its worker,
    /// which is replaced. Returns whether that was done: then its result is [`Error::Cancelled`].
    ///
    /// ```
    /// # use manyhands::{Error, Pool};
    /// # fn main() -> Result<(), Error> {
    /// # manyhands::init();
    /// fn sleep(seconds: u64) {
    ///     std::thread::sleep(std::time::Duration::from_secs(seconds));
    /// }
    /// let pool = Pool::new()?;
    /// let task = pool.submit(sleep, 3600)?;
    /// assert!(task.cancel(true));
    /// assert!(matches!(task.wait(), Err(Error::Cancelled)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel(&self, force: bool) -> bool {
        let job = shared(&self.job);
        self.crew.cancel(Some(&job)) || (force && self.crew.cancel_running(&job))
    }
}

impl<R> Task<R> {
    /// Has the call cancelled when this is dropped before it has ended, as [`cancel`](Task::cancel) does it; so a future
    /// that is dropped, by a timeout or a `select!`, takes its call along.
    ///
    /// ```
    /// # use manyhands::{Error, Pool};
    /// # fn main() -> Result<(), Error> {
    /// # manyhands::init();
    /// fn sleep(seconds: u64) {
    ///     std::thread::sleep(std::time::Duration::from_secs(seconds));
    /// }
    /// let pool = Pool::builder().workers(1).build()?;
    /// drop(pool.submit(sleep, 3600)?.cancel_on_drop(true));
    /// assert_eq!(pool.submit(|n: u32| n, 7)?.wait()?, 7); // and not in an hour
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "dropped at once it is cancelled at once"]
    pub fn cancel_on_drop(mut self, force: bool) -> Self {
        self.on_drop = Some(force);
        self
    }
}

impl<R> Drop for Task<R> {
    fn drop(&mut self) {
        if let Some(force) = self.on_drop
            && !self.job.is_done()
        {
            self.cancel(force);
        }
    }
}

/// A task may be awaited, in any runtime: no thread waits for it meanwhile but the pool's own.
///
/// Dropping the future lets the call run on, unless [`cancel_on_drop`](Task::cancel_on_drop) was asked for.
///
/// ```
/// use manyhands::{Error, Pool};
///
/// async fn squares(pool: &Pool) -> Result<u64, Error> {
///     let (two, three) = (pool.submit(|n: u64| n * n, 2)?, pool.submit(|n: u64| n * n, 3)?);
///     Ok(two.await? + three.await?)
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init(); // before any runtime: a child must not start one
///     let pool = Pool::new()?;
///     let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
///     assert_eq!(runtime.block_on(squares(&pool))?, 13);
///     Ok(())
/// }
/// ```
impl<R: DeserializeOwned> Future for Task<R> {
    type Output = Result<R, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.crew.is_ours() {
            return Poll::Ready(Err(Error::Forked));
        }
        if !self.job.is_done() {
            {
                let mut awaited = lock(&self.job.awaited);
                let watch = match awaited.take() {
                    Some((_, watch)) => watch,
                    None => self.crew.watch(),
                };
                *awaited = Some((context.waker().clone(), watch));
            }
            // It may have been settled just before that was there.
            if !self.job.is_done() {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.take())
    }
}

impl<R: DeserializeOwned> Task<R> {
    /// Waits until the call has ended, and returns what its function returned.
    ///
    /// # Errors
    /// [`Error::Panicked`] with the message of the panic, [`Error::Died`] if the worker died
    /// that ran it, [`Error::Decode`] and [`Error::Encode`] if argument or result could not be
    /// translated, [`Error::Terminated`] or [`Error::Broken`] if the pool ended first,
    /// [`Error::Taken`] if [`try_wait`](Task::try_wait) has returned the result before.
    ///
    /// ```
    /// # use manyhands::{Error, Pool};
    /// # fn main() -> Result<(), Error> {
    /// # manyhands::init();
    /// fn fail(why: String) {
    ///     panic!("{why}");
    /// }
    /// let pool = Pool::new()?;
    /// let error = pool.submit(fail, "no luck".to_owned())?.wait().unwrap_err();
    /// assert!(matches!(error, Error::Panicked(panic) if panic.message == "no luck"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait(self) -> Result<R, Error> {
        self.wait_until(None)?;
        self.take()
    }

    /// Returns the result if the call has ended, `None` if it has not.
    ///
    /// # Errors
    /// As [`wait`](Task::wait).
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let pool = Pool::new()?;
    /// let mut task = pool.submit(|x: u64| x * x, 7)?;
    /// let square = loop {
    ///     match task.try_wait()? {
    ///         Some(square) => break square,
    ///         None => std::thread::yield_now(), // or something more useful
    ///     }
    /// };
    /// assert_eq!(square, 49);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_wait(&mut self) -> Result<Option<R>, Error> {
        if self.is_done() {
            self.take().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Waits for the result, `timeout` at most; `None` if the call has not ended by then.
    ///
    /// # Errors
    /// As [`wait`](Task::wait).
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let pool = Pool::new()?;
    /// let mut task = pool.submit(|x: u64| x * x, 7)?;
    /// match task.wait_timeout(Duration::from_secs(10))? {
    ///     Some(square) => println!("{square}"),
    ///     None => println!("it takes longer than that"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<R>, Error> {
        match self.wait_until(Instant::now().checked_add(timeout))? {
            true => self.take().map(Some),
            false => Ok(None),
        }
    }

    fn take(&self) -> Result<R, Error> {
        let fate = lock(&self.job.fate).take();
        decode(fate.ok_or(Error::Taken)?)
    }
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("done", &self.job.is_done())
            .finish_non_exhaustive()
    }
}
