//! One writer, one reader: frames of any length in a ring of bytes.
//!
//! Always: positions count bytes since the beginning and never wrap (`u64`); a frame begins at a
//! multiple of 64 and lies in one piece, so the writer leaves a pad frame where the ring ends;
//! nothing is visible before [`Producer::publish`], which shows all pushed frames by one store.
//! A writer killed before that store leaves nothing, a reader killed leaves the ring as it was.
//!
//! Who may touch what, when:
//! - bytes between head and tail belong to the reader, all others to the writer;
//! - the tail word is stored by the writer alone, the head word by the reader alone; each keeps
//!   its own position privately and never reads it back, and the peer's last seen position too,
//!   so that a word is loaded only when the ring looks full or empty;
//! - the claim word in a task's header is an atomic of both sides (`mailbox::tasks`).
//!
//! Not here: who is asleep (`doorbell`), what a frame means (`manyhands`).

use crate::atomics::Ordering::{Acquire, Relaxed, Release};
use crate::error::{Full, Malformed};
use crate::layout::{AT_FRAME_CLAIM, FRAME_HEADER_LEN, Head, PAD, UNIT};
use crate::region::Region;
use manyhands_os::crash_point;
use std::sync::Arc;

/// Where a ring lies: its words and its bytes.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Offset of the word that the writer stores.
    pub(crate) tail: usize,
    /// Offset of the word that the reader stores.
    pub(crate) head: usize,
    /// Offset of the first byte.
    pub(crate) data: usize,
    /// Bytes; a power of two.
    pub(crate) capacity: u64,
}

impl Place {
    /// Offset in the region of the byte at `position`.
    #[inline]
    pub(crate) fn at(self, position: u64) -> usize {
        self.data + (position & (self.capacity - 1)) as usize
    }

    /// Bytes from `position` to the ring's end.
    #[inline]
    pub(crate) fn to_end(self, position: u64) -> u64 {
        self.capacity - (position & (self.capacity - 1))
    }

    /// The biggest payload: wherever an empty ring stands, a frame of half its size fits, be it
    /// after a pad (which is then smaller than the frame).
    #[inline]
    pub(crate) fn max_payload(&self) -> usize {
        self.capacity as usize / 2 - FRAME_HEADER_LEN
    }

    /// The frame at `head`, if there is one before `tail`. Pads are passed on the way.
    ///
    /// # Safety
    /// It must be the caller's turn to read what is between the two.
    #[inline]
    pub(crate) unsafe fn find(
        self,
        region: &Region,
        head: &mut u64,
        tail: u64,
    ) -> Result<Option<Found>, Malformed> {
        // Each turn moves the head towards a tail that is not loaded again: no peer keeps us here.
        while *head != tail {
            // SAFETY: the caller has the turn.
            let (len, read) = unsafe { region.read_header(self.at(*head)) };
            let available = tail - *head;
            let to_end = self.to_end(*head);
            if len == PAD {
                if to_end > available {
                    let what = "bytes to the end after a pad";
                    return Err(out_of_range(what, to_end, 0, available));
                }
                *head += to_end;
                continue;
            }
            let most = available.min(to_end);
            if frame_len(u64::from(len)) > most {
                let high = most - FRAME_HEADER_LEN as u64;
                return Err(out_of_range("a frame's length", u64::from(len), 0, high));
            }
            return Ok(Some(Found {
                position: *head,
                head: read,
                len,
            }));
        }
        Ok(None)
    }
}

/// Bytes that a frame takes.
#[inline]
pub(crate) fn frame_len(payload: u64) -> u64 {
    (payload + (FRAME_HEADER_LEN + UNIT - 1) as u64) & !(UNIT as u64 - 1)
}

/// The writer's end.
pub(crate) struct Producer {
    region: Arc<Region>,
    place: Place,
    /// Where the next frame goes.
    tail: u64,
    /// What the tail word says.
    published: u64,
    /// The reader's position when last seen.
    head: u64,
}

