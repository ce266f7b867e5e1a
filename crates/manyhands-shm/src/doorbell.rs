//! Sleeping without losing a wake, and waking nobody who is awake.
//!
//! A system call costs more than all else that happens to a small task, so each side says in a
//! word when it wants one. Two words, two protocols, one argument.
//!
//! **The worker's word, [`Asleep`].** States: `AWAKE`, `ASLEEP`.
//! 1. The worker finds its task ring empty. It stores `ASLEEP`, fences, and looks at the ring
//!    once more: *drowsy*. Something there: it stores `AWAKE` and goes on. Nothing: it waits on
//!    its eventfd (and on the parent's death): *asleep*.
//! 2. The parent publishes, fences, and loads the word. `ASLEEP`: it swaps in `AWAKE`, and if the
//!    swap found `ASLEEP` it rings the eventfd. So a sleep is rung once, however many tasks follow.
//! 3. The eventfd keeps a ring that comes while the worker is still drowsy, so its wait ends at
//!    once; a ring for a sleep that was cancelled costs one needless look, no more.
//!
//! The same word serves a worker that waits for room in its result ring: there the parent's
//! "publish" is giving bytes back, and [`Asleep::must_wake`] (which fences) comes after it.
//!
//! **The parent's word, [`WakeAt`].** A parent that waits for many results wants one wake, not
//! one for each. It holds a number: `NEVER`, or the count of published frames from which on the
//! parent wants to hear.
//! 1. The parent stores the number (*armed*), fences, and looks at the ring once more; then it
//!    waits on its eventfd (and on the worker's death).
//! 2. The worker publishes, fences, and loads the number. Not above its count: it exchanges it for
//!    `NEVER`, and if that succeeded it rings. So an arming is rung once.
//! 3. A worker with nothing left to do asks [`WakeAt::claim`] for any number at all before it
//!    sleeps (*unseen*): otherwise the parent would wait for a count that never comes.
//!
//! **Why no wake is lost.** Each side stores its own word, fences, then loads the other's. The
//! fences are sequentially consistent, so one comes first: if the sleeper's, the waker sees the
//! sleeper's word and rings; if the waker's, the sleeper's second look sees what was published.
//! Every change of a word is an exchange, by which each side's changes follow the other's; the
//! language's memory model asks only for stores, but loom takes a store to be unordered with the
//! other side's exchange, and a store would save nothing beside the sleep it precedes.
//! A waker killed between its exchange and its ring loses that ring, which is why nobody waits
//! for a ring without waiting for the ringer's death too.
//!
//! Always: a peer that writes nonsense here costs needless rings or its own wakes, nothing else.
//! Not here: the eventfds (`manyhands-os`), how long to spin before sleeping (`manyhands`).

use crate::atomics::Ordering::{AcqRel, Relaxed};
use crate::atomics::{AtomicU32, AtomicU64, full_fence};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

/// The number of a parent that does not want to be rung.
pub(crate) const NEVER: u64 = u64::MAX;

/// The worker's word.
pub(crate) struct Asleep<'a>(pub(crate) &'a AtomicU32);

impl Asleep<'_> {
    /// Worker: drowsy from here on. It must look at the ring once more before it waits.
    pub(crate) fn prepare(&self) {
        self.0.swap(ASLEEP, AcqRel);
        full_fence(); // pairs with the fence in `must_wake`
    }

    /// Worker: awake again.
    pub(crate) fn cancel(&self) {
        self.0.swap(AWAKE, AcqRel);
    }

    /// Parent: whether the worker sleeps, or is about to. It may be otherwise in a moment.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed) == ASLEEP
    }

    /// Parent, after it published: whether the caller must ring. True once for each sleep.
    #[inline]
    pub(crate) fn must_wake(&self) -> bool {
        full_fence(); // pairs with the fence in `prepare`
        self.0.load(Relaxed) == ASLEEP && self.0.swap(AWAKE, AcqRel) == ASLEEP
    }
}

/// The parent's word.
pub(crate) struct WakeAt<'a>(pub(crate) &'a AtomicU64);

impl WakeAt<'_> {
    /// Parent: wants a ring from `count` on. It must look at the ring once more before it waits.
    pub(crate) fn arm(&self, count: u64) {
        self.0.swap(count, AcqRel);
        full_fence(); // pairs with the fence in `must_wake`
    }

    /// Parent: whether it is armed, and was not rung since.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed) != NEVER
    }

    /// Parent: wants no ring.
    pub(crate) fn disarm(&self) {
        self.0.swap(NEVER, AcqRel);
    }

    /// Worker, after it published `count` frames in all: whether the caller must ring. True once
    /// for each arming.
    #[inline]
    pub(crate) fn must_wake(&self, count: u64) -> bool {
        full_fence(); // pairs with the fence in `arm`
        self.claim(count)
    }

    /// Worker: takes the arming if its number is not above `count`.
    ///
    /// Needs no fence of its own where a `must_wake` came before and nothing was published since:
    /// an arming that this load does not see comes after that fence, so the parent's second look
    /// sees all.
    #[inline]
    pub(crate) fn claim(&self, count: u64) -> bool {
        let mut armed = self.0.load(Relaxed);
        // The parent may arm anew between load and exchange; it does so a finite number of times,
        // and only while it is awake.
        while armed != NEVER && armed <= count {
            match self.0.compare_exchange_weak(armed, NEVER, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => armed = now,
            }
        }
        false
    }
}
