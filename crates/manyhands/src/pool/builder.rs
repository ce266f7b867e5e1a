//! Settings of a pool, and its start.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use manyhands_os::cpu;

use super::clerk::Clerk;
use super::serve::{Limits, Reexec};
use super::{Pool, check_number};
use crate::engine::{Config, Crew, Limit, MaxRestarts, Terms};
use crate::error::Error;
use crate::parcel::{Parcel, Way};
use crate::{init, typed};

/// Settings for a [`Pool`], made by [`Pool::builder`].
///
/// ```
/// use manyhands::Pool;
/// # fn main() -> Result<(), manyhands::Error> {
/// # manyhands::init();
/// let pool = Pool::builder().workers(4).max_tasks_per_worker(1000).name("parser").build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct PoolBuilder {
    workers: Option<usize>,
    max_tasks_per_worker: Option<u64>,
    name: Option<String>,
    initializer: Option<Result<(Vec<u8>, Parcel), Error>>,
    retries: u32,
    task_timeout: Option<Duration>,
    max_restarts: Option<MaxRestarts>,
    idle_timeout: Option<Duration>,
    limits: Limits,
}

impl PoolBuilder {
    /// How many workers; otherwise one for each processor that this process may use.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// let four = Pool::builder().workers(4);
    /// ```
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// A worker is replaced by a fresh one after so many tasks; otherwise it is kept.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// let replaced_often = Pool::builder().max_tasks_per_worker(100);
    /// ```
    #[must_use]
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> Self {
        self.max_tasks_per_worker = Some(tasks);
        self
    }

    /// A task whose worker died is run again, so many times at most; otherwise its death is the result.
    ///
    /// Only for functions that may be begun twice: what a killed worker had done of its task stays done. A panic is an
    /// answer and is not tried again, nor is a task that took [too long](PoolBuilder::task_timeout).
    ///
    /// ```
    /// # use manyhands::Pool;
    /// let persistent = Pool::builder().retries(2);
    /// ```
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// A task that takes longer is ended together with its worker, which is replaced; its result is
    /// [`Error::Died`] with [`Died::overdue`](crate::Died::overdue).
    ///
    /// The kernel keeps the limit, so it holds whatever the task does; it is rounded up to a millisecond; more than 49 days is
    /// no limit.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// let impatient = Pool::builder().task_timeout(std::time::Duration::from_secs(10));
    /// ```
    #[must_use]
    pub fn task_timeout(mut self, timeout: Duration) -> Self {
        self.task_timeout = Some(timeout);
        self
    }

    /// A task may use so much processor time, in all its threads; one that uses more is ended by SIGXCPU together with
    /// its worker, which is replaced, and its result is [`Error::Died`].
    ///
    /// ```
    /// # use manyhands::Pool;
    /// let frugal = Pool::builder().cpu_time(std::time::Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn cpu_time(mut self, time: Duration) -> Self {
        self.limits.cpu_time = Some(time);
        self
    }

    /// A worker may have so many bytes of private memory, all it has for itself included. A task that
    /// asks for more is refused it, which ends most programs: its result is [`Error::Died`], with SIGABRT.
    ///
    /// What is shared with other processes ([`Bytes`](crate::Bytes), [`SharedSlice`](crate::SharedSlice)) does not count.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// let small = Pool::builder().max_memory(1 << 30);
    /// ```
    #[must_use]
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.limits.max_memory = Some(bytes);
        self
    }

    /// A worker that has grown by so many bytes of private memory since it was ready, after the initializer, is replaced by a
    /// fresh one; otherwise it is kept. It is looked at after a task, the task's result apart.
    ///
    /// Shared memory does not count, nor does what the allocator can give back.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// let leaking = Pool::builder().max_memory_per_worker(512 << 20);
    /// ```
    #[must_use]
    pub fn max_memory_per_worker(mut self, bytes: u64) -> Self {
        self.limits.max_growth = Some(bytes);
        self
    }

    /// Workers that have nothing to do for so long leave; others come when there is more to do than those who stay
    /// can begin. Otherwise they stay. A thread of the pool's looks for them.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// let considerate = Pool::builder().idle_timeout(std::time::Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = Some(time);
        self
    }

    /// When more workers than `restarts` die within this time, the pool is [broken](Error::Broken); otherwise the dead
    /// are replaced, however many they are.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// let wary = Pool::builder().max_restarts(10, std::time::Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn max_restarts(mut self, restarts: usize, within: Duration) -> Self {
        self.max_restarts = Some(MaxRestarts { restarts, within });
        self
    }

    /// What `ps` and `top` call the workers (the first 15 bytes); otherwise, as this process.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// let parsers = Pool::builder().name("parser");
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Every worker calls `function(argument)` before it takes a task. If that panics, the
    /// worker ends; if it does so again and again, the pool is [broken](Error::Broken).
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// fn enter(directory: String) {
    ///     std::env::set_current_dir(directory).unwrap();
    /// }
    /// let pool = Pool::builder().initializer(enter, "/tmp".to_owned()).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn initializer<A>(mut self, function: fn(A), argument: A) -> Self
    where
        A: Serialize + DeserializeOwned,
    {
        let call =
            typed::name(function).and_then(|name| typed::encode(Way::Letter, &name, &argument));
        self.initializer = Some(call);
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// [`Error::NotPrepared`] if [`init`](crate::init) has not run, [`Error::NoWorkers`] for
    /// `workers(0)`, [`Error::OutOfRange`] for more than a system can have (2²²), [`Error::System`] if the workers
    /// cannot be started; [`Error::Encode`] and [`Error::Function`] for an initializer that cannot be sent to them.
    ///
    /// ```
    /// # use manyhands::Pool;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let pool = Pool::builder().workers(4).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn build(self) -> Result<Pool, Error> {
        init::require()?;
        let workers = self.workers.unwrap_or_else(cpu::available);
        check_number(workers)?;
        if self.max_tasks_per_worker == Some(0) {
            return Err(Error::NoWorkers);
        }
        let config = Config {
            workers,
            max_tasks_per_worker: self.max_tasks_per_worker,
            cores: None,
            on_demand: false,
            breaks: false,
            terms: Terms {
                retries: self.retries,
                limit: Limit::new(None, self.task_timeout),
                priority: 0,
            },
            max_restarts: self.max_restarts,
            idle_timeout: self.idle_timeout,
        };
        let clerk = Clerk::new().map_err(Error::system("build a pool"))?;
        let launcher = Reexec {
            title: self.name,
            counter: clerk.counter(),
            shelf: clerk.shelf(),
            limits: self.limits,
            initializer: self.initializer.transpose()?,
        };
        let crew = Crew::new(config, Box::new(launcher)).map_err(Error::system("build a pool"))?;
        // From here on a failure ends those workers that did start.
        let pool = Pool::over(crew, clerk);
        pool.crew
            .staff()
            .map_err(Error::system("start the workers of a pool"))?;
        if self.idle_timeout.is_some() {
            pool.tend();
        }
        Ok(pool)
    }
}
