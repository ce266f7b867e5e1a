//! Models of locks, semaphores, events and conditions: a lost wake leaves a thread asleep, which loom
//! reports as a deadlock; two holders at once, a token too many or a call lost fail an assertion.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use manyhands_shm::sync::{
    Bench, Condition, Event, Holder, Lock, Semaphore, Step, WAITERS, Wait, Waiter,
};

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// What a futex does, for words told apart by their address, and the clock of those who sleep.
struct Futex {
    state: Mutex<Sleepers>,
    woken: Condvar,
}

#[derive(Default)]
struct Sleepers {
    /// Who sleeps on which word, in order.
    asleep: Vec<(u32, usize)>,
    /// Whose time has run out.
    late: Vec<u32>,
}

fn address(word: &AtomicU32) -> usize {
    core::ptr::from_ref(word).addr()
}

impl Futex {
    fn new() -> Futex {
        Futex {
            state: Mutex::new(Sleepers::default()),
            woken: Condvar::new(),
        }
    }

    /// Sleeps while the word is `expected`; false: its time has run out, be it that it was woken as well.
    fn wait(&self, word: &AtomicU32, expected: u32, who: u32) -> bool {
        let mut state = self.state.lock().unwrap();
        if word.load(Relaxed) != expected {
            return true;
        }
        state.asleep.push((who, address(word)));
        loop {
            let late = state.late.contains(&who);
            let asleep = state.asleep.iter().position(|sleeper| sleeper.0 == who);
            match asleep {
                None => return !late,
                Some(at) if late => {
                    state.asleep.remove(at);
                    return false;
                }
                Some(_) => {}
            }
            state = self.woken.wait(state).unwrap();
        }
    }

    fn wake(&self, word: &AtomicU32, n: usize) -> usize {
        let mut state = self.state.lock().unwrap();
        let mut woken = 0;
        state.asleep.retain(|sleeper| {
            let stays = sleeper.1 != address(word) || woken == n;
            woken += usize::from(!stays);
            stays
        });
        self.woken.notify_all();
        woken
    }

    /// From now on the time of `who` has run out.
    fn time_out(&self, who: u32) {
        self.state.lock().unwrap().late.push(who);
        self.woken.notify_all();
    }

    /// The loop that every waiter runs; false: its time ran out.
    fn block(&self, wait: &impl Wait, who: u32) -> bool {
        loop {
            match wait.step() {
                Step::Done => return true,
                Step::DoneWakeOne => {
                    self.wake(wait.word(), 1);
                    return true;
                }
                Step::Sleep(expected) => {
                    if !self.wait(wait.word(), expected, who) {
                        if wait.give_up() {
                            self.wake(wait.word(), 1);
                        }
                        return false;
                    }
                }
            }
        }
    }
}

/// The words of a lock, and something that only its holder may touch.
struct Guarded {
    futex: Futex,
    words: [AtomicU32; 3],
    inside: loom::cell::UnsafeCell<u32>,
}

impl Guarded {
    fn new() -> Guarded {
        Guarded {
            futex: Futex::new(),
            words: [0, 0, 0].map(AtomicU32::new),
            inside: loom::cell::UnsafeCell::new(0),
        }
    }

    fn lock(&self) -> Lock<'_> {
        Lock::new(&self.words[0], &self.words[1], &self.words[2])
    }

    fn acquire(&self, who: u32) -> bool {
        self.lock().try_acquire(me(who)) || self.futex.block(&self.lock().wait(me(who)), who)
    }

    fn release(&self) {
        if self.lock().release().unwrap() {
            self.futex.wake(&self.words[0], 1);
        }
    }

    fn hold(&self, who: u32) -> bool {
        if !self.acquire(who) {
            return false;
        }
        assert!(self.lock().is_mine(me(who)));
        // SAFETY: the lock is held; loom watches that nobody else is here.
        self.inside.with_mut(|n| unsafe { *n += 1 });
        self.release();
        true
    }
}

fn me(who: u32) -> Holder {
    Holder {
        process: who,
        thread: who,
    }
}

#[test]
fn one_at_a_time_holds_a_lock_and_nobody_sleeps_for_good() {
    explore(3, || {
        let lock = Arc::new(Guarded::new());
        let others: Vec<_> = (2..4)
            .map(|who| {
                let lock = lock.clone();
                thread::spawn(move || assert!(lock.hold(who)))
            })
            .collect();
        assert!(lock.hold(1));
        for other in others {
            other.join().unwrap();
        }
        // SAFETY: everybody has ended.
        assert_eq!(lock.inside.with(|n| unsafe { *n }), 3);
        assert_eq!(lock.lock().holder(), 0);
    });
}

