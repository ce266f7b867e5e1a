//! A condition: waiters sit down on a bench, each on a seat of its own, and are called up one by one.
//!
//! A seat is four words that only its sitter and whoever calls it up touch:
//! - `claim`: the sitter's process, 0 for nobody;
//! - `condition`: which condition it waits for;
//! - `ticket`: when it came, a number that the condition counts up;
//! - `state`: `IDLE`, `WAITING` or `CALLED`, with a count of the seat's uses above them; the sitter sleeps
//!   on this word.
//!
//! 1. Enter (holding the condition's lock): claim a seat, write condition and ticket, set `WAITING` with a
//!    use count that the seat never had. Then give the lock back and sleep.
//! 2. Call up (holding the lock): look over the seats, take those of this condition that are `WAITING`, the
//!    oldest tickets first, exchange `WAITING` for `CALLED`, and wake the sitter. It needs the lock next, so
//!    who calls does better to let it sleep on the lock's word, whose release wakes it.
//! 3. Leave: exchange `WAITING` for `IDLE`. If that succeeds nobody called; if it fails we were called.
//!
//! **Exactly one answer.** Call and leave are exchanges of one word, so a waiter whose time ran out was
//! either called or will never be, and a call is never spent on one that has left. The use count keeps a
//! caller that looked a while ago from calling who sits there now: it exchanges the very value it read.
//! A late comer cannot take the call of one who waited before it.
//!
//! **Nothing to tear.** There is no list. A sitter that was killed leaves one claimed seat, which a caller
//! that finds nobody asleep there, or one who finds the bench full, may free once it knows that the process
//! has ended.
//!
//! Always: at most as many seats are looked over as were ever used at once.
//! Not here: the condition's lock, whether a process has ended.

use super::{Step, Wait};
use crate::atomics::AtomicU32;
use crate::atomics::Ordering::{AcqRel, Acquire, Relaxed, Release};
use manyhands_os::crash_point;

const IDLE: u32 = 0;
const WAITING: u32 = 1;
const CALLED: u32 = 2;
const STATE: u32 = 3;
/// The use count's lowest bit.
const USE: u32 = 4;

/// The words of a seat.
#[derive(Clone, Copy)]
pub struct Waiter<'a> {
    /// The sitter's process, 0 for nobody.
    pub claim: &'a AtomicU32,
    /// The number of the condition.
    pub condition: &'a AtomicU32,
    /// When the sitter came.
    pub ticket: &'a AtomicU32,
    /// What it sleeps on.
    pub state: &'a AtomicU32,
}

/// Where the seats are.
pub trait Bench {
    /// How many there are.
    fn seats(&self) -> u32;
    /// The seat with this number, which is below `seats`.
    fn seat(&self, number: u32) -> Waiter<'_>;
    /// One more than the highest number that was ever used.
    fn used(&self) -> &AtomicU32;
}

/// A condition, in its place.
pub struct Condition<'a, B: Bench> {
    tickets: &'a AtomicU32,
    number: u32,
    bench: &'a B,
}

/// A waiter that a look over the bench found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    seat: u32,
    state: u32,
    /// How many came after it, or with it.
    age: u32,
}

