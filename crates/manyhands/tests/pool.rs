//! `Pool`: order, laziness, failures as values, and workers that are killed.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Scratch, children, open_fds, play, runs, scene, until};
use manyhands::{Barrier, Error, Event, ExitStatus, Pool, Process};
use serde::{Deserialize, Serialize};

fn main() -> ExitCode {
    manyhands::init();
    common::watchdog();
    if let Some(scene) = scene() {
        return scenes(&scene);
    }
    let trials = trials![
        map_keeps_the_order,
        map_of_nothing_is_nothing,
        map_takes_what_is_neither_send_nor_static,
        inputs_are_drawn_as_workers_get_ready,
        skewed_durations_keep_the_order,
        large_values_travel_both_ways,
        functions_do_not_get_mixed_up,
        the_first_failure_in_order_is_the_error_of_a_map,
        nothing_is_drawn_after_a_failure,
        map_each_tells_the_fate_of_every_input,
        an_iterator_that_panics_leaves_the_pool_usable,
        an_iterator_may_use_the_pool,
        a_task_gives_its_result_once,
        tasks_get_on_while_nobody_waits,
        wait_timeout_gives_up_in_time,
        a_panic_is_a_value_and_the_worker_goes_on,
        a_worker_that_exits_is_a_value,
        a_killed_worker_fails_only_its_own_task,
        an_idle_worker_that_is_killed_is_replaced,
        workers_killed_at_random_fail_only_what_they_ran,
        a_task_whose_worker_died_is_run_again_if_that_is_allowed,
        large_arguments_are_run_again_too,
        a_pool_whose_workers_die_too_often_gives_up,
        a_task_that_takes_too_long_is_ended,
        a_queued_task_is_cancelled_and_a_running_one_by_force,
        values_that_cannot_be_translated_are_errors,
        imap_keeps_the_order_and_imap_unordered_does_not_wait,
        imap_draws_no_further_ahead_than_it_may,
        imap_of_an_endless_input_ends_when_it_is_dropped,
        imap_tells_the_fate_of_every_input_and_goes_on,
        imap_of_a_closed_pool_says_so_once,
        workers_are_limited_in_memory,
        workers_that_have_grown_are_replaced,
        idle_workers_leave_and_come_back,
        a_task_beside_a_long_one_has_a_worker_come,
        the_only_worker_that_stayed_is_stopped,
        tasks_are_limited_in_processor_time,
        a_limit_of_memory_that_leaves_nothing_breaks_the_pool,
        threads_share_a_pool,
        a_worker_may_have_a_pool_and_processes,
        workers_are_replaced_after_their_share,
        the_initializer_runs_once_a_worker,
        an_initializer_that_fails_breaks_the_pool,
        a_pool_without_workers_is_an_error,
        a_pool_grows_while_tasks_wait_for_each_other,
        a_pool_shrinks_and_loses_no_task,
        a_busy_worker_leaves_when_its_task_is_done,
        sizes_change_again_and_again,
        a_killed_worker_of_a_resized_pool_is_replaced,
        bad_sizes_are_refused_and_a_closed_pool_has_none,
        a_pool_that_cannot_grow_stays_as_it_is,
        a_closed_pool_does_what_it_has,
        join_waits_for_every_task,
        terminate_gives_up_what_is_not_done,
        a_task_outlives_its_pool_as_an_error,
        dropping_a_pool_ends_its_workers,
        workers_that_ignore_sigterm_end_all_the_same,
        workers_end_when_the_parent_is_killed,
        what_a_task_prints_is_there_when_it_is_done,
        nothing_is_left_open_and_nobody_unburied,
    ];
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
}

fn scenes(scene: &str) -> ExitCode {
    match scene {
        "leak" => scene_leak(),
        "print" => scene_print(),
        "no_room" => scene_no_room(),
        other => panic!("no such scene: {other}"),
    }
    ExitCode::SUCCESS
}

fn pool(workers: usize) -> Pool {
    Pool::builder().workers(workers).build().unwrap()
}

fn square(x: u64) -> u64 {
    x * x
}

fn sleep_for_ever((): ()) {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Sleeps until a file is there.
fn wait_for(file: String) {
    until("the file is there", || Path::new(&file).exists());
}

fn map_keeps_the_order() {
    let pool = pool(3);
    for len in [1, 2, 3, 100, 20_000] {
        let squares = pool.map(square, 0..len).unwrap();
        assert!(
            squares.into_iter().eq((0..len).map(|x| x * x)),
            "{len} inputs"
        );
    }
}

fn map_of_nothing_is_nothing() {
    let pool = pool(1);
    assert_eq!(pool.map(square, []).unwrap(), [0; 0]);
    assert!(pool.map_each(square, []).unwrap().is_empty());
}

fn map_takes_what_is_neither_send_nor_static() {
    let words = ["many".to_owned(), "hands".to_owned()];
    let seen = Rc::new(RefCell::new(Vec::new()));
    let inputs = words.iter().map(|word| {
        seen.borrow_mut().push(word.as_str());
        word.clone()
    });
    assert_eq!(
        pool(2).map(|word: String| word.len(), inputs).unwrap(),
        [4, 5]
    );
    assert_eq!(*seen.borrow(), ["many", "hands"]);
}

fn inputs_are_drawn_as_workers_get_ready() {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let scratch = Scratch::new("lazy");
    let file = scratch.file("go on");
    let pool = pool(2);
    std::thread::scope(|scope| {
        let inputs = (0..1000).map(|_| {
            DRAWN.fetch_add(1, Ordering::Relaxed);
            file.clone()
        });
        let map = scope.spawn(|| pool.map(wait_for, inputs));
        until("both workers have something to do", || {
            DRAWN.load(Ordering::Relaxed) >= 2
        });
        // If it drew ahead, a moment would be enough for all of them.
        std::thread::sleep(Duration::from_millis(200));
        let drawn = DRAWN.load(Ordering::Relaxed);
        assert!(drawn <= 8, "{drawn} inputs were drawn for two workers");
        std::fs::write(&file, "").unwrap();
        assert_eq!(map.join().unwrap().unwrap().len(), 1000);
    });
}

fn skewed_durations_keep_the_order() {
    fn slow_if_small(x: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(if x < 2 { 40 } else { 0 }));
        x
    }
    let pool = pool(2);
    assert!(
        pool.map(slow_if_small, 0..500)
            .unwrap()
            .into_iter()
            .eq(0..500)
    );
}

