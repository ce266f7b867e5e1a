//! The typed pool: functions of this program, run by worker processes that are kept.
//!
//! A face of the engine: workers come to life by executing this program again (`serve`), calls
//! and values are encoded with postcard (`typed`), and answers are decoded on the thread that
//! asks for them. Always: a task that panics or whose worker dies is an `Err`, and the pool
//! goes on. Not here: who gets which task, what a death costs (`engine`).

use std::collections::HashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use manyhands_os::callable::Name;
use manyhands_os::signal::Blocked;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{self, Abandoned, Cause, Crew, Function, Outcome, Payload, Refused, Waited};
use crate::error::{Died, Error};
use crate::parcel::{Arrived, Parcel, Way};
use crate::typed;

mod builder;
mod clerk;
mod map;
mod serve;
#[cfg(feature = "fuzzing")]
pub(crate) use serve::is_post;
mod shelf;
mod stream;
mod task;

pub use builder::PoolBuilder;
use clerk::Clerk;
pub(crate) use serve::work;
use shelf::{Kept, Shelf};
pub use stream::Results;
pub use task::Task;

/// What a task's mark says of its bytes.
mod mode {
    /// They end with what a parcel is found by: a task's number, eight bytes, or an answer's mark.
    pub(super) const PARCEL: u8 = 1;
}

/// An argument on its way to a worker.
struct Cargo {
    mode: u8,
    payload: Payload,
    /// Kept for the worker until the task is settled.
    kept: Option<Kept>,
}

/// How long workers of a terminated pool may take to end before they are killed.
const GRACE: Duration = Duration::from_secs(1);

/// More processes than this no Linux has: the kernel's `PID_MAX_LIMIT`.
const MOST_WORKERS: usize = 1 << 22;

/// Worker processes that run functions of this program.
///
/// A pool may be shared by threads: every method takes `&self`. Its workers are this same
/// program, started again, as with [`Process`](crate::Process); they are kept from task to task
/// and replaced when they die. What a killed worker was running is an error for that task; what
/// was still queued for it is given to another worker, unharmed.
///
/// Dropping the pool terminates it: tasks that are not done are given up, and the workers are
/// gone when `drop` returns. To let everything finish first, call [`join`](Pool::join).
///
/// ```
/// use manyhands::{Error, Pool};
///
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     let pool = Pool::new()?;
///     let squares = pool.map(square, 1..=5)?;
///     assert_eq!(squares, [1, 4, 9, 16, 25]);
///     Ok(())
/// }
/// ```
pub struct Pool {
    crew: Arc<Crew>,
    /// Functions that were published, by name.
    functions: Mutex<HashMap<[u8; Name::LEN], Arc<Function>>>,
    /// Hands workers the descriptors of their tasks.
    clerk: Clerk,
    /// Works for the pool while nobody waits; started when it is first needed.
    tender: OnceLock<Mutex<Option<JoinHandle<()>>>>,
}

