//! How long to wait awake before going to sleep.
//!
//! Waking a sleeping core costs tens of microseconds, looking at a word in shared memory
//! a tenth of one; but a spinning waiter takes a core, and if the other side needs that
//! core, spinning costs both. So a waiter spins only where a core is free (the caller
//! knows), for a time that adapts: about twice what recent waits took, nothing at all for
//! a while after it was in vain several times.

use std::hint::spin_loop;

use manyhands_os::clock::now_ns;

/// The longest wait awake, in nanoseconds: about what one sleep and wake-up costs.
const MOST_NS: u64 = 50_000;
/// The wait that is tried before anything is known.
const FIRST_NS: u64 = 20_000;
/// Below this a wait awake finds next to nothing.
const LEAST_NS: u64 = 2_000;
/// After spinning was given up, every n-th wait tries it again.
const PROBE_EVERY: u32 = 32;

/// How long the next wait begins awake, from what the last ones took.
#[derive(Debug)]
pub struct Patience {
    limit_ns: u64,
    skipped: u32,
}

impl Patience {
    /// Nothing is known yet.
    #[allow(
        clippy::new_without_default,
        reason = "a first guess, no neutral value"
    )]
    pub fn new() -> Self {
        Self {
            limit_ns: FIRST_NS,
            skipped: 0,
        }
    }

    /// Whether the next wait should begin awake.
    pub fn is_worth_it(&mut self) -> bool {
        if self.limit_ns >= LEAST_NS {
            return true;
        }
        self.skipped += 1;
        if self.skipped >= PROBE_EVERY {
            self.skipped = 0;
            self.limit_ns = FIRST_NS;
        }
        self.limit_ns >= LEAST_NS
    }

    /// Looks until `found` says yes or patience ends, and learns from it.
    pub fn spin(&mut self, mut found: impl FnMut() -> bool) -> bool {
        let began = now_ns();
        loop {
            for _ in 0..16 {
                if found() {
                    let waited = now_ns() - began;
                    self.limit_ns = (self.limit_ns / 2 + waited * 2).clamp(LEAST_NS * 2, MOST_NS);
                    return true;
                }
                spin_loop();
            }
            if now_ns() - began > self.limit_ns {
                self.limit_ns /= 2;
                return false;
            }
        }
    }
}
