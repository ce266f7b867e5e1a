//! The atomics: core's, or loom's when the models run.
//! Always: nothing else in this crate names an atomic type from elsewhere.
//! Not here: which ordering where (at the words' users: `ring`, `doorbell`, `mailbox`, `arena`).

#[cfg(not(loom))]
use core::sync::atomic::fence;
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::atomic::fence;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A sequentially consistent fence: of two threads that each store, fence and load the other's
/// word, at least one sees the other's store.
#[inline]
pub(crate) fn full_fence() {
    fence(Ordering::SeqCst);
}
