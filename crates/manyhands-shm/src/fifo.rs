//! A ring whose two ends pass from process to process: many write and many read, one of each at a time.
//!
//! Frames lie as in `ring`, but nobody keeps a position of his own: whoever has an end's turn (a lock gives it, which
//! is the caller's) reads both words anew. So a process killed at any instruction leaves the end to the next one as it
//! was before the one store by which it would have moved it.
//!
//! **The note.** Who has nothing to read sleeps outside, on a pipe say, in which the writer leaves a note. One note is
//! enough for all that is in the ring: [`Fifo`] keeps the word that says whether there is one, and both [`Writer::publish`]
//! and [`Reader::is_drained`] keep it true. What a writer sends past the ring comes after what is in it: it leaves a
//! mark ([`Writer::mark`]), at which the reader takes the note and turns to what came past.
//!
//! Who is killed in the midst of that may leave a note that the word does not know of, and the next writer another one;
//! never a word that says there is a note when there is none. A note too many is taken when the ring is drained. A
//! reader takes the note before it passes the last item: killed in between, it leaves an item that the next note tells of.
//! After such a death, in a window of some instructions, what others send past the ring and through it just then may change
//! places once.
//!
//! Always: a frame is visible only after [`Writer::publish`]; low addresses are used again as soon as they are free, so that
//! a ring that is seldom full stays small and warm; there is always room for a mark.
//! Not here: the locks, the note itself, what a frame means.

use crate::atomics::Ordering::{Acquire, Relaxed, Release};
use crate::atomics::{AtomicU32, AtomicU64, full_fence};
use crate::error::Malformed;
use crate::layout::{AT_MAGIC, AT_VERSION, FRAME_HEADER_LEN, Head, UNIT};
use crate::region::Region;
#[cfg(not(loom))]
use crate::region::check_origin;
use crate::ring::{Found, Place, check_position, frame_len, out_of_range};
use manyhands_os::crash_point;
#[cfg(not(loom))]
use manyhands_os::memory::Mapping;
use std::sync::Arc;

/// Whether a note tells of the ring: none does; one does; one may, that a writer was just leaving.
const UNTOLD: u32 = 0;
const TOLD: u32 = 1;
const TELLING: u32 = 2;

/// "mh-fifo" in ASCII, read as a little-endian number.
const MAGIC: u64 = u64::from_le_bytes(*b"mh-fifo\0");
const VERSION: u32 = 1;

/// The writers' words.
pub(crate) const AT_TAIL: usize = 128;
pub(crate) const AT_TOLD: usize = 136;
/// Whether something may have been sent past the ring.
pub(crate) const AT_PAST: usize = 140;
/// One more than where the last pad begins; 0: there was none.
pub(crate) const AT_PAD: usize = 144;
/// The readers' words.
pub(crate) const AT_HEAD: usize = 256;
pub(crate) const AT_AWAITED: usize = 264;
pub(crate) const AT_DATA: usize = 4096;

/// Beyond this the writer goes back to the beginning as soon as that is free.
const WARM: u64 = 1 << 20;
/// How much may wait to be read, unless it is a single item or two: what is more would only be colder when it is read.
const BACKLOG: u64 = 4 << 20;
/// Who waits for room with a short item is woken when there is room for many.
const WORTH_A_WAKE: u64 = 32 << 10;
/// A ring shorter than that is none of ours.
const SHORTEST: u64 = 4 * UNIT as u64;

const ITEM: u16 = 0;
const MARK: u16 = 1;

/// A ring that any number of processes have mapped.
pub struct Fifo {
    region: Arc<Region>,
    place: Place,
    /// One more than where the readers were when somebody here last waited for them in vain.
    given_up: AtomicU64,
}

impl Fifo {
    /// The length of the memory for a ring of `capacity` bytes, a power of two.
    pub const fn region_len(capacity: usize) -> usize {
        AT_DATA + capacity
    }

    /// Makes a ring of memory that is all zero, mapped so that forked children keep it.
    ///
    /// # Panics
    /// If its length is none that [`region_len`](Fifo::region_len) gives.
    #[cfg(not(loom))]
    pub fn create(mapping: Arc<Mapping>) -> Fifo {
        Fifo::create_in(Region::of(mapping))
    }

