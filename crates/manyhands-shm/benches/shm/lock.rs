//! What a lock costs: uncontended, and handed over to another process.
//! Always: nobody sleeps; the words are on a board, as locks that processes share have them.
//! Not here: sleeping on a lock (`manyhands-py`), which costs what `doorbell` shows.

use crate::figure::{exchange, figure};
use crate::memory::memfd;
use criterion::Criterion;
use manyhands_os::identity;
use manyhands_os::memory::Mapping;
use manyhands_shm::sync::{Board, Holder, Kind, Lock};
use manyhands_testkit::{Peer, floor::Echo};
use std::hint::black_box;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex};

/// Measures all of this.
pub(crate) fn measure(criterion: &mut Criterion) {
    alone(criterion);
    handed_over(criterion);
}

fn board() -> Board {
    let mapping = Mapping::shared_with_children(&memfd(Board::LEN)).expect("a mapping");
    Board::create(Arc::new(mapping))
}

/// A board with something in a cell.
fn cell(kind: Kind, word: u32) -> (Board, u32) {
    let board = board();
    let cell = board.take().expect("a cell of a new board");
    board.begin(cell, kind, word, 1);
    (board, cell)
}

fn me() -> Holder {
    let (process, thread) = identity::process_and_thread();
    Holder { process, thread }
}

/// Nobody else wants it.
fn alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lock, uncontended");
    let word = || AtomicU32::new(0);
    figure(&mut group, "floor: two exchanges", word, |word| {
        let _ = black_box(word.compare_exchange(0, 1, Acquire, Relaxed));
        black_box(word.swap(0, Release));
    });
    let mutex = || Mutex::new(());
    figure(&mut group, "the standard library's Mutex", mutex, |mutex| {
        let mutex: &Mutex<()> = mutex;
        drop(black_box(mutex.lock()));
    });
    let lock = || (cell(Kind::Lock, 0), me());
    figure(&mut group, "Lock", lock, |((board, cell), me)| {
        let lock = board.lock(*cell);
        assert!(lock.try_acquire(*me), "nobody else has it");
        let _ = black_box(lock.release());
    });
    let semaphore = || cell(Kind::Semaphore, 1);
    figure(&mut group, "Semaphore", semaphore, |(board, cell)| {
        let semaphore = board.semaphore(*cell);
        assert!(semaphore.try_acquire(), "nobody else has it");
        let _ = black_box(semaphore.release(1));
    });
    group.finish();
}

/// Two locks that are held. Either process frees the one that the other waits for, awake: any process may free
/// a lock. So each goes to the other process once for each time there and back.
fn handed_over(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lock, two handed over to another process");
    exchange(&mut group, "floor: a line", || Echo::new(1), Echo::exchange);
    let held = || {
        let board = board();
        let [there, back] = [(), ()].map(|()| {
            let cell = board.take().expect("a cell of a new board");
            board.begin(cell, Kind::Lock, 0, 1);
            assert!(board.lock(cell).try_acquire(me()), "nobody else has it");
            cell
        });
        let peer = Peer::fork(|| {
            let me = me();
            loop {
                while !is_taken(board.lock(there), me) {}
                let _ = board.lock(back).release();
            }
        });
        (board, there, back, peer, me())
    };
    exchange(
        &mut group,
        "Lock",
        held,
        |(board, there, back, peer, me)| {
            let _ = board.lock(*there).release();
            peer.spin_until(|| is_taken(board.lock(*back), *me));
        },
    );
    group.finish();
}

/// Takes the lock if a look says that it is free, as whoever waits awake does.
fn is_taken(lock: Lock<'_>, me: Holder) -> bool {
    lock.holder() == 0 && lock.try_acquire(me)
}