impl Pool {
    /// A pool with one worker for each processor that this process may use.
    ///
    /// # Errors
    /// [`Error::NotPrepared`] if [`init`](crate::init) has not run, [`Error::System`] if the
    /// workers cannot be started.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let pool = Pool::new()?;
    /// println!("{} workers", pool.workers());
    /// # Ok(())
    /// # }
    /// ```
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// A pool with settings of its own.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let pool = Pool::builder().workers(3).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    fn over(crew: Crew, clerk: Clerk) -> Self {
        Self {
            crew: Arc::new(crew),
            clerk,
            functions: Mutex::default(),
            tender: OnceLock::new(),
        }
    }

    /// Runs `function` on every input, and returns the results in the inputs' order.
    ///
    /// Inputs are drawn from the iterator as workers get ready for them, so it may be long,
    /// lazy, or slow. The calling thread does the pool's work meanwhile.
    ///
    /// # Errors
    /// That of the first input, in their order, whose call failed: [`Error::Panicked`],
    /// [`Error::Died`], or a value that could not be translated. Inputs after it are not drawn
    /// any more, and those that no worker has begun are not run. The pool is usable as before.
    /// [`map_each`](Pool::map_each) tells the fate of each input instead. [`Error::Closed`],
    /// [`Error::Terminated`] and [`Error::Broken`] if the pool runs no more tasks.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let pool = Pool::new()?;
    /// let words = ["many", "hands"].map(String::from);
    /// assert_eq!(pool.map(|word: String| word.len(), words)?, [4, 5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map<A, R, I>(&self, function: fn(A) -> R, inputs: I) -> Result<Vec<R>, Error>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        map::all(self, function, inputs.into_iter())
    }

    /// Runs `function` on every input, and returns what became of each, in the inputs' order.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Terminated`] and [`Error::Broken`] if the pool runs no more
    /// tasks. Whatever happens to a single input is in its place in the list.
    ///
    /// ```
    /// # use manyhands::{Error, Pool};
    /// # fn main() -> Result<(), Error> {
    /// # manyhands::init();
    /// fn invert(x: u32) -> u32 {
    ///     1000 / x
    /// }
    /// let pool = Pool::new()?;
    /// let inverses = pool.map_each(invert, [10, 0, 5])?;
    /// assert_eq!(inverses[0].as_ref().unwrap(), &100);
    /// assert!(matches!(inverses[1], Err(Error::Panicked(_))));
    /// assert_eq!(inverses[2].as_ref().unwrap(), &200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_each<A, R, I>(
        &self,
        function: fn(A) -> R,
        inputs: I,
    ) -> Result<Vec<Result<R, Error>>, Error>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        map::each(self, function, inputs.into_iter())
    }

    /// Runs `function` on every input, and gives the results in the inputs' order, one after the other, as they
    /// are asked for.
    ///
    /// Inputs are drawn as workers get ready for them and as results are taken, by the thread that takes
    /// them: the input may be endless, and no more than [`ahead`](Results::ahead) of it is in memory.
    ///
    /// # Errors
    /// [`Error::Function`] for a function of a shared library. What happens to an input, and to the pool, is an
    /// `Err` among the results.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let pool = Pool::new()?;
    /// let words = ["many", "hands"].map(String::from);
    /// for length in pool.imap(|word: String| word.len(), words)? {
    ///     println!("{}", length?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn imap<A, R, I>(
        &self,
        function: fn(A) -> R,
        inputs: I,
    ) -> Result<Results<'_, I::IntoIter, R>, Error>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        Results::new(self, function, inputs.into_iter(), true)
    }

    /// As [`imap`](Pool::imap), but each result as soon as it is there, whatever its input's place.
    ///
    /// # Errors
    /// As [`imap`](Pool::imap).
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let pool = Pool::new()?;
    /// let squares = pool.imap_unordered(|n: u64| n * n, 1..=3)?;
    /// let mut squares = squares.collect::<Result<Vec<_>, _>>()?;
    /// squares.sort();
    /// assert_eq!(squares, [1, 4, 9]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn imap_unordered<A, R, I>(
        &self,
        function: fn(A) -> R,
        inputs: I,
    ) -> Result<Results<'_, I::IntoIter, R>, Error>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        Results::new(self, function, inputs.into_iter(), false)
    }

    /// Hands one call to the pool, and returns at once with the way to its result.
    ///
    /// Dropping the [`Task`] lets the call run on; its result is thrown away.
    ///
    /// # Errors
    /// [`Error::Encode`] for an argument that serde cannot encode, [`Error::Function`] for a
    /// function of a shared library; [`Error::Closed`], [`Error::Terminated`] and
    /// [`Error::Broken`] if the pool takes no more tasks.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let pool = Pool::new()?;
    /// let task = pool.submit(|x: u64| x * x, 7)?;
    /// assert_eq!(task.wait()?, 49);
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit<A, R>(&self, function: fn(A) -> R, argument: A) -> Result<Task<R>, Error>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let function = self.publish(function)?;
        let cargo = self.load(&argument)?;
        drop(argument);
        let task = Task::submit(&self.crew, self.clerk.shelf(), function, cargo)?;
        self.tend();
        Ok(task)
    }

    /// How many workers the pool keeps.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// assert_eq!(Pool::builder().workers(3).build()?.workers(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn workers(&self) -> usize {
        self.crew.size()
    }

    /// Changes how many workers the pool keeps, while tasks run.
    ///
    /// Those that are missing are started now, or after a pause if starts have just failed. Of too many, those leave that have the least to do, each when it has done
    /// the task that it runs; what they have not begun goes to others, so nothing is lost.
    ///
    /// # Errors
    /// [`Error::NoWorkers`] for 0, [`Error::OutOfRange`] for more than a system can have (2²²), [`Error::System`] if
    /// workers cannot be started: then the pool keeps as many as before. [`Error::Closed`], [`Error::Terminated`] and
    /// [`Error::Broken`] if it takes no more tasks.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let pool = Pool::builder().workers(1).build()?;
    /// let tasks: Vec<_> = (0..100).map(|n: u64| pool.submit(|n| n * n, n)).collect::<Result<_, _>>()?;
    /// pool.resize(4)?; // there is more to do than was thought
    /// assert_eq!(pool.workers(), 4);
    /// for (n, task) in (0..).zip(tasks) {
    ///     assert_eq!(task.wait()?, n * n);
    /// }
    /// pool.resize(1)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn resize(&self, workers: usize) -> Result<(), Error> {
        check_number(workers)?;
        let before = self.workers();
        self.tend(); // whoever leaves is seen off, though nobody waits for a task
        let resize = |workers| self.crew.resize(workers).map_err(|no| refused(&no));
        resize(workers)?;
        self.crew.staff().map_err(|error| {
            let _ = resize(before); // or it would try for ever
            Error::system(format!("resize a pool to {workers} workers"))(error)
        })
    }

    /// The process ids of the workers that there are at this moment.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// println!("{:?}", Pool::new()?.pids());
    /// # Ok(())
    /// # }
    /// ```
    pub fn pids(&self) -> Vec<i32> {
        if self.crew.is_ours() {
            self.crew.pids()
        } else {
            Vec::new()
        }
    }

    /// Takes no more tasks. Those it has are done, then the workers leave.
    ///
    /// ```
    /// # use manyhands::{Error, Pool};
    /// # fn main() -> Result<(), Error> {
    /// # manyhands::init();
    /// let pool = Pool::new()?;
    /// let task = pool.submit(|x: u64| x * x, 7)?;
    /// pool.close();
    /// assert!(matches!(pool.submit(|x: u64| x, 7), Err(Error::Closed)));
    /// assert_eq!(task.wait()?, 49);
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        self.crew.close();
    }

    /// Gives up every task that is not done and ends the workers.
    ///
    /// Whoever waits for such a task gets [`Error::Terminated`].
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
    /// pool.terminate();
    /// assert!(matches!(task.wait(), Err(Error::Terminated)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn terminate(&self) {
        self.crew.terminate();
    }

    /// Closes the pool, and waits until every task is done and every worker is gone.
    ///
    /// # Errors
    /// [`Error::Broken`] if the workers did not live long enough to do the tasks.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let pool = Pool::new()?;
    /// let task = pool.submit(|x: u64| x * x, 7)?;
    /// pool.join()?;
    /// assert_eq!(task.wait()?, 49);
    /// # Ok(())
    /// # }
    /// ```
    pub fn join(self) -> Result<(), Error> {
        self.crew.close();
        self.see_off()?;
        match self.crew.over().as_deref() {
            Some(broken @ Abandoned::Broken { .. }) => Err(abandoned(broken)),
            _ => Ok(()),
        }
    }

    /// Waits until the workers of a closed or terminated pool are gone.
    fn see_off(&self) -> Result<(), Error> {
        loop {
            match self.crew.join(GRACE, None, None) {
                Waited::Reached => return Ok(()),
                Waited::Forked => return Err(Error::Forked),
                Waited::Pulse | Waited::TimedOut => {}
            }
        }
    }

    /// Publishes `function`, or finds it published.
    fn publish<A, R>(&self, function: fn(A) -> R) -> Result<Arc<Function>, Error>
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        let name = typed::name(function)?;
        if !self.crew.is_ours() {
            return Err(Error::Forked); // before the lock, which a thread of the parent may hold
        }
        let publish = || {
            let published = self.crew.publish(Payload::new(name));
            let called = std::any::type_name_of_val(&function);
            self.crew.name_function(&published, called);
            published
        };
        Ok(Arc::clone(
            lock(&self.functions).entry(name).or_insert_with(publish),
        ))
    }

    /// Encodes an argument, and keeps what a worker will ask for.
    fn load<A: Serialize>(&self, argument: &A) -> Result<Cargo, Error> {
        let (bytes, parcel) = typed::encode(Way::Task, &[], argument)?;
        self.stow(bytes, parcel)
    }

    fn stow(&self, mut bytes: Vec<u8>, mut parcel: Parcel) -> Result<Cargo, Error> {
        let kept = self.clerk.keep(&mut parcel)?;
        if let Some(kept) = &kept {
            bytes.extend_from_slice(&kept.number().to_le_bytes());
        }
        Ok(Cargo {
            mode: if kept.is_some() { mode::PARCEL } else { 0 },
            payload: Payload {
                bytes,
                buffers: parcel.buffers,
                ..Payload::default()
            },
            kept,
        })
    }

    /// Sees to it that tasks get on though nobody waits for them.
    fn tend(&self) {
        self.tender.get_or_init(|| {
            let crew = Arc::clone(&self.crew);
            // Signals are for the program's own threads.
            let _blocked = Blocked::new();
            let tender = std::thread::Builder::new().name("pool tender".to_owned());
            // Without the thread, tasks get on whenever somebody waits for one: slower, not wrong.
            Mutex::new(tender.spawn(move || while crew.tend() {}).ok())
        });
        self.crew.attend();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("workers", &self.workers())
            .finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.crew.is_ours() {
            return; // a forked child: workers and threads are the parent's
        }
        self.crew.terminate();
        // Nothing can be done about a failure here, and the workers notice our end themselves.
        let _ = self.see_off();
        self.clerk.close();
        self.crew.stop_tending();
        let tender = self.tender.get().and_then(|tender| lock(tender).take());
        // It cannot be the tending thread that drops the pool: that runs no code of a user.
        if let Some(tender) = tender {
            let _ = tender.join();
        }
    }
}

