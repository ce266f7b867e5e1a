//! The shelf: the descriptors of tasks that workers will ask for, and those of answers that workers have handed in.
//!
//! A task's parcel lies here until the task is settled. An answer's comes through the counter before the answer itself
//! goes into the mailbox, whose bytes end with what it is found by; so whoever has heard the answer and takes in all that
//! has come finds it here, if it was not lost for want of descriptors.
//! Always: what came is taken in by one thread at a time, to the last; nothing waits. A worker that is killed between the
//! two leaves a parcel that nobody will fetch: it is thrown away a minute after.
//! Not here: the thread that answers workers, and their side (`clerk`).

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use manyhands_os::packet;

use super::{lock, mode};
use crate::engine::Outcome;
use crate::parcel::{Handle, Parcel};

/// The first byte of an answer to a question.
pub(super) const HERE: u8 = 1;
pub(super) const NOT_HERE: u8 = 0;

/// How long a dead worker's parcels are kept: by then a thread that had heard its answers has settled them.
const KEPT: Duration = Duration::from_secs(60);
/// So many packets in a row may be lost for want of descriptors before the rest waits for another time.
const MOST_LOST: u32 = 1000;

/// What a worker's parcel is found by: the worker, and a number that no worker uses twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    pub(super) pid: i32,
    pub(super) number: u64,
}

impl Mark {
    pub(super) const LEN: usize = 12;

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.pid.to_le_bytes());
        bytes[4..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let [a, b, c, d, number @ ..] = *bytes;
        Self {
            pid: i32::from_le_bytes([a, b, c, d]),
            number: u64::from_le_bytes(number),
        }
    }
}

/// An answer's bytes without its mark, if it has one.
pub(super) fn unmarked(mode: u8, bytes: &[u8]) -> (&[u8], Option<Mark>) {
    match bytes.split_last_chunk() {
        Some((rest, mark)) if mode & mode::PARCEL != 0 => (rest, Some(Mark::from_bytes(mark))),
        _ => (bytes, None),
    }
}

/// See the module.
pub(super) struct Shelf {
    /// Where workers are heard.
    ear: OwnedFd,
    hearing: Mutex<()>,
    next: AtomicU64,
    /// Of tasks that are not settled.
    tasks: Mutex<HashMap<u64, Vec<Handle>>>,
    answers: Mutex<Answers>,
}

/// Parcels of answers that were not settled.
#[derive(Default)]
struct Answers {
    parcels: HashMap<Mark, Vec<OwnedFd>>,
    /// Those of workers that are dead, and since when.
    left: Vec<(Mark, Instant)>,
}

/// A task's place on the shelf, cleared when this is dropped.
pub(super) struct Kept {
    shelf: Arc<Shelf>,
    number: u64,
}

impl Kept {
    /// What the worker asks for it by.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let parcel = lock(&self.shelf.tasks).remove(&self.number);
        drop(parcel); // without the lock: perhaps it is the last that has a descriptor
    }
}

impl Shelf {
    pub(super) fn new(ear: OwnedFd) -> Self {
        Self {
            ear,
            hearing: Mutex::default(),
            next: AtomicU64::new(0),
            tasks: Mutex::default(),
            answers: Mutex::default(),
        }
    }

    pub(super) fn ear(&self) -> BorrowedFd<'_> {
        self.ear.as_fd()
    }

    /// Keeps a task's descriptors.
    pub(super) fn keep(self: &Arc<Self>, parcel: &mut Parcel) -> Kept {
        let number = self.next.fetch_add(1, Relaxed);
        lock(&self.tasks).insert(number, std::mem::take(&mut parcel.fds));
        Kept {
            shelf: Arc::clone(self),
            number,
        }
    }

    /// Takes in what workers have sent, and answers their questions. `false`: no more will come.
    pub(super) fn hear(&self) -> io::Result<bool> {
        let _alone = lock(&self.hearing);
        let mut lost = 0;
        loop {
            let mut text = [0; 16];
            match packet::recv(self.ear(), &mut text) {
                Ok(Some((8, fds))) => {
                    let number = text.first_chunk().copied().unwrap_or_default();
                    self.answer(u64::from_le_bytes(number), &fds);
                }
                Ok(Some((Mark::LEN, fds))) => {
                    let mark = text.first_chunk().map(Mark::from_bytes);
                    if let Some(mark) = mark {
                        lock(&self.answers).parcels.insert(mark, fds);
                    }
                }
                // Nothing of ours.
                Ok(Some(_)) => {}
                Ok(None) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                // Descriptors ran out. Who asked sees its socket closed; an answer will be without its parcel.
                Err(_) if lost < MOST_LOST => lost += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn answer(&self, number: u64, to: &[OwnedFd]) {
        let [to] = to else {
            return;
        };
        let parcel = lock(&self.tasks).get(&number).cloned();
        let fds = parcel.iter().flatten().map(|fd| fd.as_fd());
        let said = if parcel.is_some() { HERE } else { NOT_HERE };
        // The socket is new, so there is room; its worker may be gone.
        let _ = packet::send(to.as_fd(), &[&[said]], &fds.collect::<Vec<_>>());
    }

    /// The descriptors of an answer that was heard; none if they were lost on their way.
    pub(super) fn fetch(&self, outcome: &Outcome) -> Vec<OwnedFd> {
        let Outcome::Replied(reply) = outcome else {
            return Vec::new();
        };
        let (_, Some(mark)) = unmarked(reply.mode, &reply.bytes) else {
            return Vec::new();
        };
        let _ = self.hear();
        let parcel = lock(&self.answers).parcels.remove(&mark);
        parcel.unwrap_or_default()
    }

    /// A worker is dead, and what it has answered was heard. Throws away what others have left.
    pub(super) fn bury(&self, pid: i32) {
        let _ = self.hear();
        let now = Instant::now();
        let mut answers = lock(&self.answers);
        let Answers { parcels, left } = &mut *answers;
        let is_old = |since: &Instant| now.duration_since(*since) > KEPT;
        let old: Vec<_> = left
            .iter()
            .filter(|(_, since)| is_old(since))
            .filter_map(|(mark, _)| parcels.remove(mark))
            .collect();
        left.retain(|(mark, since)| !is_old(since) && parcels.contains_key(mark));
        let its = parcels.keys().filter(|mark| mark.pid == pid);
        left.extend(its.map(|mark| (*mark, now)));
        drop(answers);
        drop(old);
    }
}
