//! The borrower: opens what was lent, and gives it back.
//! Always: a descriptor is checked against the arena's bounds and the slot's word before a byte
//! is touched; a block is released once, by the process that opened it, or never, if that forked meanwhile.
//! Not here: allocation (`lend`).

use super::{BIG, Descriptor, PAGE, Plan, UNIT, WORN, state, turn_and_index, word};
use crate::atomics::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::error::Malformed;
use crate::region::Region;
use core::ops::Deref;
use manyhands_os::crash_point;
use manyhands_os::memory::Parting;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The borrowing side of an arena.
pub struct Borrower {
    region: Arc<Region>,
    plan: Plan,
    /// Bytes of blocks that did not go back, because a forked child may look at them.
    lost: Arc<AtomicU64>,
}

impl Borrower {
    /// The borrower of the arena in `mem`. The lender need not exist yet.
    #[cfg(not(loom))]
    pub fn new(mem: Arc<manyhands_os::memory::Mapping>) -> Borrower {
        Borrower::over(Region::of(mem))
    }

    pub(crate) fn over(region: Arc<Region>) -> Borrower {
        let plan = Plan::of(region.len());
        Borrower {
            region,
            plan,
            lost: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Whether forks have cost so much of the arena's memory that blocks are better copied and given back at
    /// once.
    pub fn is_worn(&self) -> bool {
        self.lost.load(Relaxed) > WORN // a hint, which orders nothing
    }

    /// Opens a block.
    ///
    /// # Errors
    /// [`Malformed`] if the descriptor points outside of the arena, or names a block that is not
    /// lent under it: opened before, taken back, or never lent.
    pub fn open(&self, descriptor: Descriptor) -> Result<Block, Malformed> {
        let Descriptor { slot, offset, len } = descriptor;
        let Plan { slots, data, end } = self.plan;
        let (turn, index) = turn_and_index(slot);
        let within = |field, value, low, high| {
            let fits = low <= value && value <= high;
            fits.then_some(()).ok_or(Malformed::OutOfRange {
                field,
                value,
                low,
                high,
            })
        };
        let last_slot = u64::from(slots).min(data / 4).saturating_sub(1);
        within("an arena block's slot", u64::from(index), 0, last_slot)?;
        within("an arena block's offset", offset, data, end)?;
        within("an arena block's length", len, 0, end - offset)?;
        if !offset.is_multiple_of(UNIT) {
            let (field, expected) = ("an arena block's offset", "a multiple of 64");
            return Err(Malformed::Uneven {
                field,
                value: offset,
                expected,
            });
        }
        let (lent, open) = (word(turn, state::LENT), word(turn, state::OPEN));
        // pairs with the store in `Loan::descriptor`: the bytes are filled
        self.region
            .u32_at(Plan::word(index))
            .compare_exchange(lent, open, AcqRel, Acquire)
            .map_err(|found| Malformed::NotLent {
                slot: index,
                found,
                expected: lent,
            })?;
        crash_point!("arena.opened");
        let (offset, len) = (offset as usize, len as usize); // both within the mapping
        let whole = offset.is_multiple_of(PAGE as usize) && len >= BIG as usize;
        let rest = self.region.len() - offset;
        let parting = match whole {
            // The lender has nothing else in the block's last page.
            true => self
                .region
                .part(offset, rest.min(len.next_multiple_of(PAGE as usize))),
            // No object of a user lies there: it is enough to know of forks.
            false => self.region.part(offset, 0),
        };
        Ok(Block {
            region: self.region.clone(),
            offset,
            len,
            slot,
            parting,
            lost: self.lost.clone(),
        })
    }
}

/// Bytes on loan; dropping the block gives them back.
///
/// They belong to this process alone by agreement. The lender is another process, so nothing but
/// its good behaviour keeps them from changing: decode them as bytes that may be anything.
pub struct Block {
    region: Arc<Region>,
    offset: usize,
    len: usize,
    slot: u32,
    parting: Option<Parting>,
    lost: Arc<AtomicU64>,
}

impl Block {
    /// The address of the first byte, for an owner that may write there (a buffer exporter). Who
    /// writes through it must see to it that nobody reads through the block meanwhile.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.region.address(self.offset, self.len).as_ptr()
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} bytes)", self.len())
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: Turns: ours from `open`, which succeeds once for each lending, to `drop`; see
        // Foreign hands for what that is worth.
        unsafe { self.region.bytes(self.offset, self.len) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // A forked child inherits the object but not the memory: nothing to give back.
        if self.region.is_mapped_here() {
            if !self.parting.take().is_none_or(Parting::end) {
                self.lost.fetch_add(self.len as u64, Relaxed);
                return;
            }
            let (turn, index) = turn_and_index(self.slot);
            let (open, released) = (word(turn, state::OPEN), word(turn, state::RELEASED));
            // pairs with the load in `Lender::sweep`: we are done with the bytes. An exchange, not
            // a store, so that a slot which was meanwhile used anew is left alone.
            crash_point!("arena.before-release");
            let slot = self.region.u32_at(Plan::word(index));
            let _ = slot.compare_exchange(open, released, Release, Relaxed);
            crash_point!("arena.released");
        }
    }
}
