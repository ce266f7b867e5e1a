//! Arenas: big payloads by offset, lent by one process to one other.
//!
//! An arena is a table of slots, one word each, and then bytes. The [`Lender`] allocates blocks
//! of those bytes; its books are private, so no borrower can spoil them. A [`Descriptor`] travels
//! with a task or result; the [`Borrower`] opens it and has a [`Block`], which goes back when
//! dropped. A slot's word is `turn << 16 | state`, where the turn tells apart the blocks that
//! used the slot one after the other:
//!
//! ```text
//! FREE --lend--> FILLING --descriptor--> LENT --open, by the borrower--> OPEN
//!   ^              | ^------recall------- |                               |
//!   |           (dropped)              (reclaim)                       (dropped)
//!   |                v                    |                               v
//!   +----sweep--- RELEASED <--------------|------------------------- RELEASED
//!   +-------------------------------------+
//! ```
//!
//! Always: a block is opened at most once for each time it was lent, and no byte is in two blocks
//! at once, whatever the borrower does; blocks are aligned to 64 bytes, those of 128 KiB and more have
//! pages of their own; a block that was open when the borrower's process forked is never lent again, as the
//! child may look at it for ever; a released block is lent again before memory is touched that never was (a page's first
//! touch costs ten times its copy).
//! Never: two lenders, ever, in one piece of memory. A new worker gets new memory, since the
//! receivers of the dead one's results may still look at them.
//! Not here: giving pages back to the kernel (the caller punches what [`Lender::take_cold`] names).

mod borrow;
mod lend;
mod space;

pub use borrow::{Block, Borrower};
pub use lend::{Lender, Loan};

/// Which block: this is what travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The block's slot and turn; to be passed on, not to be read.
    pub slot: u32,
    /// Where it begins in the arena, in bytes.
    pub offset: u64,
    /// How many bytes it holds.
    pub len: u64,
}

impl Descriptor {
    /// Bytes of a descriptor that travels.
    pub const LEN: usize = 24;

    /// As bytes, little-endian: slot, four zeros, offset, length.
    pub fn to_bytes(self) -> [u8; Descriptor::LEN] {
        let mut bytes = [0; Descriptor::LEN];
        bytes[0..4].copy_from_slice(&self.slot.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    /// From bytes. Any bytes are a descriptor; [`Borrower::open`] tells whether it names a block.
    pub fn from_bytes(bytes: [u8; Descriptor::LEN]) -> Descriptor {
        let word = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(eight)
        };
        Descriptor {
            slot: word(0) as u32,
            offset: word(8),
            len: word(16),
        }
    }
}

/// A slot's states.
mod state {
    pub(super) const FREE: u32 = 0;
    pub(super) const FILLING: u32 = 1;
    pub(super) const LENT: u32 = 2;
    pub(super) const OPEN: u32 = 3;
    pub(super) const RELEASED: u32 = 4;
}

/// The table of slots, at the beginning of an arena, is no longer than this.
pub const TABLE_MAX: usize = 4 * MOST_SLOTS as usize;
const MOST_SLOTS: u64 = 1 << 16;

/// Blocks begin at multiples of this.
const UNIT: u64 = 64;
/// Big blocks are whole ones of these.
const PAGE: u64 = 4096;
/// From here on a block is big: those that a user's objects lie in are.
const BIG: u64 = 128 << 10;
/// Bytes that are never lent again beyond which a borrower is worn.
const WORN: u64 = 32 << 20;

/// How an arena of a certain length is laid out. Both sides compute it, so that nothing needs to
/// be read from the other.
#[derive(Clone, Copy)]
struct Plan {
    slots: u32,
    /// Where the bytes begin.
    data: u64,
    end: u64,
}

impl Plan {
    fn of(len: usize) -> Plan {
        let len = len as u64;
        let slots = (len / 16384).clamp(16, MOST_SLOTS);
        let data = (slots * 4).next_multiple_of(PAGE).min(len);
        Plan {
            slots: slots as u32,
            data,
            end: len & !(UNIT - 1),
        }
    }

    /// Offset of a slot's word.
    fn word(index: u32) -> usize {
        index as usize * 4
    }
}

/// The word of a slot in a turn and state.
fn word(turn: u16, state: u32) -> u32 {
    u32::from(turn) << 16 | state
}

/// A descriptor's `slot`: the turn and the slot's number.
fn ticket(turn: u16, index: u32) -> u32 {
    u32::from(turn) << 16 | index
}

/// Turn and number from a descriptor's `slot`.
fn turn_and_index(slot: u32) -> (u16, u32) {
    ((slot >> 16) as u16, slot & 0xffff)
}
