//! A board: a page of cells for locks and their like, and the bench of those who wait for conditions.
//!
//! A lock is a few words, a memfd and a mapping are a descriptor and two pages: so a thousand locks share
//! one board. It has a fixed length, is sealed and sparse: pages nobody has touched cost nothing.
//!
//! **Who owns a cell.** Whoever makes a lock takes the next cell from a count in the board, by one exchange:
//! any process that has the board may, and no two get the same one. A cell is given out a second time only by
//! the process that took it, and only if nobody else can have it: it was never sent to another process, and
//! this process has not forked since it was made. Every other cell stays as it is when its lock goes, for as
//! long as the board is mapped anywhere. The board itself goes with its last mapping; the process that fills
//! boards lets go of one when the last lock on it has gone. So a lock's words are never somebody else's while
//! anyone can touch them, nobody has to count who has what, and a killed process leaves nothing to repair.
//!
//! **Who can say who lives.** Only processes that number each other alike can tell of each other whether they
//! live. So each that gets the board says what its numbers come from, before it puts its own anywhere on it.
//!
//! Always: what another process wrote (kind, bound) is checked when a cell is opened, and a cell's number is.
//! Not here: the words' meaning (`lock`, `semaphore`, ...), how a board gets into another process.

use super::condition::{Bench, Waiter};
use super::view::View;
use super::{Condition, Event, Holder, Lock, Semaphore, WAITERS};
use crate::atomics::Ordering::{Acquire, Relaxed, Release};
use crate::atomics::{AtomicU32, AtomicU64};
use crate::error::Malformed;
use crate::layout::{AT_MAGIC, AT_VERSION};
use crate::region::{Region, check_origin};
use manyhands_os::memory::Mapping;
use std::sync::Arc;

/// "mh-board" in ASCII, read as a little-endian number.
const MAGIC: u64 = u64::from_le_bytes(*b"mh-board");
const VERSION: u32 = 3;

/// Bytes of a cell: a cache line, so that two locks do not slow each other down.
pub const CELL: usize = 64;
/// Cells, the first of which is the board's own.
const CELLS: u32 = 1024;
/// Bytes of a seat.
const SEAT: usize = 16;
const SEATS: u32 = 4096;
const AT_SEATS: usize = CELLS as usize * CELL;

// The board's own cell, after its magic word and its version.
const AT_NEXT: usize = 12;
const AT_USED: usize = 16;
const AT_VIEW: usize = 24;

// Every other cell.
const WORD: usize = 0;
const THREAD: usize = 4;
const DEPTH: usize = 8;
const KIND: usize = 12;
const BOUND: usize = 16;
const MEMO: usize = 24;

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// A lock that its holder takes once.
    Lock = 1,
    /// A lock that its holder may take again.
    Recursive = 2,
    /// A semaphore.
    Semaphore = 3,
    /// An event.
    Event = 4,
    /// A condition's tickets.
    Condition = 5,
}

impl Kind {
    fn of(word: u32) -> Option<Kind> {
        [
            Kind::Lock,
            Kind::Recursive,
            Kind::Semaphore,
            Kind::Event,
            Kind::Condition,
        ]
        .into_iter()
        .find(|kind| *kind as u32 == word)
    }
}

/// A board of cells, mapped here.
#[derive(Clone)]
pub struct Board {
    region: Arc<Region>,
}

impl Board {
    /// The length of its memory.
    pub const LEN: usize = AT_SEATS + SEATS as usize * SEAT;

    /// Makes a board of memory that is all zero, mapped so that forked children keep it.
    ///
    /// # Panics
    /// If the mapping is not [`LEN`](Board::LEN) bytes.
    pub fn create(mapping: Arc<Mapping>) -> Board {
        assert_eq!(mapping.len(), Board::LEN, "a board has one length");
        let region = Region::of(mapping);
        region.u32_at(AT_VERSION).store(VERSION, Relaxed);
        region.u32_at(AT_NEXT).store(1, Relaxed);
        region.u64_at(AT_MAGIC).store(MAGIC, Release); // pairs with the load in `check_origin`
        Board { region }
    }

    /// The board that another process made.
    pub fn attach(mapping: Arc<Mapping>) -> Result<Board, Malformed> {
        let len = mapping.len() as u64;
        if len != Board::LEN as u64 {
            return Err(Malformed::OutOfRange {
                field: "the length of a board of locks",
                value: len,
                low: Board::LEN as u64,
                high: Board::LEN as u64,
            });
        }
        let region = Region::of(mapping);
        check_origin(&region, MAGIC, VERSION)?;
        Ok(Board { region })
    }

    /// Notes what this process's number comes from, not 0; to be called before it is put on the board.
    pub fn seen_from(&self, view: u64) {
        self.view().seen_from(view);
    }

    /// Whether all numbers on the board mean the same: asked after one was read from it.
    pub fn has_one_view(&self) -> bool {
        self.view().is_one()
    }