impl<'a, B: Bench> Condition<'a, B> {
    /// The condition called `number`, 1 or more, which counts tickets in this word.
    pub fn new(tickets: &'a AtomicU32, number: u32, bench: &'a B) -> Condition<'a, B> {
        Condition {
            tickets,
            number,
            bench,
        }
    }

    /// Sits down. The caller holds the condition's lock, and gives it back before it sleeps.
    /// `None`: every seat is taken.
    pub fn enter(&self, process: u32) -> Option<Seated<'a, B>> {
        let seats = self.bench.seats();
        let number = (0..seats).find(|&number| {
            let claim = self.bench.seat(number).claim;
            claim.load(Relaxed) == 0
                // Acquire pairs with the Release in `leave`: the last sitter is done with it.
                && claim.compare_exchange(0, process, Acquire, Relaxed).is_ok()
        })?;
        self.bench.used().fetch_max(number + 1, Relaxed); // seen by who takes the lock after us
        crash_point!("condition.seated");
        let seat = self.bench.seat(number);
        let came = self.tickets.fetch_add(1, Relaxed);
        seat.condition.store(self.number, Relaxed);
        seat.ticket.store(came, Relaxed);
        let fresh = (seat.state.load(Relaxed) & !STATE).wrapping_add(USE) | WAITING;
        seat.state.store(fresh, Release); // pairs with the load in `find`: whose seat this is
        Some(Seated {
            bench: self.bench,
            number,
            waiting: fresh,
        })
    }

    fn find(&self) -> Vec<Found> {
        let used = self.bench.used().load(Relaxed).min(self.bench.seats());
        let now = self.tickets.load(Relaxed);
        let mut found = Vec::new();
        for number in 0..used {
            let seat = self.bench.seat(number);
            let state = seat.state.load(Acquire); // first: while it stays so, the rest does too
            if state & STATE == WAITING && seat.condition.load(Relaxed) == self.number {
                let age = now.wrapping_sub(seat.ticket.load(Relaxed));
                found.push(Found {
                    seat: number,
                    state,
                    age,
                });
            }
        }
        found
    }

    /// How many wait now.
    pub fn waiting(&self) -> usize {
        self.find().len()
    }

    /// Those who wait now, who came first first. The caller holds the lock.
    pub fn oldest(&self) -> Vec<Found> {
        let mut found = self.find();
        found.sort_unstable_by_key(|waiter| core::cmp::Reverse(waiter.age));
        found
    }

    /// Calls one up: the value that [`word`](Condition::word) has now, `None` if it has left. The caller wakes
    /// the sleeper there, or has it woken with the lock.
    pub fn call(&self, found: Found) -> Option<u32> {
        let called = (found.state & !STATE) | CALLED;
        // Release pairs with the Acquire in the waiter's `step` and `leave`.
        let is_called = self
            .bench
            .seat(found.seat)
            .state
            .compare_exchange(found.state, called, Release, Relaxed)
            .is_ok();
        crash_point!("condition.called");
        is_called.then_some(called)
    }

    /// The word that a waiter sleeps on.
    pub fn word(&self, found: Found) -> &'a AtomicU32 {
        self.bench.seat(found.seat).state
    }

    /// The process of the one who was found, 0 if it has left.
    pub fn sitter(&self, found: Found) -> u32 {
        self.bench.seat(found.seat).claim.load(Relaxed)
    }

    /// Frees every seat whose sitter's process `is_dead`; says whether there was one.
    ///
    /// `process` is the caller's. It takes such a seat over before it clears it, so that of two who clear away
    /// only one does, and one that is killed meanwhile leaves a seat to clear away.
    pub fn clear_away(&self, process: u32, is_dead: impl Fn(u32) -> bool) -> bool {
        let used = self.bench.used().load(Relaxed).min(self.bench.seats());
        let mut any = false;
        for number in 0..used {
            let seat = self.bench.seat(number);
            let claim = seat.claim.load(Relaxed);
            if claim != 0
                && is_dead(claim)
                && seat
                    .claim
                    .compare_exchange(claim, process, Acquire, Relaxed)
                    .is_ok()
            {
                seat.state.fetch_and(!STATE, Relaxed); // IDLE
                seat.claim.store(0, Release); // pairs with the Acquire in `enter`
                any = true;
            }
        }
        any
    }
}

/// A waiter on its seat.
pub struct Seated<'a, B: Bench> {
    bench: &'a B,
    number: u32,
    /// The state's value while nobody has called.
    waiting: u32,
}

impl<B: Bench> Seated<'_, B> {
    /// Stands up; says whether it was called.
    pub fn leave(self) -> bool {
        let seat = self.bench.seat(self.number);
        let idle = (self.waiting & !STATE) | IDLE;
        // Acquire pairs with the Release in `call`.
        let called = seat
            .state
            .compare_exchange(self.waiting, idle, AcqRel, Acquire)
            .is_err();
        crash_point!("condition.left");
        seat.claim.store(0, Release); // pairs with the Acquire in `enter`: we are done with it
        called
    }
}

impl<B: Bench> Wait for Seated<'_, B> {
    fn word(&self) -> &AtomicU32 {
        self.bench.seat(self.number).state
    }

    fn is_near(&self) -> bool {
        self.word().load(Relaxed) != self.waiting
    }

    fn step(&self) -> Step {
        // Acquire pairs with the Release in `call`.
        if self.word().load(Acquire) == self.waiting {
            Step::Sleep(self.waiting)
        } else {
            Step::Done
        }
    }

    fn give_up(&self) -> bool {
        false // `leave` says whether we were called; nobody else sleeps on this word
    }
}