fn large_values_travel_both_ways() {
    fn louder(text: String) -> String {
        text.to_uppercase()
    }
    let pool = pool(2);
    let sizes = [0, 100, 10_000, 17_000, 70_000, 300_000, 64 << 20, 5];
    let texts = sizes.map(|size| "abcdefg ".repeat(size / 8));
    let louder = pool.map(louder, texts.iter().cloned()).unwrap();
    assert!(
        louder
            .iter()
            .zip(&texts)
            .all(|(loud, text)| *loud == text.to_uppercase())
    );
}

fn functions_do_not_get_mixed_up() {
    let pool = pool(2);
    for _ in 0..20 {
        assert_eq!(pool.map(|x: u64| x + 1, 0..3).unwrap(), [1, 2, 3]);
        assert_eq!(pool.map(|x: i64| x - 1, 0..3).unwrap(), [-1, 0, 1]);
        assert_eq!(
            pool.map(|x: u64| x.to_string(), 0..3).unwrap(),
            ["0", "1", "2"]
        );
        assert_eq!(pool.submit(square, 9).unwrap().wait().unwrap(), 81);
    }
}

fn refuse_multiples_of_seven(x: u64) -> u64 {
    assert!(x % 7 != 6, "{x} will not do");
    x
}

fn panic_message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Panicked(panic)) => panic.message,
        other => panic!("not a panic: {other:?}"),
    }
}

fn the_first_failure_in_order_is_the_error_of_a_map() {
    fn late_if_first(x: u64) -> u64 {
        if x == 6 {
            std::thread::sleep(Duration::from_millis(50));
        }
        refuse_multiples_of_seven(x)
    }
    let pool = pool(3);
    for _ in 0..5 {
        assert_eq!(
            panic_message(pool.map(late_if_first, 0..1000)),
            "6 will not do"
        );
    }
    assert_eq!(pool.map(square, 0..4).unwrap(), [0, 1, 4, 9]);
}

fn nothing_is_drawn_after_a_failure() {
    let drawn = Cell::new(0u64);
    let endless = (0..).inspect(|x| drawn.set(*x));
    assert_eq!(
        panic_message(pool(2).map(refuse_multiples_of_seven, endless)),
        "6 will not do"
    );
    assert!(drawn.get() < 100_000, "{} inputs were drawn", drawn.get());
}

fn map_each_tells_the_fate_of_every_input() {
    let fates = pool(2).map_each(refuse_multiples_of_seven, 0..100).unwrap();
    assert_eq!(fates.len(), 100);
    for (x, fate) in (0..).zip(fates) {
        match x % 7 {
            6 => assert_eq!(panic_message(fate), format!("{x} will not do")),
            _ => assert_eq!(fate.unwrap(), x),
        }
    }
}

fn an_iterator_that_panics_leaves_the_pool_usable() {
    let pool = pool(2);
    let inputs = (0..100).inspect(|x| assert!(*x < 50, "the input ends here"));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.map(square, inputs)));
    assert!(panic.is_err());
    assert_eq!(pool.map(square, 0..4).unwrap(), [0, 1, 4, 9]);
}

fn an_iterator_may_use_the_pool() {
    let pool = pool(2);
    let inputs = (0..20).map(|x| pool.submit(square, x).unwrap().wait().unwrap());
    assert!(
        pool.map(square, inputs)
            .unwrap()
            .into_iter()
            .eq((0..20).map(|x| x * x * x * x))
    );
}

fn a_task_gives_its_result_once() {
    let pool = pool(1);
    let mut task = pool.submit(square, 7).unwrap();
    let mut result = None;
    until("the task is done", || {
        result = task.try_wait().unwrap();
        result.is_some()
    });
    assert_eq!(result, Some(49));
    assert!(task.is_done());
    assert!(matches!(task.try_wait(), Err(Error::Taken)));
    assert!(matches!(
        task.wait_timeout(Duration::ZERO),
        Err(Error::Taken)
    ));
    assert!(matches!(task.wait(), Err(Error::Taken)));
}

