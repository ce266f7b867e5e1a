//! The lender: which bytes are in use, by its own books alone.
//! Always: a slot's word says only whether a block came back; where the block is, and how long,
//! stands in private memory. A borrower that spoils the words keeps blocks from coming back, or
//! gets its own overwritten, and harms nobody else.
//! Not here: what the borrower does with a block (`borrow`).

use super::space::Space;
use super::{BIG, Descriptor, PAGE, Plan, UNIT, state, ticket, turn_and_index, word};
use crate::atomics::AtomicU32;
use crate::atomics::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::region::Region;
use manyhands_os::crash_point;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A block that is out, in the lender's books.
#[derive(Clone)]
struct Out {
    range: Range<u64>,
    /// 1 as long as its [`Loan`] may touch the bytes. Private memory, unlike the slot's word.
    filling: Arc<AtomicU32>,
    /// Its place in `Lender::out`.
    listed: usize,
}

/// A slot, in the lender's books.
#[derive(Clone, Default)]
struct Slot {
    turn: u16,
    out: Option<Out>,
}

impl Slot {
    fn is_filling(&self) -> bool {
        // pairs with the stores in `Loan`: it touches the bytes no more
        self.out
            .as_ref()
            .is_some_and(|out| out.filling.load(Acquire) == 1)
    }
}

/// The lending side of an arena: it alone allocates.
pub struct Lender {
    region: Arc<Region>,
    plan: Plan,
    /// Free, and touched before.
    warm: Space,
    /// Free, and never touched or given back to the kernel.
    cold: Space,
    slots: Vec<Slot>,
    /// Slots below `slots.len()` that are free.
    idle: Vec<u32>,
    /// Slots whose block is out.
    out: Vec<u32>,
    lent: u64,
}

impl Lender {
    /// The lender of an arena in `mem`, which must be new memory, all zero.
    #[cfg(not(loom))]
    pub fn new(mem: Arc<manyhands_os::memory::Mapping>) -> Lender {
        Lender::over(Region::of(mem))
    }

    pub(crate) fn over(region: Arc<Region>) -> Lender {
        let plan = Plan::of(region.len());
        let mut cold = Space::default();
        cold.add(plan.data..plan.end);
        Lender {
            region,
            plan,
            warm: Space::default(),
            cold,
            slots: Vec::new(),
            idle: Vec::new(),
            out: Vec::new(),
            lent: 0,
        }
    }

    /// A block of `len` bytes to fill and send; `None` if there is no room now, not even after
    /// taking back what was released.
    pub fn lend(&mut self, len: usize) -> Option<Loan> {
        let (range, cold) = self.allocate(len as u64)?;
        let Some(index) = self.free_slot() else {
            self.warm.add(range);
            return None;
        };
        let slot = &mut self.slots[index as usize];
        slot.turn = slot.turn.wrapping_add(1);
        let (turn, offset) = (slot.turn, range.start);
        self.lent += range.end - range.start;
        let filling = Arc::new(AtomicU32::new(1));
        slot.out = Some(Out {
            range,
            filling: filling.clone(),
            listed: self.out.len(),
        });
        self.out.push(index);
        // Relaxed: nobody knows of this block until `Loan::descriptor`.
        self.region
            .u32_at(Plan::word(index))
            .store(word(turn, state::FILLING), Relaxed);
        crash_point!("arena.lent");
        let descriptor = Descriptor {
            slot: ticket(turn, index),
            offset,
            len: len as u64,
        };
        Some(Loan {
            region: self.region.clone(),
            descriptor,
            filling,
            cold,
            handed_over: false,
        })
    }

    /// Takes back the blocks that were released. Returns how many bytes those were.
    pub fn sweep(&mut self) -> u64 {
        let before = self.lent;
        let mut at = 0;
        while let Some(&index) = self.out.get(at) {
            let slot = &self.slots[index as usize];
            let released = word(slot.turn, state::RELEASED);
            // pairs with the exchange in `Block::drop`: nobody uses the bytes
            let back = self.region.u32_at(Plan::word(index)).load(Acquire) == released;
            if back && !slot.is_filling() {
                self.settle(index); // puts another slot to `at`
            } else {
                at += 1;
            }
        }
        before - self.lent
    }

