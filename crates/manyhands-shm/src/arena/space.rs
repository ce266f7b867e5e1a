//! Free ranges of an arena: found by size, joined by place.
//! Always: ranges neither overlap nor touch; the two maps hold the same ranges.
//! Not here: which of them are warm (`lend` keeps two of these).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

#[derive(Default)]
pub(super) struct Space {
    /// Start to length.
    by_place: BTreeMap<u64, u64>,
    /// Length and start.
    by_size: BTreeSet<(u64, u64)>,
    total: u64,
}

impl Space {
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Adds a range that is not in here, joined with its neighbours.
    pub(super) fn add(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        if let Some((&before, &len)) = self.by_place.range(..start).next_back()
            && before + len == start
        {
            self.remove(before, len);
            start = before;
        }
        if let Some(&len) = self.by_place.get(&end) {
            self.remove(end, len);
            end += len;
        }
        self.by_place.insert(start, end - start);
        self.by_size.insert((end - start, start));
        self.total += end - start;
    }

    /// Takes `len` bytes at a multiple of `align` out of the smallest range that has them.
    pub(super) fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        let mut candidates = self.by_size.range((len, 0)..);
        let (size, start) = *candidates
            .find(|(size, start)| start.next_multiple_of(align) - start <= size - len)?;
        let at = start.next_multiple_of(align);
        self.remove(start, size);
        self.add(start..at);
        self.add(at + len..start + size);
        Some(at)
    }

    /// Takes out whole pages of the biggest ranges until at most `keep` bytes are left, or no
    /// range holds a whole page.
    pub(super) fn take_pages(&mut self, keep: u64, page: u64) -> Vec<Range<u64>> {
        let mut taken = Vec::new();
        let mut kept = Vec::new();
        while self.total > keep
            && let Some(&(size, start)) = self.by_size.last()
        {
            self.remove(start, size);
            let end = start + size;
            let (first, last) = (start.next_multiple_of(page), end / page * page);
            if first < last {
                kept.push(start..first);
                kept.push(last..end);
                taken.push(first..last);
            } else {
                kept.push(start..end);
            }
        }
        kept.into_iter().for_each(|range| self.add(range));
        taken
    }

    /// Takes out all.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Range<u64>> + use<> {
        let Space { by_place, .. } = core::mem::take(self);
        by_place.into_iter().map(|(start, len)| start..start + len)
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.by_place.remove(&start);
        self.by_size.remove(&(len, start));
        self.total -= len;
    }
}
