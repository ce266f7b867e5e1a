//! Locks and their like between processes: they exclude, they wake, and nobody waits for the dead.

mod common;

use std::process::ExitCode;
use std::time::Duration;

use common::until;
use manyhands::{Barrier, Condition, Error, Event, Lock, Pool, Process, Semaphore, SharedSlice};

fn main() -> ExitCode {
    manyhands::init();
    common::watchdog();
    let trials = trials![
        a_lock_excludes_other_processes_and_threads,
        who_waits_for_a_killed_owner_is_told,
        who_tries_a_lock_of_a_killed_owner_is_told,
        an_owner_that_exits_counts_as_gone,
        a_lock_is_known_to_be_held_by_this_thread,
        a_lock_may_be_waited_for_in_vain,
        owners_killed_at_random_leave_a_lock_that_works,
        a_thousand_locks_and_one,
        a_lock_comes_back_as_itself,
        a_semaphore_lets_so_many_in,
        a_semaphore_counts_in_several_processes,
        a_semaphore_has_a_bound,
        a_waiter_for_a_semaphore_that_is_killed_takes_nothing_along,
        an_event_wakes_all,
        an_event_that_is_set_and_cleared_happened,
        a_condition_passes_a_baton_to_and_fro,
        notify_one_wakes_one_and_notify_all_the_rest,
        a_condition_may_be_waited_for_in_vain,
        a_killed_waiter_is_not_notified_in_place_of_another,
        a_waiter_learns_that_the_owner_was_killed,
        a_barrier_lets_through_when_all_have_come_again_and_again,
        a_barrier_breaks_when_one_is_killed_there,
        a_barrier_breaks_when_one_gives_up_and_is_reset,
        a_barrier_is_aborted,
        numbers_out_of_range_are_refused,
    ];
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn a_lock_excludes_other_processes_and_threads() {
    fn add((lock, count): (Lock, SharedSlice<u64>)) {
        for _ in 0..2000 {
            let _guard = lock.lock().unwrap();
            count.set(0, count.get(0) + 1); // two steps, which others must not come between
        }
    }
    let all = (Lock::new().unwrap(), SharedSlice::new(1).unwrap());
    let children: Vec<_> = (0..3)
        .map(|_| Process::spawn(add, all.clone()).unwrap())
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| add(all.clone()));
        }
    });
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(all.1.get(0), 5 * 2000);
}

fn hold((lock, held): (Lock, Event)) {
    let _guard = lock.lock().unwrap();
    held.set();
    sleep_for_ever();
}

/// A lock that a child holds, and the child.
fn held() -> (Lock, Process<()>) {
    let (lock, held) = (Lock::new().unwrap(), Event::new().unwrap());
    let child = Process::spawn(hold, (lock.clone(), held.clone())).unwrap();
    held.wait();
    (lock, child)
}

fn who_waits_for_a_killed_owner_is_told() {
    let (lock, child) = held();
    assert_eq!(lock.owner(), Some(child.pid()));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| lock.lock().map(drop));
        std::thread::sleep(Duration::from_millis(20));
        child.kill().unwrap();
        let Err(Error::OwnerDied { pid }) = waiting.join().unwrap() else {
            panic!("the lock was taken as if nothing had happened");
        };
        assert_eq!(pid, child.pid());
    });
    drop(lock.lock().unwrap());
}

fn who_tries_a_lock_of_a_killed_owner_is_told() {
    let (lock, child) = held();
    assert!(lock.try_lock().unwrap().is_none());
    child.kill().unwrap();
    until("the owner is gone", || !child.is_alive());
    assert!(matches!(lock.try_lock(), Err(Error::OwnerDied { .. })));
    assert!(lock.try_lock().unwrap().is_some());
}

fn an_owner_that_exits_counts_as_gone() {
    fn leave(lock: Lock) {
        std::mem::forget(lock.lock());
    }
    let lock = Lock::new().unwrap();
    Process::spawn(leave, lock.clone()).unwrap().join().unwrap();
    assert!(matches!(lock.lock(), Err(Error::OwnerDied { .. })));
    drop(lock.lock().unwrap());
}

