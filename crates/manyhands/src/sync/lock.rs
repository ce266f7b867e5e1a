//! `Lock`: one thread of one process at a time.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::futex::{self, Scope};
use manyhands_os::identity;
use manyhands_shm::sync::{Kind, Lock as Words};

use super::owned::{self, Owned};
use super::place::{Place, travels};
use super::{LOOK, block, me};
use crate::error::Error;

/// A lock that processes share.
///
/// Give clones of it to children as part of their argument; all of them are the same lock. It
/// knows its owner: whoever waits for a lock whose owner was killed gets [`Error::OwnerDied`]
/// instead of waiting for ever, and the lock is free again.
///
/// ```
/// use manyhands::{Error, Lock, Process};
///
/// fn append((lock, word): (Lock, String)) -> Result<(), String> {
///     let _guard = lock.lock().map_err(|error| error.to_string())?;
///     println!("{word}"); // one process at a time
///     Ok(())
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     let lock = Lock::new()?;
///     let many = Process::spawn(append, (lock.clone(), "many".to_owned()))?;
///     let hands = Process::spawn(append, (lock, "hands".to_owned()))?;
///     many.join()?.unwrap();
///     hands.join()?.unwrap();
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Lock {
    pub(super) place: Arc<Place>,
}

travels!(Lock, "Lock", Kind::Lock);

impl Lock {
    /// A lock that is free.
    ///
    /// # Errors
    /// [`Error::System`] if there is no memory or no descriptor to be had.
    ///
    /// ```
    /// let lock = manyhands::Lock::new()?;
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn new() -> Result<Self, Error> {
        let place = Place::make("lock", Kind::Lock, 0, 1)?;
        Ok(Self { place })
    }

