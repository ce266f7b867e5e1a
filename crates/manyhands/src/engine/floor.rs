//! The floor: the workers of a pool and the tasks that wait for one, under one lock.
//!
//! Always: the lock is held for bookkeeping only, never across a call into a face, and a
//! task that was accepted is in exactly one place: waiting here, handed to a worker, or
//! on its way to its job's `settle`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use manyhands_os::oom;

use super::dispatch;
use super::line::{Line, rank};
use super::park::Parker;
use super::stats::Stats;
use super::task::{Abandoned, Drawer, Job, Need, News, Outcome, Reply, Source, Task};
use super::terms::Deaths;
use super::worker::{Span, Spent, Worker};

/// A source may wait so long for its consumer before it is asked whether to go on without.
const PAUSE: Duration = Duration::from_secs(1);

/// What a pool is up to.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Takes tasks.
    Open,
    /// Takes no more; ends when what it has is done.
    Closing,
    /// Ends now, for this reason.
    Over(Arc<Abandoned>),
}

pub(super) struct Floor {
    pub(super) phase: Phase,
    pub(super) workers: Vec<Worker>,
    /// How many there should be.
    pub(super) size: usize,
    /// How many there may be.
    pub(super) most: usize,
    /// Workers leave when they are idle, and come back when they are wanted.
    pub(super) returns: bool,
    /// Whatever was not begun was cancelled, and so is input that is being drawn.
    pub(super) cancelled: bool,
    /// How many are being started at this moment, outside the lock.
    pub(super) launching: usize,
    pub(super) next_number: u64,
    pub(super) next_serial: u64,
    /// The worker that a task which came alone was handed to last.
    pub(super) last_chosen: u64,
    /// Tasks without a worker, in the order in which they will be handed out.
    pub(super) waiting: Line,
    /// Tasks of several priorities were accepted.
    pub(super) ranked: bool,
    /// Where more tasks come from, first come first served.
    pub(super) sources: VecDeque<Box<dyn Source>>,
    /// Sources that wait for their consumer, and when they were looked at last.
    pub(super) paused: Vec<Box<dyn Source>>,
    pub(super) paused_at: Option<Instant>,
    /// Sources that are being drawn from at this moment, outside the lock.
    pub(super) drawing: usize,
    /// A thread sleeps until workers speak: whoever hands out a task arms its worker.
    pub(super) armed: Option<Span>,
    /// Answers that were guessed to come soon did not, and none was heard since.
    pub(super) in_doubt: bool,
    /// Feeders that found nothing to draw.
    pub(super) feeders: Vec<Arc<Parker>>,
    /// Threads in [`Crew::feed`](super::Crew::feed), and how many of them draw at this moment.
    pub(super) feeding: (usize, usize),
    /// Threads that wait while another one collects.
    pub(super) followers: Vec<Arc<Parker>>,
    /// Jobs whose callbacks are to be run, by the tending thread.
    pub(super) unfinished: VecDeque<Arc<dyn Job>>,
    /// Threads in [`Crew::tend`](super::Crew::tend).
    pub(super) tenders: Vec<ThreadId>,
    /// Workers that ended before they were ready, since the last one that became so.
    pub(super) early_deaths: usize,
    /// Workers that died of late, whatever they were doing.
    pub(super) deaths: Deaths,
    /// The kernel's count of processes that it ended for want of memory; looked at when a worker was killed.
    pub(super) oom: Option<oom::Watch>,
    /// What the last worker that could not be initialised said.
    pub(super) last_words: Option<Reply>,
    pub(super) failed_launches: u32,
    /// Since when no worker could be started, when one was wanted.
    pub(super) failing_since: Option<Instant>,
    /// A worker was ready, so that what keeps the next one from starting may pass.
    pub(super) is_proven: bool,
    pub(super) retry_at: Option<Instant>,
    /// When deaths were looked for last.
    pub(super) deaths_seen_ns: u64,
    pub(super) cores: usize,
    /// What others may know of all this.
    pub(super) stats: Arc<Stats>,
    /// To be dropped without the lock: see [`Floor::litter`].
    pub(super) spent: Vec<Spent>,
    /// Sources of a pool that is over; when they are dropped, their jobs learn of it.
    pub(super) ended: VecDeque<Box<dyn Source>>,
}

/// How many tasks are to be drawn from a source.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) tasks: usize,
    /// They go before what workers have, so it does not matter that these have no room.
    pub(super) is_urgent: bool,
}

/// Something to tell a job.
pub(super) type Settled = (Arc<dyn Job>, u64, Outcome);

