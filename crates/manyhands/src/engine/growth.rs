//! Whether a worker has grown: more memory to itself than when it was ready.
//!
//! Always: what it just answered does not count, for it is about to go. Not here: what follows (the parent gives it no
//! more tasks, and another one takes its place).

use std::io;

use manyhands_os::own_memory::{self, OwnMemory};

/// No worker leaks enough to matter in this time.
const LOOK_EVERY_NS: u64 = 1_000_000;

/// What a worker may grow by.
pub(super) struct Growth {
    own: OwnMemory,
    most: u64,
    /// What it had when it was ready.
    at_first: u64,
    looked_ns: u64,
}

impl Growth {
    pub(super) fn new(most: u64) -> io::Result<Self> {
        let own = OwnMemory::open()?;
        Ok(Self {
            at_first: own.bytes()?,
            own,
            most,
            looked_ns: 0,
        })
    }

    /// Begins to count, now that it is ready.
    pub(super) fn begin(&mut self) {
        // What a fork was left of free memory is given back now, or its end would later hide what is kept.
        own_memory::give_back();
        if let Ok(bytes) = self.own.bytes() {
            self.at_first = bytes;
        }
    }

    /// Whether it has grown by more than it may, the `answer` of so many bytes apart, and still has after `tidy`. What
    /// cannot be read is no reason to end a worker.
    pub(super) fn is_too_much(&mut self, now_ns: u64, answer: usize, tidy: impl FnOnce()) -> bool {
        if now_ns.saturating_sub(self.looked_ns) < LOOK_EVERY_NS {
            return false;
        }
        self.looked_ns = now_ns;
        if !self.is_over(answer) {
            return false;
        }
        tidy();
        own_memory::give_back();
        self.is_over(answer)
    }

    fn is_over(&self, answer: usize) -> bool {
        let borne = self
            .at_first
            .saturating_add(self.most)
            .saturating_add(answer as u64);
        self.own.bytes().is_ok_and(|bytes| bytes > borne)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 32 << 20;

    #[test]
    fn growth_beyond_the_answer_is_told() {
        let mut growth = Growth::new(MOST).unwrap();
        growth.begin();
        assert!(!growth.is_too_much(LOOK_EVERY_NS, 0, || {}));
        let kept = vec![1_u8; 3 * MOST as usize];
        assert!(!growth.is_too_much(LOOK_EVERY_NS, 0, || {}), "too early");
        assert!(!growth.is_too_much(2 * LOOK_EVERY_NS, kept.len(), || {}));
        assert!(growth.is_too_much(3 * LOOK_EVERY_NS, 0, || {}));
        assert!(!growth.is_too_much(4 * LOOK_EVERY_NS, 0, || drop(kept)));
    }
}