    fn view(&self) -> View<'_> {
        View(self.region.u64_at(AT_VIEW))
    }

    /// A cell that nobody had before, `None` if there is none left.
    pub fn take(&self) -> Option<u32> {
        self.region
            .u32_at(AT_NEXT)
            // Whatever a stranger has written there is no reason to overflow.
            .fetch_update(Relaxed, Relaxed, |next| (next < CELLS).then(|| next + 1))
            .ok()
            // It may be 0: that cell is the board's own.
            .filter(|cell| *cell != 0)
    }

    /// Begins a cell: fresh from [`take`](Board::take), or one that nobody else can have.
    pub fn begin(&self, cell: u32, kind: Kind, word: u32, bound: u32) {
        for (at, value) in [(WORD, word), (THREAD, 0), (DEPTH, 0), (BOUND, bound)] {
            self.at(cell, at).store(value, Relaxed);
        }
        self.memo(cell).store(0, Relaxed);
        self.at(cell, KIND).store(kind as u32, Release); // pairs with the load in `open`
    }

    /// What a cell holds, and its bound; an error if it holds nothing.
    pub fn open(&self, cell: u32) -> Result<(Kind, u32), Malformed> {
        let out_of_range = |field, value, low, high| Malformed::OutOfRange {
            field,
            value,
            low,
            high,
        };
        if cell == 0 || cell >= CELLS {
            let (value, high) = (u64::from(cell), u64::from(CELLS) - 1);
            return Err(out_of_range("the number of a lock's cell", value, 1, high));
        }
        let found = self.at(cell, KIND).load(Acquire); // pairs with the store in `begin`
        let kind = Kind::of(found)
            .ok_or_else(|| out_of_range("the kind of a lock's cell", u64::from(found), 1, 5))?;
        let bound = self.at(cell, BOUND).load(Relaxed);
        if bound >= WAITERS {
            let high = u64::from(WAITERS) - 1;
            return Err(out_of_range(
                "a semaphore's bound",
                u64::from(bound),
                0,
                high,
            ));
        }
        Ok((kind, bound))
    }

    #[inline]
    fn at(&self, cell: u32, word: usize) -> &AtomicU32 {
        self.words(cell, [word])[0]
    }

    /// Several words of a cell, for one look at whether they are there.
    #[inline]
    fn words<const N: usize>(&self, cell: u32, words: [usize; N]) -> [&AtomicU32; N] {
        assert!(cell != 0 && cell < CELLS, "callers have opened the cell");
        self.region.u32s_at(cell as usize * CELL, words)
    }

    /// The address of a cell's first word: different for each lock in this process.
    pub fn address(&self, cell: u32) -> usize {
        core::ptr::from_ref(self.at(cell, WORD)).addr()
    }

    /// The word that waiters sleep on, of every kind but a condition.
    #[inline]
    pub fn word(&self, cell: u32) -> &AtomicU32 {
        self.at(cell, WORD)
    }

    /// The lock in a cell.
    #[inline]
    pub fn lock(&self, cell: u32) -> Lock<'_> {
        let [word, thread, depth] = self.words(cell, [WORD, THREAD, DEPTH]);
        Lock::new(word, thread, depth)
    }

    /// The locks that are held: the cell, its kind, the holder's process and thread.
    pub fn held(&self) -> Vec<(u32, Kind, Holder)> {
        let next = self.region.u32_at(AT_NEXT).load(Relaxed).min(CELLS);
        let held = |cell| {
            let kind = Kind::of(self.at(cell, KIND).load(Relaxed))?;
            let holder = Holder {
                process: self.at(cell, WORD).load(Relaxed) & !WAITERS,
                thread: self.at(cell, THREAD).load(Relaxed),
            };
            let is_lock = matches!(kind, Kind::Lock | Kind::Recursive);
            (is_lock && holder.process != 0).then_some((cell, kind, holder))
        };
        (1..next).filter_map(held).collect()
    }

    /// Says of every lock that `process` holds that it ends in an orderly way.
    pub fn leave(&self, process: u32) {
        let next = self.region.u32_at(AT_NEXT).load(Relaxed).min(CELLS);
        for cell in 1..next {
            let kind = Kind::of(self.at(cell, KIND).load(Relaxed));
            if matches!(kind, Some(Kind::Lock | Kind::Recursive)) {
                self.lock(cell).leave(process);
            }
        }
    }

    /// What the holders of the lock in a cell tell each other, in a word of their own meaning: 0 at first.
    #[inline]
    pub fn memo(&self, cell: u32) -> &AtomicU64 {
        assert!(cell != 0 && cell < CELLS, "callers have opened the cell");
        self.region.u64_at(cell as usize * CELL + MEMO)
    }

    /// The semaphore in a cell.
    #[inline]
    pub fn semaphore(&self, cell: u32) -> Semaphore<'_> {
        Semaphore::new(self.at(cell, WORD))
    }

    /// The event in a cell.
    #[inline]
    pub fn event(&self, cell: u32) -> Event<'_> {
        Event::new(self.at(cell, WORD))
    }

    /// The condition in a cell.
    pub fn condition(&self, cell: u32) -> Condition<'_, Board> {
        Condition::new(self.at(cell, WORD), cell, self)
    }
}

impl Bench for Board {
    fn seats(&self) -> u32 {
        SEATS
    }

    fn seat(&self, number: u32) -> Waiter<'_> {
        let word = |at| self.region.u32_at(AT_SEATS + number as usize * SEAT + at);
        Waiter {
            claim: word(0),
            condition: word(4),
            ticket: word(8),
            state: word(12),
        }
    }

    fn used(&self) -> &AtomicU32 {
        self.region.u32_at(AT_USED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands_os::memory::Memfd;

    #[test]
    fn a_board_seen_in_two_ways_never_again_has_one_view() {
        let memory = Memfd::create("test", Board::LEN as u64).unwrap();
        let mapping = || Arc::new(Mapping::shared_with_children(&memory).unwrap());
        let (made, found) = (Board::create(mapping()), Board::attach(mapping()).unwrap());
        made.seen_from(7);
        found.seen_from(7);
        assert!(made.has_one_view() && found.has_one_view());
        found.seen_from(8);
        assert!(!made.has_one_view() && !found.has_one_view());
        made.seen_from(7);
        assert!(!found.has_one_view());
    }
}