fn tasks_get_on_while_nobody_waits() {
    fn touch((directory, n): (String, u32)) {
        std::fs::write(format!("{directory}/{n}"), "").unwrap();
    }
    let scratch = Scratch::new("tended");
    let directory = scratch.file("");
    let pool = pool(2);
    for n in 0..300 {
        drop(pool.submit(touch, (directory.clone(), n)).unwrap());
    }
    until("every task was run", || {
        std::fs::read_dir(&directory).unwrap().count() == 300
    });
}

fn wait_timeout_gives_up_in_time() {
    let scratch = Scratch::new("timeout");
    let file = scratch.file("go on");
    let pool = pool(1);
    let mut task = pool.submit(wait_for, file.clone()).unwrap();
    assert!(!task.is_done());
    assert!(task.try_wait().unwrap().is_none());
    assert!(
        task.wait_timeout(Duration::from_millis(20))
            .unwrap()
            .is_none()
    );
    std::fs::write(file, "").unwrap();
    assert!(task.wait_timeout(Duration::MAX).unwrap().is_some());
}

fn a_panic_is_a_value_and_the_worker_goes_on() {
    fn fail(n: u32) -> u32 {
        panic!("no {n}")
    }
    let line = line!() - 2;
    let pool = pool(1);
    let worker = pool
        .submit(|()| std::process::id(), ())
        .unwrap()
        .wait()
        .unwrap();
    let Err(Error::Panicked(panic)) = pool.submit(fail, 3).unwrap().wait() else {
        panic!()
    };
    assert_eq!((panic.message.as_str(), panic.pid as u32), ("no 3", worker));
    let location = panic.location.unwrap();
    assert!(location.contains(&format!("pool.rs:{line}:")), "{location}");
    assert_eq!(
        pool.submit(|()| std::process::id(), ())
            .unwrap()
            .wait()
            .unwrap(),
        worker
    );
}

fn a_worker_that_exits_is_a_value() {
    fn exit(code: i32) {
        std::process::exit(code);
    }
    fn abort((): ()) {
        std::process::abort();
    }
    let pool = pool(1);
    let Err(Error::Died(death)) = pool.submit(exit, 3).unwrap().wait() else {
        panic!()
    };
    assert_eq!(death.status, ExitStatus::Exited(3));
    let Err(Error::Died(death)) = pool.submit(abort, ()).unwrap().wait() else {
        panic!()
    };
    assert_eq!(death.status, ExitStatus::Signaled(6));
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
}

