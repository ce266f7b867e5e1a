//! The crew: a pool's workers, and the threads of the caller that feed and hear them.
//!
//! There is no thread of the engine's own on a task's way. The thread that submits puts
//! the task into a mailbox; a thread that waits does the collecting (`turns`). A face that lets
//! callers submit without waiting runs [`Crew::tend`] in a thread that steps in when nobody
//! waits.
//! Always: no call into a face (settle, finish, draw, launch) happens under a lock or
//! while holding the right to sleep, so that a face's user code may use the pool.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use manyhands_os::death::Hold;
use manyhands_os::fd::{AsFd, EventFd};
use manyhands_os::fork_state::Registration;
use manyhands_os::poll::Poller;
use manyhands_os::{cpu, fork_state};
use manyhands_shm::stats::Face;

use super::dispatch;
use super::floor::{Floor, Phase, Settled, settle};
use super::launch::Launch;
use super::line::rank;
use super::orphans::Orphans;
use super::patience::Patience;
use super::published::{Function, Graveyard};
use super::stats::Stats;
use super::supervise::private_bell;
use super::task::{Abandoned, Need, Source, Task};
use super::terms::{MaxRestarts, Terms};
use super::trace::Trace;

/// Token of the workers' bell in the poller that a waiting thread sleeps on.
pub(super) const BELL: u64 = u64::MAX;
/// Token of the poller with the sentinels in the pollers that watch it.
pub(super) const DEATHS: u64 = u64::MAX - 1;
/// Token of the bell that calls the tending thread.
pub(super) const TENDER: u64 = u64::MAX - 2;

/// What a pool is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Workers; at least 1.
    pub workers: usize,
    /// A worker is replaced after so many tasks.
    pub max_tasks_per_worker: Option<u64>,
    /// Processors to reckon with when deciding whether to wait awake; `None`: those
    /// that this process may use.
    pub cores: Option<usize>,
    /// Workers are started by [`Crew::grow`] alone, when tasks find no idle one; none at first.
    pub on_demand: bool,
    /// A worker that dies takes the pool with it: every task is settled with that death.
    pub breaks: bool,
    /// What holds for tasks whose [job](super::Job::terms) says nothing else.
    pub terms: Terms,
    /// Deaths beyond this end the pool; `None`: the dead are replaced, however many they are.
    pub max_restarts: Option<MaxRestarts>,
    /// Workers that have nothing to do for so long leave, if somebody [tends](Crew::tend) the pool; others come when
    /// there is more to do.
    pub idle_timeout: Option<Duration>,
}

/// Why a task was not accepted; it is given back.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The pool was closed.
    #[error("the pool is closed and takes no more tasks")]
    Closed,
    /// The pool was terminated or is broken.
    #[error("{0}")]
    Over(Arc<Abandoned>),
    /// This process is a fork of the one that owns the pool.
    #[error("this pool belongs to the parent process; make a pool of your own in the child")]
    Forked,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The goal is reached.
    Reached,
    /// The deadline passed.
    TimedOut,
    /// A signal arrived, or it is time to look for one.
    Pulse,
    /// This process does not own the pool.
    Forked,
}

/// How a waiting thread wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// For each answer.
    Each,
    /// When several answers that follow each other closely are there, for one wake-up.
    Bulk,
    /// So, and not at once: the thread does what is left to do while nobody waits.
    Tend,
}

