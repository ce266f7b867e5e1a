//! `LockedSlice`: numbers in shared memory, and the lock that makes a plain slice of them.
//!
//! Always: there is no way to the numbers but the guard, and one guard at a time, in whatever process.
//! Not here: where lock and numbers lie, and why nothing else does (`manyhands_shm::guarded`).

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::futex::{self, Scope};
use manyhands_os::identity;
use manyhands_shm::guarded::{Guarded, Held};
use manyhands_shm::scalars::Scalar;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::Error;
use crate::parcel::{self, Handle};
use crate::sync::{self, Owned, block};

const WHAT: &str = "LockedSlice";

/// Numbers in memory that processes share, for one of them at a time: who locks them has a `&mut [T]`.
///
/// So they can be sorted, split, and given to any function that knows slices, without a copy. Clones, and what children get
/// of it as an argument or a message, are the same numbers behind the same lock. Where many processes write at once, each
/// a number of its own, [`SharedSlice`](crate::SharedSlice) needs no lock.
///
/// The lock knows its owner as [`Lock`](crate::Lock) does: who waits for one whose owner was killed gets
/// [`Error::OwnerDied`], and the numbers are free again, as the dead one left them. A panic gives the lock back.
///
/// ```
/// use manyhands::{Error, LockedSlice, Pool};
///
/// fn add((sums, part): (LockedSlice<f64>, Vec<f64>)) -> Result<(), String> {
///     let mut sums = sums.lock().map_err(|error| error.to_string())?;
///     for (sum, number) in sums.iter_mut().zip(part) {
///         *sum += number;
///     }
///     Ok(())
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     let sums = LockedSlice::new(3)?;
///     let parts = (0..10).map(|n| (sums.clone(), vec![1.0, 0.5, f64::from(n)]));
///     Pool::new()?.map(add, parts)?;
///     assert_eq!(*sums.lock()?, [10.0, 5.0, 45.0]);
///     Ok(())
/// }
/// ```
pub struct LockedSlice<T: Scalar> {
    numbers: Arc<Guarded<T>>,
    memory: Handle,
}

impl<T: Scalar> LockedSlice<T> {
    /// So many numbers, all zero. Memory is taken for what is written.
    ///
    /// # Errors
    /// [`Error::System`] if there is no memory or no descriptor to be had.
    ///
    /// ```
    /// # use manyhands::LockedSlice;
    /// let numbers = LockedSlice::<u64>::new(1_000)?;
    /// assert_eq!(numbers.lock()?[999], 0);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn new(len: usize) -> Result<Self, Error> {
        let made = Guarded::create("manyhands locked slice", len);
        let (numbers, memory) = made.map_err(Error::system("make a locked slice"))?;
        Ok(Self {
            numbers: Arc::new(numbers),
            memory: Arc::new(memory),
        })
    }

    /// A copy of `numbers`.
    ///
    /// # Errors
    /// As [`new`](LockedSlice::new).
    ///
    /// ```
    /// # use manyhands::LockedSlice;
    /// let numbers = LockedSlice::from_slice(&[3u8, 1, 2])?;
    /// numbers.lock()?.sort();
    /// assert_eq!(*numbers.lock()?, [1, 2, 3]);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn from_slice(numbers: &[T]) -> Result<Self, Error> {
        let slice = Self::new(numbers.len())?;
        slice.lock()?.copy_from_slice(numbers);
        Ok(slice)
    }

    /// How many numbers there are.
    ///
    /// ```
    /// # use manyhands::LockedSlice;
    /// assert_eq!(LockedSlice::<f32>::new(3)?.len(), 3);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there is none.
    ///
    /// ```
    /// # use manyhands::LockedSlice;
    /// assert!(LockedSlice::<f32>::new(0)?.is_empty());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Locks the numbers, waiting until they are free. They are given back when the guard is dropped.
    ///
    /// # Errors
    /// [`Error::OwnerDied`] if the process that had them has ended: then they are free, and perhaps half changed.
    /// [`Error::Deadlock`] if this thread has them already.
    ///
    /// ```
    /// # use manyhands::{Error, LockedSlice, Process};
    /// # fn main() -> Result<(), Error> {
    /// # manyhands::init();
    /// fn die_in_the_midst(pair: LockedSlice<u32>) {
    ///     let mut pair = pair.lock().unwrap();
    ///     pair[0] += 1;
    ///     std::process::abort(); // and not pair[1] += 1
    /// }
    /// let pair = LockedSlice::<u32>::new(2)?;
    /// assert!(Process::spawn(die_in_the_midst, pair.clone())?.join().is_err());
    /// if let Err(Error::OwnerDied { .. }) = pair.lock() {
    ///     let mut pair = pair.lock()?; // to set it right
    ///     pair[1] = pair[0];
    /// }
    /// assert_eq!(*pair.lock()?, [1, 1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lock(&self) -> Result<SliceGuard<'_, T>, Error> {
        loop {
            if let Some(guard) = self.take(Deadline::after(None))? {
                return Ok(guard);
            }
        }
    }

    /// Locks the numbers if they are free; `None` if somebody has them.
    ///
    /// # Errors
    /// As [`lock`](LockedSlice::lock).
    ///
    /// ```
    /// # use manyhands::LockedSlice;
    /// let numbers = LockedSlice::<u8>::new(3)?;
    /// if let Some(mut numbers) = numbers.try_lock()? {
    ///     numbers.fill(7);
    /// }
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn try_lock(&self) -> Result<Option<SliceGuard<'_, T>>, Error> {
        self.take(Deadline::after(Some(Duration::ZERO)))
    }

    /// Locks the numbers, waiting `timeout` at most; `None` if they were not free by then.
    ///
    /// # Errors
    /// As [`lock`](LockedSlice::lock).
    ///
    /// ```
    /// # use manyhands::LockedSlice;
    /// # use std::time::Duration;
    /// let numbers = LockedSlice::<u8>::new(3)?;
    /// match numbers.lock_timeout(Duration::from_secs(1))? {
    ///     Some(mut numbers) => numbers[0] = 1,
    ///     None => println!("somebody takes long"),
    /// }
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<SliceGuard<'_, T>>, Error> {
        self.take(Deadline::after(Some(timeout)))
    }

    /// The process that has the numbers at this moment, if any.
    ///
    /// ```
    /// # use manyhands::LockedSlice;
    /// let numbers = LockedSlice::<u8>::new(3)?;
    /// let guard = numbers.lock()?;
    /// assert_eq!(numbers.owner(), Some(std::process::id() as i32));
    /// drop(guard);
    /// assert_eq!(numbers.owner(), None);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn owner(&self) -> Option<i32> {
        match self.numbers.holder() {
            0 => None,
            holder => Some(identity::pid(holder)),
        }
    }

    fn take(&self, deadline: Deadline) -> Result<Option<SliceGuard<'_, T>>, Error> {
        sync::take(&self, deadline)
    }
}

