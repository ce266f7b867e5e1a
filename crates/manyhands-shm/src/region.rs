//! A piece of shared memory: words by offset, bytes by range, every access checked.
//!
//! Always: an access beyond the end panics, so an error elsewhere in this crate cannot become a
//! stray access; callers have checked what a peer wrote before, so no peer causes that panic.
//!
//! What the unsafe code of this crate rests on:
//! - **Inside.** `base` points to `len` bytes that stay mapped as long as the region lives (it
//!   holds the mapping), and is aligned to a page.
//! - **Words or bytes.** A place is used through an atomic word or as plain bytes, as `layout`
//!   says, never both.
//! - **Turns.** Plain bytes are written by the side whose turn it is (the ring's writer between
//!   head and tail, an arena's lender until it hands the block over), and read by the other one
//!   after an acquiring load of the word that gave it the turn.
//! - **Foreign hands.** The peer is another process and may break the rule of turns. Bytes may
//!   then change under a reader. Numbers are therefore read once, by a volatile load, and
//!   checked; payloads have no meaning in this crate, and who decodes them must stand any bytes.

#[cfg(not(loom))]
pub(crate) use real::Region;

#[cfg(loom)]
pub(crate) use crate::model::Region;

use crate::atomics::Ordering::{Acquire, Relaxed};
use crate::error::Malformed;
use crate::layout::{AT_MAGIC, AT_VERSION};

/// Whether a region begins as whoever made it left it, its magic word last and with a releasing store.
pub(crate) fn check_origin(region: &Region, magic: u64, version: u32) -> Result<(), Malformed> {
    let found = region.u64_at(AT_MAGIC).load(Acquire); // pairs with the maker's store
    if found != magic {
        return Err(Malformed::Magic {
            found,
            expected: magic,
        });
    }
    let found = region.u32_at(AT_VERSION).load(Relaxed);
    if found != version {
        return Err(Malformed::Version {
            found,
            expected: version,
        });
    }
    Ok(())
}

#[cfg(not(loom))]
mod real {
    use crate::atomics::{AtomicU32, AtomicU64, Ordering};
    use crate::layout::{
        AT_FRAME_CLAIM, AT_FRAME_HEAD, AT_FRAME_LEN, FRAME_HEADER_LEN, Head, PAD, UNIT,
    };
    use core::ptr::NonNull;
    use manyhands_os::fork_state;
    use manyhands_os::memory::{Mapping, Parting};
    use std::sync::Arc;

    /// A mapping, and the process generation that may touch it.
    pub(crate) struct Region {
        base: NonNull<u8>,
        len: usize,
        /// Mappings are not inherited by forked children: there, memory is gone.
        generation: u64,
        mapping: Arc<Mapping>,
    }

    // SAFETY: the memory belongs to no thread; who touches it when is the rule of turns.
    unsafe impl Send for Region {}
    // SAFETY: as above.
    unsafe impl Sync for Region {}

    impl Region {
        pub(crate) fn of(mapping: Arc<Mapping>) -> Arc<Region> {
            let base = mapping.base();
            assert!(
                base.as_ptr().addr().is_multiple_of(128),
                "a mapping begins at a page"
            );
            Arc::new(Region {
                base,
                len: mapping.len(),
                generation: fork_state::generation(),
                mapping,
            })
        }

        pub(crate) fn len(&self) -> usize {
            self.len
        }

        /// False in a child forked since: it has no such mapping.
        pub(crate) fn is_mapped_here(&self) -> bool {
            self.generation == fork_state::generation()
        }

        /// Has a fork part these pages; see [`Mapping::part`].
        pub(crate) fn part(&self, at: usize, len: usize) -> Option<Parting> {
            Some(self.mapping.part(at, len))
        }

        /// The address of `len` bytes at `at`.
        #[inline]
        fn place(&self, at: usize, len: usize) -> *mut u8 {
            assert!(
                at <= self.len && len <= self.len - at,
                "an access beyond the region"
            );
            // SAFETY: Inside; the range was checked just now.
            unsafe { self.base.as_ptr().add(at) }
        }

        #[inline]
        pub(crate) fn u64_at(&self, at: usize) -> &AtomicU64 {
            assert!(at.is_multiple_of(8));
            // SAFETY: Inside, for as long as `self` is borrowed; aligned; Words or bytes.
            unsafe { AtomicU64::from_ptr(self.place(at, 8).cast()) }
        }

        #[inline]
        pub(crate) fn u32_at(&self, at: usize) -> &AtomicU32 {
            assert!(at.is_multiple_of(4));
            // SAFETY: Inside, for as long as `self` is borrowed; aligned; Words or bytes.
            unsafe { AtomicU32::from_ptr(self.place(at, 4).cast()) }
        }