    /// Takes the lock, waiting until it is free. It is given back when the guard is dropped.
    ///
    /// # Errors
    /// [`Error::OwnerDied`] if the process that held it has ended: then it is free, and what it
    /// guards may be half changed. [`Error::Deadlock`] if this thread holds it already.
    ///
    /// ```
    /// # use manyhands::{Error, Lock, Process};
    /// # fn main() -> Result<(), Error> {
    /// # manyhands::init();
    /// fn die_holding(lock: Lock) {
    ///     let _guard = lock.lock();
    ///     std::process::abort();
    /// }
    /// let lock = Lock::new()?;
    /// assert!(Process::spawn(die_holding, lock.clone())?.join().is_err());
    /// assert!(matches!(lock.lock(), Err(Error::OwnerDied { .. })));
    /// let guard = lock.lock()?; // after setting right what it guards, say
    /// # Ok(())
    /// # }
    /// ```
    pub fn lock(&self) -> Result<LockGuard<'_>, Error> {
        loop {
            if let Some(guard) = self.take(Deadline::after(None))? {
                return Ok(guard);
            }
        }
    }

    /// Takes the lock if it is free; `None` if somebody holds it.
    ///
    /// # Errors
    /// As [`lock`](Lock::lock).
    ///
    /// ```
    /// # use manyhands::Lock;
    /// let lock = Lock::new()?;
    /// if let Some(guard) = lock.try_lock()? {
    ///     // nobody else is in here
    /// }
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn try_lock(&self) -> Result<Option<LockGuard<'_>>, Error> {
        self.take(Deadline::after(Some(Duration::ZERO)))
    }

    /// Takes the lock, waiting `timeout` at most; `None` if it was not free by then.
    ///
    /// # Errors
    /// As [`lock`](Lock::lock).
    ///
    /// ```
    /// # use manyhands::Lock;
    /// # use std::time::Duration;
    /// let lock = Lock::new()?;
    /// match lock.lock_timeout(Duration::from_secs(1))? {
    ///     Some(guard) => drop(guard),
    ///     None => println!("somebody takes long"),
    /// }
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<LockGuard<'_>>, Error> {
        self.take(Deadline::after(Some(timeout)))
    }

    /// The process that holds the lock at this moment, if any.
    ///
    /// ```
    /// # use manyhands::Lock;
    /// let lock = Lock::new()?;
    /// let guard = lock.lock()?;
    /// assert_eq!(lock.owner(), Some(std::process::id() as i32));
    /// drop(guard);
    /// assert_eq!(lock.owner(), None);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn owner(&self) -> Option<i32> {
        match self.words().holder() {
            0 => None,
            holder => Some(identity::pid(holder)),
        }
    }

    pub(super) fn words(&self) -> Words<'_> {
        self.place.board().lock(self.place.cell)
    }

    fn take(&self, deadline: Deadline) -> Result<Option<LockGuard<'_>>, Error> {
        owned::take(&self, deadline)
    }

    /// Takes the lock again for one who has given it back to wait. A dead owner is said after it was taken.
    pub(super) fn take_again(&self) -> Result<LockGuard<'_>, Error> {
        let mut dead = None;
        // We may have slept on its word, so others may too: not by `try_acquire`.
        let words = self.words();
        while !block(&words.wait(me()), Deadline::after(Some(LOOK))) {
            dead = dead.or(self.free_of_the_dead());
        }
        let guard = LockGuard::of(self);
        match dead {
            None => Ok(guard),
            Some(pid) => Err(Error::OwnerDied { pid }),
        }
    }

    /// Takes the lock for work that is whole between any two steps, so that a killed owner is no matter; until the
    /// deadline.
    pub(crate) fn take_anyway(&self, deadline: Deadline) -> Option<LockGuard<'_>> {
        loop {
            match self.take(deadline) {
                Ok(guard) => return guard,
                Err(Error::OwnerDied { .. }) => {}
                Err(_) => return None,
            }
        }
    }

    /// Frees the lock if its owner has ended; who that was.
    fn free_of_the_dead(&self) -> Option<i32> {
        let words = self.words();
        let holder = words.holder();
        if holder == 0 || !self.place.is_dead(holder) || !words.free_of(holder) {
            return None;
        }
        futex::wake(self.place.board().word(self.place.cell), 1, Scope::Shared);
        Some(identity::pid(holder))
    }

    /// What its owners tell each other: 0 at first.
    pub(crate) fn memo(&self) -> &AtomicU64 {
        self.place.board().memo(self.place.cell)
    }

    fn give_back(&self) {
        // An error: a stranger has freed it.
        if let Ok(true) = self.words().release() {
            futex::wake(self.place.board().word(self.place.cell), 1, Scope::Shared);
        }
    }
}

impl<'a> Owned for &'a Lock {
    type Held = LockGuard<'a>;

    fn try_take(&self) -> Option<LockGuard<'a>> {
        self.words().try_acquire(me()).then(|| LockGuard::of(self))
    }

    fn is_mine(&self) -> bool {
        self.words().is_mine(me())
    }

    fn wait(&self, nap: Deadline) -> Option<LockGuard<'a>> {
        block(&self.words().wait(me()), nap).then(|| LockGuard::of(self))
    }

    fn free_of_the_dead(&self) -> Option<i32> {
        Lock::free_of_the_dead(self)
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("owner", &self.owner())
            .finish()
    }
}

/// A [`Lock`] that is held, until this is dropped.
///
/// It stays in the thread that took the lock.
///
/// ```
/// # use manyhands::Lock;
/// let lock = Lock::new()?;
/// {
///     let guard = lock.lock()?;
///     // nobody else is in here
/// }
/// assert_eq!(lock.owner(), None);
/// # Ok::<(), manyhands::Error>(())
/// ```
#[must_use = "the lock is given back at once if the guard is not kept"]
pub struct LockGuard<'a> {
    pub(super) lock: &'a Lock,
    /// A lock knows the thread that holds it.
    thread: PhantomData<*const ()>,
}

impl<'a> LockGuard<'a> {
    fn of(lock: &'a Lock) -> Self {
        let thread = PhantomData;
        Self { lock, thread }
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        self.lock.give_back();
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").finish_non_exhaustive()
    }
}
