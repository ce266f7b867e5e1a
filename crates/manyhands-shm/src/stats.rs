//! A pool's page of figures: written by the pool's owner as it goes, read by whoever may open it.
//!
//! Always: every word is an atomic that orders nothing, so writing costs a store and no reader can hold a writer up; what is
//! read may be of two moments that lie close together, and whoever reads believes no number unchecked: another process
//! wrote it. Only the owner writes, under a lock of its own.
//! Not here: who looks for pages and what is made of them (`manyhands-top`), what a worker alone knows
//! ([`mailbox::glance`](crate::mailbox::glance)).

use core::mem::{offset_of, size_of};
use std::sync::Arc;

use manyhands_os::memory::Mapping;

use crate::atomics::Ordering::{Acquire, Relaxed, Release};
use crate::error::Malformed;
use crate::region::Region;

/// "mh-stats" in ASCII, read as a little-endian number.
const MAGIC: u64 = u64::from_le_bytes(*b"mh-stats");
/// Changes whenever the layout does.
const VERSION: u32 = 1;

/// What a page's memory is called in `/proc/PID/fd`.
pub const NAME: &str = "manyhands-stats";
/// Workers that a page has room for; of more, only their number is known.
pub const SLOTS: usize = 1024;
/// Names that a page has room for. A younger one takes the place of the one that is so many older.
const NAMES: usize = 256;
/// Bytes of a name; the rest of a longer one is cut off.
pub const NAME_BYTES: usize = 56;
const NAME_WORDS: usize = NAME_BYTES / 8;

/// Written once.
#[repr(C, align(128))]
struct Identity {
    magic: u64,
    version: u32,
    owner: u32,
    started_ns: u64,
    face: u32,
}

/// What is known of the pool as a whole.
#[repr(C, align(128))]
struct Whole {
    phase: u32,
    size: u32,
    waiting: u64,
    sources: u64,
    /// Workers that are being started.
    launching: u64,
    /// Workers that found no slot.
    crowd: u64,
    started: u64,
    deaths: u64,
    death_ns: u64,
    death_pid: u32,
    death_status: u32,
    death_cause: u32,
    _unused: u32,
    lost: u64,
}

/// What tasks came to: of one worker, or of all that are gone.
#[repr(C)]
struct Sums {
    handed: u64,
    answered: u64,
    raised: u64,
    ran_ns: u64,
    bytes_out: u64,
    bytes_in: u64,
}

#[repr(C, align(128))]
struct Gone {
    sums: Sums,
}

#[repr(C, align(128))]
struct Worker {
    /// Its number in the pool, counted from 1; 0: nobody is here.
    number: u64,
    pid: u32,
    state: u32,
    started_ns: u64,
    sums: Sums,
    load: u64,
}

#[repr(C)]
struct Name {
    id: u32,
    len: u32,
    text: [u64; NAME_WORDS],
}

#[repr(C)]
struct Layout {
    identity: Identity,
    whole: Whole,
    gone: Gone,
    workers: [Worker; SLOTS],
    names: [Name; NAMES],
}

const _: () = assert!(size_of::<Identity>() == 128 && size_of::<Whole>() == 128);
const _: () = assert!(size_of::<Gone>() == 128 && size_of::<Worker>() == 128);
const _: () = assert!(size_of::<Sums>() == 48 && size_of::<Name>() == 64);
// What a slot is set to lies in a row.
const _: () = assert!(offset_of!(Worker, load) == offset_of!(Worker, sums) + size_of::<Sums>());
const _: () = assert!(offset_of!(Sums, handed) == 0 && offset_of!(Sums, bytes_in) == 40);

/// The length of a page's memory, in bytes; what was never touched takes none.
pub const LEN: usize = size_of::<Layout>();

const AT_WHOLE: usize = offset_of!(Layout, whole);
const AT_WORKERS: usize = offset_of!(Layout, workers);
const AT_NAMES: usize = offset_of!(Layout, names);

/// Through which face a pool is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Face {
    /// The Rust API.
    Rust = 0,
    /// `manyhands.Pool`.
    Pool = 1,
    /// `manyhands.ProcessPoolExecutor`.
    Executor = 2,
}

/// What a pool is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// It takes tasks.
    Open = 0,
    /// It takes no more, and ends when what it has is done.
    Closing = 1,
    /// It was terminated, or is broken.
    Over = 2,
}

/// What a worker is up to, as far as its pool knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// It was started and takes no tasks yet.
    Starting = 1,
    /// It takes tasks.
    Ready = 2,
    /// It was told to leave.
    Leaving = 3,
}

