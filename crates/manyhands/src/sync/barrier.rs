//! `Barrier`: a place where so many wait for each other.
//!
//! A word says how the round stands, and each party that waits has its process in a seat; both are
//! changed by one store each, with the lock held, so whoever is killed leaves both whole.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use manyhands_os::clock::Deadline;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::lock::{Lock, LockGuard};
use super::me;
use crate::error::Error;
use crate::parcel;
use crate::shared::SharedSlice;

/// How the round stands.
const FILLING: u32 = 0;
/// All have come; those of this round leave.
const LEAVING: u32 = 1;
const BROKEN: u32 = 2;

/// As many as can wait for one condition.
const MOST: usize = 4095;

/// How often one who waits looks whether the others live.
const LOOK: Duration = Duration::from_millis(500);

/// A place where so many threads, of whatever processes, wait for each other, again and again.
///
/// If a process is killed that waits there, the barrier breaks: the others get
/// [`Error::BrokenBarrier`] instead of waiting for ever.
///
/// ```
/// use manyhands::{Barrier, Error, Process};
///
/// fn meet(barrier: Barrier) -> bool {
///     barrier.wait().unwrap().is_leader()
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     let barrier = Barrier::new(2)?;
///     let one = Process::spawn(meet, barrier.clone())?;
///     let other = Process::spawn(meet, barrier)?;
///     assert!(one.join()? != other.join()?); // one of them leads
///     Ok(())
/// }
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Note")]
pub struct Barrier {
    lock: Lock,
    changed: Condition,
    /// The state, and a seat for each party.
    words: SharedSlice<u32>,
}

/// A barrier as it comes.
#[derive(Deserialize)]
struct Note {
    lock: Lock,
    changed: Condition,
    words: SharedSlice<u32>,
}

impl TryFrom<Note> for Barrier {
    type Error = String;

    fn try_from(note: Note) -> Result<Self, String> {
        let Note {
            lock,
            changed,
            words,
        } = note;
        if !(2..=1 + MOST).contains(&words.len()) {
            return Err(parcel::refuse("what came as a Barrier has no parties"));
        }
        Ok(Self {
            lock,
            changed,
            words,
        })
    }
}