fn signal(which: &str, pid: i32) {
    let status = std::process::Command::new("kill")
        .args([which, &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

fn kill(pid: i32) {
    signal("-KILL", pid);
}

fn kill_self(x: u64) -> u64 {
    if x == 10 {
        kill(std::process::id() as i32);
        sleep_for_ever(());
    }
    x
}

fn a_killed_worker_fails_only_its_own_task() {
    let pool = pool(2);
    let fates = pool.map_each(kill_self, 0..200).unwrap();
    for (x, fate) in (0..).zip(fates) {
        match (x, fate) {
            (10, Err(Error::Died(death))) => {
                assert_eq!(death.status, ExitStatus::Signaled(9));
                assert!(!pool.pids().contains(&death.pid));
            }
            (_, fate) => assert_eq!(fate.unwrap(), x),
        }
    }
    assert!(matches!(pool.map(kill_self, 0..200), Err(Error::Died(_))));
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
}

fn an_idle_worker_that_is_killed_is_replaced() {
    let pool = pool(2);
    pool.map(square, 0..10).unwrap();
    let before = pool.pids();
    before.iter().for_each(|pid| kill(*pid));
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
    assert!(pool.pids().iter().all(|pid| !before.contains(pid)));
}

/// Is killed the first time that it is begun with this file.
fn die_once((file, x): (String, Vec<u64>)) -> u64 {
    if !Path::new(&file).exists() {
        std::fs::write(&file, "").unwrap();
        kill(std::process::id() as i32);
        sleep_for_ever(());
    }
    x.iter().sum()
}

fn a_task_whose_worker_died_is_run_again_if_that_is_allowed() {
    let scratch = Scratch::new("retries");
    let stubborn = Pool::builder().workers(2).retries(1).build().unwrap();
    let tasks = (0..10).map(|x| (scratch.file(&format!("again-{x}")), vec![x]));
    assert_eq!(
        stubborn.map(die_once, tasks).unwrap(),
        (0..10).collect::<Vec<_>>()
    );
    assert!(matches!(
        stubborn.map(kill_self, 10..11),
        Err(Error::Died(_))
    ));
    let death = pool(1).map(die_once, [(scratch.file("once"), vec![])]);
    assert!(matches!(death, Err(Error::Died(_))), "{death:?}");
}

fn large_arguments_are_run_again_too() {
    let scratch = Scratch::new("retries-large");
    let pool = Pool::builder().workers(1).retries(1).build().unwrap();
    for len in [100, 10_000, 10_000_000u64] {
        let task = (scratch.file(&len.to_string()), vec![1; len as usize]);
        assert_eq!(pool.submit(die_once, task).unwrap().wait().unwrap(), len);
    }
}

fn a_pool_whose_workers_die_too_often_gives_up() {
    let pool = Pool::builder()
        .workers(1)
        .max_restarts(2, Duration::from_secs(60))
        .build()
        .unwrap();
    let mut died = 0;
    let reason = loop {
        match pool.map(kill_self, 10..11) {
            Err(Error::Died(_)) => died += 1,
            Err(Error::Broken { reason }) => break reason,
            other => panic!("{other:?}"),
        }
    };
    assert!((2..=3).contains(&died), "{died}");
    assert!(
        reason.contains("more workers died than it may replace (2 in 60 s)"),
        "{reason}"
    );
}

fn a_task_that_takes_too_long_is_ended() {
    fn sleep(ms: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(ms));
        ms
    }
    let pool = Pool::builder()
        .workers(2)
        .retries(3)
        .task_timeout(Duration::from_millis(500))
        .build()
        .unwrap();
    let fates = pool.map_each(sleep, [0, 100_000, 100, 0]).unwrap();
    for (ms, fate) in [0, 100_000, 100, 0].into_iter().zip(fates) {
        match fate {
            Err(Error::Died(death)) if ms == 100_000 => {
                assert!(death.overdue && !death.out_of_memory);
                assert!(death.to_string().contains("task_timeout"), "{death}");
            }
            fate => assert_eq!(fate.unwrap(), ms),
        }
    }
    let death = pool.submit(kill_self, 10).unwrap().wait();
    assert!(matches!(death, Err(Error::Died(death)) if !death.overdue));
}

fn a_queued_task_is_cancelled_and_a_running_one_by_force() {
    fn touch_and_sleep(file: String) {
        std::fs::write(file, "").unwrap();
        sleep_for_ever(());
    }
    let scratch = Scratch::new("cancel");
    let pool = pool(1);
    let here = scratch.file("here");
    let running = pool.submit(touch_and_sleep, here.clone()).unwrap();
    until("the task runs", || Path::new(&here).exists());
    let queued = pool.submit(square, 2).unwrap();
    let behind = pool.submit(square, 3).unwrap();
    assert!(!running.cancel(false));
    assert!(queued.cancel(false));
    assert!(matches!(queued.wait(), Err(Error::Cancelled)));
    assert!(running.cancel(true));
    assert!(matches!(running.wait(), Err(Error::Cancelled)));
    assert_eq!(behind.wait().unwrap(), 9);
}

fn workers_killed_at_random_fail_only_what_they_ran() {
    fn work(x: u64) -> u64 {
        std::thread::sleep(Duration::from_micros(x % 5 * 300));
        x
    }
    let pool = pool(3);
    let over = AtomicBool::new(false);
    let kills = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = 88_172_645_463_325_252u64;
            while !over.load(Ordering::Relaxed) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                std::thread::sleep(Duration::from_micros(2000 + random % 20_000));
                let pids = pool.pids();
                if let Some(pid) = pids.get(random as usize % pids.len().max(1)) {
                    let _ = std::process::Command::new("kill")
                        .args(["-KILL", &pid.to_string()])
                        .status();
                    kills.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let mut died = 0;
        for _ in 0..10 {
            let fates = pool.map_each(work, 0..1000).unwrap();
            assert_eq!(fates.len(), 1000);
            for (x, fate) in (0..).zip(fates) {
                match fate {
                    Ok(same) => assert_eq!(same, x),
                    Err(Error::Died(death)) => {
                        assert_eq!(death.status, ExitStatus::Signaled(9));
                        died += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        let kills = kills.load(Ordering::Relaxed);
        assert!(
            kills > 0 && died <= kills,
            "{died} tasks died of {kills} kills"
        );
    });
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u32),
}

#[derive(Debug, Deserialize)]
struct Shy;

impl Serialize for Shy {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not before people"))
    }
}

fn values_that_cannot_be_translated_are_errors() {
    fn take(_: Untagged) {}
    fn give((): ()) -> Untagged {
        Untagged::Number(1)
    }
    let pool = pool(1);
    let error = pool
        .submit(take, Untagged::Number(1))
        .unwrap()
        .wait()
        .unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Decode {
                what: "the argument",
                ..
            }
        ),
        "{error}"
    );
    let error = pool.submit(give, ()).unwrap().wait().unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Decode {
                what: "the result",
                ..
            }
        ),
        "{error}"
    );
    let error = pool.submit(|()| Shy, ()).unwrap().wait().unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Encode {
                what: "the result",
                ..
            }
        ),
        "{error}"
    );
    let error = pool.submit(|_: Shy| (), Shy).unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Encode {
                what: "the argument",
                ..
            }
        ),
        "{error}"
    );
    let fates = pool
        .map_each(|_: Option<Shy>| 1, [None, Some(Shy), None])
        .unwrap();
    assert!(
        matches!(fates[..], [Ok(1), Err(Error::Encode { .. }), Ok(1)]),
        "{fates:?}"
    );
    let error = pool
        .map(|_: Option<Shy>| 1, [None, Some(Shy), None])
        .unwrap_err();
    assert!(matches!(&error, Error::Encode { .. }), "{error}");
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
}