/// Somebody wants to be told of a job: see [`Crew::watch`].
#[derive(Debug)]
pub struct Watch(Arc<AtomicUsize>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A pool's workers and everything they are given. Share it in an [`Arc`].
pub struct Crew {
    /// Taken only by `drop`.
    core: Option<Box<Core>>,
}

/// What a crew is made of. In a forked child it is never dropped: its descriptors and
/// mappings are the parent's.
#[doc(hidden)]
#[allow(
    unreachable_pub,
    reason = "the target of a public `Deref`, though it cannot be named outside"
)]
pub struct Core {
    pub(super) floor: Mutex<Floor>,
    pub(super) launcher: Box<dyn Launch>,
    pub(super) config: Config,
    /// Dropped before the bells, as they must be.
    _not_for_children: [Registration; 2],
    pub(super) parent_bell: EventFd,
    /// Sentinels of the workers.
    pub(super) deaths: Poller,
    pub(super) sleep: Poller,
    pub(super) asleep: AtomicBool,
    pub(super) patience: Mutex<Patience>,
    pub(super) tender: Poller,
    pub(super) tender_bell: EventFd,
    pub(super) tender_idle: AtomicBool,
    pub(super) tender_leads: AtomicBool,
    /// The last answers had callbacks to be called.
    pub(super) hasty: AtomicBool,
    /// A callback is being run.
    pub(super) calling_back: AtomicBool,
    pub(super) over: AtomicBool,
    /// Jobs that somebody wants to be told of, though nobody waits.
    pub(super) watched: Arc<AtomicUsize>,
    /// Somebody waits for everything to end.
    joining: AtomicBool,
    /// How many workers there should be, at most.
    pub(super) size: AtomicUsize,
    pub(super) orphans: Orphans,
    pub(super) next_function: AtomicU32,
    pub(super) graveyard: Arc<Graveyard>,
    pub(super) stats: Arc<Stats>,
    /// Ends the workers when this process is gone.
    pub(super) hold: Hold,
    generation: u64,
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Crew {
    /// Prepares a pool without workers; see [`Crew::staff`].
    pub fn new(config: Config, launcher: Box<dyn Launch>) -> io::Result<Self> {
        let (parent_bell, bell_kept) = private_bell()?;
        let (deaths, sleep, tender) = (Poller::new()?, Poller::new()?, Poller::new()?);
        let (tender_bell, tender_kept) = private_bell()?;
        sleep.add(parent_bell.as_fd(), BELL)?;
        sleep.add(deaths.fd()?, DEATHS)?;
        tender.add(deaths.fd()?, DEATHS)?;
        tender.add(tender_bell.as_fd(), TENDER)?;
        let cores = config.cores.unwrap_or_else(cpu::available);
        let workers = config.workers;
        let size = if config.on_demand { 0 } else { workers };
        let stats = Arc::new(Stats::new(size));
        let mut floor = Floor::new(size, workers, cores, Arc::clone(&stats));
        floor.returns = config.idle_timeout.is_some();
        let core = Core {
            floor: Mutex::new(floor),
            launcher,
            config,
            _not_for_children: [bell_kept, tender_kept],
            parent_bell,
            deaths,
            sleep,
            asleep: AtomicBool::new(false),
            patience: Mutex::new(Patience::new()),
            tender,
            tender_bell,
            tender_idle: AtomicBool::new(false),
            tender_leads: AtomicBool::new(false),
            hasty: AtomicBool::new(false),
            calling_back: AtomicBool::new(false),
            over: AtomicBool::new(false),
            watched: Arc::default(),
            joining: AtomicBool::new(false),
            size: AtomicUsize::new(workers),
            orphans: Orphans::default(),
            next_function: AtomicU32::new(1),
            graveyard: Arc::default(),
            stats,
            hold: Hold::new()?,
            generation: fork_state::generation(),
        };
        Ok(Self {
            core: Some(Box::new(core)),
        })
    }

    /// The floor, of a pool that is ours: in a forked child a thread that is not there may hold the lock.
    pub(super) fn floor(&self) -> MutexGuard<'_, Floor> {
        // Bookkeeping does not panic half-way; if it ever did, a stuck pool would be worse.
        self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process owns the pool, or is a fork of the one that does.
    pub fn is_ours(&self) -> bool {
        self.generation == fork_state::generation()
    }

    /// How many forks lie before the process that made it.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Starts workers until there are as many as configured. The first failure is
    /// returned; the workers that did start stay.
    pub fn staff(&self) -> io::Result<()> {
        while self.launch_one()? {}
        Ok(())
    }

    /// Gives a name to what calls, for those who look on; its id is for [`Job::called`].
    pub fn name(&self, name: &str) -> u32 {
        let id = self.next_function.fetch_add(1, Ordering::Relaxed);
        self.stats.name(id, name);
        id
    }

    /// Says what a function is called that was [published](Self::publish).
    pub fn name_function(&self, function: &Function, name: &str) {
        self.stats.name(function.id, name);
    }

    /// Says through which face this is used, for those who look on.
    pub fn set_face(&self, face: Face) {
        self.stats.set_face(face);
    }

    /// The timeline, if somebody wants one.
    pub fn trace(&self) -> Option<&Trace> {
        self.stats.trace.as_ref()
    }

    fn admit(&self, floor: &Floor) -> Result<(), Refused> {
        match &floor.phase {
            Phase::Open => Ok(()),
            Phase::Closing => Err(Refused::Closed),
            Phase::Over(why) => Err(Refused::Over(Arc::clone(why))),
        }
    }

    /// Accepts a task: it will be settled once. It goes straight into a mailbox if one has room.
    pub fn submit(&self, task: Task) -> Result<(), Refused> {
        if !self.is_ours() {
            return Err(Refused::Forked);
        }
        let mut floor = self.floor();
        self.admit(&floor)?;
        floor.ranked |= rank(&task) != 0;
        let behind = floor.is_behind(&task);
        let left = if behind {
            Err(task)
        } else {
            floor.place_single(task)
        };
        match left {
            Ok(()) => floor.publish(),
            Err(task) => {
                floor.put_off(task, Need::IfCheap);
                if floor.ranked {
                    floor.fill(); // it may go before others
                    floor.publish();
                }
            }
        }
        let is_short = floor.call_for_more();
        let litter = floor.litter();
        drop(floor);
        drop(litter);
        if is_short {
            self.fetch();
        }
        Ok(())
    }

    /// Accepts tasks that are drawn from `source` as workers get ready for them.
    pub fn submit_source(&self, source: Box<dyn Source>) -> Result<(), Refused> {
        if !self.is_ours() {
            return Err(Refused::Forked);
        }
        let mut floor = self.floor();
        self.admit(&floor)?;
        floor.ranked |= source.priority() != 0;
        floor.sources.push_back(source);
        drop(floor);
        self.call_feeders();
        self.call_tender();
        Ok(())
    }

    /// Tells jobs what was settled outside of a turn, and whoever waits: for just this perhaps, or for the end of all
    /// work.
    pub(super) fn tell(&self, settled: Vec<Settled>) {
        let told = settle(settled);
        self.let_go(told.orphans);
        self.finish(told.finished);
        self.call_followers();
    }

    /// Has the tending thread hear the workers without delay, though nobody waits, for as long as the
    /// returned value is kept.
    pub fn watch(&self) -> Watch {
        let others = self.watched.fetch_add(1, Ordering::AcqRel);
        if others == 0 && self.is_ours() {
            let _ = self.tender_bell.ring();
        }
        Watch(Arc::clone(&self.watched))
    }

    /// Takes no more tasks; workers leave when everything accepted is done.
    pub fn close(&self) {
        if !self.is_ours() {
            return;
        }
        let mut floor = self.floor();
        if matches!(floor.phase, Phase::Open) {
            floor.phase = Phase::Closing;
        }
        // Perhaps nobody waits, and takes the turn that would tell the workers.
        self.dismiss(&mut floor);
        floor.publish();
        self.stats.note(&floor);
        drop(floor);
        self.look_again();
    }

    /// Whether it takes tasks.
    pub fn is_open(&self) -> bool {
        self.is_ours() && matches!(self.floor().phase, Phase::Open)
    }

    /// Why the pool is over, if it is.
    pub fn over(&self) -> Option<Arc<Abandoned>> {
        if !self.is_ours() {
            return None;
        }
        match &self.floor().phase {
            Phase::Over(why) => Some(Arc::clone(why)),
            _ => None,
        }
    }

    /// Gives up every task and asks every worker to end (SIGTERM). See [`Crew::join`].
    pub fn terminate(&self) {
        if self.is_ours() {
            self.give_up(Arc::new(Abandoned::Terminated));
        }
    }

    /// Waits until every worker is gone, after `close` or `terminate`. Workers of a pool
    /// that is over which outlive `grace` are killed.
    pub fn join(
        &self,
        grace: Duration,
        deadline: Option<Instant>,
        pulse: Option<Duration>,
    ) -> Waited {
        if !self.is_ours() {
            return Waited::Forked;
        }
        self.joining.store(true, Ordering::Release);
        self.resume();
        let began = Instant::now();
        let kill_at = began + grace;
        let gone = || {
            let floor = self.floor();
            let is_done = match floor.phase {
                Phase::Open => false,
                Phase::Closing => !floor.has_work(),
                Phase::Over(_) => true,
            };
            is_done && floor.workers.is_empty() && floor.launching == 0
        };
        loop {
            let mut until = deadline;
            if matches!(self.floor().phase, Phase::Over(_)) {
                if Instant::now() < kill_at {
                    until = Some(deadline.map_or(kill_at, |at| at.min(kill_at)));
                } else {
                    for worker in &self.floor().workers {
                        let _ = worker.child.signal(9);
                    }
                }
            }
            let pulse = pulse.map(|pulse| pulse.saturating_sub(began.elapsed()));
            match self.wait(&gone, until, pulse, Wish::Each) {
                Waited::TimedOut if deadline.is_none_or(|at| Instant::now() < at) => {}
                waited => return waited,
            }
        }
    }

    /// How many more tasks the workers could take at this moment, or one that would come back for it; 0 while some wait for one.
    pub fn room(&self) -> usize {
        if !self.is_ours() {
            return 0;
        }
        let floor = self.floor();
        if floor.waiting.is_empty() {
            dispatch::room(&floor.workers).max(usize::from(floor.has_absentees()))
        } else {
            0
        }
    }

    /// Whether somebody waits for everything to end, so that no input waits for its consumer.
    pub fn is_joining(&self) -> bool {
        self.joining.load(Ordering::Acquire)
    }

    /// How many workers there should be.
    pub fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// Changes how many workers there should be. Of too many, those leave that have the least to do, once they have done
    /// what they run; what they have not begun goes to others. Missing ones are started by whoever works for the pool,
    /// or by [`offer`](Self::offer).
    pub fn resize(&self, workers: usize) -> Result<(), Refused> {
        if !self.is_ours() {
            return Err(Refused::Forked);
        }
        let mut floor = self.floor();
        self.admit(&floor)?;
        self.size.store(workers, Ordering::Relaxed);
        floor.size = workers;
        floor.most = workers;
        floor.let_go_of_surplus();
        floor.fill();
        // Perhaps nobody waits, and takes the turn that would tell the workers.
        self.dismiss(&mut floor);
        floor.publish();
        let litter = floor.litter();
        drop(floor);
        drop(litter);
        self.look_again();
        Ok(())
    }

    /// Process ids of the workers.
    pub fn pids(&self) -> Vec<i32> {
        if !self.is_ours() {
            return Vec::new();
        }
        self.floor()
            .workers
            .iter()
            .map(|worker| worker.child.pid())
            .collect()
    }

    /// Whether any accepted task is unfinished.
    pub fn has_work(&self) -> bool {
        self.is_ours() && self.floor().has_work()
    }
}

impl std::ops::Deref for Crew {
    type Target = Core;

    fn deref(&self) -> &Core {
        match &self.core {
            Some(core) => core,
            None => unreachable!("a crew has its core until it is dropped"),
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if self.is_ours() {
            for worker in &self.floor().workers {
                let _ = worker.child.signal(9);
            }
            if let Some(trace) = self.trace() {
                trace.end();
            }
        } else {
            std::mem::forget(self.core.take());
        }
    }
}