    /// The ring that another process made.
    #[cfg(not(loom))]
    pub fn attach(mapping: Arc<Mapping>) -> Result<Fifo, Malformed> {
        let region = Region::of(mapping);
        let place = place_in(&region)?;
        check_origin(&region, MAGIC, VERSION)?;
        Ok(Fifo::new(region, place))
    }

    pub(crate) fn create_in(region: Arc<Region>) -> Fifo {
        let place = place_in(&region).expect("the length of a ring");
        region.u32_at(AT_VERSION).store(VERSION, Relaxed);
        region.u64_at(AT_MAGIC).store(MAGIC, Release); // pairs with the load in `check_origin`
        Fifo::new(region, place)
    }

    /// The longest payload that ever has room.
    pub fn max_payload(&self) -> usize {
        self.place.max_payload() - UNIT
    }

    /// Whether a note says that there is something in the ring.
    fn told(&self) -> &AtomicU32 {
        self.region.u32_at(AT_TOLD)
    }

    fn new(region: Arc<Region>, place: Place) -> Fifo {
        Fifo {
            region,
            place,
            given_up: AtomicU64::new(0),
        }
    }

    /// The word that those sleep on who wait for room, for as long as it is what [`await_room`](Fifo::await_room) said.
    pub fn awaited(&self) -> &AtomicU32 {
        self.region.u32_at(AT_AWAITED)
    }

    /// Says that somebody waits for room for `len` bytes; returns what is then in [`awaited`](Fifo::awaited). He looks for
    /// room once more before he sleeps.
    pub fn await_room(&self, len: usize) -> u32 {
        let frame = frame_len(len as u64);
        let unread = self.limit(frame) - frame.max(WORTH_A_WAKE.min(self.place.capacity / 4));
        // In units, and one more: 0 is nobody.
        let word = (unread / UNIT as u64) as u32 + 1;
        let awaited = self.awaited();
        // Whoever is content with the least room is asked first, and the others ask again.
        let word = word.max(awaited.load(Relaxed));
        awaited.store(word, Relaxed);
        full_fence(); // pairs with the fence in `Reader::pass`
        word
    }

    /// Where the readers are: another number when they have read something.
    pub fn progress(&self) -> u64 {
        self.region.u64_at(AT_HEAD).load(Relaxed)
    }

    /// Whether readers have read something since it was given up.
    pub fn has_hope(&self) -> bool {
        self.given_up.load(Relaxed) != self.progress().wrapping_add(1)
    }

    /// Notes that somebody waited for readers in vain.
    pub fn give_up(&self) {
        let now = self.progress().wrapping_add(1);
        self.given_up.store(now, Relaxed);
    }

    /// How much may be unread when a frame of that length has been added.
    fn limit(&self, frame: u64) -> u64 {
        (2 * frame)
            .max(BACKLOG)
            .min(self.place.capacity - UNIT as u64)
    }

    /// How many bytes between two positions are not a pad's: those between its beginning and the ring's are nobody's.
    fn unread(&self, head: u64, tail: u64) -> u64 {
        let pad = self.region.u64_at(AT_PAD).load(Relaxed);
        let skipped = match pad > head && pad <= tail {
            true => self.place.to_end(pad - 1),
            false => 0,
        };
        (tail - head).saturating_sub(skipped)
    }

    fn positions(&self) -> Result<(u64, u64), Malformed> {
        // pairs with the store in `Reader::go_to`: those bytes are done with
        let head = self.region.u64_at(AT_HEAD).load(Acquire);
        // pairs with the store in `Writer::show`: the frames are visible
        let tail = self.region.u64_at(AT_TAIL).load(Acquire);
        let high = u64::MAX - 2 * self.place.capacity;
        check_position("the readers' position", head, 0, high)?;
        check_position(
            "the writers' position",
            tail,
            head,
            head + self.place.capacity,
        )?;
        Ok((head, tail))
    }

    /// The writers' end.
    ///
    /// # Safety
    /// It is the caller's turn, in all processes, for as long as it is used.
    pub unsafe fn writer(&self) -> Result<Writer<'_>, Malformed> {
        let (head, tail) = self.positions()?;
        Ok(Writer {
            fifo: self,
            tail,
            head,
        })
    }

    /// The readers' end.
    ///
    /// # Safety
    /// It is the caller's turn, in all processes, for as long as it is used.
    pub unsafe fn reader(&self) -> Result<Reader<'_>, Malformed> {
        let (head, tail) = self.positions()?;
        Ok(Reader {
            fifo: self,
            head,
            tail,
        })
    }
}

