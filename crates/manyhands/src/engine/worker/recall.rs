//! Taking tasks back from a worker: because another one is idle, their job is cancelled, the pool is over, or the worker
//! is dead.
//!
//! Always: only what the worker has not begun comes back, as a task that can be handed out again.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::task::{Job, Payload, SharedBuffer, Task};
use super::Worker;
use super::handed::{Handed, Remains, Spent, unstreamed};

impl Worker {
    /// Lets go of every task, begun or not, for a pool that is over. Those not begun never will be: a
    /// worker that outlives its SIGTERM finds nothing more to do.
    pub(in crate::engine) fn abandon(
        &mut self,
        litter: &mut Vec<Spent>,
    ) -> Vec<(Arc<dyn Job>, u64, Spent)> {
        self.bytes_held = 0;
        litter.append(&mut self.spent);
        let streaming = match self.outgoing.take().map(unstreamed) {
            Some(Ok(task)) => Some((Arc::clone(&task.job), task.index, task.into())),
            Some(Err(function)) => {
                litter.push(function.into());
                None
            }
            None => None,
        };
        // The youngest first: a streamed task whose parts were read is then never followed by another.
        for handed in self.handed.iter().rev() {
            let _ = self.tasks.revoke(handed.ticket);
        }
        self.gauge.show(0);
        self.handed
            .drain(..)
            .map(Handed::part)
            .chain(streaming)
            .collect()
    }

    /// Takes the youngest task back that the worker has not begun, if there is one.
    pub(in crate::engine) fn take_back(&mut self) -> Option<Task> {
        self.note_absence();
        let last = self.handed.back()?;
        if last.streamed || !self.tasks.revoke(last.ticket) {
            return None;
        }
        let handed = self.handed.pop_back()?;
        let bytes = handed.bytes;
        match self.restore(handed) {
            Ok(task) => {
                self.bytes_held -= bytes;
                self.gauge.show(self.load());
                Some(task)
            }
            Err(handed) => {
                // It gave blocks back that it never opened, so it does not keep to the protocol. The task can be
                // given to nobody else, and is settled by the death.
                self.handed.push_back(*handed);
                let _ = self.child.signal(9);
                None
            }
        }
    }

    /// Whether it has begun a task of `job`.
    pub(in crate::engine) fn has_begun(&self, job: &Arc<dyn Job>) -> bool {
        self.handed
            .iter()
            .any(|handed| Arc::ptr_eq(&handed.job, job) && self.tasks.was_taken(handed.ticket))
    }

    /// Takes back every task that was not begun, of jobs that `is_meant` says yes to.
    pub(in crate::engine) fn take_back_those(
        &mut self,
        mut is_meant: impl FnMut(&Arc<dyn Job>) -> bool,
    ) -> Vec<(Arc<dyn Job>, u64, Spent)> {
        let mut taken = Vec::new();
        let mut kept = VecDeque::with_capacity(self.handed.len());
        for handed in std::mem::take(&mut self.handed) {
            if is_meant(&handed.job) && !handed.streamed && self.tasks.revoke(handed.ticket) {
                self.bytes_held -= handed.bytes;
                let mut handed = handed;
                self.reclaim(std::mem::take(&mut handed.loans));
                taken.push(handed.part());
                if let Some(left) = &mut self.tasks_left {
                    *left += 1;
                }
            } else {
                kept.push_back(handed);
            }
        }
        self.handed = kept;
        self.gauge.show(self.load());
        taken
    }

    /// Kills it for the sake of the task of `job` that it runs. `false`: it runs none, or was killed before.
    pub(in crate::engine) fn condemn(&mut self, job: &Arc<dyn Job>) -> bool {
        let running = self
            .handed
            .iter()
            .find(|handed| self.tasks.was_taken(handed.ticket))
            .filter(|handed| Arc::ptr_eq(&handed.job, job))
            .map(|handed| handed.serial);
        if running.is_none() || self.condemned.is_some() {
            return false;
        }
        self.condemned = running;
        // One that is gone already leaves its task behind: it is cancelled all the same.
        let _ = self.child.signal(9);
        true
    }

    /// Whether it was killed for a task's sake.
    pub(in crate::engine) fn is_condemned(&self) -> bool {
        self.condemned.is_some()
    }

    /// What is left of the payload in the ring and in the blocks. `None`: some of it is not there any more, which
    /// only a worker that writes where it should not brings about; it is not there at the next look either.
    fn recalled(&mut self, handed: &Handed) -> Option<Payload> {
        let (_, mut frame) = self.tasks.read_back(handed.ticket)?;
        let mut recalled = Vec::with_capacity(handed.loans.len());
        if let Some(lender) = &mut self.lender {
            for descriptor in &handed.loans {
                recalled.push(lender.recall(*descriptor)?);
            }
        }
        let buffers = recalled.split_off(recalled.len().checked_sub(handed.buffers)?);
        Some(Payload {
            bytes: match recalled.first() {
                Some(bytes) => bytes.to_vec(),
                None => frame.split_off(handed.table_len.min(frame.len())),
            },
            buffers: buffers
                .into_iter()
                .map(|loan| Arc::new(loan) as SharedBuffer)
                .collect(),
            needs: handed.needs.clone(),
        })
    }

    /// Makes a task of it that can be handed out again; gives it back where that cannot be done.
    fn restore(&mut self, mut handed: Handed) -> Result<Task, Box<Handed>> {
        let payload = match handed.retained.take() {
            Some(payload) => {
                self.reclaim(std::mem::take(&mut handed.loans));
                payload
            }
            None => match self.recalled(&handed) {
                Some(payload) => payload,
                None => return Err(Box::new(handed)),
            },
        };
        if let Some(left) = &mut self.tasks_left {
            *left += 1;
        }
        Ok(Task {
            job: handed.job,
            index: handed.index,
            function: handed.function,
            mode: handed.mode,
            payload,
            losses: handed.losses,
        })
    }

    /// Settles the affairs of a worker that is known to be dead, after a last `listen`:
    /// the task that it was running, and those that it had not begun. `may_retry`: one that was lost may be run again.
    pub(in crate::engine) fn bury(mut self, may_retry: bool) -> Remains {
        let mut remains = Remains {
            running: Vec::new(),
            again: Vec::new(),
            cancelled: Vec::new(),
            queued: Vec::new(),
            spent: Vec::new(),
        };
        for handed in std::mem::take(&mut self.handed) {
            if self.tasks.was_taken(handed.ticket) {
                let is_condemned = self.condemned == Some(handed.serial);
                let retries = handed.job.terms().unwrap_or(self.terms).retries;
                if may_retry
                    && !is_condemned
                    && retries > handed.losses
                    && handed.retained.is_some()
                {
                    let losses = handed.losses + 1;
                    remains
                        .again
                        .extend(self.restore(handed).map(|task| Task { losses, ..task }));
                    continue;
                }
                let (job, index, spent) = handed.part();
                let lost = if is_condemned {
                    &mut remains.cancelled
                } else {
                    &mut remains.running
                };
                lost.push((job, index));
                remains.spent.push(spent);
            } else {
                match self.restore(handed) {
                    Ok(task) => remains.queued.push(task),
                    Err(handed) => {
                        let (job, index, spent) = handed.part();
                        remains.running.push((job, index));
                        remains.spent.push(spent);
                    }
                }
            }
        }
        match self.outgoing.take().map(unstreamed) {
            Some(Ok(task)) => remains.queued.push(task),
            Some(Err(function)) => remains.spent.push(function.into()),
            None => {}
        }
        remains.spent.append(&mut self.spent);
        remains
    }
}