impl<'a, T: Scalar> Owned for &'a LockedSlice<T> {
    type Held = SliceGuard<'a, T>;

    fn try_take(&self) -> Option<SliceGuard<'a, T>> {
        let held = self.numbers.try_take()?;
        Some(SliceGuard::of(self, held))
    }

    fn is_mine(&self) -> bool {
        self.numbers.is_mine()
    }

    fn wait(&self, nap: Deadline) -> Option<SliceGuard<'a, T>> {
        let wait = self.numbers.wait();
        block(&wait, nap);
        let held = wait.held()?;
        Some(SliceGuard::of(self, held))
    }

    fn free_of_the_dead(&self) -> Option<i32> {
        let dead = self.numbers.free_of_the_dead()?;
        self.wake_one();
        Some(identity::pid(dead))
    }
}

impl<T: Scalar> LockedSlice<T> {
    fn wake_one(&self) {
        futex::wake(self.numbers.word(), 1, Scope::Shared);
    }
}

impl<T: Scalar> Clone for LockedSlice<T> {
    fn clone(&self) -> Self {
        Self {
            numbers: Arc::clone(&self.numbers),
            memory: Arc::clone(&self.memory),
        }
    }
}

impl<T: Scalar> fmt::Debug for LockedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedSlice")
            .field("len", &self.len())
            .field("owner", &self.owner())
            .finish()
    }
}

impl<T: Scalar> Serialize for LockedSlice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = parcel::put(WHAT, &self.memory).map_err(ser::Error::custom)?;
        number.serialize(serializer)
    }
}

impl<'de, T: Scalar> Deserialize<'de> for LockedSlice<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let number = Deserialize::deserialize(input)?;
        let came = || -> Result<Self, String> {
            let memory = parcel::get(WHAT, number)?;
            let numbers = Guarded::attach(memory.as_fd())
                .map_err(|error| parcel::refuse(format!("no {WHAT} came: {error}")))?;
            Ok(Self {
                numbers: Arc::new(numbers),
                memory,
            })
        };
        came().map_err(de::Error::custom)
    }
}

/// The numbers of a [`LockedSlice`], which are the calling thread's until this is dropped.
///
/// It is a `&mut [T]` for all that one does with it, and stays in the thread that locked them.
///
/// ```
/// # use manyhands::LockedSlice;
/// let numbers = LockedSlice::from_slice(&[5, 3, 4])?;
/// {
///     let mut numbers = numbers.lock()?;
///     numbers.sort();
///     let (low, high) = numbers.split_at_mut(1);
///     low[0] += high[1];
/// }
/// assert_eq!(*numbers.lock()?, [8, 4, 5]);
/// # Ok::<(), manyhands::Error>(())
/// ```
#[must_use = "the numbers are given back at once if the guard is not kept"]
pub struct SliceGuard<'a, T: Scalar> {
    slice: &'a LockedSlice<T>,
    /// Until `drop`.
    held: Option<Held<'a, T>>,
}

impl<'a, T: Scalar> SliceGuard<'a, T> {
    fn of(slice: &'a LockedSlice<T>, held: Held<'a, T>) -> Self {
        Self {
            slice,
            held: Some(held),
        }
    }
}

impl<T: Scalar> Deref for SliceGuard<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.held.as_deref().unwrap_or_default()
    }
}

impl<T: Scalar> DerefMut for SliceGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.held.as_deref_mut().unwrap_or_default()
    }
}

impl<T: Scalar> Drop for SliceGuard<'_, T> {
    fn drop(&mut self) {
        if self.held.take().is_some_and(Held::give_back) {
            self.slice.wake_one();
        }
    }
}

impl<T: Scalar + fmt::Debug> fmt::Debug for SliceGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