fn place_in(region: &Region) -> Result<Place, Malformed> {
    let len = region.len() as u64;
    let capacity = len.saturating_sub(AT_DATA as u64);
    if capacity < SHORTEST || !capacity.is_power_of_two() {
        let low = AT_DATA as u64 + SHORTEST;
        return Err(out_of_range("the length of a ring", len, low, u64::MAX));
    }
    Ok(Place {
        tail: AT_TAIL,
        head: AT_HEAD,
        data: AT_DATA,
        capacity,
    })
}

/// The writers' end, while it is somebody's turn.
pub struct Writer<'a> {
    fifo: &'a Fifo,
    /// Where the next frame goes.
    tail: u64,
    /// Where the readers are, when last seen.
    head: u64,
}

impl Writer<'_> {
    /// Writes `parts` as one frame, visible only after [`publish`](Writer::publish); false if there is no room now.
    pub fn push(&mut self, parts: &[&[u8]]) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > self.fifo.max_payload() {
            return false;
        }
        let frame = frame_len(len as u64);
        if self.fifo.unread(self.head, self.tail) + frame > self.fifo.limit(frame) {
            return false;
        }
        let place = self.fifo.place;
        let to_end = place.to_end(self.tail);
        let offset = place.capacity - to_end;
        // Room for a mark stays, which is never behind a pad.
        let fits = |pad: u64| self.tail + pad + frame + UNIT as u64 <= self.head + place.capacity;
        let pad = if to_end < frame || (offset > 0 && offset + frame > WARM && fits(to_end)) {
            to_end
        } else {
            0
        };
        if !fits(pad) {
            return false;
        }
        self.put(pad, ITEM, len, parts);
        crash_point!("fifo.written");
        true
    }

    fn put(&mut self, pad: u64, kind: u16, len: usize, parts: &[&[u8]]) {
        let Fifo { region, place, .. } = self.fifo;
        let head = Head {
            kind,
            ..Head::default()
        };
        // SAFETY: Turns: it is ours, as `Fifo::writer`'s caller says, and so are the bytes from the tail on up to
        // where the readers are, within which the frame was found to lie.
        unsafe {
            if pad != 0 {
                region.write_pad(place.at(self.tail));
                region.u64_at(AT_PAD).store(self.tail + 1, Relaxed);
            }
            self.tail += pad;
            region.write_frame(place.at(self.tail), 0, head, len, parts);
        }
        self.tail += frame_len(len as u64);
    }

    /// Makes what was pushed visible; if no note tells of the ring, `tell` leaves one. With its error nothing was
    /// pushed.
    ///
    /// room -- what is there of what was sent past the ring; asked only if there may be some
    pub fn publish<E>(
        self,
        room: impl FnOnce() -> Result<Past, E>,
        tell: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let region = &self.fifo.region;
        let told = self.fifo.told();
        if told.load(Relaxed) == TOLD {
            self.show(self.tail);
            return Ok(());
        }
        let past = region.u32_at(AT_PAST);
        if past.load(Relaxed) != 0
            && let Past::Nothing = room()?
        {
            past.store(0, Relaxed);
        }
        // The frames first: whoever finds the note finds them.
        let before = region.u64_at(AT_TAIL).load(Relaxed);
        told.store(TELLING, Relaxed);
        crash_point!("fifo.telling");
        self.show(self.tail);
        crash_point!("fifo.shown");
        if let Err(error) = tell() {
            self.show(before);
            told.store(UNTOLD, Relaxed);
            return Err(error);
        }
        crash_point!("fifo.noted");
        told.store(TOLD, Relaxed);
        crash_point!("fifo.told");
        Ok(())
    }

    fn show(&self, tail: u64) {
        // pairs with the load in `Fifo::positions`: the frames are visible
        self.fifo.region.u64_at(AT_TAIL).store(tail, Release);
    }

    /// Has the readers go on past the ring, when they have read what is in it: whoever sends something past it does so
    /// when the first of it is sent; before, if he waits for them meanwhile. Does nothing while no note tells of the ring.
    /// False: there is no room, which a stranger has taken.
    pub fn mark(mut self) -> bool {
        let told = self.fifo.told();
        self.fifo.region.u32_at(AT_PAST).store(1, Relaxed);
        if told.load(Relaxed) != TOLD {
            told.store(UNTOLD, Relaxed);
            return true;
        }
        if self.tail + UNIT as u64 > self.head + self.fifo.place.capacity {
            return false;
        }
        self.put(0, MARK, 0, &[]);
        // Not untold before the mark is there: a reader would take the note for one too many, and find the mark later.
        told.store(TELLING, Relaxed);
        crash_point!("fifo.marking");
        self.show(self.tail);
        told.store(UNTOLD, Release);
        crash_point!("fifo.marked");
        true
    }
}

