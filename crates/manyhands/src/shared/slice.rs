//! `SharedSlice`: numbers in shared memory.

use std::fmt;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use manyhands_os::memory::Memfd;
use manyhands_shm::scalars::{Scalar, Words};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::Error;
use crate::parcel::{self, Handle};

const WHAT: &str = "SharedSlice";

/// Numbers in memory that processes share.
///
/// Clones, and what children get of it as an argument or a message, are the same memory: what one
/// writes, the others read, without a copy and without a system call. Any integer or float of the
/// machine will do.
///
/// Each number by itself is always whole: it is read and written as an atomic word. Several that
/// belong together are guarded by a [`Lock`](crate::Lock); counters and flags of a protocol of
/// one's own are reached as atomics, by [`atomics`](SharedSlice::atomics).
///
/// ```
/// use manyhands::{Error, Pool, SharedSlice};
///
/// fn square((numbers, at): (SharedSlice<f64>, usize)) {
///     numbers.set(at, numbers.get(at) * numbers.get(at));
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     let numbers = SharedSlice::from_slice(&[1.0, 2.0, 3.0])?;
///     Pool::new()?.map(square, (0..3).map(|at| (numbers.clone(), at)))?;
///     assert_eq!(numbers.to_vec(), [1.0, 4.0, 9.0]);
///     Ok(())
/// }
/// ```
pub struct SharedSlice<T: Scalar> {
    words: Arc<Words<T>>,
    memory: Handle,
    len: usize,
}

impl<T: Scalar> SharedSlice<T> {
    /// So many numbers, all zero. Memory is taken for what is written.
    ///
    /// # Errors
    /// [`Error::System`] if there is no memory or no descriptor to be had.
    ///
    /// ```
    /// # use manyhands::SharedSlice;
    /// let numbers = SharedSlice::<u64>::new(1_000)?;
    /// assert_eq!(numbers.get(999), 0);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn new(len: usize) -> Result<Self, Error> {
        let bytes = (len as u64).saturating_mul(size_of::<T>() as u64).max(1);
        let made = || {
            let memory = Memfd::create("manyhands slice", bytes)?;
            let words = Words::map(&memory)?;
            Ok((Arc::new(words), Arc::new(OwnedFd::from(memory))))
        };
        let (words, memory) = made().map_err(Error::system("make a shared slice"))?;
        Ok(Self { words, memory, len })
    }

    /// A copy of `numbers`.
    ///
    /// # Errors
    /// As [`new`](SharedSlice::new).
    ///
    /// ```
    /// # use manyhands::SharedSlice;
    /// let numbers = SharedSlice::from_slice(&[1u8, 2, 3])?;
    /// assert_eq!(numbers.to_vec(), [1, 2, 3]);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn from_slice(numbers: &[T]) -> Result<Self, Error> {
        let slice = Self::new(numbers.len())?;
        slice.write(0, numbers);
        Ok(slice)
    }

    /// How many numbers there are.
    ///
    /// ```
    /// # use manyhands::SharedSlice;
    /// assert_eq!(SharedSlice::<f32>::new(3)?.len(), 3);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    ///
    /// ```
    /// # use manyhands::SharedSlice;
    /// assert!(SharedSlice::<f32>::new(0)?.is_empty());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The numbers as atomic words of the standard library (a float as the word of its bits): for
    /// counters, flags, and whatever else orders what processes do.
    ///
    /// ```
    /// # use manyhands::{Pool, SharedSlice};
    /// # use std::sync::atomic::Ordering::Relaxed;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let count = SharedSlice::<u64>::new(1)?;
    /// let add = |(count, n): (SharedSlice<u64>, u64)| {
    ///     count.atomics()[0].fetch_add(n, Relaxed);
    /// };
    /// Pool::new()?.map(add, (1..=100).map(|n| (count.clone(), n)))?;
    /// assert_eq!(count.get(0), 5050);
    /// # Ok(())
    /// # }
    /// ```
    pub fn atomics(&self) -> &[T::Atomic] {
        &self.words[..self.len]
    }

    /// The number at a place.
    ///
    /// # Panics
    /// If there is no such place.
    ///
    /// ```
    /// # use manyhands::SharedSlice;
    /// assert_eq!(SharedSlice::from_slice(&[3, 4])?.get(1), 4);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn get(&self, at: usize) -> T {
        T::load(&self.atomics()[at])
    }

    /// Writes a number to a place.
    ///
    /// # Panics
    /// If there is no such place.
    ///
    /// ```
    /// # use manyhands::SharedSlice;
    /// let numbers = SharedSlice::new(2)?;
    /// numbers.set(1, -7);
    /// assert_eq!(numbers.to_vec(), [0, -7]);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn set(&self, at: usize, number: T) {
        T::store(&self.atomics()[at], number);
    }

    /// Copies the numbers of a range.
    ///
    /// # Panics
    /// If the range is not within.
    ///
    /// ```
    /// # use manyhands::SharedSlice;
    /// assert_eq!(SharedSlice::from_slice(&[3, 4, 5])?.read(1..3), [4, 5]);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn read(&self, range: Range<usize>) -> Vec<T> {
        self.atomics()[range].iter().map(T::load).collect()
    }

    /// Copies all numbers.
    ///
    /// ```
    /// # use manyhands::SharedSlice;
    /// assert_eq!(SharedSlice::from_slice(&[3, 4])?.to_vec(), [3, 4]);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn to_vec(&self) -> Vec<T> {
        self.read(0..self.len)
    }

    /// Writes several numbers, from a place on.
    ///
    /// # Panics
    /// If they do not fit in.
    ///
    /// ```
    /// # use manyhands::SharedSlice;
    /// let numbers = SharedSlice::new(4)?;
    /// numbers.write(1, &[7, 8]);
    /// assert_eq!(numbers.to_vec(), [0, 7, 8, 0]);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn write(&self, at: usize, numbers: &[T]) {
        let places = &self.atomics()[at..][..numbers.len()];
        for (place, number) in places.iter().zip(numbers) {
            T::store(place, *number);
        }
    }

    /// Writes one number everywhere.
    ///
    /// ```
    /// # use manyhands::SharedSlice;
    /// let numbers = SharedSlice::new(2)?;
    /// numbers.fill(1.5);
    /// assert_eq!(numbers.to_vec(), [1.5, 1.5]);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn fill(&self, number: T) {
        for place in self.atomics() {
            T::store(place, number);
        }
    }

    /// Reads one number after the other.
    ///
    /// ```
    /// # use manyhands::SharedSlice;
    /// let numbers = SharedSlice::from_slice(&[3u64, 4])?;
    /// assert_eq!(numbers.iter().sum::<u64>(), 7);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + '_ {
        self.atomics().iter().map(T::load)
    }
}

