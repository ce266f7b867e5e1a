//! Who this is, small enough for a lock's word: a process in 31 bits, a thread in 32.
//!
//! A process's number alone is used again after its end. So 22 bits of number (all that Linux gives out) go
//! with 9 bits made of the time it started: a stranger under a dead process's number is told apart in 510 of
//! 511 cases, and in the last one is taken for it until it ends.
//!
//! The number is the one that `/proc` shows. Processes in namespaces of their own may all be number 1 to
//! themselves, and are different ones in the `/proc` that they share. Those that do not even share that have
//! different [`view`]s: 19 bits, in the process and in the thread, are then made of the view too, and nobody
//! can say of one with another view whether it lives.
//!
//! Always: neither costs a system call once known; a forked child is somebody else; a process is called dead
//! only if it is.
//! Not here: what a word with an identity in it means (`manyhands-shm::sync`), who notes that processes of
//! different views share something.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use crate::death::{self, Entry, Proc};
use crate::fork_state;

/// Bits of a process's number: `/proc/sys/kernel/pid_max` is at most 2^22.
const PID_BITS: u32 = 22;
const PID_MASK: u32 = (1 << PID_BITS) - 1;
/// Tags are 1 to 511. 0 is for a process that `/proc` does not show: nobody can look it up.
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

/// The low half of the generation it was found in, and this process's identity.
static KNOWN: AtomicU64 = AtomicU64::new(0);
/// What goes with it: stored before.
static VIEW: AtomicU64 = AtomicU64::new(0);
static MARK: AtomicU32 = AtomicU32::new(0);

/// This process, in 31 bits, never 0.
pub fn process() -> u32 {
    let generation = fork_state::generation() as u32;
    let known = KNOWN.load(Acquire); // pairs with the store below
    if known as u32 != 0 && (known >> 32) as u32 == generation {
        return known as u32;
    }
    let shown = Proc::open().and_then(|proc| Ok((proc.view, proc.own()?)));
    let (id, view, mark) = match shown {
        Ok((view, (number, started))) => (
            identity(number, started, view),
            view,
            mix(view ^ started.rotate_left(32)),
        ),
        // Whoever is like this one in all else has not come here at this very nanosecond.
        Err(_) => (
            fork_state::pid() as u32 & PID_MASK,
            0,
            mix(crate::clock::now_ns()),
        ),
    };
    VIEW.store(view, Relaxed);
    MARK.store((mark >> 32) as u32 & !PID_MASK, Relaxed);
    KNOWN.store(u64::from(generation) << 32 | u64::from(id), Release);
    id
}

/// The `/proc` that this process has its number from, 0 for none. Only processes that have it from the same
/// one can tell of each other whether they live.
pub fn view() -> u64 {
    process();
    VIEW.load(Relaxed)
}

/// The calling thread: the kernel's number, and in the bits above it a mark of the process. Never 0.
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
        let process = process();
        (process, thread & PID_MASK | MARK.load(Relaxed))
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

/// The kernel's number of a [`thread`]; 0 for none.
pub fn thread_number(thread: u32) -> i32 {
    (thread & PID_MASK) as i32
}

/// Whether the process behind an identity still runs; the identity comes from a process of our [`view`].
pub fn life(id: u32) -> Life {
    let (number, view) = (pid(id), view());
    if number == 0 || id >> PID_BITS == 0 {
        return Life::Unknown;
    }
    // Another one may have been mounted since we got our own number.
    let Some(proc) = Proc::open().ok().filter(|proc| proc.view == view) else {
        return Life::Unknown;
    };
    match proc.entry(number) {
        Ok(Entry::Running(started)) if identity(number, started, view) == id => Life::Alive,
        Ok(Entry::Running(_) | Entry::Ended) => Life::Dead,
        // It may be hidden from us. The kernel itself knows, if the number means the same to it.
        Ok(Entry::None) if proc.is_ours() && death::is_free(number) => Life::Dead,
        Ok(Entry::None) | Err(_) => Life::Unknown,
    }
}

fn identity(number: i32, started: u64, view: u64) -> u32 {
    // The number is positive and below 2^22; the tag below 2^9: 31 bits.
    let tag = (started.wrapping_add(mix(view) >> 32) % TAGS) as u32 + 1;
    (tag << PID_BITS) | (number as u32 & PID_MASK)
}

/// Spreads a number over 64 bits.
fn mix(number: u64) -> u64 {
    let mixed = (number ^ number >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32 ^ mixed << 32
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
        let number = child.id() as i32;
        let id = identity(number, death::start_time(number).unwrap(), view());
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
    fn who_is_not_shown_by_proc_is_neither_alive_nor_dead() {
        assert_eq!(life(process() & PID_MASK), Life::Unknown);
    }

    #[test]
    fn the_same_number_and_start_in_another_proc_is_somebody_else() {
        let (number, started) = death::own_start().unwrap();
        let others = (1..100).map(|view| identity(number, started, view));
        assert!(others.collect::<std::collections::BTreeSet<_>>().len() > 80);
    }

    #[test]
    fn threads_have_numbers_of_their_own() {
        let here = thread();
        assert_eq!(here, thread());
        assert_ne!(here, std::thread::spawn(thread).join().unwrap());
    }
}