/// What was sent past the ring.
pub enum Past {
    /// Nothing of it is left.
    Nothing,
    /// Something, and there is room for a note.
    Something,
}

/// What a reader finds.
pub enum Next {
    /// An item.
    Item(Item),
    /// A mark, which is passed by now: the note is to be taken.
    Mark,
    /// Nothing.
    Nothing,
}

/// An item as it lies in the ring.
pub struct Item(Found);

impl Item {
    /// Bytes of its payload.
    #[expect(clippy::len_without_is_empty, reason = "a length of a payload")]
    pub fn len(&self) -> usize {
        self.0.len as usize
    }

    fn end(&self) -> u64 {
        self.0.end()
    }
}

/// The readers' end, while it is somebody's turn.
pub struct Reader<'a> {
    fifo: &'a Fifo,
    /// Where the next frame begins.
    head: u64,
    /// Where the writers are, when last seen.
    tail: u64,
}

impl Reader<'_> {
    /// What comes next.
    pub fn look(&mut self) -> Result<Next, Malformed> {
        let Fifo { region, place, .. } = self.fifo;
        // SAFETY: Turns: it is ours, as `Fifo::reader`'s caller says, and so are the bytes up to the tail.
        let found = unsafe { place.find(region, &mut self.head, self.tail) }?;
        Ok(match found {
            None => Next::Nothing,
            Some(found) if found.head.kind == MARK => {
                self.go_to(Item(found).end());
                Next::Mark
            }
            Some(found) => {
                crash_point!("fifo.found");
                Next::Item(Item(found))
            }
        })
    }

    /// An item's bytes. Another process may change them, if it breaks the rules: whoever reads them must stand any.
    pub fn payload(&self, item: &Item) -> &[u8] {
        let at = self.fifo.place.at(item.0.position) + FRAME_HEADER_LEN;
        // SAFETY: Turns: ours, and not yet passed; `look` has checked the length.
        unsafe { self.fifo.region.bytes(at, item.len()) }
    }

    /// Goes past an item. True: somebody waits for room and is to be woken, by [`Fifo::awaited`], which is 0 by now.
    #[must_use]
    pub fn pass(&mut self, item: Item) -> bool {
        #[cfg(loom)]
        self.fifo.region.watch_read(
            self.fifo.place.at(item.0.position),
            (item.end() - item.0.position) as usize,
        );
        self.go_to(item.end());
        crash_point!("fifo.passed");
        full_fence(); // pairs with the fence in `Fifo::await_room`
        let awaited = self.fifo.awaited();
        let wish = awaited.load(Relaxed);
        let left = || self.fifo.unread(self.head, self.tail.max(self.head)) / UNIT as u64;
        if wish == 0 || left() >= u64::from(wish) {
            return false;
        }
        awaited.store(0, Relaxed);
        true
    }

    fn go_to(&mut self, position: u64) {
        self.head = position;
        // pairs with the load in `Fifo::positions`: we are done with those bytes
        self.fifo.region.u64_at(AT_HEAD).store(position, Release);
    }

    /// Whether nothing is in the ring now.
    fn is_empty(&self) -> bool {
        self.ends_at(self.head)
    }

    fn ends_at(&self, position: u64) -> bool {
        // pairs with the store in `Writer::show`
        self.fifo.region.u64_at(AT_TAIL).load(Acquire) == position
    }

    /// Whether nothing comes after that item now.
    pub fn is_last(&self, item: &Item) -> bool {
        self.ends_at(item.end())
    }

    /// Whether the note that was found is one too many: nothing is in the ring, and no note tells of it.
    pub fn is_stray(&self) -> bool {
        // In this order: whoever has sent something past the ring has left its mark before it said that it is untold.
        self.fifo.told().load(Acquire) == UNTOLD && self.is_empty()
    }

    /// Whether nothing is in the ring but `last`; then the note is the caller's to take, and after that `last` to pass.
    ///
    /// # Safety
    /// It is the caller's turn to write, too.
    pub unsafe fn is_drained(&self, last: Option<&Item>) -> bool {
        let drained = self.ends_at(last.map_or(self.head, Item::end));
        if drained {
            self.fifo.told().store(UNTOLD, Relaxed);
            crash_point!("fifo.drained");
        }
        drained
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use manyhands_os::memory::Memfd;

    const CAPACITY: usize = 4 << 20;

    fn fifo(capacity: usize) -> Fifo {
        let memory = Memfd::create("test", Fifo::region_len(capacity) as u64).unwrap();
        Fifo::create(Arc::new(Mapping::shared(&memory).unwrap()))
    }

    /// Puts one item; whether a note was left, None if there was no room.
    fn put(fifo: &Fifo, payload: &[u8]) -> Option<bool> {
        // SAFETY: one thread has it.
        let mut writer = unsafe { fifo.writer() }.unwrap();
        let mut told = false;
        writer.push(&[payload]).then(|| {
            let tell = || {
                told = true;
                Ok::<_, ()>(())
            };
            writer.publish(|| Ok(Past::Nothing), tell).unwrap();
            told
        })
    }

    fn take(fifo: &Fifo) -> Option<Vec<u8>> {
        // SAFETY: one thread has it.
        let mut reader = unsafe { fifo.reader() }.unwrap();
        match reader.look().unwrap() {
            Next::Item(item) => {
                let bytes = reader.payload(&item).to_vec();
                let _ = reader.pass(item);
                Some(bytes)
            }
            Next::Mark | Next::Nothing => None,
        }
    }

    #[test]
    fn items_of_all_lengths_come_in_order_round_and_round() {
        let fifo = fifo(1 << 14);
        let lengths = [0, 1, 31, 32, 33, 100, 4000, fifo.max_payload()];
        for turn in 0..500_usize {
            let len = lengths[turn % lengths.len()];
            assert!(put(&fifo, &vec![turn as u8; len]).is_some());
            if turn % 3 == 0 && len < 100 {
                assert!(put(&fifo, b"second").is_some());
                assert_eq!(take(&fifo), Some(vec![turn as u8; len]));
                assert_eq!(take(&fifo).as_deref(), Some(&b"second"[..]));
            } else {
                assert_eq!(take(&fifo), Some(vec![turn as u8; len]));
            }
            assert_eq!(take(&fifo), None);
        }
    }

    #[test]
    fn a_full_ring_refuses_and_still_takes_a_mark() {
        let fifo = fifo(1 << 12);
        assert_eq!(put(&fifo, &vec![0; fifo.max_payload() + 1]), None);
        let mut count = 0;
        while put(&fifo, &[count]).is_some() {
            count += 1;
        }
        assert_eq!(usize::from(count), (1 << 12) / UNIT - 1);
        // SAFETY: one thread has it.
        assert!(unsafe { fifo.writer() }.unwrap().mark());
        for number in 0..count {
            assert_eq!(take(&fifo), Some(vec![number]));
        }
        // SAFETY: one thread has it.
        let mut reader = unsafe { fifo.reader() }.unwrap();
        assert!(matches!(reader.look(), Ok(Next::Mark)));
        assert!(matches!(reader.look(), Ok(Next::Nothing)));
    }

    #[test]
    fn a_note_is_left_when_none_tells_of_the_ring() {
        let fifo = fifo(1 << 12);
        assert_eq!(put(&fifo, b"a"), Some(true));
        assert_eq!(put(&fifo, b"b"), Some(false));
        // SAFETY: one thread has it.
        assert!(unsafe { fifo.writer() }.unwrap().mark());
        assert_eq!(put(&fifo, b"c"), Some(true));
        assert!(take(&fifo).is_some() && take(&fifo).is_some());
        // SAFETY: one thread has it.
        let mut reader = unsafe { fifo.reader() }.unwrap();
        assert!(matches!(reader.look(), Ok(Next::Mark)));
        // SAFETY: as before.
        assert!(!unsafe { reader.is_drained(None) });
        assert!(take(&fifo).is_some());
        // SAFETY: as before.
        assert!(unsafe { fifo.reader().unwrap().is_drained(None) });
        assert_eq!(put(&fifo, b"d"), Some(true));
    }

    #[test]
    fn what_could_not_be_told_is_not_there() {
        let fifo = fifo(1 << 12);
        // SAFETY: one thread has it.
        let mut writer = unsafe { fifo.writer() }.unwrap();
        assert!(writer.push(&[b"lost"]));
        let no = || Err("no room");
        assert_eq!(writer.publish(|| Ok(Past::Nothing), no), Err("no room"));
        assert_eq!(take(&fifo), None);
        // SAFETY: one thread has it.
        assert!(unsafe { fifo.writer() }.unwrap().mark());
        // SAFETY: one thread has it.
        let mut writer = unsafe { fifo.writer() }.unwrap();
        assert!(writer.push(&[b"lost"]));
        assert_eq!(writer.publish(|| Err("full"), || Ok(())), Err("full"));
        assert_eq!(take(&fifo), None);
        assert_eq!(put(&fifo, b"there"), Some(true));
        assert_eq!(take(&fifo).as_deref(), Some(&b"there"[..]));
    }

    #[test]
    fn a_ring_that_is_read_stays_at_its_beginning() {
        let fifo = fifo(CAPACITY);
        let payload = vec![1; 1000];
        for _ in 0..3 * CAPACITY / payload.len() {
            put(&fifo, &payload).unwrap();
            put(&fifo, &payload).unwrap();
            take(&fifo).unwrap();
            // SAFETY: one thread has it.
            let mut reader = unsafe { fifo.reader() }.unwrap();
            let Ok(Next::Item(item)) = reader.look() else {
                panic!("an item is there");
            };
            let offset = item.0.position % CAPACITY as u64;
            assert!(offset <= WARM, "{offset}");
            let _ = reader.pass(item);
        }
    }

    #[test]
    fn who_waits_for_room_is_to_be_woken_once() {
        let fifo = fifo(1 << 12);
        put(&fifo, b"a").unwrap();
        put(&fifo, b"b").unwrap();
        let word = fifo.await_room(1);
        assert_eq!(fifo.awaited().load(Relaxed), word);
        let pass = || {
            // SAFETY: one thread has it.
            let mut reader = unsafe { fifo.reader() }.unwrap();
            let Ok(Next::Item(item)) = reader.look() else {
                panic!("an item is there");
            };
            reader.pass(item)
        };
        assert!(pass());
        assert_eq!(fifo.awaited().load(Relaxed), 0);
        assert!(!pass());
    }

    #[test]
    fn what_waits_to_be_read_is_bounded_but_for_two_long_items() {
        let fifo = fifo(32 << 20);
        let count = |payload: &[u8]| (0..).take_while(|_| put(&fifo, payload).is_some()).count();
        let long = vec![0; fifo.max_payload()];
        assert_eq!(count(&long), 2);
        assert!(take(&fifo).is_some() && take(&fifo).is_some());
        assert_eq!(count(&long[..5 << 20]), 2);
        assert!(take(&fifo).is_some() && take(&fifo).is_some());
        assert!((3..=4).contains(&count(&long[..1 << 20])));
        while take(&fifo).is_some() {}
        let short = count(&[0; 1000]);
        assert!((1000..=4096).contains(&short), "{short}");
    }

    #[test]
    fn hope_is_lost_until_a_reader_reads() {
        let fifo = fifo(1 << 12);
        assert!(fifo.has_hope());
        put(&fifo, b"a").unwrap();
        fifo.give_up();
        assert!(!fifo.has_hope());
        put(&fifo, b"b").unwrap();
        assert!(!fifo.has_hope());
        take(&fifo).unwrap();
        assert!(fifo.has_hope());
    }

    #[test]
    fn memory_of_another_length_or_kind_is_refused() {
        let memory = Memfd::create("test", Fifo::region_len(1 << 12) as u64).unwrap();
        let mapping = || Arc::new(Mapping::shared(&memory).unwrap());
        assert!(matches!(
            Fifo::attach(mapping()),
            Err(Malformed::Magic { .. })
        ));
        let other = Memfd::create("test", 5000).unwrap();
        let other = Arc::new(Mapping::shared(&other).unwrap());
        assert!(matches!(
            Fifo::attach(other),
            Err(Malformed::OutOfRange { .. })
        ));
        Fifo::create(mapping());
        assert!(Fifo::attach(mapping()).is_ok());
    }
}
