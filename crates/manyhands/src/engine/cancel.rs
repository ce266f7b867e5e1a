//! Calling tasks off: what no worker has begun is taken back, what one runs ends with it.
//!
//! Always: a task is settled as cancelled, or taken back, and never both begun and forgotten: what a worker has begun it
//! answers, unless it is killed for it alone. Not here: what a worker gives back (`worker/recall`).

use std::sync::Arc;

use super::crew::Crew;
use super::task::{Abandoned, Job, Outcome};
use super::worker::Spent;

impl Crew {
    /// Takes back every task of `job` that no worker has begun. Returns their indexes:
    /// they are not settled. Sources that are over are let go.
    pub fn take_back(&self, job: &Arc<dyn Job>) -> Vec<u64> {
        if !self.is_ours() {
            return Vec::new();
        }
        let mut floor = self.floor();
        let mut taken: Vec<(u64, Spent)> = floor
            .waiting
            .take_all(|task| Arc::ptr_eq(&task.job, job))
            .into_iter()
            .map(|task| (task.index, task.into()))
            .collect();
        for worker in &mut floor.workers {
            taken.extend(
                worker
                    .take_back_those(|other| Arc::ptr_eq(other, job))
                    .into_iter()
                    .map(|(_, index, spent)| (index, spent)),
            );
        }
        floor.end_sources();
        let litter = floor.litter();
        drop(floor);
        drop(litter);
        taken.iter().map(|(index, _)| *index).collect()
    }

    /// Cancels what no worker has begun, of one job or of all but what is next: such tasks are settled with
    /// [`Abandoned::Cancelled`], and of a pool all of whose tasks are cancelled no more input is drawn.
    /// Returns whether there was any.
    pub fn cancel(&self, job: Option<&Arc<dyn Job>>) -> bool {
        if !self.is_ours() {
            return false;
        }
        let is_meant = |other: &Arc<dyn Job>| job.is_none_or(|job| Arc::ptr_eq(job, other));
        let why = Arc::new(Abandoned::Cancelled);
        let mut settled = Vec::new();
        let mut floor = self.floor();
        // Mostly there is one, of a job with one task.
        while let Some(task) = floor.waiting.take_first(|task| is_meant(&task.job)) {
            settled.push((
                Arc::clone(&task.job),
                task.index,
                Outcome::Abandoned(Arc::clone(&why)),
            ));
            floor.spent.push(task.into());
        }
        let mut revoked = Vec::new();
        for worker in &mut floor.workers {
            // A worker that just starts has as good as begun its first task.
            let mut spared = job.is_none();
            revoked.extend(
                worker.take_back_those(|other| !std::mem::take(&mut spared) && is_meant(other)),
            );
        }
        for (job, index, spent) in revoked {
            settled.push((job, index, Outcome::Abandoned(Arc::clone(&why))));
            floor.spent.push(spent);
        }
        floor.end_sources();
        if job.is_none() {
            floor.cancelled = true;
            let sources = std::mem::take(&mut floor.sources);
            floor.ended.extend(sources);
            let paused = std::mem::take(&mut floor.paused);
            floor.ended.extend(paused);
        }
        let litter = floor.litter();
        drop(floor);
        drop(litter);
        let any = !settled.is_empty();
        self.tell(settled);
        any
    }

    /// Whether a worker has begun a task of `job` that it has not answered.
    pub fn has_begun(&self, job: &Arc<dyn Job>) -> bool {
        self.is_ours()
            && self
                .floor()
                .workers
                .iter()
                .any(|worker| worker.has_begun(job))
    }

    /// Ends the workers that run a task of `job`, which is settled with [`Abandoned::Cancelled`] once they are gone.
    /// Returns whether there was any.
    pub fn cancel_running(&self, job: &Arc<dyn Job>) -> bool {
        if !self.is_ours() {
            return false;
        }
        let cancelled = || Outcome::Abandoned(Arc::new(Abandoned::Cancelled));
        let mut settled = Vec::new();
        let mut any = false;
        let mut floor = self.floor();
        for at in 0..floor.workers.len() {
            if !floor.workers[at].has_begun(job) {
                continue;
            }
            // What else it was handed is for another: it must not have begun any of that when it ends.
            while let Some(task) = floor.workers[at].take_back() {
                if Arc::ptr_eq(&task.job, job) {
                    settled.push((Arc::clone(&task.job), task.index, cancelled()));
                    floor.spent.push(task.into());
                    any = true;
                } else {
                    floor.waiting.push_front(task);
                }
            }
        }
        // It answers before it begins the next: what it has begun and not answered after this is what it runs.
        self.hear(&mut floor, &mut settled);
        for worker in &mut floor.workers {
            any |= worker.condemn(job);
        }
        let litter = floor.litter();
        drop(floor);
        drop(litter);
        self.tell(settled);
        self.look_again();
        any
    }
}
