//! `Condition`: those who wait for a change, beside the lock that guards what changes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::futex::{self, Scope};
use manyhands_shm::sync::Kind;

use super::lock::{Lock, LockGuard};
use super::place::{Place, travels};
use super::{block, me};
use crate::error::Error;

/// Waiting for a change of what a [`Lock`] guards, between processes.
///
/// ```
/// use manyhands::{Condition, Error, Lock, Process, SharedSlice};
///
/// type Till = (Lock, Condition, SharedSlice<u64>);
///
/// fn pay((lock, paid, till): Till) {
///     let guard = lock.lock().unwrap();
///     till.set(0, 5);
///     paid.notify_one(&guard);
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     let till: Till = (Lock::new()?, Condition::new()?, SharedSlice::new(1)?);
///     let child = Process::spawn(pay, till.clone())?;
///     let (lock, paid, till) = &till;
///     let guard = paid.wait_while(lock.lock()?, || till.get(0) == 0)?;
///     assert_eq!(till.get(0), 5);
///     drop(guard);
///     child.join()
/// }
/// ```
#[derive(Clone)]
pub struct Condition {
    place: Arc<Place>,
}

travels!(Condition, "Condition", Kind::Condition);

impl Condition {
    /// A condition that nobody waits for.
    ///
    /// # Errors
    /// [`Error::System`] if there is no memory or no descriptor to be had.
    ///
    /// ```
    /// let changed = manyhands::Condition::new()?;
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn new() -> Result<Self, Error> {
        let place = Place::make("condition", Kind::Condition, 0, 0)?;
        Ok(Self { place })
    }

    /// Gives the lock back, waits to be notified, and takes the lock again.
    ///
    /// # Errors
    /// [`Error::OwnerDied`] if a process that held the lock meanwhile has ended: the lock is free
    /// then, and not held by the caller. [`Error::TooManyWaiters`] if 4096 wait already for
    /// conditions that were made together; the lock is given back too.
    ///
    /// ```
    /// # use manyhands::{Condition, Error, Lock};
    /// # fn consume(lock: &Lock, changed: &Condition, ready: impl Fn() -> bool) -> Result<(), Error> {
    /// let mut guard = lock.lock()?;
    /// while !ready() {
    ///     guard = changed.wait(guard)?;
    /// }
    /// # Ok(())
    /// # }
    /// # consume(&Lock::new()?, &Condition::new()?, || true)?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn wait<'a>(&self, guard: LockGuard<'a>) -> Result<LockGuard<'a>, Error> {
        let (guard, _) = self.wait_until(guard, Deadline::after(None))?;
        Ok(guard)
    }

    /// As [`wait`](Condition::wait), `timeout` at most; with the lock comes whether it was notified.
    ///
    /// # Errors
    /// As [`wait`](Condition::wait).
    ///
    /// ```
    /// # use manyhands::{Condition, Lock};
    /// # use std::time::Duration;
    /// # let (lock, changed) = (Lock::new()?, Condition::new()?);
    /// let guard = lock.lock()?;
    /// let (guard, notified) = changed.wait_timeout(guard, Duration::from_millis(10))?;
    /// assert!(!notified);
    /// # drop(guard);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn wait_timeout<'a>(
        &self,
        guard: LockGuard<'a>,
        timeout: Duration,
    ) -> Result<(LockGuard<'a>, bool), Error> {
        self.wait_until(guard, Deadline::after(Some(timeout)))
    }

    /// Waits as long as `not_yet` says so, which is asked with the lock held.
    ///
    /// # Errors
    /// As [`wait`](Condition::wait).
    ///
    /// ```
    /// # use manyhands::{Condition, Lock, SharedSlice};
    /// # let (lock, changed, count) = (Lock::new()?, Condition::new()?, SharedSlice::<u32>::new(1)?);
    /// # count.set(0, 1);
    /// let guard = changed.wait_while(lock.lock()?, || count.get(0) == 0)?;
    /// # drop(guard);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn wait_while<'a>(
        &self,
        mut guard: LockGuard<'a>,
        mut not_yet: impl FnMut() -> bool,
    ) -> Result<LockGuard<'a>, Error> {
        while not_yet() {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Wakes the one who has waited longest, if any. The lock is held, and that one takes it next.
    ///
    /// ```
    /// # use manyhands::{Condition, Lock};
    /// # let (lock, changed) = (Lock::new()?, Condition::new()?);
    /// let guard = lock.lock()?;
    /// changed.notify_one(&guard);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn notify_one(&self, guard: &LockGuard<'_>) {
        self.call(guard.lock, 1);
    }

    /// Wakes all who wait.
    ///
    /// ```
    /// # use manyhands::{Condition, Lock};
    /// # let (lock, changed) = (Lock::new()?, Condition::new()?);
    /// let guard = lock.lock()?;
    /// changed.notify_all(&guard);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn notify_all(&self, guard: &LockGuard<'_>) {
        self.call(guard.lock, usize::MAX);
    }

    pub(super) fn wait_until<'a>(
        &self,
        guard: LockGuard<'a>,
        deadline: Deadline,
    ) -> Result<(LockGuard<'a>, bool), Error> {
        let me = me();
        let lock = guard.lock;
        let condition = self.place.board().condition(self.place.cell);
        let seat = condition.enter(me.process).or_else(|| {
            condition.clear_away(me.process, |process| self.place.is_dead(process));
            condition.enter(me.process)
        });
        let seat = seat.ok_or(Error::TooManyWaiters)?;
        drop(guard);
        block(&seat, deadline);
        let called = seat.leave();
        match lock.take_again() {
            Ok(guard) => Ok((guard, called)),
            Err(error) => {
                // We cannot follow the call, another may.
                if called && let Some(guard) = lock.take_anyway(Deadline::after(None)) {
                    self.call(guard.lock, 1);
                }
                Err(error)
            }
        }
    }

    fn call(&self, lock: &Lock, n: usize) {
        let condition = self.place.board().condition(self.place.cell);
        let is_dead = |process| self.place.is_dead(process);
        let mut left = n;
        for found in condition.oldest() {
            if left == 0 {
                return;
            }
            let Some(state) = condition.call(found) else {
                continue; // it has left
            };
            // It needs the lock next, so it is woken when that is given back.
            lock.words().expect_sleepers();
            let sleepers = lock.place.board().word(lock.place.cell);
            let word = condition.word(found);
            let moved = futex::requeue(word, state, sleepers, 1, Scope::Shared);
            // Nobody asleep: it is about to sleep, or was killed.
            if moved == 0 && is_dead(condition.sitter(found)) {
                condition.clear_away(me().process, is_dead);
                continue;
            }
            left -= 1;
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let condition = self.place.board().condition(self.place.cell);
        f.debug_struct("Condition")
            .field("waiting", &condition.waiting())
            .finish()
    }
}
