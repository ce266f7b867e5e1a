//! Waiting awake for a moment, where moments were worth it lately.
//!
//! Always: not on a single core, and one thread of a process at a time for each kind of wait: two that spin want two
//! cores. Who has waited in vain lets Python's signal handlers run before it sleeps, as after any wait.
//! Not here: how long a moment is (`manyhands::engine::Patience`), sleeping.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use manyhands::engine::Patience;
use manyhands_os::cpu;

/// Whether somebody else can run while we look again and again.
static MAY_SPIN: AtomicBool = AtomicBool::new(false);

/// A kind of wait, and how it went of late.
pub(crate) struct Awake(Mutex<Option<Patience>>);

impl Awake {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Looks until `found` says yes or it is no more worth it; without the interpreter, as any wait.
    pub(crate) fn wait(&self, found: impl FnMut() -> bool) -> bool {
        if !MAY_SPIN.load(Relaxed) {
            return false;
        }
        let Ok(mut patience) = self.0.try_lock() else {
            return false;
        };
        let patience = patience.get_or_insert_with(Patience::new);
        patience.is_worth_it() && patience.spin(found)
    }
}

/// Whether there is more than one core to wait awake on.
pub(crate) fn may_spin() -> bool {
    MAY_SPIN.load(Relaxed)
}

pub(crate) fn register() {
    MAY_SPIN.store(cpu::available() > 1, Relaxed);
}