/// Why a worker died, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Why {
    /// Nothing tells.
    Unknown = 0,
    /// It was overdue.
    TimeLimit = 1,
    /// Memory ran out.
    OutOfMemory = 2,
}

/// What tasks came to, counted from the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tasks that were handed to workers; one that is handed out again counts again.
    pub handed: u64,
    /// Tasks that were answered.
    pub answered: u64,
    /// Of these, those that raised.
    pub raised: u64,
    /// Nanoseconds that the answered ones ran.
    pub ran_ns: u64,
    /// Bytes of arguments.
    pub bytes_out: u64,
    /// Bytes of results.
    pub bytes_in: u64,
}

impl Tally {
    /// The sum of both.
    #[must_use]
    pub fn and(self, other: Tally) -> Tally {
        Tally {
            handed: self.handed.saturating_add(other.handed),
            answered: self.answered.saturating_add(other.answered),
            raised: self.raised.saturating_add(other.raised),
            ran_ns: self.ran_ns.saturating_add(other.ran_ns),
            bytes_out: self.bytes_out.saturating_add(other.bytes_out),
            bytes_in: self.bytes_in.saturating_add(other.bytes_in),
        }
    }
}

/// The owner's hold of its page.
#[derive(Clone)]
pub struct Page {
    region: Arc<Region>,
}

fn put(region: &Region, at: usize, value: u64) {
    region.u64_at(at).store(value, Relaxed);
}

fn add(region: &Region, at: usize, more: u64) {
    let word = region.u64_at(at);
    word.store(word.load(Relaxed).wrapping_add(more), Relaxed); // nobody else writes it
}

macro_rules! whole {
    ($field:ident) => {
        AT_WHOLE + offset_of!(Whole, $field)
    };
}

impl Page {
    /// Makes a page of memory that is all zero, for the pool of process `owner`.
    ///
    /// # Panics
    /// If the mapping is not [`LEN`] bytes.
    pub fn create(mapping: Arc<Mapping>, owner: i32, started_ns: u64, face: Face) -> Page {
        assert_eq!(mapping.len(), LEN, "a page has one length");
        let region = Region::of(mapping);
        let word = |at, value| region.u32_at(at).store(value, Relaxed);
        word(offset_of!(Identity, version), VERSION);
        word(offset_of!(Identity, owner), owner as u32);
        word(offset_of!(Identity, face), face as u32);
        put(&region, offset_of!(Identity, started_ns), started_ns);
        let magic = region.u64_at(offset_of!(Identity, magic));
        magic.store(MAGIC, Release); // pairs with the load in `Snapshot::read`: the rest of the identity is there
        Page { region }
    }

    /// Says through which face it is used.
    pub fn set_face(&self, face: Face) {
        if !self.region.is_mapped_here() {
            return;
        }
        let word = self.region.u32_at(offset_of!(Identity, face));
        word.store(face as u32, Relaxed);
    }

    /// What the pool has: phase, workers that there should be, tasks without a worker, inputs that are not drawn to their
    /// end, workers that are being started.
    #[inline]
    pub fn set_pool(
        &self,
        phase: Phase,
        size: usize,
        waiting: usize,
        sources: usize,
        launching: usize,
    ) {
        let region = &self.region;
        let word = |at, value| region.u32_at(at).store(value, Relaxed);
        word(whole!(phase), phase as u32);
        word(whole!(size), size as u32);
        put(region, whole!(waiting), waiting as u64);
        put(region, whole!(sources), sources as u64);
        put(region, whole!(launching), launching as u64);
    }

    /// Notes a death that nobody asked for.
    pub fn note_death(&self, pid: i32, status: i32, why: Why, now_ns: u64) {
        let region = &self.region;
        let word = |at, value| region.u32_at(at).store(value, Relaxed);
        word(whole!(death_pid), pid as u32);
        word(whole!(death_status), status as u32);
        word(whole!(death_cause), why as u32);
        put(region, whole!(death_ns), now_ns);
        add(region, whole!(deaths), 1);
    }

    /// Notes tasks that died with their worker.
    pub fn note_lost(&self, tasks: usize) {
        add(&self.region, whole!(lost), tasks as u64);
    }

    /// Says what tasks with this id call. `id` is never 0. In a forked child, where it may be asked for before anybody looks
    /// whose pool it is, nothing happens.
    pub fn name(&self, id: u32, name: &str) {
        if !self.region.is_mapped_here() {
            return;
        }
        let at = AT_NAMES + id as usize % NAMES * size_of::<Name>();
        let mut cut = name.len().min(NAME_BYTES);
        while !name.is_char_boundary(cut) {
            cut -= 1;
        }
        let region = &self.region;
        // A reader that comes meanwhile finds the id changed, or 0.
        let number = region.u32_at(at + offset_of!(Name, id));
        number.store(0, Relaxed);
        region
            .u32_at(at + offset_of!(Name, len))
            .store(cut as u32, Relaxed);
        for (word, bytes) in name.as_bytes()[..cut].chunks(8).enumerate() {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            put(
                region,
                at + offset_of!(Name, text) + word * 8,
                u64::from_le_bytes(eight),
            );
        }
        number.store(id, Release); // pairs with the load in `name_of`: the text is there
    }