/// Refuses numbers of workers that no pool can have.
fn check_number(workers: usize) -> Result<(), Error> {
    match workers {
        0 => Err(Error::NoWorkers),
        1..=MOST_WORKERS => Ok(()),
        _ => Err(Error::OutOfRange {
            what: "the number of a pool's workers",
            value: workers as u64,
            low: 1,
            high: MOST_WORKERS as u64,
        }),
    }
}

/// What is kept under these locks is whole between any two statements, so a panic elsewhere
/// leaves nothing to be afraid of.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of a task, and the descriptors that came with it.
struct Fate {
    outcome: Outcome,
    fds: Vec<OwnedFd>,
}

impl Fate {
    /// To be made when the task is settled: what is on the shelf is fetched.
    fn of(outcome: Outcome, shelf: &Weak<Shelf>) -> Self {
        let shelf = shelf.upgrade();
        let fds = shelf.map(|shelf| shelf.fetch(&outcome));
        Self {
            outcome,
            fds: fds.unwrap_or_default(),
        }
    }
}

/// Reads what became of a task.
fn decode<R: DeserializeOwned>(fate: Fate) -> Result<R, Error> {
    match fate.outcome {
        Outcome::Replied(reply) => {
            let (bytes, _) = shelf::unmarked(reply.mode, &reply.bytes);
            typed::decode(bytes, Arrived::of(fate.fds, reply.buffers))
        }
        Outcome::Died(death) => Err(Died {
            overdue: death.cause == Cause::TimeLimit,
            out_of_memory: death.cause == Cause::OutOfMemory,
            ..Died::with(death.pid, death.status)
        }
        .into()),
        Outcome::Abandoned(why) => Err(abandoned(&why)),
    }
}

/// What the engine refuses, in the words of this face.
fn refused(refused: &Refused) -> Error {
    match refused {
        Refused::Closed => Error::Closed,
        Refused::Over(why) => abandoned(why),
        Refused::Forked => Error::Forked,
    }
}

fn abandoned(why: &Abandoned) -> Error {
    match why {
        Abandoned::Terminated => Error::Terminated,
        Abandoned::Cancelled => Error::Cancelled,
        Abandoned::Died { .. } => Error::Broken {
            reason: why.to_string(),
        },
        Abandoned::Broken { reason, last_words } => {
            let last_words = last_words
                .as_ref()
                .map(|reply| typed::decode::<()>(&reply.bytes, Arrived::default()));
            Error::Broken {
                reason: match last_words {
                    Some(Err(error)) => format!("its workers could not be initialized: {error}"),
                    _ => reason.clone(),
                },
            }
        }
    }
}

/// A job is shared with the engine as one of its own kind.
fn shared<J: engine::Job + 'static>(job: &Arc<J>) -> Arc<dyn engine::Job> {
    Arc::<J>::clone(job)
}