impl Floor {
    pub(super) fn new(size: usize, most: usize, cores: usize, stats: Arc<Stats>) -> Self {
        Self {
            phase: Phase::Open,
            workers: Vec::with_capacity(size),
            size,
            most,
            returns: false,
            cancelled: false,
            launching: 0,
            next_number: 0,
            next_serial: 0,
            last_chosen: 0,
            waiting: Line::default(),
            ranked: false,
            sources: VecDeque::new(),
            paused: Vec::new(),
            paused_at: None,
            drawing: 0,
            armed: None,
            in_doubt: false,
            feeders: Vec::new(),
            feeding: (0, 0),
            followers: Vec::new(),
            unfinished: VecDeque::new(),
            tenders: Vec::new(),
            early_deaths: 0,
            deaths: Deaths::default(),
            oom: None,
            last_words: None,
            failed_launches: 0,
            failing_since: None,
            is_proven: false,
            retry_at: None,
            deaths_seen_ns: 0,
            cores,
            stats,
            spent: Vec::new(),
            ended: VecDeque::new(),
        }
    }

    /// What is to be dropped once the lock is given back, because it may run code of the user. The end of a step: its
    /// figures are noted.
    #[must_use]
    pub(super) fn litter(&mut self) -> (Vec<Spent>, VecDeque<Box<dyn Source>>) {
        self.stats.note(self);
        (
            std::mem::take(&mut self.spent),
            std::mem::take(&mut self.ended),
        )
    }

    /// Whether any accepted task is unfinished.
    pub(super) fn has_work(&self) -> bool {
        !self.waiting.is_empty()
            || !self.sources.is_empty()
            || !self.paused.is_empty()
            || self.drawing > 0
            || self.workers.iter().any(|worker| worker.load() > 0)
    }

    /// Whether another worker is to be started, now or after a pause.
    pub(super) fn is_short(&self) -> bool {
        let wanted = match self.phase {
            Phase::Open => true,
            Phase::Closing => self.has_work(),
            Phase::Over(_) => false,
        };
        // A worker that was told to leave makes room for its successor once it is gone.
        wanted
            && self.workers.len() + self.launching < self.most
            && self.staying() + self.launching < self.size
    }

    /// Workers that were not told to leave, nor are about to be.
    pub(super) fn staying(&self) -> usize {
        let stays =
            |worker: &&Worker| !worker.stopped && !worker.is_leaving() && !worker.is_condemned();
        self.workers.iter().filter(stays).count()
    }

    /// When to look again whether a task lies with a worker that does not get to it, while another is idle.
    pub(super) fn overdue_at(&mut self) -> Option<Instant> {
        if !self.has_absentees() {
            dispatch::idle(&self.workers)?;
        }
        self.workers.iter_mut().filter_map(Worker::look_after).min()
    }

