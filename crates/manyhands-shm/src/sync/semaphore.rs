//! A semaphore: a number that is taken from while it is above zero.
//!
//! The word is the number, in 31 bits, with or without [`WAITERS`].
//! 1. Acquire: exchange the number for one less, `WAITERS` as it was.
//! 2. Zero: set `WAITERS`, sleep while the word stays like that, begin anew; who has slept sets `WAITERS`
//!    with what it takes, and if there is still some left it wakes one more.
//! 3. Release: exchange the number for one more; if `WAITERS` was there, wake one. Nobody slept: clear
//!    `WAITERS`, if the word is still exactly what we made it.
//!
//! **Why clearing it is safe.** A sleeper may have come since, but only at zero, so the word went through
//! zero and back to our number by a release that saw `WAITERS` and wakes that sleeper; who then sets it
//! anew, and wakes a further one if something is left (the second half of 2).
//!
//! Always: the number never passes its bound, however many release at once.
//! Not here: who took how many; a semaphore has no holder, so nobody learns of a killed one.

use super::{Step, WAITERS, Wait};
use crate::atomics::AtomicU32;
use crate::atomics::Ordering::{Acquire, Relaxed, Release};
use manyhands_os::crash_point;

/// The semaphore is at its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the semaphore is at its bound already")]
pub struct TooMany;

/// A semaphore, in its place.
#[derive(Clone, Copy)]
pub struct Semaphore<'a> {
    word: &'a AtomicU32,
}

impl<'a> Semaphore<'a> {
    /// The semaphore that this word is.
    pub fn new(word: &'a AtomicU32) -> Semaphore<'a> {
        Semaphore { word }
    }

    /// The number.
    pub fn value(&self) -> u32 {
        self.word.load(Relaxed) & !WAITERS
    }

    /// Takes one if there is one.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        let mut seen = self.word.load(Relaxed);
        while seen & !WAITERS != 0 {
            // Acquire pairs with the Release in `release`: what came before it is visible.
            match self
                .word
                .compare_exchange_weak(seen, seen - 1, Acquire, Relaxed)
            {
                Ok(_) => {
                    crash_point!("semaphore.taken");
                    return true;
                }
                Err(now) => seen = now,
            }
        }
        false
    }

    /// The wait for one.
    pub fn wait(&self) -> SemaphoreWait<'a> {
        SemaphoreWait { word: self.word }
    }

    /// Adds one, up to `bound`. `Ok(Some(word))`: the caller wakes one, and if nobody slept hands `word` to
    /// [`nobody_slept`](Semaphore::nobody_slept).
    #[inline]
    pub fn release(&self, bound: u32) -> Result<Option<u32>, TooMany> {
        let mut seen = self.word.load(Relaxed);
        loop {
            let value = seen & !WAITERS;
            if value >= bound || value == !WAITERS {
                return Err(TooMany);
            }
            // Release pairs with the Acquire of who takes it. Reading it as well keeps what earlier
            // releasers wrote in the chain.
            match self
                .word
                .compare_exchange_weak(seen, seen + 1, Release, Relaxed)
            {
                Ok(_) => {
                    crash_point!("semaphore.given");
                    return Ok((seen & WAITERS != 0).then_some(seen + 1));
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Makes the number at least `value`. Wakes nobody, so not for one that is waited for.
    pub fn raise_to(&self, value: u32) {
        let mut seen = self.word.load(Relaxed);
        while seen & !WAITERS < value {
            // Relaxed: the number says all there is to say.
            match self
                .word
                .compare_exchange_weak(seen, seen & WAITERS | value, Relaxed, Relaxed)
            {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Forgets the sleepers that were not there: see above.
    pub fn nobody_slept(&self, made: u32) {
        let _ = self
            .word
            .compare_exchange(made, made & !WAITERS, Relaxed, Relaxed);
    }
}

/// A wait for a [`Semaphore`].
pub struct SemaphoreWait<'a> {
    word: &'a AtomicU32,
}

impl Wait for SemaphoreWait<'_> {
    fn word(&self) -> &AtomicU32 {
        self.word
    }

    fn is_near(&self) -> bool {
        self.word.load(Relaxed) & !WAITERS != 0
    }

    fn step(&self) -> Step {
        let mut seen = self.word.load(Relaxed);
        loop {
            let some = seen & !WAITERS != 0;
            if !some && seen & WAITERS != 0 {
                return Step::Sleep(seen);
            }
            let wanted = if some { seen - 1 } else { seen } | WAITERS;
            // Acquire pairs with the Release in `release`.
            match self
                .word
                .compare_exchange_weak(seen, wanted, Acquire, Relaxed)
            {
                Ok(_) if !some => return Step::Sleep(wanted),
                Ok(_) if wanted == WAITERS => return Step::Done,
                Ok(_) => return Step::DoneWakeOne,
                Err(now) => seen = now,
            }
        }
    }

    fn give_up(&self) -> bool {
        let mut seen = self.word.load(Relaxed);
        loop {
            if seen & !WAITERS != 0 {
                return true; // we may have had the wake for it
            }
            if seen & WAITERS != 0 {
                return false; // the next release will wake one
            }
            match self
                .word
                .compare_exchange_weak(seen, WAITERS, Relaxed, Relaxed)
            {
                Ok(_) => return false,
                Err(now) => seen = now,
            }
        }
    }
}
