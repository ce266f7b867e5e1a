//! How a thread comes to what it owns alone until it gives it back: a lock, or numbers behind one.
//!
//! Always: whoever waits looks now and then whether the owner lives; the one who frees what a dead owner held is told, and
//! nobody else.
//! Not here: what is owned (`lock`, `shared::locked`).

use manyhands_os::clock::Deadline;

use super::LOOK;
use crate::error::Error;

/// Something that one thread of one process has at a time.
pub(crate) trait Owned {
    /// The proof that the calling thread has it.
    type Held;

    /// Takes it if it is free.
    fn try_take(&self) -> Option<Self::Held>;

    /// Whether the calling thread has it.
    fn is_mine(&self) -> bool;

    /// Sleeps until it is taken, or until this time.
    fn wait(&self, nap: Deadline) -> Option<Self::Held>;

    /// Frees it if its owner has ended; who that was.
    fn free_of_the_dead(&self) -> Option<i32>;
}

/// Takes it, waiting until the deadline; `None` if it was not free by then.
#[inline]
pub(crate) fn take<O: Owned>(owned: &O, deadline: Deadline) -> Result<Option<O::Held>, Error> {
    if let Some(held) = owned.try_take() {
        return Ok(Some(held));
    }
    if owned.is_mine() {
        return Err(Error::Deadlock);
    }
    let mut held = None;
    loop {
        if !deadline.passed() {
            held = owned.wait(Deadline::after(Some(deadline.left_within(LOOK))));
        }
        if held.is_some() {
            return Ok(held);
        }
        if let Some(pid) = owned.free_of_the_dead() {
            return Err(Error::OwnerDied { pid });
        }
        if deadline.passed() {
            return Ok(None);
        }
    }
}