fn imap_keeps_the_order_and_imap_unordered_does_not_wait() {
    let pool = pool(2);
    for len in [0, 1, 5, 3000] {
        let squares = pool.imap(square, 0..len).unwrap();
        let squares: Vec<u64> = squares.collect::<Result<_, _>>().unwrap();
        assert!(squares.into_iter().eq((0..len).map(|n| n * n)), "{len}");
        let squares = pool.imap_unordered(square, 0..len).unwrap();
        let found: HashSet<u64> = squares.collect::<Result<_, _>>().unwrap();
        assert_eq!(found, (0..len).map(|n| n * n).collect());
    }
    // The second is there though the first is not, and never will be before it was taken.
    let scratch = Scratch::new("unordered");
    let file = scratch.file("go");
    let wait = |file: String| {
        if !file.is_empty() {
            wait_for(file);
        }
    };
    let mut done = pool
        .imap_unordered(wait, [file.clone(), String::new()])
        .unwrap();
    done.next().unwrap().unwrap();
    std::fs::write(file, "").unwrap();
    done.next().unwrap().unwrap();
    assert!(done.next().is_none());
}

fn imap_draws_no_further_ahead_than_it_may() {
    let pool = pool(2);
    for ahead in [1, 2, 7] {
        let drawn = Cell::new(0);
        let inputs = (0..200).inspect(|_| drawn.set(drawn.get() + 1));
        let mut results = pool.imap(square, inputs).unwrap().ahead(ahead);
        for taken in 1..=200 {
            results.next().unwrap().unwrap();
            assert!(
                drawn.get() <= taken - 1 + ahead,
                "{} of {taken}",
                drawn.get()
            );
        }
    }
}

fn imap_of_an_endless_input_ends_when_it_is_dropped() {
    let pool = pool(2);
    let mut squares = pool.imap(square, 0..).unwrap();
    assert_eq!(squares.next().unwrap().unwrap(), 0);
    assert_eq!(squares.nth(999).unwrap().unwrap(), 1_000_000);
    drop(squares);
    assert_eq!(pool.submit(square, 3).unwrap().wait().unwrap(), 9);
    pool.join().unwrap();
}

fn imap_tells_the_fate_of_every_input_and_goes_on() {
    fn fate(n: u64) -> u64 {
        match n {
            2 => panic!("no luck"),
            4 => std::process::abort(),
            n => n,
        }
    }
    let pool = pool(2);
    let fates: Vec<_> = pool.imap(fate, 0..7).unwrap().collect();
    assert!(matches!(fates[2], Err(Error::Panicked(_))));
    assert!(matches!(fates[4], Err(Error::Died(_))));
    for n in [0, 1, 3, 5, 6] {
        assert_eq!(*fates[n].as_ref().unwrap(), n as u64);
    }
}

fn imap_of_a_closed_pool_says_so_once() {
    let pool = pool(1);
    pool.close();
    let mut results = pool.imap(square, 0..).unwrap();
    assert!(matches!(results.next(), Some(Err(Error::Closed))));
    assert!(results.next().is_none());
}

fn workers_are_limited_in_memory() {
    fn take(bytes: usize) -> usize {
        let taken = vec![1u8; bytes];
        taken.iter().filter(|byte| **byte == 1).count()
    }
    let limited = Pool::builder().workers(1).max_memory(256 << 20);
    let pool = limited.build().unwrap();
    assert_eq!(
        pool.submit(take, 10 << 20).unwrap().wait().unwrap(),
        10 << 20
    );
    let Err(Error::Died(death)) = pool.submit(take, 512 << 20).unwrap().wait() else {
        panic!("twice as much as there may be was had");
    };
    assert_eq!(death.status, ExitStatus::Signaled(6));
    assert_eq!(
        pool.submit(take, 10 << 20).unwrap().wait().unwrap(),
        10 << 20
    );
}

fn workers_that_have_grown_are_replaced() {
    fn hoard(bytes: usize) -> u32 {
        std::mem::forget(vec![1_u8; bytes]);
        std::process::id()
    }
    let pool = Pool::builder().workers(1).max_memory_per_worker(32 << 20);
    let pool = pool.build().unwrap();
    let tasks: Vec<_> = (0..10)
        .map(|_| pool.submit(hoard, 20 << 20).unwrap())
        .collect();
    let pids: HashSet<u32> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
    assert!((3..=9).contains(&pids.len()), "{} workers", pids.len());
    // What a task has of memory only while it runs does not count.
    fn borrow(bytes: usize) -> u32 {
        drop(std::hint::black_box(vec![1_u8; bytes]));
        std::process::id()
    }
    let first = pool.submit(borrow, 1).unwrap().wait().unwrap();
    for _ in 0..5 {
        assert_eq!(
            pool.submit(borrow, 64 << 20).unwrap().wait().unwrap(),
            first
        );
    }
}

fn idle_workers_leave_and_come_back() {
    let pool = Pool::builder()
        .workers(2)
        .idle_timeout(Duration::from_millis(100));
    let pool = pool.build().unwrap();
    for _ in 0..3 {
        until("no worker is left", || pool.pids().is_empty());
        assert_eq!(pool.submit(square, 7).unwrap().wait().unwrap(), 49);
        let squares: Vec<u64> = pool.map(square, 0..500).unwrap();
        assert!(squares.into_iter().eq((0..500).map(|x| x * x)));
    }
    until("no worker is left", || pool.pids().is_empty());
    let task = pool.submit(square, 8).unwrap();
    pool.close();
    pool.join().unwrap();
    assert_eq!(task.wait().unwrap(), 64);
}

