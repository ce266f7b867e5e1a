//! The result ring: the worker reports, the parent collects.
//! Always: a result is visible whole or not at all; the parent believes nothing it did not check.
//! Not here: which task a result belongs to (`manyhands` puts that into the [`Head`]).

use crate::atomics::Ordering::Relaxed;
use crate::doorbell::{NEVER, WakeAt};
use crate::error::{Full, Malformed};
use crate::layout::{AT_BEGAN, AT_DUE, AT_SERIAL, AT_TAG, AT_WAKE_AT, Head};
use crate::region::Region;
use crate::ring::{Consumer, Producer};
use manyhands_os::crash_point;
use std::sync::Arc;

/// The worker's half of the result ring.
pub struct ResultWriter {
    ring: Producer,
    /// Frames pushed since the beginning.
    pushed: u64,
}

impl ResultWriter {
    pub(super) fn new(ring: Producer) -> ResultWriter {
        ResultWriter { ring, pushed: 0 }
    }

    /// Writes a result made of `parts`; the parent sees it after [`publish`](Self::publish).
    ///
    /// # Errors
    /// [`Full`] if the parent has to read first, or the payload exceeds
    /// [`max_payload`](Self::max_payload). Nothing was written then.
    #[inline]
    pub fn push(&mut self, head: Head, parts: &[&[u8]]) -> Result<(), Full> {
        self.ring.push(0, head, parts)?;
        self.pushed += 1;
        Ok(())
    }

    /// The biggest payload that [`push`](Self::push) would take now; 0 if none at all.
    pub fn room(&self) -> usize {
        self.ring.room()
    }

    /// The biggest payload that the ring ever takes, a little less than half its size.
    pub fn max_payload(&self) -> usize {
        self.ring.max_payload()
    }

    /// Makes all pushed results visible by one store. True: the parent waits for no more than
    /// this, and the caller must ring its eventfd now; this is said once for each
    /// [`ResultReader::arm`].
    #[inline]
    #[must_use = "a parent that is not rung sleeps on"]
    pub fn publish(&mut self) -> bool {
        crash_point!("mailbox.answer.before-publish");
        let published = self.ring.publish();
        crash_point!("mailbox.answer.published");
        published && self.wake_at().must_wake(self.pushed)
    }

    /// For a worker that is about to sleep, or to wait for room: whether the parent waits for
    /// more results than there will be, with some not yet collected. True: the caller must ring
    /// the parent's eventfd first; this is said once for each [`ResultReader::arm`].
    #[must_use = "a parent that is not rung sleeps on"]
    pub fn unseen(&self) -> bool {
        self.ring.has_unread() && self.wake_at().claim(NEVER)
    }

    /// Says which task the worker is at since `began`, for whoever looks in from outside ([`glance`](super::glance)).
    #[inline]
    pub fn begins(&self, serial: u64, tag: u32, began: u64) {
        let region = self.ring.region();
        region.u64_at(AT_SERIAL).store(serial, Relaxed);
        region.u32_at(AT_TAG).store(tag, Relaxed);
        region.u64_at(AT_BEGAN).store(began, Relaxed);
    }

    /// Says that it is at none.
    #[inline]
    pub fn ends(&self) {
        self.ring.region().u64_at(AT_BEGAN).store(0, Relaxed);
    }

    /// The place of this mailbox's note.
    pub fn due(&self) -> Due {
        Due(Arc::clone(self.ring.region()))
    }

    fn wake_at(&self) -> WakeAt<'_> {
        WakeAt(self.ring.region().u64_at(AT_WAKE_AT))
    }
}

/// Where a worker notes when its call is overdue, for the parent to know why it was killed. It orders nothing.
pub struct Due(Arc<Region>);

impl Due {
    /// At this time, on whatever clock both sides read; 0: never.
    pub fn set(&self, at: u64) {
        self.0.u64_at(AT_DUE).store(at, Relaxed);
    }
}

/// A result in the parent's hands. Its bytes lie in the ring until the next
/// [`next`](ResultReader::next) or [`done`](ResultReader::done).
#[derive(Debug)]
pub struct ResultFrame<'a> {
    /// What the frame says about itself.
    pub head: Head,
    /// The result.
    pub payload: &'a [u8],
}

/// The parent's half of the result ring.
pub struct ResultReader {
    ring: Consumer,
    received: u64,
}

impl ResultReader {
    pub(super) fn new(ring: Consumer) -> ResultReader {
        ResultReader { ring, received: 0 }
    }

    /// The next result; gives the last one's bytes back. After `None` all bytes are given back.
    ///
    /// # Errors
    /// [`Malformed`] if the worker wrote what no worker writes. Every position and length was
    /// checked, and asking again gives the same answer.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "it lends, so it is no iterator"
    )]
    pub fn next(&mut self) -> Result<Option<ResultFrame<'_>>, Malformed> {
        self.ring.give_back();
        let Some(found) = self.ring.peek()? else {
            self.ring.give_back(); // a pad
            return Ok(None);
        };
        self.ring.pass(&found);
        self.received += 1;
        Ok(Some(ResultFrame {
            head: found.head,
            payload: self.ring.payload(&found),
        }))
    }

    /// Gives the last result's bytes back before the next one is asked for.
    #[inline]
    pub fn done(&mut self) {
        self.ring.give_back();
    }

    /// Whether more was published.
    #[inline]
    pub fn has_next(&self) -> bool {
        self.ring.has_next()
    }

    /// How many results were read since the mailbox was made.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Says that the parent is about to sleep until `wake_at` results were published since the
    /// mailbox was made (or the worker runs out of work). The caller then looks once more
    /// ([`has_next`](Self::has_next)) before it sleeps. The worker rings once; arm again for the
    /// next sleep. `u64::MAX` is [`disarm`](Self::disarm).
    pub fn arm(&self, wake_at: u64) {
        self.wake_at().arm(wake_at);
    }

    /// Whether the worker still owes a ring.
    pub fn is_armed(&self) -> bool {
        self.wake_at().is_set()
    }

    /// Says that the parent wants no ring. One that is on its way may still come.
    pub fn disarm(&self) {
        self.wake_at().disarm();
    }

    /// What the worker noted last by [`Due::set`]; any number at all.
    pub fn due(&self) -> u64 {
        self.ring.region().u64_at(AT_DUE).load(Relaxed)
    }

    fn wake_at(&self) -> WakeAt<'_> {
        WakeAt(self.ring.region().u64_at(AT_WAKE_AT))
    }
}