#[test]
fn who_gives_up_on_a_lock_takes_nobodys_wake_along() {
    explore(3, || {
        let lock = Arc::new(Guarded::new());
        assert!(lock.acquire(1));
        let (patient, hasty) = (lock.clone(), lock.clone());
        let patient = thread::spawn(move || assert!(patient.hold(2)));
        let hasty = thread::spawn(move || {
            hasty.hold(3);
        });
        lock.release();
        lock.futex.time_out(3);
        hasty.join().unwrap();
        patient.join().unwrap();
    });
}

#[test]
fn a_thread_never_takes_anothers_lock_for_its_own() {
    explore(3, || {
        let lock = Arc::new(Guarded::new());
        let other = lock.clone();
        // Two threads of one process.
        let of = |thread| Holder { process: 9, thread };
        let holds = move |lock: &Guarded, thread| {
            if lock.lock().try_acquire(of(thread)) {
                assert!(lock.lock().is_mine(of(thread)));
                assert!(!lock.lock().release().unwrap());
            }
            assert!(!lock.lock().is_mine(of(thread)));
        };
        let there = thread::spawn(move || holds(&other, 2));
        holds(&lock, 1);
        there.join().unwrap();
    });
}

struct Tokens {
    futex: Futex,
    word: AtomicU32,
}

impl Tokens {
    fn new(value: u32) -> Arc<Tokens> {
        Arc::new(Tokens {
            futex: Futex::new(),
            word: AtomicU32::new(value),
        })
    }

    fn semaphore(&self) -> Semaphore<'_> {
        Semaphore::new(&self.word)
    }

    fn acquire(&self, who: u32) -> bool {
        self.semaphore().try_acquire() || self.futex.block(&self.semaphore().wait(), who)
    }

    fn release(&self, bound: u32) -> bool {
        match self.semaphore().release(bound) {
            Err(_) => return false,
            Ok(None) => {}
            Ok(Some(made)) => {
                if self.futex.wake(&self.word, 1) == 0 {
                    self.semaphore().nobody_slept(made);
                }
            }
        }
        true
    }
}

#[test]
fn every_token_reaches_a_waiter() {
    explore(3, || {
        let tokens = Tokens::new(0);
        let waiters: Vec<_> = (1..3)
            .map(|who| {
                let tokens = tokens.clone();
                thread::spawn(move || assert!(tokens.acquire(who)))
            })
            .collect();
        assert!(tokens.release(2));
        assert!(tokens.release(2));
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(tokens.semaphore().value(), 0);
    });
}

