//! Sleeping on a word of memory, and waking who sleeps on it.
//!
//! Always: a sleeper that finds the word changed does not sleep, so a change followed by a wake is never
//! missed; a wake without a change may happen, and the caller looks again.
//! Not here: what the word means (`manyhands-shm`), the owner of a lock.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex;

use crate::clock;

/// Who may sleep on the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Threads of this process: the kernel need not look up the page.
    Private,
    /// Every process that has the word's memory mapped.
    Shared,
}

impl Scope {
    fn flags(self) -> futex::Flags {
        match self {
            Scope::Private => futex::Flags::PRIVATE,
            Scope::Shared => futex::Flags::empty(),
        }
    }
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Somebody woke us, perhaps for another reason.
    Woken,
    /// The word was no longer what we expected, so we did not sleep.
    Changed,
    /// The time is up.
    TimedOut,
    /// A signal came.
    Interrupted,
}

/// Sleeps while `word` is `expected`, until woken, for at most `timeout`.
///
/// # Panics
/// Where the kernel offers no futex at all, which no program survives.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>, scope: Scope) -> Wait {
    match futex::wait(
        word,
        scope.flags(),
        expected,
        clock::timespec(timeout).as_ref(),
    ) {
        Ok(()) => Wait::Woken,
        Err(Errno::AGAIN) => Wait::Changed,
        Err(Errno::TIMEDOUT) => Wait::TimedOut,
        Err(Errno::INTR) => Wait::Interrupted,
        Err(e) => panic!("could not sleep on a futex: {e}"),
    }
}

/// Wakes up to `n` of those who sleep on `word`; the number of those woken.
///
/// # Panics
/// As [`wait`] does.
pub fn wake(word: &AtomicU32, n: usize, scope: Scope) -> usize {
    // The kernel counts in an int: "all" is i32::MAX.
    let n = n.min(i32::MAX as usize) as u32;
    futex::wake(word, scope.flags(), n).unwrap_or_else(|e| panic!("could not wake a futex: {e}"))
}

/// Lets up to `n` of those who sleep on `from` sleep on `to` instead, to be woken there, if `from` is
/// `expected`; how many that were. They hear nothing of it: their wait goes on, with its time-out.
///
/// # Panics
/// As [`wait`] does.
pub fn requeue(from: &AtomicU32, expected: u32, to: &AtomicU32, n: usize, scope: Scope) -> usize {
    let n = n.min(i32::MAX as usize) as u32;
    match futex::cmp_requeue(from, scope.flags(), 0, n, to, expected) {
        Ok(moved) => moved,
        Err(Errno::AGAIN) => 0,
        Err(e) => panic!("could not move those who sleep on a futex: {e}"),
    }
}