    /// Takes back a block that nobody has opened: its task was revoked, or could not be sent.
    /// False: it was opened (and comes back when released), or came back already.
    pub fn reclaim(&mut self, descriptor: Descriptor) -> bool {
        let (turn, index) = turn_and_index(descriptor.slot);
        let ours = self.slots.get(index as usize).is_some_and(|slot| {
            slot.turn == turn
                && slot
                    .out
                    .as_ref()
                    .is_some_and(|out| out.range.start == descriptor.offset)
        });
        if !ours {
            return false;
        }
        let (lent, free) = (word(turn, state::LENT), word(turn, state::FREE));
        // AcqRel: whichever of this and `Borrower::open` comes first has the block.
        let won = self
            .region
            .u32_at(Plan::word(index))
            .compare_exchange(lent, free, AcqRel, Acquire)
            .is_ok();
        if won {
            self.settle(index);
        }
        won
    }

    /// Takes back a block that nobody will open any more, its bytes included: they can be read until the
    /// [`Loan`] is dropped. Only for one whose task was revoked, or whose borrower is known to be dead.
    /// `None`: it came back already.
    pub fn recall(&mut self, descriptor: Descriptor) -> Option<Loan> {
        let (turn, index) = turn_and_index(descriptor.slot);
        let slot = self.slots.get(index as usize)?;
        let out = slot.out.as_ref()?;
        let len = out.range.end - out.range.start;
        if slot.turn != turn || out.range.start != descriptor.offset || descriptor.len > len {
            return None;
        }
        let (lent, filling) = (word(turn, state::LENT), word(turn, state::FILLING));
        // AcqRel, as in `reclaim`. A borrower that has spoilt the word keeps the block from coming back;
        // the bytes are where they were, for the books say that they are in no other block.
        let _ = self
            .region
            .u32_at(Plan::word(index))
            .compare_exchange(lent, filling, AcqRel, Acquire);
        out.filling.store(1, Relaxed); // as in `lend`: whoever looks at it borrows `self`
        Some(Loan {
            region: self.region.clone(),
            descriptor,
            filling: out.filling.clone(),
            cold: false,
            handed_over: false,
        })
    }

    /// Takes back everything that was handed over, opened or not. Only when the borrower is known
    /// to be dead. A [`Loan`] that is still being filled is left alone.
    pub fn reclaim_all(&mut self) {
        for index in self.out.clone() {
            if !self.slots[index as usize].is_filling() {
                self.settle(index);
            }
        }
    }

    /// Bytes in blocks that are out.
    pub fn lent_bytes(&self) -> u64 {
        self.lent
    }

    /// Bytes that are free, in however many pieces.
    pub fn free_bytes(&self) -> u64 {
        self.warm.total() + self.cold.total()
    }

    /// Ranges of the memory, in whole pages, that were used, are free now, and exceed `keep`
    /// bytes. The caller may punch them out of the memfd, before the next [`lend`](Self::lend):
    /// from then on they may be in use again.
    pub fn take_cold(&mut self, keep: u64) -> Vec<Range<u64>> {
        let ranges = self.warm.take_pages(keep, PAGE);
        for range in &ranges {
            self.cold.add(range.clone());
        }
        ranges
    }

    /// Finds bytes: warm ones, if need be after a sweep; then cold ones; then across both. Whether they are cold.
    fn allocate(&mut self, len: u64) -> Option<(Range<u64>, bool)> {
        if len > self.plan.end {
            return None;
        }
        let align = if len >= BIG { PAGE } else { UNIT };
        let exact = len.max(1).next_multiple_of(align);
        let eased = ease(exact, align);
        let at = |start: u64, len: u64| start..start + len;
        if let Some(start) = self.warm.take(eased, align) {
            return Some((at(start, eased), false));
        }
        if self.sweep() > 0
            && let Some(start) = self.warm.take(eased, align)
        {
            return Some((at(start, eased), false));
        }
        if let Some(start) = self.cold.take(eased, align) {
            return Some((at(start, eased), true));
        }
        // Nearly full: forget what is warm, and do not round.
        for range in self.warm.take_all() {
            self.cold.add(range);
        }
        let start = self.cold.take(exact, align)?;
        Some((at(start, exact), true)) // in part, at least
    }