impl Barrier {
    /// A barrier for so many parties.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for 0 or more than 4095 parties, [`Error::System`] if there is no memory or no
    /// descriptor to be had.
    ///
    /// ```
    /// let barrier = manyhands::Barrier::new(3)?;
    /// assert_eq!(barrier.parties(), 3);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn new(parties: usize) -> Result<Self, Error> {
        if parties == 0 || parties > MOST {
            return Err(Error::OutOfRange {
                what: "the parties of a barrier",
                value: parties as u64,
                low: 1,
                high: MOST as u64,
            });
        }
        Ok(Self {
            lock: Lock::new()?,
            changed: Condition::new()?,
            words: SharedSlice::new(1 + parties)?,
        })
    }

    /// How many have to come.
    ///
    /// ```
    /// assert_eq!(manyhands::Barrier::new(3)?.parties(), 3);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn parties(&self) -> usize {
        self.words.len() - 1
    }

    /// How many wait at this moment.
    ///
    /// ```
    /// assert_eq!(manyhands::Barrier::new(3)?.waiting(), 0);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn waiting(&self) -> usize {
        let taken = |seat: &&AtomicU32| seat.load(Relaxed) != 0;
        self.seats().iter().filter(taken).count()
    }

    /// Waits until all parties have come.
    ///
    /// # Errors
    /// [`Error::BrokenBarrier`] if it is broken: by [`abort`](Barrier::abort), by a party that waited
    /// [too long](Barrier::wait_timeout), or by the death of one.
    ///
    /// ```
    /// let alone = manyhands::Barrier::new(1)?;
    /// assert!(alone.wait()?.is_leader());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn wait(&self) -> Result<BarrierWait, Error> {
        self.wait_until(Deadline::after(None))
    }

    /// As [`wait`](Barrier::wait), `timeout` at most; then the barrier is broken.
    ///
    /// # Errors
    /// As [`wait`](Barrier::wait).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use manyhands::{Barrier, Error};
    /// let barrier = Barrier::new(2)?;
    /// let waited = barrier.wait_timeout(Duration::from_millis(10));
    /// assert!(matches!(waited, Err(Error::BrokenBarrier)));
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWait, Error> {
        self.wait_until(Deadline::after(Some(timeout)))
    }

    /// Breaks it: who waits, or comes, gets [`Error::BrokenBarrier`] until it is [reset](Barrier::reset).
    ///
    /// ```
    /// # use manyhands::{Barrier, Error};
    /// let barrier = Barrier::new(2)?;
    /// barrier.abort();
    /// assert!(matches!(barrier.wait(), Err(Error::BrokenBarrier)));
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn abort(&self) {
        let guard = self.hold();
        self.set_out(BROKEN, &guard);
    }

    /// Makes it usable again, once nobody waits there any more; who does is told that it is broken first.
    ///
    /// ```
    /// # use manyhands::Barrier;
    /// let barrier = Barrier::new(1)?;
    /// barrier.abort();
    /// barrier.reset();
    /// assert!(barrier.wait().is_ok());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn reset(&self) {
        let mut guard = self.hold();
        self.set_out(BROKEN, &guard);
        while self.waiting() > 0 {
            guard = self.doze(guard, LOOK);
        }
        self.set_out(FILLING, &guard);
    }

    /// Whether it is broken.
    ///
    /// ```
    /// assert!(!manyhands::Barrier::new(3)?.is_broken());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn is_broken(&self) -> bool {
        self.state() == BROKEN
    }

    fn state(&self) -> u32 {
        self.words.get(0)
    }

    fn seats(&self) -> &[AtomicU32] {
        &self.words.atomics()[1..]
    }

    fn hold(&self) -> LockGuard<'_> {
        loop {
            if let Some(guard) = self.lock.take_anyway(Deadline::after(None)) {
                return guard;
            }
        }
    }

    fn set_out(&self, state: u32, guard: &LockGuard<'_>) {
        self.words.set(0, state);
        self.changed.notify_all(guard);
    }

    fn wait_until(&self, deadline: Deadline) -> Result<BarrierWait, Error> {
        let mut guard = self.hold();
        loop {
            guard = self.enter(guard, deadline)?;
            if self.waiting() + 1 < self.parties() {
                break;
            }
            // Only the living are let through.
            let before = self.waiting();
            self.bury(&guard);
            if self.waiting() == before {
                break;
            }
        }
        let number = self.waiting();
        let Some(seat) = self.seats().iter().find(|seat| seat.load(Relaxed) == 0) else {
            return Err(Error::BrokenBarrier); // a stranger has written there
        };
        seat.store(me().process, Relaxed);
        if number + 1 == self.parties() {
            self.set_out(LEAVING, &guard);
        }
        while self.state() == FILLING {
            let left = deadline.left().unwrap_or(LOOK);
            if left.is_zero() {
                self.set_out(BROKEN, &guard);
                break;
            }
            guard = self.doze(guard, left.min(LOOK));
        }
        let broken = self.state() == BROKEN;
        seat.store(0, Relaxed);
        self.leave(&guard);
        if broken {
            return Err(Error::BrokenBarrier);
        }
        Ok(BarrierWait {
            number,
            parties: self.parties(),
        })
    }

    /// Waits until those of the last round have left.
    fn enter<'a>(
        &'a self,
        mut guard: LockGuard<'a>,
        deadline: Deadline,
    ) -> Result<LockGuard<'a>, Error> {
        while self.state() == LEAVING {
            self.leave(&guard); // should the last one have been killed before it could
            if self.state() == LEAVING {
                if deadline.passed() {
                    self.set_out(BROKEN, &guard);
                    break;
                }
                guard = self.doze(guard, LOOK);
            }
        }
        match self.state() {
            FILLING => Ok(guard),
            _ => Err(Error::BrokenBarrier),
        }
    }

    /// The last of a round to leave opens the next one.
    fn leave(&self, guard: &LockGuard<'_>) {
        if self.waiting() > 0 {
            return;
        }
        match self.state() {
            LEAVING => self.set_out(FILLING, guard),
            _ => self.changed.notify_all(guard), // for a reset, which waits for that
        }
    }

    /// Waits for a change, and looks then whether those who wait here live.
    fn doze<'a>(&'a self, guard: LockGuard<'a>, time: Duration) -> LockGuard<'a> {
        let guard = match self.changed.wait_until(guard, Deadline::after(Some(time))) {
            Ok((guard, true)) => return guard,
            Ok((guard, false)) => guard,
            Err(_) => self.hold(),
        };
        self.bury(&guard);
        guard
    }

    /// Clears the seats of the dead. If others wait with them, the barrier breaks: nobody comes in their place.
    fn bury(&self, guard: &LockGuard<'_>) {
        let is_dead = |seat: &&AtomicU32| {
            let process = seat.load(Relaxed);
            process != 0 && self.lock.place.is_dead(process)
        };
        let dead: Vec<_> = self.seats().iter().filter(is_dead).collect();
        if !dead.is_empty() && self.state() == FILLING && dead.len() < self.waiting() {
            // First: whoever is killed now leaves it broken, not short of a party.
            self.set_out(BROKEN, guard);
        }
        dead.iter().for_each(|seat| seat.store(0, Relaxed));
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("waiting", &self.waiting())
            .field("is_broken", &self.is_broken())
            .finish()
    }
}

/// What one who waited at a [`Barrier`] learns.
///
/// ```
/// let waited = manyhands::Barrier::new(1)?.wait()?;
/// assert_eq!((waited.number(), waited.is_leader()), (0, true));
/// # Ok::<(), manyhands::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWait {
    number: usize,
    parties: usize,
}

impl BarrierWait {
    /// How many were there when it came: from 0 to the number of parties, less one.
    ///
    /// ```
    /// assert_eq!(manyhands::Barrier::new(1)?.wait()?.number(), 0);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn number(self) -> usize {
        self.number
    }

    /// Whether it is the one of its round that came last.
    ///
    /// ```
    /// assert!(manyhands::Barrier::new(1)?.wait()?.is_leader());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn is_leader(self) -> bool {
        self.number + 1 == self.parties
    }
}
