//! Whether all who have some memory number each other alike: a word in it that each of them looks at.
//!
//! Always: it is one view until two processes of different ones have come, and never again after that.
//! Not here: what a view is (`manyhands_os::identity`).

use crate::atomics::Ordering::Relaxed;
use crate::atomics::{AtomicU64, full_fence};

const SEVERAL: u64 = u64::MAX;

/// 0, what all number each other by, or [`SEVERAL`].
pub(crate) struct View<'a>(pub(crate) &'a AtomicU64);

impl View<'_> {
    /// Notes what this process's number comes from, not 0; to be called before it is put into the memory.
    pub(crate) fn seen_from(&self, view: u64) {
        match self.0.compare_exchange(0, view, Relaxed, Relaxed) {
            Err(found) if found != view => self.0.store(SEVERAL, Relaxed),
            _ => {}
        }
        // Whoever reads our number from a word knows this too: pairs with the fence in `is_one`.
        full_fence();
    }

    /// Whether all numbers mean the same: asked after one was read from the memory.
    pub(crate) fn is_one(&self) -> bool {
        full_fence(); // pairs with the fence in `seen_from`
        self.0.load(Relaxed) != SEVERAL
    }
}
