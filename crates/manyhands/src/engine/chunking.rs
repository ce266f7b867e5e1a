//! How many items of a map go into one task.
//!
//! Always: what the caller said, if anything; else as many as a worker does in a moment, so that workers end together
//! however long single items take, and as many as are moved while still in the cache. Until the first answer came
//! that is one.
//! Not here: how many tasks a worker has ahead (`dispatch`).

use std::collections::HashMap;

/// Items in one task at most, if the caller did not say.
const MOST_ITEMS: usize = 4096;
/// How long a worker is to be busy with one task, in nanoseconds; what it costs to hand it out is a thousandth of it.
const MOST_NS: u64 = 2_000_000;
/// And as long as there is much to do, so many of which are a small part of it: each answer takes a core from a worker
/// where workers have them all.
const LONGEST_NS: u64 = 30_000_000;
const SMALL_PART: u64 = 16;
/// What is shorter than this is not worth a task of its own, though workers would end together more closely.
const LEAST_NS: u64 = 100_000;
/// Bytes of arguments, or of results, in one task.
const MOST_BYTES: u64 = 1 << 20;

/// Who decides, and from what.
#[derive(Debug)]
pub enum Chunking {
    /// The caller: so many.
    Fixed(usize),
    /// A share of what is left: large at first, one at the end, so that workers end together.
    Guided {
        /// How many items the input has.
        len: usize,
        /// How many share them.
        workers: usize,
    },
    /// The length of the input is not known: grow with what was seen.
    Growing {
        /// How many share it.
        workers: usize,
    },
}

impl Chunking {
    /// How many items the next task has, after `drawn` of them.
    pub fn next(&self, drawn: usize, seen: &Seen) -> usize {
        let (share, most_ns) = match self {
            Self::Fixed(size) => return *size,
            Self::Guided { len, workers } => {
                let left = len.saturating_sub(drawn);
                let part = seen.ns.saturating_mul(left as u64) / (*workers as u64 * SMALL_PART);
                let share = left.div_ceil(workers * 4);
                (share, part.clamp(MOST_NS, LONGEST_NS))
            }
            Self::Growing { workers } => (drawn / (workers * 8), MOST_NS),
        };
        // What is known of few items says little about many.
        let least = seen.least_items().min(drawn / 64);
        share
            .max(least)
            .min(seen.most_items(most_ns))
            .min(4 * drawn)
            .max(1)
    }

    /// Whether it wants to know what became of tasks.
    pub fn learns(&self) -> bool {
        !matches!(self, Self::Fixed(_))
    }
}

/// What the tasks of a map took so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Items and bytes of the tasks that are under way.
    under_way: HashMap<u64, (u64, u64)>,
    /// Smoothed, for one item; 0 as long as nothing is known.
    ns: u64,
    bytes: u64,
}

impl Seen {
    /// Task `index` of so many items and bytes is on its way.
    pub fn began(&mut self, index: u64, items: usize, bytes: usize) {
        self.under_way.insert(index, (items as u64, bytes as u64));
    }

    /// It was answered, with so many bytes, after `ns` nanoseconds.
    pub fn ended(&mut self, index: u64, ns: u64, bytes: usize) {
        let Some((items, sent)) = self
            .under_way
            .remove(&index)
            .filter(|(items, _)| *items > 0)
        else {
            return;
        };
        let smooth =
            |known: u64, now: u64| if known == 0 { now } else { known / 2 + now / 2 }.max(1);
        self.ns = smooth(self.ns, ns / items);
        self.bytes = smooth(self.bytes, sent.max(bytes as u64) / items);
    }

    fn least_items(&self) -> usize {
        match self.ns {
            0 => 1,
            ns => usize::try_from(LEAST_NS / ns).unwrap_or(MOST_ITEMS),
        }
    }

    fn most_items(&self, most_ns: u64) -> usize {
        if self.ns == 0 {
            return 1;
        }
        let most = (most_ns / self.ns).min(MOST_BYTES / self.bytes);
        usize::try_from(most).unwrap_or(MOST_ITEMS).min(MOST_ITEMS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ns: u64, sent: usize, answered: usize) -> Seen {
        let mut seen = Seen::default();
        seen.began(0, 1, sent);
        seen.ended(0, ns, answered);
        seen
    }

    #[test]
    fn the_caller_decides() {
        assert_eq!(Chunking::Fixed(7).next(0, &Seen::default()), 7);
        assert_eq!(Chunking::Fixed(7).next(1000, &seen(1 << 40, 0, 0)), 7);
    }

    #[test]
    fn a_task_is_one_item_until_something_is_known_then_a_share() {
        let guided = Chunking::Guided {
            len: 800,
            workers: 2,
        };
        assert_eq!(guided.next(100, &Seen::default()), 1);
        assert_eq!(guided.next(0, &seen(100, 9, 9)), 1);
        assert_eq!(guided.next(2, &seen(100, 9, 9)), 8);
        assert_eq!(guided.next(80, &seen(100, 9, 9)), 90);
        assert_eq!(guided.next(799, &seen(100_000, 9, 9)), 1);
        assert_eq!(guided.next(900, &seen(10_000, 9, 9)), 10);
    }

    #[test]
    fn what_takes_no_time_does_not_go_by_itself() {
        let guided = Chunking::Guided {
            len: 128_000,
            workers: 2,
        };
        assert_eq!(guided.next(127_999, &seen(100, 9, 9)), 1000);
        assert_eq!(guided.next(127_999, &seen(50_000, 9, 9)), 2);
        // No time is an excuse for more bytes than fit.
        assert_eq!(guided.next(127_999, &seen(100, 1 << 19, 1)), 2);
    }

    #[test]
    fn long_items_and_large_ones_go_by_themselves() {
        let guided = Chunking::Guided {
            len: 1 << 30,
            workers: 2,
        };
        let drawn = 1 << 20;
        assert_eq!(guided.next(drawn, &seen(1, 1, 1)), MOST_ITEMS);
        assert_eq!(guided.next(drawn, &seen(10_000, 1, 1)), 3000);
        assert_eq!(guided.next(drawn, &seen(10_000_000, 1, 1)), 3);
        assert_eq!(guided.next(drawn, &seen(50_000_000, 1, 1)), 1);
        assert_eq!(guided.next(drawn, &seen(1, 8 << 20, 1)), 1);
        assert_eq!(guided.next(drawn, &seen(1, 1, 100 << 10)), 10);
    }

    #[test]
    fn tasks_are_shorter_when_less_is_left() {
        let guided = Chunking::Guided {
            len: 200,
            workers: 2,
        };
        let sizes =
            [10, 100, 130, 150, 199].map(|drawn| guided.next(drawn, &seen(10_000_000, 1, 1)));
        assert_eq!(sizes, [3, 3, 2, 1, 1]);
    }

    #[test]
    fn what_it_learns_is_of_late() {
        let mut seen = seen(1_000, 1, 1);
        for index in 1..20 {
            seen.began(index, 10, 10);
            seen.ended(index, 10_000_000, 10);
        }
        let growing = Chunking::Growing { workers: 1 };
        assert_eq!(growing.next(1 << 20, &seen), 2);
        seen.ended(99, 1, 1); // one that it does not know
        assert_eq!(growing.next(1 << 20, &seen), 2);
    }
}
