//! An event: set or not, and how often it was set.
//!
//! The word: bit 0 is "set", [`WAITERS`], and between them a count that grows with every setting.
//! 1. Wait: set, done. Else remember the count, set `WAITERS`, sleep while the word stays like that; done
//!    once it is set, or the count has grown: an event that was set and cleared while we slept did happen.
//! 2. Set: grow the count, set bit 0, clear `WAITERS`; if it was there, wake all.
//!
//! Always: setting twice is setting once.

use super::{Step, WAITERS, Wait};
use crate::atomics::AtomicU32;
use crate::atomics::Ordering::{AcqRel, Acquire, Relaxed};
use manyhands_os::crash_point;

const SET: u32 = 1;
/// The count's lowest bit.
const ONCE: u32 = 2;

/// An event, in its place.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    word: &'a AtomicU32,
}

impl<'a> Event<'a> {
    /// The event that this word is.
    pub fn new(word: &'a AtomicU32) -> Event<'a> {
        Event { word }
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.word.load(Acquire) & SET != 0 // pairs with `set`
    }

    /// Sets it. True: the caller wakes all.
    pub fn set(&self) -> bool {
        let mut seen = self.word.load(Relaxed);
        loop {
            if seen & SET != 0 {
                // An exchange all the same: what we did before is visible to who sees it set.
                match self.word.compare_exchange_weak(seen, seen, AcqRel, Relaxed) {
                    Ok(_) => return false,
                    Err(now) => seen = now,
                }
                continue;
            }
            let wanted = (seen.wrapping_add(ONCE) | SET) & !WAITERS;
            // Release pairs with the Acquire of who sees it set.
            match self
                .word
                .compare_exchange_weak(seen, wanted, AcqRel, Relaxed)
            {
                Ok(_) => {
                    crash_point!("event.set");
                    return seen & WAITERS != 0;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Clears it.
    pub fn clear(&self) {
        self.word.fetch_and(!SET, AcqRel);
    }

    /// The wait for it; `None` if it is set.
    pub fn wait(&self) -> Option<EventWait<'a>> {
        let seen = self.word.load(Acquire); // pairs with `set`
        (seen & SET == 0).then_some(EventWait {
            word: self.word,
            count: seen & !WAITERS,
        })
    }
}

/// A wait for an [`Event`].
pub struct EventWait<'a> {
    word: &'a AtomicU32,
    /// The word when the wait began, not set, without `WAITERS`.
    count: u32,
}

impl Wait for EventWait<'_> {
    fn word(&self) -> &AtomicU32 {
        self.word
    }

    fn is_near(&self) -> bool {
        self.word.load(Relaxed) & !WAITERS != self.count
    }

    fn step(&self) -> Step {
        let mut seen = self.word.load(Acquire); // pairs with `set`
        loop {
            if seen & !WAITERS != self.count {
                return Step::Done;
            }
            if seen & WAITERS != 0 {
                return Step::Sleep(seen);
            }
            match self
                .word
                .compare_exchange_weak(seen, seen | WAITERS, Relaxed, Acquire)
            {
                Ok(_) => return Step::Sleep(seen | WAITERS),
                Err(now) => seen = now,
            }
        }
    }

    fn give_up(&self) -> bool {
        false // setting wakes all
    }
}