#[test]
fn a_token_that_two_releasers_bring_in_turn_reaches_both_waiters() {
    explore(2, || {
        let tokens = Tokens::new(0);
        let waiters: Vec<_> = (1..3)
            .map(|who| {
                let tokens = tokens.clone();
                thread::spawn(move || assert!(tokens.acquire(who)))
            })
            .collect();
        let other = tokens.clone();
        let other = thread::spawn(move || assert!(other.release(9)));
        assert!(tokens.release(9));
        other.join().unwrap();
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

/// Somebody has given up, so the word says in vain that somebody sleeps; a releaser that found nobody
/// clears that late, when others have gone to sleep.
#[test]
fn forgetting_a_sleeper_that_was_not_there_forgets_no_other() {
    explore(2, || {
        let tokens = Tokens::new(WAITERS);
        let made = tokens.semaphore().release(9).unwrap().unwrap();
        assert_eq!(tokens.futex.wake(&tokens.word, 1), 0);
        assert!(tokens.semaphore().try_acquire());
        let waiters: Vec<_> = (1..3)
            .map(|who| {
                let tokens = tokens.clone();
                thread::spawn(move || assert!(tokens.acquire(who)))
            })
            .collect();
        if tokens.semaphore().release(9).unwrap().is_some() {
            tokens.futex.wake(&tokens.word, 1);
        }
        tokens.semaphore().nobody_slept(made);
        assert!(tokens.release(9));
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn who_gives_up_on_a_semaphore_takes_nobodys_wake_along() {
    explore(3, || {
        let tokens = Tokens::new(0);
        let (patient, hasty) = (tokens.clone(), tokens.clone());
        let patient = thread::spawn(move || assert!(patient.acquire(1)));
        let hasty = thread::spawn(move || hasty.acquire(2));
        assert!(tokens.release(9));
        tokens.futex.time_out(2);
        if hasty.join().unwrap() {
            assert!(tokens.release(9)); // it got the only one
        }
        patient.join().unwrap();
    });
}

#[test]
fn a_bound_is_never_passed() {
    explore(3, || {
        let tokens = Tokens::new(1);
        let other = tokens.clone();
        let other = thread::spawn(move || other.release(2));
        let here = tokens.release(2);
        assert!(here ^ other.join().unwrap() || tokens.semaphore().value() <= 2);
        assert_eq!(tokens.semaphore().value(), 2);
        assert!(!tokens.release(2));
    });
}

#[test]
fn all_who_wait_for_an_event_see_it_even_if_it_is_cleared_at_once() {
    explore(3, || {
        let tokens = Tokens::new(0);
        let waits: Vec<_> = (1..3)
            .map(|who| {
                let tokens = tokens.clone();
                // The wait began before the event is set.
                let begun = Arc::new(AtomicU32::new(0));
                let told = begun.clone();
                let waiter = thread::spawn(move || {
                    let wait = Event::new(&tokens.word).wait();
                    told.store(1, loom::sync::atomic::Ordering::Release);
                    wait.is_none_or(|wait| tokens.futex.block(&wait, who))
                });
                (begun, waiter)
            })
            .collect();
        let begun = waits
            .iter()
            .all(|(begun, _)| begun.load(loom::sync::atomic::Ordering::Acquire) == 1);
        let event = Event::new(&tokens.word);
        if event.set() {
            tokens.futex.wake(&tokens.word, usize::MAX);
        }
        if begun {
            event.clear(); // all have begun: none may miss it
        }
        for (_, waiter) in waits {
            assert!(waiter.join().unwrap());
        }
        assert_eq!(tokens.word.load(Relaxed) & WAITERS, 0);
    });
}

/// A bench of two seats.
struct Seats {
    guarded: Guarded,
    tickets: AtomicU32,
    used: AtomicU32,
    seats: [[AtomicU32; 4]; 2],
}

impl Bench for Seats {
    fn seats(&self) -> u32 {
        2
    }

    fn seat(&self, number: u32) -> Waiter<'_> {
        let [claim, condition, ticket, state] = &self.seats[number as usize];
        Waiter {
            claim,
            condition,
            ticket,
            state,
        }
    }

    fn used(&self) -> &AtomicU32 {
        &self.used
    }
}

impl Seats {
    fn new() -> Arc<Seats> {
        Arc::new(Seats {
            guarded: Guarded::new(),
            tickets: AtomicU32::new(0),
            used: AtomicU32::new(0),
            seats: [0, 0].map(|_| [0, 0, 0, 0].map(AtomicU32::new)),
        })
    }

    fn condition(&self) -> Condition<'_, Seats> {
        Condition::new(&self.tickets, 1, self)
    }

    /// Waits; whether it was called. Only the wait for the call knows a time, that of `who`.
    fn wait(&self, who: u32) -> bool {
        assert!(self.guarded.acquire(who + 100));
        let seat = self.condition().enter(who).unwrap();
        self.guarded.release();
        self.guarded.futex.block(&seat, who);
        let called = seat.leave();
        assert!(self.guarded.acquire(who + 100));
        self.guarded.release();
        called
    }

    /// Calls one; whether somebody was called.
    fn call_one(&self, who: u32) -> bool {
        assert!(self.guarded.acquire(who));
        let condition = self.condition();
        let called = condition.oldest().into_iter().any(|found| {
            let called = condition.call(found).is_some();
            if called {
                self.guarded.futex.wake(condition.word(found), 1);
            }
            called
        });
        self.guarded.release();
        called
    }
}

#[test]
fn a_call_wakes_one_who_waits() {
    explore(3, || {
        let seats = Seats::new();
        let there = seats.clone();
        let waiter = thread::spawn(move || there.wait(1));
        while !seats.call_one(9) {
            thread::yield_now(); // it has not come yet
        }
        assert!(waiter.join().unwrap());
        assert_eq!(seats.condition().waiting(), 0);
    });
}

#[test]
fn a_call_is_neither_lost_nor_doubled_by_one_who_leaves() {
    explore(2, || {
        let seats = Seats::new();
        let there = seats.clone();
        let waiter = thread::spawn(move || there.wait(1));
        let called = seats.call_one(9);
        seats.guarded.futex.time_out(1);
        assert_eq!(waiter.join().unwrap(), called);
    });
}

#[test]
fn a_late_call_finds_nobody_on_a_seat_that_was_given_up() {
    explore(3, || {
        let seats = Seats::new();
        let there = seats.clone();
        // Waits for one condition and then for another one, on the same seat; nobody calls for the other.
        let waiter = thread::spawn(move || {
            let called = there.condition().enter(1).unwrap().leave();
            let tickets = AtomicU32::new(0);
            let other = Condition::new(&tickets, 2, &*there);
            assert!(!other.enter(1).unwrap().leave());
            called
        });
        let called = seats.call_one(9);
        assert_eq!(waiter.join().unwrap(), called);
    });
}
