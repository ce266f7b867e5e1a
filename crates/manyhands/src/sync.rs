//! Locks and their like between processes: who waits, for how long, and whose death ends a wait.
//!
//! Always: what is not contended needs no system call; no wait sleeps for long without looking again,
//! so a wake that was lost with a killed process costs a moment.
//! Not here: what the words mean (`manyhands_shm::sync`), where they lie (`place`).

use std::sync::OnceLock;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::futex::{self, Scope};
use manyhands_os::{cpu, identity};
use manyhands_shm::sync::{Holder, Step, Wait};

mod barrier;
mod condition;
mod event;
mod lock;
mod owned;
mod place;
mod semaphore;

pub use barrier::{Barrier, BarrierWait};
pub use condition::Condition;
pub use event::Event;
pub(crate) use event::{await_event, set_event};
pub use lock::{Lock, LockGuard};
pub(crate) use owned::{Owned, take};
pub(crate) use place::{Place, PlaceNote};
pub use semaphore::{Permit, Semaphore};

/// How long a first sleep may be, and the longest one: each is twice the one before.
const FIRST_NAP: Duration = Duration::from_millis(50);
const LONGEST_NAP: Duration = Duration::from_millis(200);
/// How often one who waits looks whether those whom it waits for live.
const LOOK: Duration = Duration::from_millis(100);
/// Looks before the first sleep: some microseconds, which is less than a sleep and a wake cost.
const SPINS: u32 = 60;

/// The calling thread, as a lock's word knows it.
fn me() -> Holder {
    place::introduce();
    let (process, thread) = identity::process_and_thread();
    Holder { process, thread }
}

/// Waits until `wait` is done, true, or the deadline has passed, false.
pub(crate) fn block(wait: &impl Wait, deadline: Deadline) -> bool {
    spin(wait);
    let mut nap = FIRST_NAP;
    loop {
        let expected = match wait.step() {
            Step::Done => return true,
            Step::DoneWakeOne => {
                futex::wake(wait.word(), 1, Scope::Shared);
                return true;
            }
            Step::Sleep(expected) => expected,
        };
        let left = deadline.left();
        if left.is_some_and(|left| left.is_zero()) {
            if wait.give_up() {
                futex::wake(wait.word(), 1, Scope::Shared);
            }
            return false;
        }
        let slept = left.map_or(nap, |left| left.min(nap));
        // A signal that this process handles is no reason to stop waiting.
        if futex::wait(wait.word(), expected, Some(slept), Scope::Shared) == futex::Wait::TimedOut {
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }
}

fn spin(wait: &impl Wait) {
    /// Where there is one core, who spins keeps the one it waits for from running.
    static ALONE: OnceLock<bool> = OnceLock::new();
    if *ALONE.get_or_init(|| cpu::available() < 2) {
        return;
    }
    for _ in 0..SPINS {
        if wait.is_near() {
            return;
        }
        std::hint::spin_loop();
    }
}