    /// A slot for a worker that was just started; `None` if there are too many.
    pub fn seat(&self, number: u64, pid: i32, now_ns: u64) -> Option<Slot> {
        let region = &self.region;
        add(region, whole!(started), 1);
        let free = |at: &usize| region.u64_at(*at).load(Relaxed) == 0;
        let Some(at) = (0..SLOTS)
            .map(|slot| AT_WORKERS + slot * size_of::<Worker>())
            .find(free)
        else {
            add(region, whole!(crowd), 1);
            return None;
        };
        for word in (8..size_of::<Worker>()).step_by(8) {
            put(region, at + word, 0);
        }
        let word = |at, value| region.u32_at(at).store(value, Relaxed);
        word(at + offset_of!(Worker, pid), pid as u32);
        word(at + offset_of!(Worker, state), State::Starting as u32);
        put(region, at + offset_of!(Worker, started_ns), now_ns);
        let number = number.saturating_add(1);
        let place = region.u64_at(at + offset_of!(Worker, number));
        place.store(number, Release); // pairs with the load in `Snapshot::read`: the slot is whole
        Some(Slot {
            region: Arc::clone(region),
            at,
        })
    }

    /// A worker that had no slot is gone.
    pub fn leave_crowd(&self) {
        add(&self.region, whole!(crowd), u64::MAX);
    }
}

/// The figures of one worker; given back when dropped.
pub struct Slot {
    region: Arc<Region>,
    at: usize,
}

impl Slot {
    /// What its tasks came to, and how many it has.
    #[inline]
    pub fn set(&self, tally: &Tally, load: usize) {
        let words = [
            tally.handed,
            tally.answered,
            tally.raised,
            tally.ran_ns,
            tally.bytes_out,
            tally.bytes_in,
            load as u64,
        ];
        let row: &[_; 7] = self.region.row_at(self.at + offset_of!(Worker, sums));
        for (word, value) in row.iter().zip(words) {
            word.store(value, Relaxed);
        }
    }

    /// What it is up to.
    #[inline]
    pub fn set_state(&self, state: State) {
        let word = self.region.u32_at(self.at + offset_of!(Worker, state));
        word.store(state as u32, Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.region.is_mapped_here() {
            return;
        }
        let region = &self.region;
        region
            .u64_at(self.at + offset_of!(Worker, number))
            .store(0, Relaxed);
        let gone = offset_of!(Layout, gone);
        for word in (0..size_of::<Sums>()).step_by(8) {
            let sum = region.u64_at(self.at + offset_of!(Worker, sums) + word);
            add(region, gone + word, sum.load(Relaxed));
        }
    }
}

/// A page as it was at one moment, more or less.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The process that has the pool, as it numbers itself.
    pub owner: i32,
    /// When the pool was made, on the monotonic clock.
    pub started_ns: u64,
    /// Its face.
    pub face: Face,
    /// What it is up to.
    pub phase: Phase,
    /// Workers that there should be.
    pub size: u32,
    /// Tasks without a worker.
    pub waiting: u64,
    /// Inputs that are not drawn to their end.
    pub sources: u64,
    /// Workers that are being started.
    pub launching: u64,
    /// Workers that the page has no room for.
    pub crowd: u64,
    /// Workers that were ever started.
    pub started: u64,
    /// Deaths that nobody asked for.
    pub deaths: u64,
    /// The last of them.
    pub last_death: Option<LastDeath>,
    /// Tasks that died with their worker.
    pub lost: u64,
    /// What the tasks of workers that are gone came to.
    pub gone: Tally,
    /// The workers.
    pub workers: Vec<Seated>,
}

/// How a worker died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastDeath {
    /// When, on the monotonic clock.
    pub at_ns: u64,
    /// Its process id.
    pub pid: i32,
    /// Its exit code; a signal's number is negative.
    pub exitcode: i32,
    /// Why.
    pub why: Why,
}

/// A worker as the page has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seated {
    /// Its number in the pool, from 0, counting every replacement.
    pub number: u64,
    /// Its process id, as its parent numbers it.
    pub pid: i32,
    /// What it is up to.
    pub state: State,
    /// When it was started, on the monotonic clock.
    pub started_ns: u64,
    /// What its tasks came to.
    pub tally: Tally,
    /// Tasks that it has, the running one included.
    pub load: u64,
}