impl Producer {
    /// The writer of an empty ring whose words are zero.
    pub(crate) fn new(region: Arc<Region>, place: Place) -> Producer {
        Producer {
            region,
            place,
            tail: 0,
            published: 0,
            head: 0,
        }
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Looks where the reader is. A position that cannot be is an error; the last good one stays.
    fn look(&self) -> Result<u64, Malformed> {
        // pairs with the store in `Consumer::give_back`: the reader is done with those bytes
        let head = self.region.u64_at(self.place.head).load(Acquire);
        check_position("the reader's position", head, self.head, self.published)?;
        Ok(head)
    }

    /// Writes a frame, visible only after [`publish`](Self::publish). Returns its position.
    #[inline]
    pub(crate) fn push(&mut self, claim: u32, head: Head, parts: &[&[u8]]) -> Result<u64, Full> {
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        let full = Full {
            needed: payload,
            max: self.place.max_payload(),
        };
        if payload > full.max {
            return Err(full);
        }
        let len = frame_len(payload as u64);
        let to_end = self.place.to_end(self.tail);
        let pad = if to_end < len { to_end } else { 0 };
        let end = self.tail + pad + len;
        if end - self.head > self.place.capacity {
            match self.look() {
                Ok(head) if end - head <= self.place.capacity => self.head = head,
                _ => return Err(full),
            }
        }
        let position = self.tail + pad;
        // SAFETY: Turns: [tail, end) is the writer's, see the comparison above; `parts` were summed
        // up, and are private memory or the other ring's.
        unsafe {
            if pad != 0 {
                self.region.write_pad(self.place.at(self.tail));
            }
            self.region
                .write_frame(self.place.at(position), claim, head, payload, parts);
        }
        crash_point!("ring.written");
        self.tail = end;
        Ok(position)
    }

    /// Makes all pushed frames visible by one store; false if there were none.
    #[inline]
    pub(crate) fn publish(&mut self) -> bool {
        if self.published == self.tail {
            return false;
        }
        // pairs with the load in `Consumer::look`: the frames are visible
        self.region
            .u64_at(self.place.tail)
            .store(self.tail, Release);
        crash_point!("ring.published");
        self.published = self.tail;
        true
    }

    /// The biggest payload that `push` would take now; 0 if not even an empty one.
    pub(crate) fn room(&self) -> usize {
        let head = self.look().unwrap_or(self.head);
        let free = self.place.capacity - (self.tail - head);
        let to_end = self.place.to_end(self.tail);
        let in_place = free.min(to_end);
        let after_pad = free.saturating_sub(to_end);
        let frame = in_place.max(after_pad).min(self.place.capacity / 2) as usize;
        frame.saturating_sub(FRAME_HEADER_LEN)
    }

    pub(crate) fn max_payload(&self) -> usize {
        self.place.max_payload()
    }

    /// Whether the reader has given back all that was published.
    pub(crate) fn is_drained(&self) -> Result<bool, Malformed> {
        Ok(self.look()? == self.published)
    }

    /// Whether the reader's position, as far as it can be believed, is behind what was published.
    pub(crate) fn has_unread(&self) -> bool {
        self.region.u64_at(self.place.head).load(Relaxed) != self.published
    }

    /// The claim word of the frame at `position`, unless a later frame was written over it.
    #[inline]
    pub(crate) fn claim_at(&self, position: u64) -> Option<&crate::atomics::AtomicU32> {
        // Not by the reader's word: only this writer overwrites, and it knows how far it got.
        let kept = position < self.tail && self.tail - position <= self.place.capacity;
        kept.then(|| self.region.u32_at(self.place.at(position) + AT_FRAME_CLAIM))
    }

    /// What was pushed at `position` with `len` bytes of payload, unless written over.
    pub(crate) fn read_back(&self, position: u64, len: u32) -> Option<(Head, Vec<u8>)> {
        self.claim_at(position)?;
        if frame_len(u64::from(len)) > self.place.to_end(position) {
            return None; // another ring's
        }
        let at = self.place.at(position);
        // SAFETY: the writer reads what it wrote, and nothing is written while `self` is borrowed.
        unsafe {
            let (_, head) = self.region.read_header(at);
            let payload = self.region.bytes(at + FRAME_HEADER_LEN, len as usize);
            Some((head, payload.to_vec()))
        }
    }
}

/// A frame as it lies in the ring, header copied and checked.
pub(crate) struct Found {
    /// Where it begins.
    pub(crate) position: u64,
    pub(crate) head: Head,
    pub(crate) len: u32,
}

impl Found {
    /// Where the next one begins.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.position + frame_len(u64::from(self.len))
    }
}

