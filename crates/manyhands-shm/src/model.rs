//! Memory for loom's models: a stand-in for a mapped region, watched access by access.
//!
//! Always: words are loom's atomics, made beforehand at the offsets where the layouts have them;
//! bytes are plain memory, and each 64 of them have a loom cell that notices a reader and a writer
//! without an order between them.
//! Not here: the models (`tests/loom_*.rs`); nothing of this is built without `--cfg loom`.
#![allow(missing_docs, reason = "for the models alone")]

use crate::arena::{Borrower, Lender};
use crate::fifo::{self, Fifo};
use crate::layout::{
    AT_ASLEEP, AT_ATTACHED, AT_BEGAN, AT_DUE, AT_FRAME_CLAIM, AT_FRAME_HEAD, AT_FRAME_LEN, AT_HINT,
    AT_MAGIC, AT_PID, AT_RESULT_BYTES, AT_RESULT_HEAD, AT_RESULT_TAIL, AT_SERIAL, AT_TAG,
    AT_TASK_BYTES, AT_TASK_HEAD, AT_TASK_TAIL, AT_VERSION, AT_WAKE_AT, FRAME_HEADER_LEN,
    HEADER_LEN, Head, PAD, UNIT,
};
use crate::mailbox::{self, ParentEnd, Shape, WorkerEnd};
use core::ptr::NonNull;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::collections::HashMap;
use std::sync::Arc;

/// Both ends of a new mailbox.
pub fn mailbox(shape: Shape) -> (ParentEnd, WorkerEnd) {
    let words = [
        AT_MAGIC,
        AT_TASK_TAIL,
        AT_TASK_HEAD,
        AT_RESULT_TAIL,
        AT_RESULT_HEAD,
        AT_WAKE_AT,
        AT_DUE,
        AT_BEGAN,
        AT_SERIAL,
    ];
    let header = [
        AT_VERSION,
        AT_TASK_BYTES,
        AT_RESULT_BYTES,
        AT_ATTACHED,
        AT_ASLEEP,
        AT_HINT,
        AT_TAG,
        AT_PID,
    ];
    let claims = (HEADER_LEN..shape.region_len())
        .step_by(UNIT)
        .map(|at| at + AT_FRAME_CLAIM);
    let halves: Vec<usize> = header.into_iter().chain(claims).collect();
    let region = Arc::new(Region::new(shape.region_len(), &words, &halves));
    let parent = mailbox::create_in(region.clone(), shape);
    let worker = mailbox::attach_in(region).expect("a mailbox just made");
    (parent, worker)
}

/// Both ends of a new arena of `len` bytes, with a word for each of the first `slots` slots.
pub fn arena(len: usize, slots: usize) -> (Lender, Borrower) {
    let words: Vec<usize> = (0..slots).map(|index| index * 4).collect();
    let region = Arc::new(Region::new(len, &[], &words));
    (Lender::over(region.clone()), Borrower::over(region))
}

/// A new ring for many, of `capacity` bytes.
pub fn fifo(capacity: usize) -> Fifo {
    let words = [AT_MAGIC, fifo::AT_TAIL, fifo::AT_PAD, fifo::AT_HEAD];
    let claims = (fifo::AT_DATA..Fifo::region_len(capacity))
        .step_by(UNIT)
        .map(|at| at + AT_FRAME_CLAIM);
    let halves: Vec<usize> = [AT_VERSION, fifo::AT_TOLD, fifo::AT_PAST, fifo::AT_AWAITED]
        .into_iter()
        .chain(claims)
        .collect();
    let region = Region::new(Fifo::region_len(capacity), &words, &halves);
    Fifo::create_in(Arc::new(region))
}

/// The stand-in for a mapping.
pub(crate) struct Region {
    bytes: NonNull<u8>,
    len: usize,
    words: HashMap<usize, AtomicU64>,
    halves: HashMap<usize, AtomicU32>,
    watch: Vec<UnsafeCell<()>>,
}

