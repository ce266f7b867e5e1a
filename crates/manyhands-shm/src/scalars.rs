//! Numbers in memory that processes share, each an atomic word.
//!
//! Always: a place is used as atomics of one width and nothing else, so that processes which write at
//! the same time leave one of the values there, and no access is a data race.
//! Not here: whose memory it is, what the numbers mean.

use core::marker::PhantomData;
use core::ops::Deref;
use core::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize, Ordering::Relaxed,
};
use manyhands_os::memory::{Mapping, Memfd};
use std::io;

mod sealed {
    pub trait Sealed {}
}

/// A number that shared memory can hold: an integer or a float of the machine.
///
/// ```
/// use manyhands_shm::scalars::Scalar;
/// use std::sync::atomic::AtomicU64;
///
/// let word = AtomicU64::new(0);
/// f64::store(&word, 1.5);
/// assert_eq!(f64::load(&word), 1.5);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no number that shared memory can hold",
    label = "not an integer or a float",
    note = "an integer or a float of at most eight bytes will do; other values travel through channels, bytes as `Bytes`"
)]
pub trait Scalar: Copy + Send + Sync + 'static + sealed::Sealed {
    /// The word that it lies in, of the same size.
    type Atomic: Send + Sync + 'static;

    /// Reads a word.
    fn load(word: &Self::Atomic) -> Self;

    /// Writes a word.
    fn store(word: &Self::Atomic, value: Self);
}

macro_rules! integers {
    ($($number:ty: $atomic:ty),* $(,)?) => {$(
        impl sealed::Sealed for $number {}

        impl Scalar for $number {
            type Atomic = $atomic;

            #[inline]
            fn load(word: &$atomic) -> Self {
                word.load(Relaxed)
            }

            #[inline]
            fn store(word: &$atomic, value: Self) {
                word.store(value, Relaxed);
            }
        }
    )*};
}

integers! {
    u8: AtomicU8, u16: AtomicU16, u32: AtomicU32, u64: AtomicU64, usize: AtomicUsize,
    i8: AtomicI8, i16: AtomicI16, i32: AtomicI32, i64: AtomicI64, isize: AtomicIsize,
}

macro_rules! floats {
    ($($number:ty: $atomic:ty),* $(,)?) => {$(
        impl sealed::Sealed for $number {}

        impl Scalar for $number {
            type Atomic = $atomic;

            #[inline]
            fn load(word: &$atomic) -> Self {
                Self::from_bits(word.load(Relaxed))
            }

            #[inline]
            fn store(word: &$atomic, value: Self) {
                word.store(value.to_bits(), Relaxed);
            }
        }
    )*};
}

floats! { f32: AtomicU32, f64: AtomicU64 }

/// The whole of a memfd as words of `T`, mapped here.
///
/// For memory that every process uses through this type alone, with one `T`.
pub struct Words<T> {
    mapping: Mapping,
    scalar: PhantomData<fn() -> T>,
}

impl<T: Scalar> Words<T> {
    /// Maps it; a forked child keeps the mapping.
    pub fn map(memory: &Memfd) -> io::Result<Self> {
        Ok(Self {
            mapping: Mapping::shared_with_children(memory)?,
            scalar: PhantomData,
        })
    }
}

impl<T: Scalar> Deref for Words<T> {
    type Target = [T::Atomic];

    fn deref(&self) -> &[T::Atomic] {
        const { assert!(size_of::<T>() == size_of::<T::Atomic>()) };
        let len = self.mapping.len() / size_of::<T::Atomic>();
        let base = self.mapping.base().as_ptr().cast::<T::Atomic>();
        // SAFETY: the mapping is readable and writable for that length as long as `self` is borrowed, and
        // begins at a page, which is aligned for every word. The trait is sealed, so the words are atomic
        // integers, of which any bytes are a value, and which others may change at any time.
        unsafe { core::slice::from_raw_parts(base, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mappings_of_one_memory_see_each_others_numbers() {
        let memory = Memfd::create("test", 64).unwrap();
        let ours = Words::<f64>::map(&memory).unwrap();
        let theirs = Words::<f64>::map(&memory).unwrap();
        assert_eq!((ours.len(), f64::load(&ours[7])), (8, 0.0));
        f64::store(&ours[7], -1.5);
        assert_eq!(f64::load(&theirs[7]), -1.5);
        assert_eq!(Words::<u8>::map(&memory).unwrap().len(), 64);
    }
}