/// The reader's end.
pub(crate) struct Consumer {
    region: Arc<Region>,
    place: Place,
    /// Where the next frame begins.
    head: u64,
    /// What the head word says: bytes before it are the writer's again.
    given: u64,
    /// The writer's position when last seen.
    tail: u64,
}

impl Consumer {
    /// The reader of an empty ring whose words are zero.
    pub(crate) fn new(region: Arc<Region>, place: Place) -> Consumer {
        Consumer {
            region,
            place,
            head: 0,
            given: 0,
            tail: 0,
        }
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Looks how far the writer is.
    #[inline]
    fn look(&mut self) -> Result<bool, Malformed> {
        // pairs with the store in `Producer::publish`: the frames are visible
        let tail = self.region.u64_at(self.place.tail).load(Acquire);
        if tail == self.tail {
            return Ok(false);
        }
        let high = self.head.saturating_add(self.place.capacity);
        check_position("the writer's position", tail, self.tail, high)?;
        self.tail = tail;
        Ok(true)
    }

    /// The next frame, not yet passed. Pads are passed on the way.
    #[inline]
    pub(crate) fn peek(&mut self) -> Result<Option<Found>, Malformed> {
        if self.head == self.tail && !self.look()? {
            return Ok(None);
        }
        // SAFETY: Turns: [head, tail) is the reader's since `look`.
        unsafe { self.place.find(&self.region, &mut self.head, self.tail) }
    }

    /// Goes past a frame. Its bytes stay the reader's until [`give_back`](Self::give_back).
    #[inline]
    pub(crate) fn pass(&mut self, found: &Found) {
        debug_assert_eq!(self.head, found.position);
        self.head = found.end();
    }

    /// The claim word of a frame not yet given back.
    #[inline]
    pub(crate) fn claim(&self, found: &Found) -> &crate::atomics::AtomicU32 {
        self.region
            .u32_at(self.place.at(found.position) + AT_FRAME_CLAIM)
    }

    /// The payload of a frame not yet given back.
    #[inline]
    pub(crate) fn payload(&self, found: &Found) -> &[u8] {
        let at = self.place.at(found.position) + FRAME_HEADER_LEN;
        // SAFETY: Turns: the frame lies in [given, tail), `peek` has checked its length, and
        // giving back takes `&mut self`, so the turn lasts as long as the borrow.
        unsafe { self.region.bytes(at, found.len as usize) }
    }

    /// Gives the bytes of all passed frames back to the writer.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        if self.given != self.head {
            #[cfg(loom)] // the caller may have read the payloads until now
            for position in (self.given..self.head).step_by(UNIT) {
                self.region.watch_read(self.place.at(position), UNIT);
            }
            crash_point!("ring.read");
            // pairs with the load in `Producer::look`: we are done with those bytes
            self.region
                .u64_at(self.place.head)
                .store(self.head, Release);
            crash_point!("ring.given-back");
            self.given = self.head;
        }
    }

    /// Whether something was published beyond what was passed.
    #[inline]
    pub(crate) fn has_next(&self) -> bool {
        // Acquire: a caller may act upon it; `peek` loads again.
        self.head != self.tail || self.region.u64_at(self.place.tail).load(Acquire) != self.head
    }
}

#[inline]
pub(crate) fn check_position(
    field: &'static str,
    value: u64,
    low: u64,
    high: u64,
) -> Result<(), Malformed> {
    if value < low || value > high {
        return Err(out_of_range(field, value, low, high));
    }
    if !value.is_multiple_of(UNIT as u64) {
        return Err(Malformed::Uneven {
            field,
            value,
            expected: "a multiple of 64",
        });
    }
    Ok(())
}

#[cold]
pub(crate) fn out_of_range(field: &'static str, value: u64, low: u64, high: u64) -> Malformed {
    Malformed::OutOfRange {
        field,
        value,
        low,
        high,
    }
}
