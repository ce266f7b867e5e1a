//! A lock that knows its holder: free, or held by one thread of one process.
//!
//! States of the word: 0 is free; else a process's identity, with or without [`WAITERS`].
//! 1. Acquire: exchange 0 for our identity. Who has slept sets `WAITERS` with it, because others may sleep.
//! 2. Not free: set `WAITERS`, sleep while the word stays like that, begin anew.
//! 3. Release: exchange the word for 0; if it had `WAITERS`, wake one.
//!
//! The word alone decides; the other two words are the holder's notes for itself and for whoever asks.
//! `thread` is cleared before the word is freed and written after it was taken, so a thread that finds its
//! own number there, and its own process in the word, does hold the lock: only it writes that number.
//! `depth` counts how often a recursive lock was taken.
//!
//! Always: any process may release a lock that is held (the standard library's `Lock` allows it).
//! Not here: what `release` refuses for a recursive lock (its caller asks [`Lock::is_mine`]).

use super::{Holder, Step, WAITERS, Wait};
use crate::atomics::AtomicU32;
use crate::atomics::Ordering::{AcqRel, Acquire, Relaxed, Release};
use manyhands_os::crash_point;

const FREE: u32 = 0;

/// In place of a process: the one that held the lock has ended in an orderly way, holding it. No process has a number
/// of zero, so it is nobody's identity.
pub const LEFT: u32 = 1 << 22;

/// The lock was released while nobody held it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lock is not held")]
pub struct NotHeld;

/// A lock, in its place.
#[derive(Clone, Copy)]
pub struct Lock<'a> {
    word: &'a AtomicU32,
    thread: &'a AtomicU32,
    depth: &'a AtomicU32,
}

impl<'a> Lock<'a> {
    /// The lock that these words are.
    pub fn new(word: &'a AtomicU32, thread: &'a AtomicU32, depth: &'a AtomicU32) -> Lock<'a> {
        Lock {
            word,
            thread,
            depth,
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_acquire(&self, me: Holder) -> bool {
        // Acquire pairs with the Release in `release`: what the last holder wrote is visible.
        let taken = self
            .word
            .compare_exchange(FREE, me.process, Acquire, Relaxed)
            .is_ok();
        if taken {
            self.took(me);
        }
        taken
    }

    fn took(&self, me: Holder) {
        crash_point!("lock.taken");
        self.thread.store(me.thread, Relaxed); // our own note: see above
        self.depth.store(1, Relaxed);
        crash_point!("lock.recorded");
    }

    /// The wait for a lock that was not free.
    pub fn wait(&self, me: Holder) -> LockWait<'a> {
        LockWait { lock: *self, me }
    }

    /// Whether `me` holds it.
    #[inline]
    pub fn is_mine(&self, me: Holder) -> bool {
        self.word.load(Relaxed) & !WAITERS == me.process && self.thread.load(Relaxed) == me.thread
    }

    /// The process that holds it, 0 if it is free.
    pub fn holder(&self) -> u32 {
        self.word.load(Relaxed) & !WAITERS
    }

    /// How often its holder has taken it; of use to the holder's process alone.
    pub fn depth(&self) -> u32 {
        self.depth.load(Relaxed)
    }

    /// The holder: takes it once more. False: that is more often than can be counted.
    #[inline]
    pub fn deepen(&self) -> bool {
        let depth = self.depth.load(Relaxed);
        if depth == u32::MAX {
            return false;
        }
        self.depth.store(depth + 1, Relaxed);
        true
    }

    /// The holder: leaves it held for ever, because nobody could go on where it stands.
    pub fn ruin(&self) {
        self.depth.store(u32::MAX, Relaxed);
    }

    /// Whether its holder has left it so.
    pub fn is_ruined(&self) -> bool {
        self.holder() != FREE && self.depth() == u32::MAX
    }

    /// The holder of a recursive lock: gives it back once, and says whether that was the last time.
    #[inline]
    pub fn rise(&self) -> bool {
        let depth = self.depth.load(Relaxed);
        if depth > 1 {
            self.depth.store(depth - 1, Relaxed);
        }
        depth <= 1
    }

    /// The holder: others will be put to sleep on it, so that its release wakes one.
    pub fn expect_sleepers(&self) {
        self.word.fetch_or(WAITERS, Relaxed);
    }

    /// Frees it of a holder that is known to be dead, unless somebody else holds it by now. True: the caller wakes
    /// one, who may be asleep.
    pub fn free_of(&self, dead: u32) -> bool {
        for held in [dead, dead | WAITERS] {
            // Release and Acquire as for a release and the acquire after it: what the dead one wrote is visible.
            if self
                .word
                .compare_exchange(held, FREE, AcqRel, Relaxed)
                .is_ok()
            {
                crash_point!("lock.freed-of-the-dead");
                return true;
            }
        }
        false
    }

    /// A process that holds it and is about to end in an orderly way: says so, for those who find it held.
    pub fn leave(&self, process: u32) {
        let word = self.word;
        let mut seen = word.load(Relaxed);
        while seen & !WAITERS == process {
            match word.compare_exchange_weak(seen, LEFT | seen & WAITERS, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Frees it, whoever holds it. `Ok(true)`: the caller wakes one.
    #[inline]
    pub fn release(&self) -> Result<bool, NotHeld> {
        if self.word.load(Relaxed) & !WAITERS == FREE {
            return Err(NotHeld);
        }
        self.thread.store(0, Relaxed); // before the word is free: see above
        crash_point!("lock.before-release");
        let held = self.word.swap(FREE, Release); // pairs with the Acquire of the next holder
        crash_point!("lock.released");
        if held == FREE {
            return Err(NotHeld); // two released it at once
        }
        Ok(held & WAITERS != 0)
    }
}

/// A wait for a [`Lock`].
pub struct LockWait<'a> {
    lock: Lock<'a>,
    me: Holder,
}

impl Wait for LockWait<'_> {
    fn word(&self) -> &AtomicU32 {
        self.lock.word
    }

    fn is_near(&self) -> bool {
        self.lock.word.load(Relaxed) == FREE
    }

    fn step(&self) -> Step {
        let word = self.lock.word;
        let mut seen = word.load(Relaxed);
        loop {
            let free = seen & !WAITERS == FREE;
            if !free && seen & WAITERS != 0 {
                return Step::Sleep(seen);
            }
            let wanted = if free { self.me.process } else { seen } | WAITERS;
            // Acquire pairs with the Release in `release`.
            match word.compare_exchange_weak(seen, wanted, Acquire, Relaxed) {
                Ok(_) if free => {
                    self.lock.took(self.me);
                    return Step::Done;
                }
                Ok(_) => return Step::Sleep(wanted),
                Err(now) => seen = now,
            }
        }
    }

    fn give_up(&self) -> bool {
        let word = self.lock.word;
        let mut seen = word.load(Relaxed);
        loop {
            if seen & !WAITERS == FREE {
                return true; // we may have had the wake for it
            }
            if seen & WAITERS != 0 {
                return false; // its holder will wake one
            }
            // Taken by somebody who had not slept: it must know of those who still do.
            match word.compare_exchange_weak(seen, seen | WAITERS, Relaxed, Relaxed) {
                Ok(_) => return false,
                Err(now) => seen = now,
            }
        }
    }
}
