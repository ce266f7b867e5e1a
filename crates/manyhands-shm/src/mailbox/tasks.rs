//! The task ring: the parent hands out, the worker claims.
//!
//! Each task's header has a claim word, and its states are the task's life in the mailbox:
//!
//! ```text
//! QUEUED --take, by the worker--> TAKEN      it runs, or ran, or died with the worker
//!        --revoke, by the parent-> REVOKED   the worker will skip it
//! ```
//!
//! Always: both arrows are compare-and-swap from `QUEUED`, so exactly one side gets a task. No
//! other step leaves `QUEUED`, so after the worker's death a task is either `TAKEN` or still the
//! parent's, wherever the worker was killed.
//! Not here: what becomes of a dead worker's tasks (`supervise`).

use crate::atomics::Ordering::{AcqRel, Acquire, Relaxed};
use crate::doorbell::Asleep;
use crate::error::{Full, Malformed};
use crate::layout::{AT_ASLEEP, AT_HINT, Head};
use crate::ring::{Consumer, Producer};
use manyhands_os::crash_point;

const QUEUED: u32 = 1;
const TAKEN: u32 = 2;
const REVOKED: u32 = 3;

/// Where a pushed task lies; kept in the parent's memory, where no worker can spoil it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    position: u64,
    len: u32,
}

/// The parent's half of the task ring.
pub struct TaskWriter {
    ring: Producer,
}

impl TaskWriter {
    pub(super) fn new(ring: Producer) -> TaskWriter {
        TaskWriter { ring }
    }

    /// Writes a task made of `parts`; the worker sees it after [`publish`](Self::publish).
    ///
    /// # Errors
    /// [`Full`] if the worker has to read first, or the payload exceeds
    /// [`max_payload`](Self::max_payload). Nothing was written then.
    #[inline]
    pub fn push(&mut self, head: Head, parts: &[&[u8]]) -> Result<Ticket, Full> {
        let position = self.ring.push(QUEUED, head, parts)?;
        let len = parts.iter().map(|part| part.len()).sum::<usize>() as u32;
        Ok(Ticket { position, len })
    }

    /// Makes all pushed tasks visible by one store. True: the worker sleeps, and the caller must
    /// ring its eventfd now; this is said once for each sleep.
    #[inline]
    #[must_use = "a worker that is not rung sleeps on"]
    pub fn publish(&mut self) -> bool {
        crash_point!("mailbox.task.before-publish");
        let published = self.ring.publish();
        crash_point!("mailbox.task.published");
        published && Asleep(self.ring.region().u32_at(AT_ASLEEP)).must_wake()
    }

    /// The biggest payload that [`push`](Self::push) would take now; 0 if none at all.
    pub fn room(&self) -> usize {
        self.ring.room()
    }

    /// The biggest payload that the ring ever takes, a little less than half its size.
    pub fn max_payload(&self) -> usize {
        self.ring.max_payload()
    }

    /// Whether the worker is done with all that was published: nothing waits and no taken task's
    /// bytes are in use.
    ///
    /// # Errors
    /// [`Malformed`] if the worker's position cannot be.
    pub fn is_drained(&self) -> Result<bool, Malformed> {
        self.ring.is_drained()
    }

    /// Takes a queued task back. True: the worker will skip it; false: the worker has it, or the
    /// task was taken back before.
    #[inline]
    pub fn revoke(&self, ticket: Ticket) -> bool {
        self.ring.claim_at(ticket.position).is_some_and(|claim| {
            // Who wins is all that matters: the frame is ours, and nothing is read by its means.
            claim
                .compare_exchange(QUEUED, REVOKED, Relaxed, Relaxed)
                .is_ok()
        })
    }

    /// Whether the worker took this task. A claim word that the worker filled with nonsense
    /// counts as taken, so that no task runs twice; and so does a task that later ones were
    /// written over (the worker took it, unless it was revoked).
    #[inline]
    pub fn was_taken(&self, ticket: Ticket) -> bool {
        self.ring
            .claim_at(ticket.position)
            .is_none_or(|claim| !matches!(claim.load(Acquire), QUEUED | REVOKED))
    }

