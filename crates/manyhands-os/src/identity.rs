//! Who this is, small enough for a lock's word: a process in 31 bits, a thread in 32.
//!
//! A process's number alone is used again after its end. So 22 bits of number (all that Linux gives out) go
//! with 9 bits made of the time it started: a stranger under a dead process's number is told apart in 510 of
//! 511 cases, and in the last one is taken for it until it ends.
//! Always: neither costs a system call once known; a forked child is somebody else.
//! Not here: what a word with an identity in it means (`manyhands-shm::sync`).

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::death;
use crate::fork_state;

/// Bits of a process's number: `/proc/sys/kernel/pid_max` is at most 2^22.
const PID_BITS: u32 = 22;
const PID_MASK: u32 = (1 << PID_BITS) - 1;
/// Tags are 1 to 511, so that no identity is 0.
const TAGS: u64 = 511;

/// What became of the process behind an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Alive,
    /// It has ended, be it that nobody has fetched its status yet.
    Dead,
    /// It cannot be told: there is no `/proc`, or the identity is none.
    Unknown,
}

/// This process, in 31 bits, never 0.
pub fn process() -> u32 {
    /// The low half of the generation it was found in, and the identity.
    static KNOWN: AtomicU64 = AtomicU64::new(0);
    let generation = fork_state::generation() as u32;
    let known = KNOWN.load(Relaxed);
    if known as u32 != 0 && (known >> 32) as u32 == generation {
        return known as u32;
    }
    let pid = fork_state::pid();
    let id = identity(pid, death::start_time(pid).unwrap_or(0));
    KNOWN.store(u64::from(generation) << 32 | u64::from(id), Relaxed);
    id
}

/// The calling thread, by the kernel's number, never 0.
#[inline]
pub fn thread() -> u32 {
    process_and_thread().1
}

/// [`process`] and [`thread`] in one look.
#[inline]
pub fn process_and_thread() -> (u32, u32) {
    thread_local! {
        /// Both, and the generation they were found in: in a forked child the process and its thread are new.
        static KNOWN: Cell<(u64, u32, u32)> = const { Cell::new((u64::MAX, 0, 0)) };
    }
    let ask = || {
        let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        (process(), thread)
    };
    let generation = fork_state::generation();
    KNOWN
        .try_with(|known| match known.get() {
            (then, process, thread) if then == generation => (process, thread),
            _ => {
                let (process, thread) = ask();
                known.set((generation, process, thread));
                (process, thread)
            }
        })
        .unwrap_or_else(|_| ask()) // a thread on its way out
}

/// The number of the process behind an identity; 0 for none.
pub fn pid(identity: u32) -> i32 {
    (identity & PID_MASK) as i32
}

/// Whether the process behind an identity still runs.
pub fn life(id: u32) -> Life {
    let pid = pid(id);
    if pid == 0 {
        return Life::Unknown;
    }
    match death::running_since(pid) {
        Ok(Some(started)) if identity(pid, started) == id => Life::Alive,
        Ok(_) => Life::Dead,
        Err(_) => Life::Unknown,
    }
}

fn identity(pid: i32, started: u64) -> u32 {
    // The number is positive and below 2^22; the tag below 2^9: 31 bits.
    let tag = (started % TAGS) as u32 + 1;
    (tag << PID_BITS) | (pid as u32 & PID_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_knows_its_number() {
        let me = process();
        assert_eq!(me, process());
        assert_eq!(pid(me), std::process::id() as i32);
        assert_eq!(me >> 31, 0);
        assert_eq!(life(me), Life::Alive);
    }

    #[test]
    fn a_number_used_again_is_somebody_else() {
        let me = process();
        let tag = me >> PID_BITS;
        let other = if tag == 1 { 2 } else { tag - 1 };
        assert_eq!(
            life(other << PID_BITS | me & PID_MASK),
            Life::Dead,
            "the same number, another start"
        );
    }

    #[test]
    fn a_child_that_ended_is_dead_before_it_is_fetched() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = identity(
            child.id() as i32,
            death::start_time(child.id() as i32).unwrap(),
        );
        // Its end shows in its standard output's: there is none, so ask until the kernel says so.
        while life(id) == Life::Alive {
            std::thread::yield_now();
        }
        assert_eq!(life(id), Life::Dead);
        child.wait().unwrap();
        assert_eq!(life(id), Life::Dead);
    }

    #[test]
    fn nobody_is_neither_alive_nor_dead() {
        assert_eq!(life(0), Life::Unknown);
        assert_eq!(life(5 << PID_BITS), Life::Unknown);
    }

    #[test]
    fn threads_have_numbers_of_their_own() {
        let here = thread();
        assert_eq!(here, thread());
        assert_ne!(here, std::thread::spawn(thread).join().unwrap());
    }
}
