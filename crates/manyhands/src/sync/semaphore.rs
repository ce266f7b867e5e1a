//! `Semaphore`: so many at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::futex::{self, Scope};
use manyhands_shm::sync::{Kind, Semaphore as Word};

use super::block;
use super::place::{Place, travels};
use crate::error::Error;

/// A number of permits that processes share.
///
/// Who takes a permit that nobody has left waits until one is given back. Unlike a
/// [`Lock`](crate::Lock) it does not know who has its permits: those of a process that is killed
/// are lost.
///
/// ```
/// use manyhands::{Error, Process, Semaphore};
///
/// fn work(slots: Semaphore) {
///     let _slot = slots.acquire();
///     // at most two processes are here
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     let slots = Semaphore::new(2)?;
///     let children: Vec<_> =
///         (0..4).map(|_| Process::spawn(work, slots.clone())).collect::<Result<_, _>>()?;
///     for child in children {
///         child.join()?;
///     }
///     assert_eq!(slots.available(), 2);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Semaphore {
    place: Arc<Place>,
}

travels!(Semaphore, "Semaphore", Kind::Semaphore);

impl Semaphore {
    /// The most permits that a semaphore can have: 2³¹ - 1.
    ///
    /// ```
    /// assert!(manyhands::Semaphore::new(manyhands::Semaphore::MAX).is_ok());
    /// ```
    pub const MAX: u32 = i32::MAX as u32;

    /// A semaphore with so many permits.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for more than [`MAX`](Semaphore::MAX), [`Error::System`] if there is no
    /// memory or no descriptor to be had.
    ///
    /// ```
    /// let slots = manyhands::Semaphore::new(3)?;
    /// assert_eq!(slots.available(), 3);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn new(permits: u32) -> Result<Self, Error> {
        if permits > Self::MAX {
            return Err(Error::OutOfRange {
                what: "the permits of a semaphore",
                value: permits.into(),
                low: 0,
                high: Self::MAX.into(),
            });
        }
        let place = Place::make("semaphore", Kind::Semaphore, permits, Self::MAX)?;
        Ok(Self { place })
    }

    /// How many permits could be taken at this moment.
    ///
    /// ```
    /// # let slots = manyhands::Semaphore::new(3)?;
    /// let permit = slots.acquire();
    /// assert_eq!(slots.available(), 2);
    /// # drop(permit);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn available(&self) -> u32 {
        self.word().value()
    }

    /// Takes a permit, waiting until there is one. It is given back when it is dropped.
    ///
    /// ```
    /// # let slots = manyhands::Semaphore::new(1)?;
    /// let permit = slots.acquire();
    /// drop(permit); // for the next one
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn acquire(&self) -> Permit<'_> {
        loop {
            if let Some(permit) = self.take(Deadline::after(None)) {
                return permit;
            }
        }
    }

    /// Takes a permit if there is one.
    ///
    /// ```
    /// # let slots = manyhands::Semaphore::new(1)?;
    /// let permit = slots.try_acquire();
    /// assert!(permit.is_some());
    /// assert!(slots.try_acquire().is_none());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        // Made only if it was taken: a permit gives itself back.
        self.word().try_acquire().then(|| Permit(self))
    }

    /// Takes a permit, waiting `timeout` at most.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let slots = manyhands::Semaphore::new(1)?;
    /// let first = slots.acquire();
    /// assert!(slots.acquire_timeout(Duration::from_millis(10)).is_none());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<Permit<'_>> {
        self.take(Deadline::after(Some(timeout)))
    }

    /// Adds a permit: one that was taken and [kept](Permit::keep), perhaps by another process, or a new one.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if it has [`MAX`](Semaphore::MAX) permits already.
    ///
    /// ```
    /// let signals = manyhands::Semaphore::new(0)?;
    /// signals.release()?;
    /// signals.acquire().keep();
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn release(&self) -> Result<(), Error> {
        let word = self.word();
        match word.release(self.place.bound) {
            Ok(None) => {}
            Ok(Some(made)) => {
                let sleepers = self.place.board().word(self.place.cell);
                if futex::wake(sleepers, 1, Scope::Shared) == 0 {
                    word.nobody_slept(made);
                }
            }
            Err(_) => {
                return Err(Error::OutOfRange {
                    what: "the permits of a semaphore",
                    value: u64::from(Self::MAX) + 1,
                    low: 0,
                    high: Self::MAX.into(),
                });
            }
        }
        Ok(())
    }

    fn word(&self) -> Word<'_> {
        self.place.board().semaphore(self.place.cell)
    }

    fn take(&self, deadline: Deadline) -> Option<Permit<'_>> {
        let word = self.word();
        (word.try_acquire() || block(&word.wait(), deadline)).then(|| Permit(self))
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .finish()
    }
}

/// One of a [`Semaphore`]'s permits, given back when this is dropped.
///
/// ```
/// # let slots = manyhands::Semaphore::new(1)?;
/// {
///     let permit = slots.acquire();
///     assert_eq!(slots.available(), 0);
/// }
/// assert_eq!(slots.available(), 1);
/// # Ok::<(), manyhands::Error>(())
/// ```
#[must_use = "the permit is given back at once if it is not kept"]
pub struct Permit<'a>(&'a Semaphore);

impl Permit<'_> {
    /// Keeps it: somebody else gives it back, by [`Semaphore::release`], or nobody.
    ///
    /// ```
    /// # let slots = manyhands::Semaphore::new(1)?;
    /// slots.acquire().keep();
    /// assert_eq!(slots.available(), 0);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // It was taken, so there is room for it, unless somebody has added what is not his.
        let _ = self.0.release();
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
