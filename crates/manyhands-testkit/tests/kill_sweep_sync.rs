//! Who holds a lock or waits for a condition is killed at every moment, and what is left tells so.

use manyhands_os::identity::{self, Life};
use manyhands_os::memory::{Mapping, Memfd};
use manyhands_shm::sync::{Board, Holder, Kind, Step, Wait};
use manyhands_testkit::{Ended, Scene, Watchdog, kill_sweep};
use std::sync::Arc;
use std::time::Duration;

fn me() -> Holder {
    let (process, thread) = identity::process_and_thread();
    Holder { process, thread }
}

/// A board with a cell of each kind, mapped for the survivor; the child maps it anew.
struct Shared {
    memfd: Memfd,
    mapping: Arc<Mapping>,
    board: Board,
    cell: u32,
}

impl Shared {
    fn new(kind: Kind, word: u32) -> Shared {
        let memfd = Memfd::create("manyhands kill sweep", Board::LEN as u64).expect("a memfd");
        let mapping = Arc::new(Mapping::shared_with_children(&memfd).expect("a mapping"));
        let board = Board::create(mapping.clone());
        let cell = board.take().expect("a new board has cells");
        board.begin(cell, kind, word, 9);
        Shared {
            memfd,
            mapping,
            board,
            cell,
        }
    }

    /// In the child: the board, its cell, and who the child is, found before the steps are counted.
    fn enter(&self) -> (Board, u32, Holder) {
        let mapping = Mapping::shared_with_children(&self.memfd).expect("a mapping");
        let board = Board::attach(Arc::new(mapping)).expect("a board");
        (board, self.cell, me())
    }
}

/// Takes a lock twice in turn and gives it back.
struct KilledHolder(Shared);

impl Scene for KilledHolder {
    type Child = (Board, u32, Holder);

    fn prepare(&self) -> Self::Child {
        self.0.enter()
    }

    fn act((board, cell, me): Self::Child) {
        for _ in 0..2 {
            assert!(board.lock(cell).try_acquire(me));
            assert!(board.lock(cell).deepen());
            assert!(!board.lock(cell).rise());
            assert!(!board.lock(cell).release().expect("it is held"));
        }
    }

    fn memory(&self) -> &Mapping {
        &self.0.mapping
    }

    fn check(self, ended: Ended) {
        let lock = self.0.board.lock(self.0.cell);
        let holder = lock.holder();
        if holder != 0 {
            assert_ne!(ended, Ended::Done);
            assert_eq!(
                identity::life(holder),
                Life::Dead,
                "its word says who held it"
            );
            assert!(!lock.try_acquire(me()));
            assert_eq!(lock.release(), Ok(false));
        }
        assert!(lock.try_acquire(me()), "it can be used again");
        assert!(lock.is_mine(me()));
        assert_eq!(lock.depth(), 1);
    }
}

#[test]
fn a_lock_says_who_held_it_wherever_the_holder_was_killed() {
    let _watchdog = Watchdog::new(
        "a_lock_says_who_held_it_wherever_the_holder_was_killed",
        Duration::from_secs(120),
    );
    let swept = kill_sweep(|| KilledHolder(Shared::new(Kind::Recursive, 0)), 20);
    assert!(swept.changes >= 8, "{swept:?}");
}

/// Takes one of three tokens, and gives it back.
struct KilledTaker(Shared);

impl Scene for KilledTaker {
    type Child = (Board, u32, Holder);

    fn prepare(&self) -> Self::Child {
        self.0.enter()
    }

    fn act((board, cell, _): Self::Child) {
        assert!(board.semaphore(cell).try_acquire());
        assert!(
            board
                .semaphore(cell)
                .release(3)
                .expect("one is missing")
                .is_none()
        );
    }

    fn memory(&self) -> &Mapping {
        &self.0.mapping
    }

    fn check(self, ended: Ended) {
        let semaphore = self.0.board.semaphore(self.0.cell);
        let left = semaphore.value();
        assert!(left == 3 || left == 2 && ended != Ended::Done);
        assert!(semaphore.try_acquire());
        assert_eq!(semaphore.value(), left - 1);
    }
}

#[test]
fn a_killed_taker_takes_one_token_at_most() {
    let _watchdog = Watchdog::new(
        "a_killed_taker_takes_one_token_at_most",
        Duration::from_secs(120),
    );
    let swept = kill_sweep(|| KilledTaker(Shared::new(Kind::Semaphore, 3)), 20);
    assert!(swept.changes >= 2, "{swept:?}");
}

/// Sits down to wait for a condition, and leaves.
struct KilledWaiter(Shared);

impl Scene for KilledWaiter {
    type Child = (Board, u32, Holder);

    fn prepare(&self) -> Self::Child {
        self.0.enter()
    }

    fn act((board, cell, me): Self::Child) {
        let seat = board
            .condition(cell)
            .enter(me.process)
            .expect("a free seat");
        assert!(!seat.leave());
    }

    fn memory(&self) -> &Mapping {
        &self.0.mapping
    }

    fn check(self, _: Ended) {
        let condition = self.0.board.condition(self.0.cell);
        let seat = condition.enter(me().process).expect("a free seat");
        // What the engine does: who is called and turns out to be dead is not counted.
        let mut called = 0;
        for found in condition.oldest() {
            assert!(condition.call(found).is_some());
            if identity::life(condition.sitter(found)) == Life::Dead {
                assert!(condition.clear_away(me().process, |process| {
                    identity::life(process) == Life::Dead
                }));
            } else {
                called += 1;
            }
        }
        assert_eq!(called, 1);
        assert!(seat.leave(), "the living one was called");
        assert_eq!(condition.waiting(), 0);
        condition.clear_away(me().process, |process| {
            identity::life(process) == Life::Dead
        });
        let first = condition.enter(me().process).expect("a free seat");
        assert_eq!(
            condition.oldest().len(),
            1,
            "nobody sits there who does not wait"
        );
        first.leave();
    }
}

#[test]
fn a_killed_waiter_costs_no_other_its_call() {
    let _watchdog = Watchdog::new(
        "a_killed_waiter_costs_no_other_its_call",
        Duration::from_secs(120),
    );
    let swept = kill_sweep(|| KilledWaiter(Shared::new(Kind::Condition, 0)), 20);
    assert!(swept.changes >= 5, "{swept:?}");
}

/// Sets an event, and clears it.
struct KilledSetter(Shared);

impl Scene for KilledSetter {
    type Child = (Board, u32, Holder);

    fn prepare(&self) -> Self::Child {
        self.0.enter()
    }

    fn act((board, cell, _): Self::Child) {
        assert!(!board.event(cell).set());
        board.event(cell).clear();
    }

    fn memory(&self) -> &Mapping {
        &self.0.mapping
    }

    fn check(self, ended: Ended) {
        let event = self.0.board.event(self.0.cell);
        assert!(ended != Ended::Done || !event.is_set());
        event.clear();
        let wait = event.wait().expect("it is not set");
        assert!(!event.set(), "nobody sleeps");
        assert_eq!(wait.step(), Step::Done);
    }
}

#[test]
fn a_killed_setter_leaves_an_event_that_is_set_or_not() {
    let _watchdog = Watchdog::new(
        "a_killed_setter_leaves_an_event_that_is_set_or_not",
        Duration::from_secs(120),
    );
    let swept = kill_sweep(|| KilledSetter(Shared::new(Kind::Event, 0)), 20);
    assert!(swept.changes >= 2, "{swept:?}");
}