fn a_task_beside_a_long_one_has_a_worker_come() {
    fn wait_for(gate: String) {
        while !Path::new(&gate).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let scratch = Scratch::new("beside");
    std::thread::scope(|scope| {
        for thread in 0..6_u64 {
            let scratch = &scratch;
            scope.spawn(move || {
                for round in 0..6 {
                    let pool = Pool::builder()
                        .workers(3)
                        .idle_timeout(Duration::from_millis(60));
                    let pool = &pool.build().unwrap();
                    until("no worker is left", || pool.pids().is_empty());
                    let gate = scratch.file(&format!("{thread}-{round}"));
                    let first = pool.submit(wait_for, gate.clone()).unwrap();
                    std::thread::scope(|scope| {
                        // Who waits sleeps meanwhile.
                        scope.spawn(move || first.wait().unwrap());
                        std::thread::sleep(Duration::from_millis(10 + 7 * round + thread));
                        let open = |gate: String| std::fs::write(gate, "").unwrap();
                        let _second = pool.submit(open, gate.clone()).unwrap();
                        until("the second task is done", || Path::new(&gate).exists());
                    });
                }
            });
        }
    });
}

fn the_only_worker_that_stayed_is_stopped() {
    let pool = Pool::builder()
        .workers(2)
        .idle_timeout(Duration::from_secs(1));
    let pool = pool.build().unwrap();
    until("no worker is left", || pool.pids().is_empty());
    pool.submit(square, 1).unwrap().wait().unwrap();
    let stopped = pool.pids()[0];
    signal("-STOP", stopped);
    assert_eq!(pool.submit(square, 7).unwrap().wait().unwrap(), 49);
    signal("-CONT", stopped);
}

fn tasks_are_limited_in_processor_time() {
    fn work(for_ever: bool) -> u64 {
        let mut n = 0_u64;
        loop {
            if !for_ever {
                return n;
            }
            n = std::hint::black_box(n.wrapping_mul(31) & 0xff);
        }
    }
    let limited = Pool::builder()
        .workers(1)
        .cpu_time(Duration::from_millis(50));
    let pool = limited.build().unwrap();
    // Waiting is no work, and each task has its own time.
    let nap = |()| std::thread::sleep(Duration::from_millis(80));
    pool.submit(nap, ()).unwrap().wait().unwrap();
    let Err(Error::Died(death)) = pool.submit(work, true).unwrap().wait() else {
        panic!("it worked for ever");
    };
    assert_eq!(death.status, ExitStatus::Signaled(24));
    assert_eq!(pool.submit(work, false).unwrap().wait().unwrap(), 0);
}

fn a_limit_of_memory_that_leaves_nothing_breaks_the_pool() {
    let pool = Pool::builder().workers(1).max_memory(1 << 10).build();
    let error = pool.unwrap().submit(square, 3).unwrap().wait().unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("leaves nothing to work with"), "{text}");
}

fn threads_share_a_pool() {
    let pool = pool(2);
    std::thread::scope(|scope| {
        for n in 0..6 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..5 {
                    let from = n * 1000 + round;
                    let squares = pool.map(square, from..from + 300).unwrap();
                    assert!(squares.into_iter().eq((from..from + 300).map(|x| x * x)));
                    let tasks: Vec<_> = (0..20).map(|x| pool.submit(square, x).unwrap()).collect();
                    let squares = tasks.into_iter().map(|task| task.wait().unwrap());
                    assert!(squares.eq((0..20).map(|x| x * x)));
                }
            });
        }
    });
}

fn a_worker_may_have_a_pool_and_processes() {
    fn nested(n: u64) -> u64 {
        let pool = Pool::builder().workers(2).build().unwrap();
        let squares: u64 = pool.map(square, 0..n).unwrap().into_iter().sum();
        squares + Process::spawn(square, n).unwrap().join().unwrap()
    }
    assert_eq!(pool(2).map(nested, 1..4).unwrap(), [1, 5, 14]);
}

fn workers_are_replaced_after_their_share() {
    let pool = Pool::builder()
        .workers(2)
        .max_tasks_per_worker(5)
        .build()
        .unwrap();
    let pids = pool.map(|_: u32| std::process::id(), 0..60).unwrap();
    let mut counts = std::collections::HashMap::new();
    pids.iter()
        .for_each(|pid| *counts.entry(pid).or_insert(0) += 1);
    assert!(counts.values().all(|tasks| *tasks <= 5), "{counts:?}");
    assert!(counts.len() >= 12, "{counts:?}");
}

static GREETING: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());

fn the_initializer_runs_once_a_worker() {
    fn greet(text: String) {
        GREETING.lock().unwrap().push_str(&text);
    }
    let pool = Pool::builder()
        .workers(2)
        .initializer(greet, "hello".to_owned())
        .build()
        .unwrap();
    let greetings = pool
        .map(|_: u32| GREETING.lock().unwrap().clone(), 0..20)
        .unwrap();
    assert!(
        greetings.iter().all(|text| text == "hello"),
        "{greetings:?}"
    );
    assert_eq!(*GREETING.lock().unwrap(), "");
}

fn an_initializer_that_fails_breaks_the_pool() {
    fn refuse(why: String) {
        panic!("{why}");
    }
    let pool = Pool::builder()
        .workers(2)
        .initializer(refuse, "no way".to_owned())
        .build()
        .unwrap();
    let error = pool.map(square, 0..3).unwrap_err();
    assert!(
        matches!(&error, Error::Broken { reason } if reason.contains("no way")),
        "{error}"
    );
    let error = pool.submit(square, 1).unwrap_err();
    assert!(matches!(&error, Error::Broken { .. }), "{error}");
}

