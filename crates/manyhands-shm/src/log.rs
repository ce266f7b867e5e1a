//! A log of events that several processes write and one reads afterwards, in memory that it made.
//!
//! Always: a record is claimed by one exchange and marked whole last, so that a process which is killed on the way leaves a
//! record that is skipped; the log is as long as it was made, and what finds no room is counted.
//! Not here: what the events are (`manyhands`'s `engine/trace`), what is made of them (`manyhands/_trace.py`).
//!
//! ```text
//! at 0     magic, version: u32, bytes of a record: u32, records: u64
//! at 128   the next record: u64
//! at 256   how many were dropped: u64
//! at 4096  records of eight words each; the low half of the first is the kind, or 0 while it is being written
//! ```

use std::sync::Arc;

use manyhands_os::memory::Mapping;

use crate::atomics::Ordering::{Relaxed, Release};
use crate::error::Malformed;
use crate::region::Region;

/// "mh-trace" in ASCII, read as a little-endian number.
const MAGIC: u64 = u64::from_le_bytes(*b"mh-trace");
const VERSION: u32 = 1;

const AT_VERSION: usize = 8;
const AT_RECORD: usize = 12;
const AT_RECORDS: usize = 16;
const AT_NEXT: usize = 128;
const AT_DROPPED: usize = 256;
const AT_FIRST: usize = 4096;

/// Words of a record.
pub const WORDS: usize = 8;
const RECORD: usize = WORDS * 8;

/// Bytes of memory that a log of so many records takes.
pub const fn len_of(records: usize) -> usize {
    AT_FIRST + records * RECORD
}

/// A log, mapped here.
#[derive(Clone)]
pub struct Log {
    region: Arc<Region>,
    records: u64,
}

impl Log {
    /// Makes a log of memory that is all zero, of as many records as fit.
    ///
    /// # Panics
    /// If not even one fits.
    pub fn create(mapping: Arc<Mapping>) -> Log {
        let region = Region::of(mapping);
        assert!(region.len() >= len_of(1), "a log has a record or more");
        let records = ((region.len() - AT_FIRST) / RECORD) as u64;
        region.u32_at(AT_VERSION).store(VERSION, Relaxed);
        region.u32_at(AT_RECORD).store(RECORD as u32, Relaxed);
        region.u64_at(AT_RECORDS).store(records, Relaxed);
        region.u64_at(0).store(MAGIC, Release); // pairs with the load in `check_origin`
        Log { region, records }
    }

    /// Opens a log that another process made.
    ///
    /// # Errors
    /// [`Malformed`] if it is none, one of another version, or one that says it is longer than its memory.
    pub fn open(mapping: Arc<Mapping>) -> Result<Log, Malformed> {
        let region = Region::of(mapping);
        let most = region.len().saturating_sub(AT_FIRST) / RECORD;
        let out = |field, value, high| Malformed::OutOfRange {
            field,
            value,
            low: 1,
            high,
        };
        if most == 0 {
            return Err(out(
                "the log's length in bytes",
                region.len() as u64,
                u64::MAX,
            ));
        }
        crate::region::check_origin(&region, MAGIC, VERSION)?;
        let records = region.u64_at(AT_RECORDS).load(Relaxed);
        if !(1..=most as u64).contains(&records) {
            return Err(out("the log's number of records", records, most as u64));
        }
        Ok(Log { region, records })
    }

    /// A record to be written, if there is room for one that means so much. None in a forked child, which does not have
    /// the log.
    pub fn claim(&self, worth: Worth) -> Option<Record> {
        if !self.region.is_mapped_here() {
            return None;
        }
        let next = self.region.u64_at(AT_NEXT);
        let most = match worth {
            Worth::Vital => self.records,
            Worth::Main => self.records - self.records / 16,
            Worth::Detail => self.records / 2,
        };
        // Looked at first, so that the count never runs round however long a full log is written to.
        let number = if next.load(Relaxed) < most {
            next.fetch_add(1, Relaxed)
        } else {
            u64::MAX
        };
        if number >= self.records {
            self.region.u64_at(AT_DROPPED).fetch_add(1, Relaxed);
            return None;
        }
        Some(Record {
            at: AT_FIRST + number as usize * RECORD,
        })
    }

    /// Writes a record whole.
    pub fn write(&self, record: Record, kind: u32, upper: u32, words: [u64; WORDS - 1]) {
        for (word, value) in words.into_iter().enumerate() {
            self.set(record, word + 1, value);
        }
        let first = u64::from(kind) | u64::from(upper) << 32;
        let word = self.region.u64_at(record.at);
        word.store(first, Release); // the reader comes when all is over, or copies a log that is being written
    }

    /// Changes a word of a record that was written, other than the first; not in a forked child.
    ///
    /// # Panics
    /// If there is no such word.
    pub fn set(&self, record: Record, word: usize, value: u64) {
        assert!((1..WORDS).contains(&word), "a record has {WORDS} words");
        if !self.region.is_mapped_here() {
            return;
        }
        self.region
            .u64_at(record.at + word * 8)
            .store(value, Relaxed);
    }
}

/// What a record means to the rest: the less, the sooner a log that fills has no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Other records make no sense without it: there is room to the last.
    Vital,
    /// It tells the story: the last sixteenth is not for it.
    Main,
    /// It adds to a record that tells more: the first half is for it.
    Detail,
}

/// The place of a record in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    at: usize,
}
