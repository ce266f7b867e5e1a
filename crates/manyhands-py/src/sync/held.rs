//! Locks and semaphores of Python's in the engine's own hands.
//!
//! Always: what a call takes it gives back, whichever way it ends ([`Held`]). A lock whose holder was killed is
//! free again for whoever waits, unless the holder was half-way through something that cannot be finished.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::identity;
use manyhands_shm::sync::LEFT;
use pyo3::exceptions::{PyOSError, PyOverflowError};
use pyo3::prelude::*;

use super::me;
use super::semlock::{Released, SemLock};

/// How often one who waits for a lock looks whether its holder lives.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// A lock that this thread holds until this is dropped.
pub(crate) struct Held<'a>(&'a SemLock);

impl Held<'_> {
    /// From now on until [`Held::is_through`] nobody could go on where we are: who finds us dead finds a wreck.
    pub(crate) fn is_half_way(&self) {
        self.0.place.board().lock(self.0.place.cell).deepen();
    }

    /// The opposite.
    pub(crate) fn is_through(&self) {
        self.0.place.board().lock(self.0.place.cell).rise();
    }

    /// Whether [`Held::is_half_way`] was called last.
    pub(crate) fn was_half_way(&self) -> bool {
        self.0.place.board().lock(self.0.place.cell).depth() > 1
    }

    /// Leaves it half-way for good: everybody else finds a wreck, though we live.
    pub(crate) fn ruin(self) {
        self.0.place.board().lock(self.0.place.cell).ruin();
        std::mem::forget(self);
    }
}

/// A lock that is half-way until this is dropped, whoever in this process holds it.
pub(crate) struct HalfWay<'a>(&'a SemLock);

impl Drop for HalfWay<'_> {
    fn drop(&mut self) {
        self.0.place.board().lock(self.0.place.cell).rise();
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // It is ours; somebody else may have released it, which the standard library allows too.
        let _ = self.0.try_release(me());
    }
}

impl SemLock {
    /// Takes the lock if it is free.
    pub(crate) fn hold_now(&self) -> PyResult<Option<Held<'_>>> {
        Ok(self.take_now()?.then(|| Held(self)))
    }

    /// Takes the lock, waiting at most `timeout`. An error when its holder was killed half-way.
    pub(crate) fn hold(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
    ) -> PyResult<Option<Held<'_>>> {
        let deadline = Deadline::after(timeout);
        loop {
            let left = deadline.left().map_or(LOOK, |left| left.min(LOOK));
            if self.take(py, Some(left))? {
                return Ok(Some(Held(self)));
            }
            if !self.free_of_the_dead()? && deadline.passed() {
                return Ok(None);
            }
        }
    }

    /// Takes the lock, waiting for it, unless this thread has it already.
    pub(crate) fn hold_unless_mine(&self, py: Python<'_>) -> PyResult<Option<Held<'_>>> {
        match self.is_held_by_me() {
            true => Ok(None),
            false => self.hold(py, None),
        }
    }

    /// Frees the lock if its holder was killed; says whether it did. An error when that one was half-way.
    pub(crate) fn free_of_the_dead(&self) -> PyResult<bool> {
        let lock = self.place.board().lock(self.place.cell);
        let holder = lock.holder();
        if lock.is_ruined() {
            return Err(PyOSError::new_err(format!(
                "process {} was interrupted while it moved an item of this queue, and half of the item is left in the \
                 pipe: use a new queue",
                identity::pid(holder)
            )));
        }
        if holder == 0 || !self.is_gone(holder) {
            return Ok(false);
        }
        if lock.depth() > 1 && lock.holder() == holder {
            return Err(PyOSError::new_err(format!(
                "process {} was killed while it moved an item of this queue, and half of the item is left in the pipe: \
                 use a new queue",
                identity::pid(holder)
            )));
        }
        let freed = lock.free_of(holder);
        self.wake_after(freed);
        Ok(freed)
    }

    /// Whether the lock's holder was killed half-way, or has given up there.
    pub(crate) fn is_wreck(&self) -> bool {
        let lock = self.place.board().lock(self.place.cell);
        let holder = lock.holder();
        lock.is_ruined() || holder != 0 && lock.depth() > 1 && self.is_gone(holder)
    }

    /// Whether a holder has ended, in whatever way: what it was about to do for the queue is not done.
    fn is_gone(&self, holder: u32) -> bool {
        holder == LEFT || self.place.is_dead(holder)
    }

    /// As [`Held::is_half_way`], of a lock that the caller holds.
    pub(crate) fn half_way(&self) -> HalfWay<'_> {
        self.place.board().lock(self.place.cell).deepen();
        HalfWay(self)
    }

    /// Whether this thread holds the lock.
    pub(crate) fn is_held_by_me(&self) -> bool {
        self.mine(me())
    }

    /// Takes one of a semaphore if there is one.
    pub(crate) fn take_now(&self) -> PyResult<bool> {
        self.try_acquire(me()).map_err(|_| {
            PyOverflowError::new_err("the lock was taken too many times by one thread")
        })
    }

    /// Takes one of a semaphore, waiting at most `timeout`.
    fn take(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<bool> {
        Ok(self.take_now()? || self.acquire_slowly(py, me(), timeout)?)
    }

    /// What the holders of this lock tell each other, 0 at first.
    pub(crate) fn memo(&self) -> &AtomicU64 {
        self.place.board().memo(self.place.cell)
    }

    /// Adds one to a semaphore; false if it was at its bound.
    pub(crate) fn give(&self) -> bool {
        matches!(self.try_release(me()), Released::Yes)
    }

    /// How many could be taken.
    pub(crate) fn left(&self) -> u32 {
        self.value()
    }
}