fn a_lock_is_known_to_be_held_by_this_thread() {
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    assert!(matches!(lock.lock(), Err(Error::Deadlock)));
    assert!(matches!(lock.clone().try_lock(), Err(Error::Deadlock)));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| lock.try_lock().unwrap().is_none());
        assert!(other.join().unwrap());
    });
    drop(guard);
    assert!(lock.try_lock().unwrap().is_some());
}

fn a_lock_may_be_waited_for_in_vain() {
    let (lock, child) = held();
    let waited = lock.lock_timeout(Duration::from_millis(250)).unwrap();
    assert!(waited.is_none());
    child.kill().unwrap();
}

fn owners_killed_at_random_leave_a_lock_that_works() {
    fn take_and_give((lock, begun): (Lock, Event)) {
        begun.set();
        loop {
            let _ = lock.lock();
        }
    }
    let lock = Lock::new().unwrap();
    let mut pause = 1_u64;
    for _ in 0..30 {
        let begun = Event::new().unwrap();
        let children: Vec<_> = (0..2)
            .map(|_| Process::spawn(take_and_give, (lock.clone(), begun.clone())).unwrap())
            .collect();
        begun.wait();
        pause = pause * 48271 % 0x7fff_ffff;
        std::thread::sleep(Duration::from_micros(pause % 2000));
        for child in &children {
            child.kill().unwrap();
        }
        match lock.lock() {
            Ok(_) | Err(Error::OwnerDied { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn a_thousand_locks_and_one() {
    // More than a board has cells.
    let locks: Vec<Lock> = (0..2100).map(|_| Lock::new().unwrap()).collect();
    let guards: Vec<_> = locks.iter().map(|lock| lock.lock().unwrap()).collect();
    fn are_held(locks: Vec<Lock>) -> bool {
        locks.iter().all(|lock| lock.try_lock().unwrap().is_none())
    }
    let all = Process::spawn(are_held, locks.clone()).unwrap();
    assert!(all.join().unwrap());
    drop(guards);
}

fn a_lock_comes_back_as_itself() {
    let lock = Lock::new().unwrap();
    let same = Process::spawn(|lock: Lock| lock, lock.clone());
    let same = same.unwrap().join().unwrap();
    let _guard = lock.lock().unwrap();
    assert!(matches!(same.try_lock(), Err(Error::Deadlock)));
}

fn a_semaphore_lets_so_many_in() {
    type All = (Semaphore, SharedSlice<i64>);
    fn work((slots, inside): All) -> i64 {
        use std::sync::atomic::Ordering::SeqCst;
        let count = &inside.atomics()[0];
        let mut most = 0;
        for _ in 0..300 {
            let _slot = slots.acquire();
            most = most.max(count.fetch_add(1, SeqCst) + 1);
            std::thread::yield_now();
            count.fetch_sub(1, SeqCst);
        }
        most
    }
    let all = (Semaphore::new(2).unwrap(), SharedSlice::new(1).unwrap());
    let children: Vec<_> = (0..4)
        .map(|_| Process::spawn(work, all.clone()).unwrap())
        .collect();
    for child in children {
        assert!((1..=2).contains(&child.join().unwrap()));
    }
    assert_eq!(all.0.available(), 2);
}

fn a_semaphore_counts_in_several_processes() {
    let made = Semaphore::new(0).unwrap();
    fn make(made: Semaphore) {
        (0..500).for_each(|_| made.release().unwrap());
    }
    let pool = Pool::builder().workers(2).build().unwrap();
    let inputs = (0..4).map(|_| made.clone());
    pool.map(make, inputs).unwrap();
    for _ in 0..2000 {
        made.acquire().keep();
    }
    assert!(made.try_acquire().is_none());
    assert!(made.acquire_timeout(Duration::from_millis(10)).is_none());
}

fn a_semaphore_has_a_bound() {
    let full = Semaphore::new(Semaphore::MAX).unwrap();
    assert!(matches!(full.release(), Err(Error::OutOfRange { .. })));
    assert_eq!(full.available(), Semaphore::MAX);
}

fn a_waiter_for_a_semaphore_that_is_killed_takes_nothing_along() {
    fn wait((slots, begun): (Semaphore, Event)) {
        begun.set();
        let _slot = slots.acquire();
        sleep_for_ever();
    }
    let (slots, begun) = (Semaphore::new(0).unwrap(), Event::new().unwrap());
    let child = Process::spawn(wait, (slots.clone(), begun.clone())).unwrap();
    begun.wait();
    std::thread::sleep(Duration::from_millis(10));
    child.kill().unwrap();
    until("it is gone", || !child.is_alive());
    slots.release().unwrap();
    slots.acquire().keep();
}

fn an_event_wakes_all() {
    fn wait((event, ready): (Event, Semaphore)) -> bool {
        ready.release().unwrap();
        event.wait_timeout(Duration::from_secs(60))
    }
    let (event, ready) = (Event::new().unwrap(), Semaphore::new(0).unwrap());
    let children: Vec<_> = (0..3)
        .map(|_| Process::spawn(wait, (event.clone(), ready.clone())).unwrap())
        .collect();
    (0..3).for_each(|_| ready.acquire().keep());
    event.set();
    children
        .into_iter()
        .for_each(|child| assert!(child.join().unwrap()));
    event.clear();
    assert!(!event.is_set() && !event.wait_timeout(Duration::from_millis(10)));
}

fn an_event_that_is_set_and_cleared_happened() {
    let event = Event::new().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| event.wait_timeout(Duration::from_secs(60)));
        while !waiting.is_finished() {
            event.set();
            event.clear();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(waiting.join().unwrap());
    });
}

type Baton = (Lock, Condition, SharedSlice<u32>);

fn baton() -> Baton {
    let state = SharedSlice::new(2).unwrap();
    (Lock::new().unwrap(), Condition::new().unwrap(), state)
}

fn play((lock, turn, state): &Baton, me: u32, rounds: usize) {
    let mut guard = lock.lock().unwrap();
    for _ in 0..rounds {
        guard = turn.wait_while(guard, || state.get(0) != me).unwrap();
        state.set(0, 1 - me);
        turn.notify_one(&guard);
    }
}

fn a_condition_passes_a_baton_to_and_fro() {
    let all = baton();
    let child = Process::spawn(|all: Baton| play(&all, 1, 1000), all.clone()).unwrap();
    play(&all, 0, 1000);
    child.join().unwrap();
}

/// Waits for a number that is not 0, and counts who waits.
fn wait_for_it((lock, changed, state): Baton) {
    let guard = lock.lock().unwrap();
    state.set(1, state.get(1) + 1);
    let guard = changed.wait(guard).unwrap();
    state.set(1, state.get(1) - 1);
    drop(guard);
}

fn waiters(n: u32, all: &Baton) -> Vec<Process<()>> {
    let children = (0..n)
        .map(|_| Process::spawn(wait_for_it, all.clone()).unwrap())
        .collect();
    until("all wait", || {
        let _guard = all.0.lock().unwrap();
        all.2.get(1) == n
    });
    children
}

fn notify_one_wakes_one_and_notify_all_the_rest() {
    let all = baton();
    let children = waiters(3, &all);
    all.1.notify_one(&all.0.lock().unwrap());
    until("one was woken", || all.2.get(1) == 2);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(all.2.get(1), 2);
    all.1.notify_all(&all.0.lock().unwrap());
    children.into_iter().for_each(|child| child.join().unwrap());
}

fn a_condition_may_be_waited_for_in_vain() {
    let (lock, changed, _) = baton();
    let guard = lock.lock().unwrap();
    let (guard, called) = changed
        .wait_timeout(guard, Duration::from_millis(20))
        .unwrap();
    assert!(!called && lock.owner().is_some());
    drop(guard);
}

fn a_killed_waiter_is_not_notified_in_place_of_another() {
    let all = baton();
    let first = waiters(1, &all).remove(0);
    all.2.set(1, 0);
    let second = waiters(1, &all).remove(0);
    first.kill().unwrap();
    until("the first is gone", || !first.is_alive());
    all.1.notify_one(&all.0.lock().unwrap());
    second.join().unwrap();
}

fn a_waiter_learns_that_the_owner_was_killed() {
    fn die_holding((lock, changed, state): Baton) {
        let guard = lock.lock().unwrap();
        state.set(0, 1);
        changed.notify_all(&guard);
        std::thread::sleep(Duration::from_millis(150)); // the waiter comes to wait for the lock
        std::process::abort();
    }
    let all = baton();
    let guard = all.0.lock().unwrap();
    let child = Process::spawn(die_holding, all.clone()).unwrap();
    let Err(Error::OwnerDied { pid }) = all.1.wait(guard) else {
        panic!("the lock was taken as if nothing had happened");
    };
    assert_eq!(pid, child.pid());
    drop(all.0.lock().unwrap()); // it is free, and not held by this thread
}

fn a_barrier_lets_through_when_all_have_come_again_and_again() {
    type All = (Barrier, SharedSlice<u64>);
    fn work((barrier, steps): All) -> usize {
        use std::sync::atomic::Ordering::SeqCst;
        let mut led = 0;
        for round in 1..=100 {
            steps.atomics()[0].fetch_add(1, SeqCst);
            led += usize::from(barrier.wait().unwrap().is_leader());
            assert!(steps.get(0) >= round * 3, "all three have done their step");
        }
        led
    }
    let all = (Barrier::new(3).unwrap(), SharedSlice::new(1).unwrap());
    let children: Vec<_> = (0..3)
        .map(|_| Process::spawn(work, all.clone()).unwrap())
        .collect();
    let led: usize = children
        .into_iter()
        .map(|child| child.join().unwrap())
        .sum();
    assert_eq!((led, all.1.get(0)), (100, 300));
}

fn a_barrier_breaks_when_one_is_killed_there() {
    fn wait(barrier: Barrier) -> bool {
        matches!(barrier.wait(), Err(Error::BrokenBarrier))
    }
    let barrier = Barrier::new(3).unwrap();
    let children: Vec<_> = (0..2)
        .map(|_| Process::spawn(wait, barrier.clone()).unwrap())
        .collect();
    until("both wait", || barrier.waiting() == 2);
    children[0].kill().unwrap();
    let [_, other] = <[_; 2]>::try_from(children).unwrap();
    assert!(other.join().unwrap());
    assert!(matches!(barrier.wait(), Err(Error::BrokenBarrier)));
    barrier.reset();
    let children: Vec<_> = (0..2)
        .map(|_| Process::spawn(wait, barrier.clone()).unwrap())
        .collect();
    barrier.wait().unwrap();
    children
        .into_iter()
        .for_each(|child| assert!(!child.join().unwrap()));
}

fn a_barrier_breaks_when_one_gives_up_and_is_reset() {
    let barrier = Barrier::new(2).unwrap();
    let waited = barrier.wait_timeout(Duration::from_millis(10));
    assert!(matches!(waited, Err(Error::BrokenBarrier)));
    assert!(barrier.is_broken());
    barrier.reset();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| barrier.wait().unwrap().number());
        let here = barrier.wait().unwrap().number();
        assert_eq!(here + other.join().unwrap(), 1);
    });
}

fn a_barrier_is_aborted() {
    let barrier = Barrier::new(2).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| barrier.wait());
        until("it waits", || barrier.waiting() == 1);
        barrier.abort();
        assert!(matches!(waiting.join().unwrap(), Err(Error::BrokenBarrier)));
    });
}

fn numbers_out_of_range_are_refused() {
    for error in [
        Barrier::new(0).unwrap_err(),
        Barrier::new(4096).unwrap_err(),
        Semaphore::new(1 << 31).unwrap_err(),
    ] {
        assert!(matches!(error, Error::OutOfRange { .. }), "{error}");
        assert!(error.to_string().contains(" are possible"), "{error}");
    }
}