    /// When a start that failed is to be tried again.
    pub(super) fn retry_due(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.is_short())
    }

    /// When there will be something to do though nobody said anything.
    pub(super) fn due_at(&mut self) -> Option<Instant> {
        [self.retry_due(), self.overdue_at(), self.paused_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When paused sources are to be looked at.
    fn paused_due(&self) -> Option<Instant> {
        let since = self.paused_at.filter(|_| !self.paused.is_empty())?;
        Some(since + PAUSE)
    }

    /// Lets sources go on that their consumer keeps waiting for long.
    pub(super) fn look_at_paused(&mut self) {
        let Some(due) = self.paused_due() else {
            return;
        };
        let now = Instant::now();
        if now < due {
            return;
        }
        self.paused_at = Some(now);
        for mut source in std::mem::take(&mut self.paused) {
            if source.grow() && source.is_ready(false) {
                self.sources.push_back(source);
            } else {
                self.paused.push(source);
            }
        }
    }

    /// Workers that have something to do.
    pub(super) fn busy(&self) -> usize {
        self.workers
            .iter()
            .filter(|worker| worker.load() > 0)
            .count()
    }

    /// Whether a side that waits may do so awake without taking a core that another needs.
    pub(super) fn has_free_core(&self) -> bool {
        self.busy() < self.cores
    }

    pub(super) fn has_news(&self) -> bool {
        self.workers
            .iter()
            .any(|worker| worker.load() + usize::from(!worker.ready) > 0 && worker.has_news())
    }

    /// Hands `task` to a worker, or gives it back if none has room. Not yet published.
    pub(super) fn place(&mut self, task: Task) -> Result<(), Task> {
        match dispatch::choose(&self.workers) {
            Some(at) => self.hand(at, task),
            None => Err(task),
        }
    }

    /// As [`place`](Self::place), for a task that comes alone.
    pub(super) fn place_single(&mut self, task: Task) -> Result<(), Task> {
        let hot = dispatch::still_hot(&self.workers, self.last_chosen);
        let Some(at) = hot.or_else(|| dispatch::choose(&self.workers)) else {
            return Err(task);
        };
        self.last_chosen = self.workers[at].number;
        self.hand(at, task)
    }

    fn hand(&mut self, at: usize, task: Task) -> Result<(), Task> {
        let serial = self.next_serial;
        let worker = &mut self.workers[at];
        let bytes = task.payload.len();
        match &self.stats.trace {
            None => worker.hand(task, serial)?,
            Some(trace) => trace.hand(worker, task, serial)?,
        }
        worker.gauge.handed(bytes);
        // What it was made of is the caller's again as soon as the lock is given back.
        self.spent.append(&mut worker.spent);
        self.next_serial += 1;
        if let Some(span) = self.armed {
            worker.arm_too(span);
        }
        Ok(())
    }

    /// Hands `task` to a worker that holds tasks of lower priority and has not begun them: they wait again.
    fn place_before(&mut self, task: Task) -> Result<(), Task> {
        let its_rank = rank(&task);
        let yields = |worker: &Worker| worker.has_spare() && worker.last_rank() < Some(its_rank);
        let ahead = |worker: &Worker| worker.pace_ns().saturating_mul(worker.load() as u64);
        let best = (0..self.workers.len())
            .filter(|&at| self.workers[at].takes_tasks() && yields(&self.workers[at]))
            .min_by_key(|&at| ahead(&self.workers[at]));
        let Some(at) = best else {
            return Err(task);
        };
        let mut moved = false;
        while yields(&self.workers[at])
            && let Some(lower) = self.workers[at].take_back()
        {
            self.waiting.push_front(lower);
            moved = true;
        }
        if moved {
            self.hand(at, task)
        } else {
            Err(task)
        }
    }

    /// Whether input of a higher priority than what is next is to be drawn by who may do so, though workers are busy.
    pub(super) fn has_urgent_source(&self, may_draw: impl Fn(Drawer) -> bool) -> bool {
        if !self.ranked {
            return false;
        }
        let lowest_handed = || {
            let spare = self.workers.iter().filter(|worker| worker.has_spare());
            spare.filter_map(Worker::last_rank).min()
        };
        let Some(first) = self.waiting.first_rank().or_else(lowest_handed) else {
            return false;
        };
        self.sources
            .iter()
            .any(|source| source.priority() > first && may_draw(source.drawer()))
    }

    /// How much is to be drawn by who may do so, when workers have room for `free` tasks.
    pub(super) fn room_for_input(&self, free: usize, may_draw: impl Fn(Drawer) -> bool) -> Room {
        let is_urgent = free == 0 && self.has_urgent_source(may_draw);
        Room {
            tasks: if is_urgent {
                dispatch::supply(&self.workers)
            } else {
                free
            },
            is_urgent,
        }
    }

    /// Has `task` wait for a worker, with buffers of its own as far as it needs them.
    pub(super) fn put_off(&mut self, mut task: Task, need: Need) {
        if let Some(trace) = &self.stats.trace {
            trace.put_off(&task);
        }
        let detached = task.payload.detach(need);
        if !detached.is_empty() {
            self.spent.push(detached.into());
        }
        self.waiting.push_back(task);
    }

    /// Tells workers to leave that are more than there should be: those with the least to do.
    pub(super) fn let_go_of_surplus(&mut self) {
        loop {
            let stays = |worker: &&Worker| !worker.stopped && !worker.is_leaving();
            let staying = self.workers.iter().filter(stays).count();
            if staying + self.launching <= self.size {
                return;
            }
            let idlest = (0..self.workers.len())
                .filter(|&at| stays(&&self.workers[at]))
                .min_by_key(|&at| (self.workers[at].load(), self.workers[at].is_attentive()));
            let Some(at) = idlest else {
                return;
            };
            self.send_away(at);
        }
    }

    /// Has a worker leave once it has done what it runs: what it has not begun goes to others.
    pub(super) fn send_away(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        while let Some(task) = worker.take_back() {
            self.waiting.push_front(task);
        }
        worker.let_go();
    }

    /// Hands out what waits, as far as there is room, and evens out the rest.
    /// Returns how many more tasks the workers could take.
    pub(super) fn fill(&mut self) -> usize {
        while let Some(task) = self.waiting.pop_front() {
            let left = match self.place(task) {
                Err(task) if self.ranked => self.place_before(task),
                left => left,
            };
            if let Err(task) = left {
                self.waiting.push_front(task);
                return 0;
            }
        }
        if !self.has_prompt_source() {
            self.even_out();
        }
        dispatch::room(&self.workers)
    }

    /// Whether a task that comes now has to wait for others that came before.
    pub(super) fn is_behind(&self, task: &Task) -> bool {
        let has_prompt_source = self.has_prompt_source();
        if self.waiting.is_empty() && !has_prompt_source {
            return false;
        }
        let its_rank = rank(task);
        self.waiting.first_rank() >= Some(its_rank)
            || self
                .sources
                .iter()
                .any(|source| source.drawer() == Drawer::Anyone && source.priority() >= its_rank)
    }

    /// Whether there is input that can be drawn at once, so that no worker runs dry.
    pub(super) fn has_prompt_source(&self) -> bool {
        self.sources
            .iter()
            .any(|source| source.drawer() == Drawer::Anyone)
    }

    /// Takes out the first source that a thread may draw from, of the highest priority, to be given back after
    /// drawing.
    pub(super) fn take_source(
        &mut self,
        may_draw: impl Fn(Drawer) -> bool,
    ) -> Option<Box<dyn Source>> {
        let at = (0..self.sources.len())
            .filter(|&at| may_draw(self.sources[at].drawer()))
            .min_by_key(|&at| (std::cmp::Reverse(self.sources[at].priority()), at))?;
        self.drawing += 1;
        self.sources.remove(at)
    }

    /// Whether a source waits for a feeder while each of them is in the midst of another input, which may wait for
    /// what comes of this one.
    pub(super) fn wants_feeder(&self) -> bool {
        let (all, drawing) = self.feeding;
        all > 0
            && drawing == all
            && self
                .sources
                .iter()
                .any(|source| source.drawer() == Drawer::Feeder)
    }

    /// Takes out the sources that nobody wants any more.
    pub(super) fn end_sources(&mut self) {
        let (over, wanted): (VecDeque<_>, _) = std::mem::take(&mut self.sources)
            .into_iter()
            .partition(|source| source.is_over());
        self.sources = wanted;
        self.ended.extend(over);
        let (over, wanted): (Vec<_>, _) = std::mem::take(&mut self.paused)
            .into_iter()
            .partition(|source| source.is_over());
        self.paused = wanted;
        self.ended.extend(over);
    }

    /// Moves tasks that nobody has begun from loaded workers to idle ones.
    fn even_out(&mut self) {
        self.workers.iter_mut().for_each(Worker::look_for);
        while let Some(idle) = dispatch::idle(&self.workers) {
            let Some(loaded) = dispatch::loaded(&self.workers) else {
                return;
            };
            let Some(task) = self.workers[loaded].take_back() else {
                return;
            };
            if let Err(task) = self.hand(idle, task) {
                self.waiting.push_front(task);
                return;
            }
        }
    }

    /// Makes everything visible that was handed out, and wakes those that sleep.
    pub(super) fn publish(&mut self) {
        let may_spin = self.has_free_core();
        for worker in &mut self.workers {
            worker.publish(may_spin);
        }
    }

    /// Empties the floor of tasks, for a pool that is over.
    pub(super) fn abandon(&mut self, why: &Arc<Abandoned>) -> Vec<Settled> {
        let mut settled: Vec<Settled> = Vec::new();
        let lost = |job, index| (job, index, Outcome::Abandoned(Arc::clone(why)));
        for worker in &mut self.workers {
            for (job, index, spent) in worker.abandon(&mut self.spent) {
                settled.push(lost(job, index));
                self.spent.push(spent);
            }
        }
        for task in self.waiting.drain() {
            settled.push(lost(Arc::clone(&task.job), task.index));
            self.spent.push(task.into());
        }
        settled
    }
}

/// What came of telling jobs their outcomes.
#[derive(Default)]
pub(super) struct Told {
    /// Jobs that want to be finished.
    pub(super) finished: Vec<Arc<dyn Job>>,
    /// The others that were told, and that only the engine may have.
    pub(super) orphans: Vec<Arc<dyn Job>>,
    /// Somebody may have been waiting for this.
    pub(super) look: bool,
}

/// Tells the jobs their outcomes.
pub(super) fn settle(settled: Vec<Settled>) -> Told {
    let mut told = Told::default();
    for (job, index, outcome) in settled {
        match job.settle(index, outcome) {
            News::Finish => {
                told.look = true;
                told.finished.push(job);
                continue;
            }
            News::Look => told.look = true,
            News::None => {}
        }
        if Arc::strong_count(&job) == 1 {
            told.orphans.push(job);
        }
    }
    told
}