    /// The task as it was pushed, whatever became of it, while it is still in the ring: later
    /// tasks have not been written over it. Ask [`was_taken`](Self::was_taken) whether it may be
    /// given to another worker.
    pub fn read_back(&self, ticket: Ticket) -> Option<(Head, Vec<u8>)> {
        self.ring.read_back(ticket.position, ticket.len)
    }

    /// Whether the worker sleeps and must be rung, asked for another reason than a publish: room
    /// was made in its result ring, or it should look again. Clears the flag.
    #[must_use = "a worker that is not rung sleeps on"]
    pub fn wake_needed(&self) -> bool {
        Asleep(self.ring.region().u32_at(AT_ASLEEP)).must_wake()
    }

    /// Whether the worker sleeps, or is about to; only a hint, on which worker to choose.
    pub fn is_asleep(&self) -> bool {
        Asleep(self.ring.region().u32_at(AT_ASLEEP)).is_set()
    }

    /// Leaves a word for the worker to read now and then (how long to spin, say). It orders
    /// nothing and wakes nobody.
    pub fn hint(&self, word: u32) {
        self.ring.region().u32_at(AT_HINT).store(word, Relaxed);
    }
}

/// A task in the worker's hands. Its bytes lie in the ring until the next
/// [`take`](TaskReader::take) or [`done`](TaskReader::done).
#[derive(Debug)]
pub struct TaskFrame<'a> {
    /// What the frame says about itself.
    pub head: Head,
    /// The task.
    pub payload: &'a [u8],
}

/// The worker's half of the task ring.
pub struct TaskReader {
    ring: Consumer,
}

impl TaskReader {
    pub(super) fn new(ring: Consumer) -> TaskReader {
        TaskReader { ring }
    }

    /// Claims the next task that was not revoked, and gives the last one's bytes back.
    ///
    /// # Errors
    /// [`Malformed`] if the parent's memory holds what it cannot have written; asking again gives
    /// the same answer.
    #[inline]
    pub fn take(&mut self) -> Result<Option<TaskFrame<'_>>, Malformed> {
        self.ring.give_back();
        let found = loop {
            let Some(found) = self.ring.peek()? else {
                self.ring.give_back(); // those skipped
                return Ok(None);
            };
            crash_point!("mailbox.task.before-claim");
            // AcqRel: nothing of running the task may seem to precede its claim.
            let claim = self
                .ring
                .claim(&found)
                .compare_exchange(QUEUED, TAKEN, AcqRel, Acquire);
            if let Err(other) = claim
                && other != REVOKED
            {
                return Err(Malformed::Claim {
                    position: found.position,
                    found: other,
                });
            }
            crash_point!("mailbox.task.claimed");
            self.ring.pass(&found);
            if claim.is_ok() {
                break found;
            }
        };
        Ok(Some(TaskFrame {
            head: found.head,
            payload: self.ring.payload(&found),
        }))
    }

    /// Gives the last task's bytes back before the next one is taken.
    #[inline]
    pub fn done(&mut self) {
        self.ring.give_back();
    }

    /// Whether something was published beyond the last task; it may turn out to be revoked.
    #[inline]
    pub fn has_next(&self) -> bool {
        self.ring.has_next()
    }

    /// Says that the worker is about to sleep. The caller then looks once more at what it waits
    /// for ([`has_next`](Self::has_next), or room for results), and sleeps only if it is not
    /// there; else it calls [`cancel_sleep`](Self::cancel_sleep).
    pub fn prepare_sleep(&self) {
        Asleep(self.ring.region().u32_at(AT_ASLEEP)).prepare();
    }

    /// Says that the worker is awake. To be called after each sleep too, since not every one ends
    /// by a ring.
    pub fn cancel_sleep(&self) {
        Asleep(self.ring.region().u32_at(AT_ASLEEP)).cancel();
    }

    /// The word that the parent left by [`TaskWriter::hint`]; any number at all.
    pub fn hint(&self) -> u32 {
        self.ring.region().u32_at(AT_HINT).load(Relaxed)
    }
}