fn a_pool_without_workers_is_an_error() {
    assert!(matches!(
        Pool::builder().workers(0).build(),
        Err(Error::NoWorkers)
    ));
    assert!(matches!(
        Pool::builder().max_tasks_per_worker(0).build(),
        Err(Error::NoWorkers)
    ));
    assert!(matches!(
        Pool::builder().initializer(|_: Shy| (), Shy).build(),
        Err(Error::Encode { .. })
    ));
}

fn process_id((): ()) -> i32 {
    std::process::id() as i32
}

fn a_pool_grows_while_tasks_wait_for_each_other() {
    fn meet(barrier: Barrier) -> i32 {
        barrier.wait().unwrap();
        process_id(())
    }
    let barrier = Barrier::new(3).unwrap();
    let pool = pool(1);
    let meet = |_| pool.submit(meet, barrier.clone()).unwrap();
    let tasks: Vec<_> = (0..3).map(meet).collect();
    pool.resize(3).unwrap(); // all three have to run at once
    let pids: HashSet<_> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
    assert_eq!((pids.len(), pool.pids().len(), pool.workers()), (3, 3, 3));
}

fn a_pool_shrinks_and_loses_no_task() {
    fn later(n: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(1));
        n
    }
    let pool = pool(4);
    let tasks: Vec<_> = (0..300).map(|n| pool.submit(later, n).unwrap()).collect();
    pool.resize(1).unwrap();
    assert!(
        tasks
            .into_iter()
            .map(|task| task.wait().unwrap())
            .eq(0..300)
    );
    until("three have left", || pool.pids().len() == 1);
    assert_eq!(
        pool.map(process_id, [(); 20]).unwrap(),
        [pool.pids()[0]; 20]
    );
}

fn a_busy_worker_leaves_when_its_task_is_done() {
    fn note_and_wait((begun, gate): (Event, Event)) {
        begun.set();
        gate.wait();
    }
    let gate = Event::new().unwrap();
    let pool = pool(2);
    let begun = [Event::new().unwrap(), Event::new().unwrap()];
    let submit = |begun: &Event| pool.submit(note_and_wait, (begun.clone(), gate.clone()));
    let tasks = begun.each_ref().map(|begun| submit(begun).unwrap());
    begun.iter().for_each(Event::wait);
    pool.resize(1).unwrap();
    gate.set();
    tasks.into_iter().for_each(|task| task.wait().unwrap());
    until("one has left", || pool.pids().len() == 1); // and nobody waits for a task
    assert_eq!(pool.map(square, [3]).unwrap(), [9]);
}

fn sizes_change_again_and_again() {
    let pool = pool(2);
    let squares = pool.imap(square, 0..600).unwrap().enumerate();
    for (n, value) in squares {
        assert_eq!(value.unwrap(), (n * n) as u64);
        if n % 60 == 0 {
            pool.resize(1 + n / 60 % 4).unwrap();
        }
    }
    pool.join().unwrap();
}

fn a_killed_worker_of_a_resized_pool_is_replaced() {
    let pool = pool(1);
    pool.resize(2).unwrap();
    let died = pool.submit(|()| std::process::abort(), ()).unwrap().wait();
    assert!(matches!(died, Err::<(), _>(Error::Died(_))));
    until("there are two again", || {
        pool.map(square, [2]).unwrap();
        pool.pids().len() == 2
    });
}

fn bad_sizes_are_refused_and_a_closed_pool_has_none() {
    let pool = pool(1);
    assert!(matches!(pool.resize(0), Err(Error::NoWorkers)));
    for absurd in [(1 << 22) + 1, usize::MAX] {
        let error = pool.resize(absurd).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { .. }), "{error}");
        let error = Pool::builder().workers(absurd).build().unwrap_err();
        assert!(
            error.to_string().contains("1 to 4194304 are possible"),
            "{error}"
        );
    }
    assert_eq!(
        (pool.workers(), pool.map(square, [3]).unwrap()),
        (1, vec![9])
    );
    pool.close();
    assert!(matches!(pool.resize(2), Err(Error::Closed)));
    pool.terminate();
    assert!(matches!(pool.resize(2), Err(Error::Terminated)));
}

fn a_pool_that_cannot_grow_stays_as_it_is() {
    play("no_room");
}

/// With no more descriptors to be had than a few workers need.
fn scene_no_room() {
    let pool = pool(1);
    pool.map(square, [1]).unwrap();
    let mut held = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        held.push(file);
    }
    held.truncate(held.len() - 30); // for one or two more
    let error = pool.resize(100).unwrap_err().to_string();
    assert!(error.contains("resize a pool to 100 workers"), "{error}");
    assert_eq!(pool.workers(), 1);
    drop(held);
    assert_eq!(pool.map(square, 0..100).unwrap()[99], 99 * 99);
    until("one is left", || pool.pids().len() == 1);
    pool.resize(2).unwrap();
    until("there are two, after a pause", || {
        pool.map(square, 0..100).unwrap();
        pool.pids().len() == 2
    });
}