        /// A row of words from `at` on.
        #[inline]
        pub(crate) fn row_at<const N: usize>(&self, at: usize) -> &[AtomicU64; N] {
            assert!(at.is_multiple_of(8));
            // SAFETY: Inside, for as long as `self` is borrowed; aligned; Words or bytes. An array of atomics is laid out
            // as its words are.
            unsafe { &*self.place(at, 8 * N).cast::<[AtomicU64; N]>() }
        }

        /// Words at these distances from `at`.
        #[inline]
        pub(crate) fn u32s_at<const N: usize>(
            &self,
            at: usize,
            words: [usize; N],
        ) -> [&AtomicU32; N] {
            let end = words.iter().fold(0, |end, word| end.max(word + 4));
            let base = self.place(at, end);
            assert!(at.is_multiple_of(4));
            words.map(|word| {
                assert!(word.is_multiple_of(4));
                // SAFETY: Inside, as `end` was, for as long as `self` is borrowed; aligned; Words or bytes.
                unsafe { AtomicU32::from_ptr(base.add(word).cast()) }
            })
        }

        /// Copies a frame's length and head out, once.
        ///
        /// # Safety
        /// It must be the caller's turn to read the frame's header.
        #[inline]
        pub(crate) unsafe fn read_header(&self, at: usize) -> (u32, Head) {
            assert!(at.is_multiple_of(UNIT));
            let place = self.place(at, FRAME_HEADER_LEN);
            // SAFETY: Inside, aligned (regions begin at a page); both are integers without padding,
            // valid whatever the peer wrote; volatile, so that what is checked is what is used.
            unsafe {
                let len = place.add(AT_FRAME_LEN).cast::<u32>().read_volatile();
                (len, place.add(AT_FRAME_HEAD).cast::<Head>().read_volatile())
            }
        }

        /// Writes a length alone, as a pad has.
        ///
        /// # Safety
        /// It must be the caller's turn to write these bytes.
        #[inline]
        pub(crate) unsafe fn write_pad(&self, at: usize) {
            assert!(at.is_multiple_of(UNIT));
            let place = self.place(at, FRAME_HEADER_LEN);
            // SAFETY: Inside, aligned; the caller has the turn.
            unsafe { place.add(AT_FRAME_LEN).cast::<u32>().write(PAD) }
        }

        /// Writes a frame whose payload is `parts`, of `len` bytes in all.
        ///
        /// # Safety
        /// It must be the caller's turn to write these bytes; `parts` must have `len` bytes in all,
        /// none of them among those.
        #[inline]
        pub(crate) unsafe fn write_frame(
            &self,
            at: usize,
            claim: u32,
            head: Head,
            len: usize,
            parts: &[&[u8]],
        ) {
            assert!(at.is_multiple_of(UNIT));
            let place = self.place(at, FRAME_HEADER_LEN + len);
            // SAFETY: Inside, aligned; the caller has the turn and vouches for the parts; the claim
            // is written as the atomic that it is (Relaxed: publishing orders it).
            unsafe {
                place.add(AT_FRAME_LEN).cast::<u32>().write(len as u32);
                let word = AtomicU32::from_ptr(place.add(AT_FRAME_CLAIM).cast());
                word.store(claim, Ordering::Relaxed);
                place.add(AT_FRAME_HEAD).cast::<Head>().write(head);
                let mut to = place.add(FRAME_HEADER_LEN);
                for part in parts {
                    to.copy_from_nonoverlapping(part.as_ptr(), part.len());
                    to = to.add(part.len());
                }
            }
        }

        /// Copies bytes in.
        ///
        /// # Safety
        /// It must be the caller's turn to write these bytes, and `bytes` must not be among them.
        #[inline]
        pub(crate) unsafe fn copy_in(&self, at: usize, bytes: &[u8]) {
            let place = self.place(at, bytes.len());
            // SAFETY: Inside; the caller has the turn and says that they do not overlap.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) }
        }

        /// The bytes themselves.
        ///
        /// # Safety
        /// It must be the caller's turn to read these bytes until the borrow ends; see Foreign
        /// hands for what that is worth.
        #[inline]
        pub(crate) unsafe fn bytes(&self, at: usize, len: usize) -> &[u8] {
            // SAFETY: Inside, for as long as `self` is borrowed; the caller has the turn.
            unsafe { core::slice::from_raw_parts(self.place(at, len), len) }
        }

        /// The address of a block, for views that outlive a borrow of the region.
        #[inline]
        pub(crate) fn address(&self, at: usize, len: usize) -> NonNull<u8> {
            NonNull::new(self.place(at, len)).expect("a mapping never lies at address zero")
        }
    }
}
