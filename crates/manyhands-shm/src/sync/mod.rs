//! Locks, semaphores, events and conditions: words in shared memory that processes wait on.
//!
//! Each is a few words of one cell of a [`Board`]. What is here says what a word means and how it may
//! change; it never sleeps. A waiter asks [`Wait::step`], and sleeps on the word if that says so, for as long
//! as the word is what it said (a futex does exactly this); a releaser is told whether somebody may sleep.
//!
//! Always:
//! - An uncontended acquire is one exchange, an uncontended release too: no system call, no fence.
//! - The top bit of a word, [`WAITERS`], says "somebody may sleep on me". It is set before a sleep and
//!   cleared by releases; who was asleep and takes the word sets it again, because there may be more. It may
//!   be set in vain, which costs one system call, and is never clear while somebody sleeps for good.
//! - Who leaves without having got what it waited for calls [`Wait::give_up`], so that a wake meant for it
//!   goes to the next one.
//! - A process killed between its change of a word and its wake loses that wake, and one killed just after
//!   it was woken has swallowed it. So nobody sleeps without a limit: a waiter looks again after a while.
//! - A lock's word says in the same exchange that it is taken and by whom ([`Holder`]): a holder that was
//!   killed can be told from one that takes its time, at whatever instruction that was.
//!
//! Not here: sleeping and waking (`manyhands-os::futex`), who is told of a dead holder.

#[cfg(not(loom))]
mod board;
mod condition;
mod event;
mod lock;
mod semaphore;
#[cfg(not(loom))]
mod view;

#[cfg(not(loom))]
pub use board::{Board, CELL, Kind};
pub use condition::{Bench, Condition, Found, Seated, Waiter};
pub use event::{Event, EventWait};
pub use lock::{LEFT, Lock, LockWait, NotHeld};
pub use semaphore::{Semaphore, SemaphoreWait, TooMany};
#[cfg(not(loom))]
pub(crate) use view::View;

use crate::atomics::AtomicU32;

/// "Somebody may sleep on this word."
pub const WAITERS: u32 = 1 << 31;

/// Who holds a lock: `manyhands_os::identity` says what the numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process, in 31 bits, never 0.
    pub process: u32,
    /// The thread in it, never 0.
    pub thread: u32,
}

/// What a waiter has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing more: it has what it waited for.
    Done,
    /// It has what it waited for, and is to wake one other: there was more than it took.
    DoneWakeOne,
    /// Sleep while the word has this value, then ask again.
    Sleep(u32),
}

/// Something that is waited for.
pub trait Wait {
    /// The word to sleep on.
    fn word(&self) -> &AtomicU32;

    /// Whether a step may find it there, by a look that changes nothing: for spinning.
    fn is_near(&self) -> bool;

    /// Takes it, or says what to sleep on.
    fn step(&self) -> Step;

    /// Leaves without it. True: the caller has to wake one other, who else might sleep for ever.
    fn give_up(&self) -> bool;
}
