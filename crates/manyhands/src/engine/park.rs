//! Where a thread waits while another one collects for it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use manyhands_os::futex::{self, Scope, Wait};

/// A place for one thread to sleep until it is called, or a signal arrives.
#[derive(Debug, Default)]
pub(super) struct Parker {
    called: AtomicU32,
}

impl Parker {
    /// Sleeps until called, at most `limit`. `false`: a signal came instead.
    pub(super) fn park(&self, limit: Duration) -> bool {
        // Acquire pairs with the Release in `call`: what was settled before the call is visible.
        if self.called.load(Ordering::Acquire) != 0 {
            return true;
        }
        futex::wait(&self.called, 0, Some(limit), Scope::Private) != Wait::Interrupted
    }

    /// Wakes the thread that sleeps here, or is about to.
    pub(super) fn call(&self) {
        self.called.store(1, Ordering::Release); // pairs with the load in `park`
        futex::wake(&self.called, 1, Scope::Private);
    }
}
