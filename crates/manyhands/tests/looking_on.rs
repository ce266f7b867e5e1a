//! What `manyhands top` sees of a pool of Rust's: workers, what they run, deaths, and nothing once the pool is gone.

mod common;

use std::process::ExitCode;
use std::time::Duration;

use common::until;
use manyhands::Pool;
use manyhands_top::{Pool as Seen, Sampler, WorkerState};

fn main() -> ExitCode {
    manyhands::init();
    common::watchdog();
    // One after the other: each looks at all pools of this process.
    let arguments = libtest_mimic::Arguments {
        test_threads: Some(1),
        ..libtest_mimic::Arguments::from_args()
    };
    libtest_mimic::run(
        &arguments,
        trials![
            a_pool_is_seen_with_what_its_workers_run,
            a_death_is_counted_and_the_successor_seen,
            a_pool_that_is_dropped_is_seen_no_more,
        ],
    )
    .exit_code()
}

fn double(x: u64) -> u64 {
    2 * x
}

fn sleep(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

fn end(code: i32) {
    std::process::exit(code);
}

/// The pools of this process.
fn look() -> Vec<Seen> {
    let this = i32::try_from(std::process::id()).expect("a small number");
    let report = Sampler::new(Some(this), 3600.0).look();
    assert!(report.unreadable.is_empty(), "{report:?}");
    report.pools
}

fn a_pool_is_seen_with_what_its_workers_run() {
    let pool = Pool::builder().workers(2).build().expect("a pool");
    pool.map(double, 0..10).expect("it runs");
    let task = pool.submit(sleep, 3600).expect("it is taken");
    let mut seen = None;
    until("the task is seen", || {
        seen = look().into_iter().next();
        let runs = |seen: &Seen| seen.workers.iter().any(|worker| worker.task.is_some());
        seen.as_ref().is_some_and(runs)
    });
    let seen = seen.expect("a pool");
    assert_eq!((seen.face, seen.state, seen.size), ("Rust", "open", 2));
    assert_eq!((seen.done, seen.raised, seen.deaths), (10, 0, 0));
    let busy: Vec<_> = seen
        .workers
        .iter()
        .filter_map(|worker| worker.task.as_ref())
        .collect();
    assert_eq!(busy.len(), 1);
    assert_eq!(busy[0].name.as_deref(), Some("fn(u64)"));
    assert!(busy[0].seconds < seen.age);
    let states = |state| {
        seen.workers
            .iter()
            .filter(|worker| worker.state == state)
            .count()
    };
    assert_eq!(states(WorkerState::Running), 1);
    task.cancel(true);
}

fn a_death_is_counted_and_the_successor_seen() {
    let pool = Pool::builder().workers(1).build().expect("a pool");
    assert!(pool.submit(end, 3).expect("it is taken").wait().is_err());
    assert_eq!(
        pool.submit(double, 4)
            .expect("it is taken")
            .wait()
            .expect("it runs"),
        8
    );
    let [seen] = &look()[..] else {
        panic!("one pool: {:?}", look())
    };
    assert_eq!((seen.deaths, seen.lost, seen.started), (1, 1, 2));
    let death = seen.last_death.as_ref().expect("one died");
    assert_eq!(death.exitcode, 3);
    assert_eq!((seen.handed, seen.done), (2, 1));
    assert_eq!(
        seen.workers
            .iter()
            .map(|worker| worker.number)
            .collect::<Vec<_>>(),
        [1]
    );
}

fn a_pool_that_is_dropped_is_seen_no_more() {
    let pool = Pool::builder().workers(1).build().expect("a pool");
    assert_eq!(look().len(), 1);
    drop(pool);
    assert!(look().is_empty());
}