// SAFETY: what `region` says of a mapping; loom watches that it is so.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn new(len: usize, words: &[usize], halves: &[usize]) -> Region {
        let bytes = Box::leak(vec![0_u64; len / 8].into_boxed_slice());
        Region {
            bytes: NonNull::from(bytes).cast(),
            len,
            words: words.iter().map(|&at| (at, AtomicU64::new(0))).collect(),
            halves: halves.iter().map(|&at| (at, AtomicU32::new(0))).collect(),
            watch: (0..len / UNIT).map(|_| UnsafeCell::new(())).collect(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_mapped_here(&self) -> bool {
        true
    }

    /// No fork in a model.
    pub(crate) fn part(&self, _at: usize, _len: usize) -> Option<manyhands_os::memory::Parting> {
        None
    }

    pub(crate) fn u64_at(&self, at: usize) -> &AtomicU64 {
        &self.words[&at]
    }

    pub(crate) fn u32_at(&self, at: usize) -> &AtomicU32 {
        &self.halves[&at]
    }

    fn place(&self, at: usize, len: usize) -> *mut u8 {
        assert!(at + len <= self.len);
        // SAFETY: inside of the box, which is freed when the region is dropped.
        unsafe { self.bytes.as_ptr().add(at) }
    }

    fn units(&self, at: usize, len: usize) -> &[UnsafeCell<()>] {
        &self.watch[at / UNIT..(at + len).div_ceil(UNIT)]
    }

    /// # Safety
    /// As for a mapping.
    pub(crate) unsafe fn read_header(&self, at: usize) -> (u32, Head) {
        self.watch_read(at, FRAME_HEADER_LEN);
        let place = self.place(at, FRAME_HEADER_LEN);
        // SAFETY: inside; the layouts keep values aligned.
        unsafe {
            (
                place.add(AT_FRAME_LEN).cast::<u32>().read(),
                place.add(AT_FRAME_HEAD).cast::<Head>().read(),
            )
        }
    }

    /// # Safety
    /// As for a mapping.
    pub(crate) unsafe fn write_pad(&self, at: usize) {
        self.watch_write(at, FRAME_HEADER_LEN);
        // SAFETY: inside; the layouts keep values aligned.
        unsafe { self.place(at + AT_FRAME_LEN, 4).cast::<u32>().write(PAD) }
    }

    /// # Safety
    /// As for a mapping.
    pub(crate) unsafe fn write_frame(
        &self,
        at: usize,
        claim: u32,
        head: Head,
        len: usize,
        parts: &[&[u8]],
    ) {
        self.watch_write(at, FRAME_HEADER_LEN + len);
        self.u32_at(at + AT_FRAME_CLAIM)
            .store(claim, Ordering::Relaxed);
        let place = self.place(at, FRAME_HEADER_LEN + len);
        // SAFETY: inside; the layouts keep values aligned.
        unsafe {
            place.add(AT_FRAME_LEN).cast::<u32>().write(len as u32);
            place.add(AT_FRAME_HEAD).cast::<Head>().write(head);
        }
        let bytes = parts.concat();
        assert_eq!(bytes.len(), len);
        // SAFETY: inside.
        unsafe {
            place
                .add(FRAME_HEADER_LEN)
                .copy_from_nonoverlapping(bytes.as_ptr(), len);
        }
    }

    /// # Safety
    /// As for a mapping.
    pub(crate) unsafe fn copy_in(&self, at: usize, bytes: &[u8]) {
        self.units(at, bytes.len())
            .iter()
            .for_each(|unit| unit.with_mut(|_| ()));
        // SAFETY: inside.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.place(at, bytes.len()), bytes.len())
        }
    }

    /// # Safety
    /// As for a mapping.
    pub(crate) unsafe fn bytes(&self, at: usize, len: usize) -> &[u8] {
        self.watch_read(at, len);
        // SAFETY: inside.
        unsafe { core::slice::from_raw_parts(self.place(at, len), len) }
    }

    fn watch_write(&self, at: usize, len: usize) {
        self.units(at, len)
            .iter()
            .for_each(|unit| unit.with_mut(|_| ()));
    }

    pub(crate) fn watch_read(&self, at: usize, len: usize) {
        self.units(at, len)
            .iter()
            .for_each(|unit| unit.with(|_| ()));
    }

    pub(crate) fn address(&self, at: usize, len: usize) -> NonNull<u8> {
        NonNull::new(self.place(at, len)).expect("a box does not lie at address zero")
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let words = core::ptr::slice_from_raw_parts_mut(self.bytes.as_ptr().cast(), self.len / 8);
        // SAFETY: leaked in `new`, with this length.
        drop(unsafe { Box::<[u64]>::from_raw(words) });
    }
}
