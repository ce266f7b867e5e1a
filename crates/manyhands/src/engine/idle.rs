//! Workers that have had nothing to do for long leave; when there is more to do than those who stay can begin, others
//! come.
//!
//! Always: a worker that holds a task is not sent away for idleness, and a task that waits brings a worker back, if
//! there may be more. Not here: starting them (`supervise`).

use std::time::{Duration, Instant};

use super::crew::Crew;
use super::floor::{Floor, Phase};

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

    /// Has workers come for what nobody can begin, up to `most` of them all.
    pub(super) fn call_for_more(&mut self, most: usize) {
        if self.size >= most {
            return;
        }
        let ahead: usize = self
            .workers
            .iter()
            .map(|worker| worker.load().saturating_sub(1))
            .sum();
        let mut wanted = self.waiting.len() + ahead;
        if wanted == 0 && self.size == 0 && !self.sources.is_empty() {
            wanted = 1; // who draws from it sees how much there is
        }
        let idle = self
            .workers
            .iter()
            .filter(|worker| worker.load() == 0 && worker.takes_tasks())
            .count();
        let missing = self.size.saturating_sub(self.workers.len());
        let more = wanted.saturating_sub(idle + missing);
        self.size = most.min(self.size + more);
    }
}
