//! The floor: what the hardware and the kernel take for the least of what the engine does.
//!
//! A benchmark measures these beside its own figure, in the same run, so that both have met the same machine.
//! Each is an exchange with a peer in another process, without any of what makes an exchange useful: no
//! lengths, no checks, no room to wait for, nobody who may die.
//! Always: a peer that waits awake takes a core until it is dropped, so there is one at a time.
//! Not here: what is compared with them (`crates/*/benches`).

use crate::peer::Peer;
use manyhands_os::futex::{self, Scope, Wait};
use manyhands_os::memory::{Mapping, Memfd};
use std::hint::black_box;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

/// So long nobody sleeps who is about to be woken.
const PATIENCE: Duration = Duration::from_secs(1);

/// A cache line that two processes have.
#[repr(C, align(64))]
struct Line {
    /// Whose turn it is, or which one.
    turn: AtomicU32,
    rest: [AtomicU64; 7],
}

const _: () = assert!(size_of::<Line>() == 64);

impl Line {
    fn fill(&self, turn: u32) {
        for word in &self.rest {
            word.store(u64::from(turn), Relaxed);
        }
        self.turn.store(turn, Release); // pairs with the load of whoever waits for this turn
    }

    fn read(&self) -> u64 {
        self.rest
            .iter()
            .fold(0, |sum, word| sum ^ word.load(Relaxed))
    }
}

/// Shared memory as lines.
struct Lines(Mapping);

impl Lines {
    fn memory(count: usize) -> Memfd {
        Memfd::create("manyhands floor", (count * size_of::<Line>()) as u64).expect("a memfd")
    }

    fn of(memory: &Memfd) -> Lines {
        Lines(Mapping::shared(memory).expect("a mapping"))
    }

    fn all(&self) -> &[Line] {
        let count = self.0.len() / size_of::<Line>();
        // SAFETY: a mapping begins at a page and lives as long as `self`; any bytes are a `Line`, and as
        // it is all atomics, another process may write there.
        unsafe { core::slice::from_raw_parts(self.0.base().as_ptr().cast(), count) }
    }
}

/// Lines there and lines back between two processes that both wait awake.
pub struct Echo {
    peer: Peer,
    lines: Lines,
    count: usize,
    /// Lines sent so far.
    sent: u32,
}

impl Echo {
    /// One that has `count` lines under way at a time: a power of two.
    pub fn new(count: usize) -> Echo {
        assert!(
            count.is_power_of_two(),
            "turns are told apart by their low bits"
        );
        let memory = Lines::memory(Echo::back(count) + count);
        let peer = Peer::fork(|| {
            let lines = Lines::of(&memory);
            let (there, back) = lines.all().split_at(Echo::back(count));
            let mut turn = 0u32;
            loop {
                let slot = turn as usize % count;
                turn = turn.wrapping_add(1);
                while there[slot].turn.load(Acquire) != turn {}
                black_box(there[slot].read());
                back[slot].fill(turn);
            }
        });
        let (lines, sent) = (Lines::of(&memory), 0);
        Echo {
            peer,
            lines,
            count,
            sent,
        }
    }

    /// Where the lines back begin: in a page of their own, as processors fetch lines in pairs.
    fn back(count: usize) -> usize {
        count.next_multiple_of(64)
    }

    /// Sends `count` lines and has the answers to all of them.
    pub fn exchange(&mut self) {
        let (there, back) = self.lines.all().split_at(Echo::back(self.count));
        let first = self.sent as usize % self.count;
        debug_assert_eq!(first, 0, "all were answered");
        for line in &there[..self.count] {
            self.sent = self.sent.wrapping_add(1);
            line.fill(self.sent);
        }
        let before = self.sent.wrapping_sub(self.count as u32);
        for (turn, line) in (1..).zip(&back[..self.count]) {
            let turn = before.wrapping_add(turn);
            self.peer.spin_until(|| line.turn.load(Acquire) == turn);
            black_box(line.read());
        }
    }
}

/// One word between this process and a peer that sleeps on it, by futex, until it is its turn.
pub struct Sleeper {
    peer: Peer,
    lines: Lines,
}

impl Sleeper {
    /// One that sleeps from now on.
    #[expect(clippy::new_without_default, reason = "it forks")]
    pub fn new() -> Sleeper {
        let memory = Lines::memory(1);
        let peer = Peer::fork(|| {
            let lines = Lines::of(&memory);
            let word = &lines.all()[0].turn;
            loop {
                let turn = word.load(Acquire);
                if turn.is_multiple_of(2) {
                    futex::wait(word, turn, None, Scope::Shared);
                } else {
                    word.store(turn.wrapping_add(1), Release); // pairs with the loads below
                    futex::wake(word, 1, Scope::Shared);
                }
            }
        });
        let lines = Lines::of(&memory);
        Sleeper { peer, lines }
    }

    fn word(&self) -> &AtomicU32 {
        &self.lines.all()[0].turn
    }

    /// Wakes the peer; what the word is until it has answered.
    fn call(&self) -> u32 {
        let turn = self.word().load(Relaxed).wrapping_add(1);
        self.word().store(turn, Release); // pairs with the load in the peer
        futex::wake(self.word(), 1, Scope::Shared);
        turn
    }

    /// Wakes the peer, and sleeps until it has answered.
    pub fn round_trip(&self) {
        let turn = self.call();
        while self.word().load(Acquire) == turn {
            // A peer that died would let us sleep for ever.
            if futex::wait(self.word(), turn, Some(PATIENCE), Scope::Shared) == Wait::TimedOut {
                self.peer.spin_until(|| self.word().load(Acquire) != turn);
            }
        }
    }

    /// Wakes the peer, and waits awake until it has answered.
    pub fn round_trip_awake(&self) {
        let turn = self.call();
        self.peer.spin_until(|| self.word().load(Acquire) != turn);
    }
}

/// A copy from warm memory into warm memory, both private.
pub struct Copy {
    from: Vec<u8>,
    to: Vec<u8>,
    len: usize,
}

/// A copy is several times slower where its target begins a few bytes after its source in their pages, as two
/// blocks of `malloc` do.
const PAGE: usize = 4096;

impl Copy {
    /// Of `len` bytes.
    pub fn new(len: usize) -> Copy {
        let (from, to) = (vec![1; len + PAGE], vec![2; len + PAGE]);
        Copy { from, to, len }
    }

    /// Copies them.
    pub fn copy(&mut self) {
        let from = self.from.as_ptr().align_offset(PAGE);
        let to = self.to.as_ptr().align_offset(PAGE);
        let from = black_box(&self.from[from..][..self.len]);
        self.to[to..][..self.len].copy_from_slice(from);
        black_box(&mut self.to);
    }
}