impl<T: Scalar> Clone for SharedSlice<T> {
    fn clone(&self) -> Self {
        Self {
            words: Arc::clone(&self.words),
            memory: Arc::clone(&self.memory),
            len: self.len,
        }
    }
}

impl<T: Scalar> fmt::Debug for SharedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SharedSlice<{}>({} numbers)",
            std::any::type_name::<T>(),
            self.len
        )
    }
}

impl<T: Scalar> Serialize for SharedSlice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = parcel::put(WHAT, &self.memory).map_err(ser::Error::custom)?;
        (number, self.len as u64, size_of::<T>() as u8).serialize(serializer)
    }
}

impl<'de, T: Scalar> Deserialize<'de> for SharedSlice<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let (number, len, size): (u32, u64, u8) = Deserialize::deserialize(input)?;
        let came = || -> Result<Self, String> {
            let memory = parcel::get(WHAT, number)?;
            let refused = |why: &dyn fmt::Display| parcel::refuse(format!("no {WHAT} came: {why}"));
            let fd = memory.try_clone().map_err(|error| refused(&error))?;
            let file = Memfd::from_fd(fd).map_err(|error| refused(&error))?;
            let bytes = len.checked_mul(size.into()).map(|bytes| bytes.max(1));
            if usize::from(size) != size_of::<T>() || bytes != Some(file.len()) {
                return Err(refused(&"its numbers are others than it says"));
            }
            let words = Words::map(&file).map_err(|error| refused(&error))?;
            Ok(Self {
                words: Arc::new(words),
                memory,
                len: len as usize,
            })
        };
        came().map_err(de::Error::custom)
    }
}