impl Snapshot {
    /// Reads the page in `mapping`, which any process may have written.
    ///
    /// # Errors
    /// [`Malformed`] if it is no page, or one of another version.
    pub fn read(mapping: &Arc<Mapping>) -> Result<Snapshot, Malformed> {
        let region = opened(mapping)?;
        let word = |at| region.u32_at(at).load(Relaxed);
        let long = |at| region.u64_at(at).load(Relaxed);
        let death_ns = long(whole!(death_ns));
        let last_death = (death_ns > 0).then(|| LastDeath {
            at_ns: death_ns,
            pid: word(whole!(death_pid)) as i32,
            exitcode: word(whole!(death_status)) as i32,
            why: match word(whole!(death_cause)) {
                1 => Why::TimeLimit,
                2 => Why::OutOfMemory,
                _ => Why::Unknown,
            },
        });
        let mut workers = Vec::new();
        for slot in 0..SLOTS {
            let at = AT_WORKERS + slot * size_of::<Worker>();
            let number = region.u64_at(at + offset_of!(Worker, number)).load(Acquire); // pairs with `Page::seat`
            if number == 0 {
                continue;
            }
            workers.push(Seated {
                number: number - 1,
                pid: word(at + offset_of!(Worker, pid)) as i32,
                state: match word(at + offset_of!(Worker, state)) {
                    2 => State::Ready,
                    3 => State::Leaving,
                    _ => State::Starting,
                },
                started_ns: long(at + offset_of!(Worker, started_ns)),
                tally: tally(&region, at + offset_of!(Worker, sums)),
                load: long(at + offset_of!(Worker, load)),
            });
        }
        Ok(Snapshot {
            owner: word(offset_of!(Identity, owner)) as i32,
            started_ns: long(offset_of!(Identity, started_ns)),
            face: match word(offset_of!(Identity, face)) {
                1 => Face::Pool,
                2 => Face::Executor,
                _ => Face::Rust,
            },
            phase: match word(whole!(phase)) {
                1 => Phase::Closing,
                2 => Phase::Over,
                _ => Phase::Open,
            },
            size: word(whole!(size)),
            waiting: long(whole!(waiting)),
            sources: long(whole!(sources)),
            launching: long(whole!(launching)),
            crowd: long(whole!(crowd)),
            started: long(whole!(started)),
            deaths: long(whole!(deaths)),
            last_death,
            lost: long(whole!(lost)),
            gone: tally(&region, offset_of!(Layout, gone)),
            workers,
        })
    }
}

/// What tasks with this id call, if the page in `mapping` still says so.
pub fn name_of(mapping: &Arc<Mapping>, id: u32) -> Option<String> {
    let region = opened(mapping).ok().filter(|_| id != 0)?;
    let at = AT_NAMES + id as usize % NAMES * size_of::<Name>();
    let number = region.u32_at(at + offset_of!(Name, id));
    if number.load(Acquire) != id {
        return None; // the load pairs with the store in `Page::name`
    }
    let len = region.u32_at(at + offset_of!(Name, len)).load(Relaxed) as usize;
    let mut text = Vec::with_capacity(NAME_BYTES);
    for word in 0..NAME_WORDS {
        let eight = region.u64_at(at + offset_of!(Name, text) + word * 8);
        text.extend_from_slice(&eight.load(Relaxed).to_le_bytes());
    }
    text.truncate(len);
    (number.load(Acquire) == id).then(|| String::from_utf8_lossy(&text).into_owned())
}

fn tally(region: &Region, at: usize) -> Tally {
    let sum = |field: usize| region.u64_at(at + field).load(Relaxed);
    Tally {
        handed: sum(offset_of!(Sums, handed)),
        answered: sum(offset_of!(Sums, answered)),
        raised: sum(offset_of!(Sums, raised)),
        ran_ns: sum(offset_of!(Sums, ran_ns)),
        bytes_out: sum(offset_of!(Sums, bytes_out)),
        bytes_in: sum(offset_of!(Sums, bytes_in)),
    }
}

fn opened(mapping: &Arc<Mapping>) -> Result<Arc<Region>, Malformed> {
    let (field, value) = ("the page's length in bytes", mapping.len() as u64);
    if mapping.len() < LEN {
        return Err(Malformed::OutOfRange {
            field,
            value,
            low: LEN as u64,
            high: u64::MAX,
        });
    }
    let region = Region::of(Arc::clone(mapping));
    crate::region::check_origin(&region, MAGIC, VERSION)?;
    Ok(region)
}