fn a_closed_pool_does_what_it_has() {
    let pool = pool(2);
    let tasks: Vec<_> = (0..50).map(|x| pool.submit(square, x).unwrap()).collect();
    pool.close();
    assert!(matches!(pool.submit(square, 1), Err(Error::Closed)));
    assert!(matches!(pool.map(square, [1]), Err(Error::Closed)));
    assert!(
        tasks
            .into_iter()
            .map(|task| task.wait().unwrap())
            .eq((0..50).map(|x| x * x))
    );
}

fn join_waits_for_every_task() {
    fn touch(file: String) {
        std::thread::sleep(Duration::from_millis(5));
        std::fs::write(file, "").unwrap();
    }
    let scratch = Scratch::new("join");
    let pool = pool(2);
    let files: Vec<_> = (0..30).map(|n: u32| scratch.file(&n.to_string())).collect();
    let tasks: Vec<_> = files
        .iter()
        .map(|file| pool.submit(touch, file.clone()).unwrap())
        .collect();
    let workers = pool.pids();
    pool.join().unwrap();
    assert!(files.iter().all(|file| Path::new(file).exists()));
    assert!(workers.into_iter().all(|pid| !runs(pid)));
    tasks.into_iter().for_each(|task| task.wait().unwrap());
}

fn terminate_gives_up_what_is_not_done() {
    let pool = pool(2);
    let done = pool.submit(square, 4).unwrap();
    until("the first task is done", || done.is_done());
    let tasks: Vec<_> = (0..10)
        .map(|_| pool.submit(sleep_for_ever, ()).unwrap())
        .collect();
    std::thread::scope(|scope| {
        let map = scope.spawn(|| pool.map(sleep_for_ever, [(); 10]));
        pool.terminate();
        let error = map.join().unwrap().unwrap_err();
        assert!(matches!(&error, Error::Terminated), "{error}");
    });
    for task in tasks {
        let error = task.wait().unwrap_err();
        assert!(matches!(&error, Error::Terminated), "{error}");
    }
    assert!(matches!(pool.submit(square, 1), Err(Error::Terminated)));
    assert_eq!(done.wait().unwrap(), 16);
}

fn a_task_outlives_its_pool_as_an_error() {
    let pool = pool(1);
    let task = pool.submit(sleep_for_ever, ()).unwrap();
    drop(pool);
    assert!(task.is_done());
    assert!(matches!(task.wait(), Err(Error::Terminated)));
}

fn dropping_a_pool_ends_its_workers() {
    let pool = pool(3);
    pool.map(square, 0..10).unwrap();
    let workers = pool.pids();
    assert_eq!(workers.len(), 3);
    drop(pool);
    assert!(
        workers
            .into_iter()
            .all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    );
}

fn workers_that_ignore_sigterm_end_all_the_same() {
    let pool = pool(1);
    let pid = pool
        .submit(|()| std::process::id(), ())
        .unwrap()
        .wait()
        .unwrap() as i32;
    // A stopped process does not act on SIGTERM.
    signal("-STOP", pid);
    drop(pool);
    assert!(!runs(pid));
}

fn own_a_pool(file: String) {
    let pool = Pool::builder().workers(2).build().unwrap();
    let tasks = [(); 2].map(|()| pool.submit(sleep_for_ever, ()).unwrap());
    let pids = pool
        .pids()
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ");
    std::fs::write(file.clone() + ".new", pids).unwrap();
    std::fs::rename(file.clone() + ".new", file).unwrap();
    tasks.into_iter().for_each(|task| task.wait().unwrap());
}

fn workers_end_when_the_parent_is_killed() {
    let scratch = Scratch::new("orphans");
    let file = scratch.file("pids");
    let owner = Process::spawn(own_a_pool, file.clone()).unwrap();
    until("the pool is there", || Path::new(&file).exists());
    let pids = std::fs::read_to_string(file).unwrap();
    let pids: Vec<i32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    owner.kill().unwrap();
    until("the workers are gone", || {
        pids.iter().all(|pid| !runs(*pid))
    });
}

fn scene_print() {
    fn print(n: u32) {
        print!("{n} ");
    }
    let pool = pool(1);
    pool.map(print, 0..5).unwrap();
}

fn what_a_task_prints_is_there_when_it_is_done() {
    assert_eq!(
        String::from_utf8(play("print").stdout).unwrap(),
        "0 1 2 3 4 "
    );
}

fn scene_leak() {
    let round = || {
        let pool = pool(2);
        pool.map(square, 0..100).unwrap();
        assert!(pool.map(kill_self, 0..20).is_err());
        pool.submit(square, 1).unwrap().wait().unwrap();
        let large = pool
            .map(|size: usize| "x".repeat(size), [1 << 20, 1 << 22])
            .unwrap();
        drop(pool.submit(sleep_for_ever, ()).unwrap());
        assert_eq!(
            large.iter().map(String::len).collect::<HashSet<_>>().len(),
            2
        );
    };
    let mappings = || {
        std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .matches("memfd")
            .count()
    };
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    round();
    let before = (open_fds(), mappings(), threads(), children());
    (0..10).for_each(|_| round());
    assert_eq!((open_fds(), mappings(), threads(), children()), before);
}

fn nothing_is_left_open_and_nobody_unburied() {
    play("leak");
}