    fn free_slot(&mut self) -> Option<u32> {
        if let Some(index) = self.idle.pop() {
            return Some(index);
        }
        if self.slots.len() == self.plan.slots as usize {
            self.sweep();
            return self.idle.pop();
        }
        if (self.slots.len() as u64 + 1) * 4 > self.plan.data {
            return None; // memory too short for its own table
        }
        self.slots.push(Slot::default());
        Some(self.slots.len() as u32 - 1)
    }

    /// Enters into the books that a block is back.
    fn settle(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let Some(out) = slot.out.take() else { return };
        // Relaxed: whoever sees it sees a block that may not be opened, which is all it says.
        self.region
            .u32_at(Plan::word(index))
            .store(word(slot.turn, state::FREE), Relaxed);
        self.lent -= out.range.end - out.range.start;
        self.warm.add(out.range);
        self.idle.push(index);
        self.out.swap_remove(out.listed);
        if let Some(&moved) = self.out.get(out.listed)
            && let Some(moved) = &mut self.slots[moved as usize].out
        {
            moved.listed = out.listed;
        }
    }
}

/// Rounds up to one of eight sizes for each doubling, so that a block freed by one payload fits
/// the next one of about its size.
fn ease(len: u64, align: u64) -> u64 {
    let step = (len.next_power_of_two() >> 4).max(align);
    len.next_multiple_of(step)
}

/// A block being filled, or recalled. Dropped before [`descriptor`](Loan::descriptor) was called, it goes
/// back. It borrows nothing, so that a long copy needs no lock on the [`Lender`].
pub struct Loan {
    region: Arc<Region>,
    descriptor: Descriptor,
    filling: Arc<AtomicU32>,
    cold: bool,
    handed_over: bool,
}

impl Loan {
    /// Bytes that the block holds.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a loan is never empty for long"
    )]
    pub fn len(&self) -> usize {
        self.descriptor.len as usize
    }

    /// Whether its memory was never touched: then it is worth getting the pages in one go.
    pub fn is_cold(&self) -> bool {
        self.cold
    }

    /// Where it begins in the arena, in bytes.
    pub fn offset(&self) -> u64 {
        self.descriptor.offset
    }

    /// Copies `bytes` to the block's byte `at` and the following.
    ///
    /// # Panics
    /// If they do not fit the block.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        let len = self.len();
        assert!(
            at <= len && bytes.len() <= len - at,
            "cannot write {} bytes at {at} of a block of {len}",
            bytes.len(),
        );
        // SAFETY: Turns: `Lender::allocate` gave these bytes to this loan alone, and nobody may
        // open them before `descriptor`.
        unsafe {
            self.region
                .copy_in(self.descriptor.offset as usize + at, bytes)
        }
    }

    /// The block's bytes, to be filled in place. They hold whatever was there before.
    #[cfg(not(loom))]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let place = self
            .region
            .address(self.descriptor.offset as usize, self.len());
        // SAFETY: Inside; Turns, as in `write`; borrowed mutably as long as `self` is.
        unsafe { core::slice::from_raw_parts_mut(place.as_ptr(), self.len()) }
    }

    /// The block is filled: the borrower may open it by this descriptor. If that is not sent
    /// after all, [`Lender::reclaim`] takes it back.
    pub fn descriptor(mut self) -> Descriptor {
        self.handed_over = true;
        self.put(state::LENT);
        crash_point!("arena.handed-over");
        self.descriptor
    }

    fn put(&self, state: u32) {
        let (turn, index) = turn_and_index(self.descriptor.slot);
        let (filling, next) = (word(turn, state::FILLING), word(turn, state));
        // pairs with the exchange in `Borrower::open`: the bytes are filled. If the borrower has
        // spoilt the word, it is left as it is: that block stays out.
        let slot = self.region.u32_at(Plan::word(index));
        let _ = slot.compare_exchange(filling, next, Release, Relaxed);
        self.filling.store(0, Release); // pairs with the load in `Slot::is_filling`
    }
}

/// What was filled in so far; what was not holds whatever was there before.
impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: Turns: these bytes are this loan's alone until `descriptor`, and written only through
        // a mutable borrow of it.
        unsafe {
            self.region
                .bytes(self.descriptor.offset as usize, self.len())
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.handed_over && self.region.is_mapped_here() {
            self.put(state::RELEASED);
        }
    }
}
