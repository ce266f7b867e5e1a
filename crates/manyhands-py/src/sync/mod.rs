//! Locks and their like as Python objects: who waits, for how long, and what a signal does to it.
//!
//! Always: what is not contended needs neither a system call nor another thread's turn at the interpreter; a
//! wait lets other threads run, and Python's signal handlers at once; no wait sleeps for long without
//! looking again, so a wake that was lost with a killed process costs a moment.
//! Not here: what the words mean (`manyhands-shm::sync`), pickling (`manyhands.synchronize`).

use std::cell::Cell;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::futex::{self, Scope};
use manyhands_os::{cpu, fork_state, identity};
use manyhands_shm::sync::{Holder, Step, Wait};
use pyo3::prelude::*;

mod condition;
mod event;
mod held;
mod place;
mod quick;
mod semlock;

pub(crate) use held::Held;
pub(crate) use semlock::{SemLock, name_error};

/// How long a first sleep may be, and the longest one: each is twice the one before.
const FIRST_NAP: Duration = Duration::from_millis(50);
const LONGEST_NAP: Duration = Duration::from_millis(200);
/// From this on, whoever wakes also looks whether a handler of Python's waits to be run: the signal may have
/// come to another thread.
const LOOK_AFTER: Duration = Duration::from_millis(30);
/// Looks before the first sleep: some microseconds, which is less than a sleep and a wake cost.
const SPINS: u32 = 60;

/// How spinning went of late. From 0 on it is tried; below, that many waits go by without it: where no
/// core is free, who spins keeps the one it waits for from running. [`NEVER`] on a single core.
static LUCK: AtomicI32 = AtomicI32::new(NEVER);
const NEVER: i32 = i32::MIN;
/// As much luck as counts.
const BEST_LUCK: i32 = 6;
/// Waits without spinning once luck has run out.
const BAD_LUCK: i32 = -30;

/// The calling thread, as a lock's word knows it.
#[inline]
fn me() -> Holder {
    thread_local! {
        /// It, and one more than the generation it was found in.
        static KNOWN: Cell<(u64, Holder)> = const {
            Cell::new((0, Holder { process: 0, thread: 0 }))
        };
    }
    let now = fork_state::generation() + 1;
    let look = |known: &Cell<(u64, Holder)>| match known.get() {
        (then, me) if then == now => me,
        _ => find_me(Some((known, now))),
    };
    KNOWN.try_with(look).unwrap_or_else(|_| find_me(None)) // a thread on its way out
}

#[cold]
fn find_me(known: Option<(&Cell<(u64, Holder)>, u64)>) -> Holder {
    let introduced = place::introduce();
    let (process, thread) = identity::process_and_thread();
    let me = Holder { process, thread };
    if let Some((known, now)) = known.filter(|_| introduced) {
        known.set((now, me));
    }
    me
}

/// How a stretch of waiting without the interpreter ended.
enum Stretch {
    Done,
    Late,
    /// Python has to be asked whether a handler raises.
    Look,
}

/// Waits until `wait` is done, true, or `timeout` has passed, false. What a signal handler raises ends it.
fn block(py: Python<'_>, wait: &(impl Wait + Sync), timeout: Option<Duration>) -> PyResult<bool> {
    let deadline = Deadline::after(timeout);
    let mut nap = FIRST_NAP;
    let mut fresh = true;
    loop {
        let stretch = py.detach(|| {
            if std::mem::take(&mut fresh) {
                spin(wait);
            }
            sleep(wait, deadline, &mut nap)
        });
        match stretch {
            Stretch::Done => return Ok(true),
            Stretch::Late => return Ok(false),
            Stretch::Look => py.check_signals().inspect_err(|_| leave(wait))?,
        }
    }
}

fn spin(wait: &impl Wait) {
    // Two threads may count at once: luck is no exact matter.
    let luck = LUCK.load(Relaxed);
    if luck < 0 {
        if luck != NEVER {
            LUCK.store(luck + 1, Relaxed);
        }
        return;
    }
    for _ in 0..SPINS {
        if wait.is_near() {
            LUCK.store((luck + 1).min(BEST_LUCK), Relaxed);
            return;
        }
        std::hint::spin_loop();
    }
    LUCK.store(if luck < 2 { BAD_LUCK } else { luck - 2 }, Relaxed);
}

fn sleep(wait: &impl Wait, deadline: Deadline, nap: &mut Duration) -> Stretch {
    loop {
        let expected = match wait.step() {
            Step::Done => return Stretch::Done,
            Step::DoneWakeOne => {
                futex::wake(wait.word(), 1, Scope::Shared);
                return Stretch::Done;
            }
            Step::Sleep(expected) => expected,
        };
        let left = deadline.left();
        if left.is_some_and(|left| left.is_zero()) {
            leave(wait);
            return Stretch::Late;
        }
        let slept = left.map_or(*nap, |left| left.min(*nap));
        match futex::wait(wait.word(), expected, Some(slept), Scope::Shared) {
            futex::Wait::Woken | futex::Wait::Changed => {}
            futex::Wait::Interrupted => return Stretch::Look,
            futex::Wait::TimedOut => {
                *nap = (*nap * 2).min(LONGEST_NAP);
                if slept >= LOOK_AFTER {
                    return Stretch::Look;
                }
            }
        }
    }
}

fn leave(wait: &impl Wait) {
    if wait.give_up() {
        futex::wake(wait.word(), 1, Scope::Shared);
    }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    if cpu::available() > 1 {
        LUCK.store(0, Relaxed);
    }
    semlock::register(m)?;
    m.add_class::<condition::Condition>()?;
    m.add_class::<event::Event>()
}
