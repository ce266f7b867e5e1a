//! Workers that have had nothing to do for long leave; when there is more to do than those who stay can begin, others
//! come.
//!
//! Always: a worker that holds a task is not sent away for idleness, and a task that waits brings a worker back, if
//! there may be more. Not here: starting them (`supervise`).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::crew::Crew;
use super::dispatch;
use super::floor::{Floor, Phase};
use super::worker::Worker;

/// A worker stays this much too long at most: a quarter of what it may be idle.
const LOOKS: u32 = 4;
/// And nobody looks more often than this.
const LEAST: Duration = Duration::from_millis(5);

/// When a tending thread is to look for idle workers.
pub(super) struct Looks {
    every: Duration,
    next: Instant,
}

impl Looks {
    pub(super) fn new(idle_timeout: Duration) -> Self {
        let every = (idle_timeout / LOOKS).max(LEAST);
        Self {
            every,
            next: Instant::now() + every,
        }
    }
}

impl Crew {
    /// Sends workers away that are idle for too long, if it is time to look. Says when to look again; `None`: there is
    /// no worker to look at.
    pub(super) fn see_off_idle(&self, looks: &mut Looks) -> Option<Instant> {
        let limit = self.config.idle_timeout?;
        let now = Instant::now();
        let mut floor = self.floor();
        if now >= looks.next {
            looks.next = now + looks.every;
            if matches!(floor.phase, Phase::Open) && floor.let_idle_go(now, limit) {
                self.dismiss(&mut floor);
                floor.publish();
                let litter = floor.litter();
                drop(floor);
                drop(litter);
                floor = self.floor();
            }
        }
        (floor.workers.len() + floor.launching > 0).then_some(looks.next)
    }

    /// Sees to it that workers come back who were just called for: whoever sleeps for all has heard nothing of it.
    pub(super) fn fetch(&self) {
        self.call_sleeper();
        if self.calling_back.load(Ordering::Acquire) {
            // The tending thread is in code of the user's, for as long as that takes.
            self.floor().gather();
            while let Ok(true) = self.launch_one() {}
            let mut floor = self.floor();
            floor.fill();
            floor.publish();
            let litter = floor.litter();
            drop(floor);
            drop(litter);
        }
    }
}

impl Floor {
    /// Whether any worker was let go because it was idle for so long.
    fn let_idle_go(&mut self, now: Instant, limit: Duration) -> bool {
        let mut any = false;
        for worker in &mut self.workers {
            if worker.rested(now) >= limit && worker.takes_tasks() {
                worker.let_go();
                self.size = self.size.saturating_sub(1);
                any = true;
            }
        }
        any
    }

    /// Whether workers are away that would come back.
    pub(super) fn has_absentees(&self) -> bool {
        self.returns && self.size < self.most
    }

    /// Has what lies with busy workers wait for those who come.
    fn gather(&mut self) {
        for worker in &mut self.workers {
            while worker.load() > 1
                && let Some(task) = worker.take_back()
            {
                self.waiting.push_front(task);
            }
        }
    }

    /// Has workers come for what nobody can begin. Whether that is for the caller to tell others.
    pub(super) fn call_for_more(&mut self) -> bool {
        if !self.has_absentees() {
            return false;
        }
        let ahead: usize = self.workers.iter().map(Worker::left_lying).sum();
        let mut wanted = self.waiting.len() + ahead;
        if wanted == 0 && !self.sources.is_empty() && dispatch::room(&self.workers) == 0 {
            wanted = 1; // who draws from it sees how much there is
        }
        let idle = self
            .workers
            .iter()
            .filter(|worker| worker.load() == 0 && worker.takes_tasks())
            .count();
        let missing = self.size.saturating_sub(self.staying());
        let more = wanted.saturating_sub(idle + missing);
        self.size = self.most.min(self.size + more);
        self.is_short()
    }
}
