//! Jobs that nobody but the engine has any more, kept until a thread comes by that may drop them.
//!
//! A face whose jobs hold objects of an interpreter drops them only with the interpreter's lock, and a thread
//! that collects answers must not wait for that lock after each of them. So such jobs gather here, and whoever has
//! the lock anyway takes them along: [`Crew::bury`].
//! Always: only the process that owns the pool comes near this lock, so no fork leaves it locked for anybody.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::crew::Crew;
use super::task::Job;

/// With so many, the tending thread has them buried in the midst of its work.
const MANY: usize = 1000;

#[derive(Default)]
pub(super) struct Orphans {
    jobs: Mutex<Vec<Arc<dyn Job>>>,
    /// How many there are: a look that costs nothing.
    count: AtomicUsize,
}

impl Crew {
    /// Lets go of jobs that were told their outcomes.
    pub(super) fn let_go(&self, jobs: Vec<Arc<dyn Job>>) {
        if jobs.is_empty() || self.launcher.drops_anywhere() {
            return;
        }
        // Whose owner lets go of it at just this moment is dropped here all the same: slower, not wrong.
        let alone = jobs.into_iter().filter(|job| Arc::strong_count(job) == 1);
        let mut orphans = self
            .orphans
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        orphans.extend(alone);
        self.orphans.count.store(orphans.len(), Ordering::Relaxed);
    }

    /// Drops jobs that nobody has any more; called now and then by a face for which not every
    /// thread may do so ([`Launch::drops_anywhere`](super::Launch::drops_anywhere)), on one that may.
    pub fn bury(&self) {
        if !self.is_ours() || self.orphans.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut orphans = self
            .orphans
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let buried = std::mem::take(&mut *orphans);
        self.orphans.count.store(0, Ordering::Relaxed);
        drop(orphans);
        // Without the lock: it may run code of the user, which may use the pool.
        drop(buried);
    }

    pub(super) fn has_orphans(&self) -> bool {
        self.orphans.count.load(Ordering::Relaxed) > 0
    }

    pub(super) fn has_many_orphans(&self) -> bool {
        self.orphans.count.load(Ordering::Relaxed) > MANY
    }
}
