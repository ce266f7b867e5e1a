//! What a pool takes for tasks that take no time: all that is its own, without Python.
//! Not here: starting and ending it (`process`), what the ring takes of it (`manyhands-shm`).

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use manyhands::{Pool, Task};
use manyhands_testkit::floor::{Echo, Sleeper};

use crate::figure::{exchange, figure, rested};
use crate::square;

/// Inputs of a map.
const MANY: u64 = 10_000;
/// Tasks that are submitted before the first is waited for.
const BACKLOG: u64 = 1000;
/// So many lines are under way at a time in what a map is compared with.
const LINES: u64 = 512;

/// Measures all of this.
pub(crate) fn measure(criterion: &mut Criterion) {
    there_and_back(criterion);
    after_a_pause(criterion);
    map(criterion);
    backlog(criterion);
}

/// A pool that has begun to work.
fn pool(workers: usize) -> Pool {
    let pool = Pool::builder().workers(workers).build().expect("a pool");
    pool.map(square, 0..1000).expect("squares");
    pool
}

fn submit_and_wait(pool: &Pool) {
    let task = pool.submit(square, black_box(7)).expect("a task");
    black_box(task.wait().expect("a square"));
}

/// One task at a time.
fn there_and_back(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool, one task there and back");
    exchange(&mut group, "floor: a line", || Echo::new(1), Echo::exchange);
    exchange(
        &mut group,
        "submit, wait",
        || pool(1),
        |pool| submit_and_wait(pool),
    );
    group.finish();
}

/// One task at a time, and everybody asleep in between.
fn after_a_pause(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool, one task after 1 ms of nothing");
    rested(&mut group, "floor: futex", Sleeper::new, |sleeper| {
        sleeper.round_trip_awake();
    });
    rested(
        &mut group,
        "submit, wait",
        || pool(1),
        |pool| submit_and_wait(pool),
    );
    group.finish();
}

/// Many small tasks, each on its own: the pool does not put several into one frame.
fn map(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool, map of 10,000, each");
    group.throughput(Throughput::Elements(LINES));
    let lines = || Echo::new(LINES as usize);
    figure(&mut group, "floor: lines", lines, Echo::exchange);
    group.throughput(Throughput::Elements(MANY));
    for (workers, name) in [(1, "one worker"), (2, "two workers")] {
        figure(
            &mut group,
            name,
            || pool(workers),
            |pool| {
                black_box(pool.map(square, 0..MANY).expect("squares"));
            },
        );
    }
    group.finish();
}

/// Many tasks submitted, then all waited for.
fn backlog(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool, 1,000 submitted, each");
    group.throughput(Throughput::Elements(LINES));
    let lines = || Echo::new(LINES as usize);
    figure(&mut group, "floor: lines", lines, Echo::exchange);
    group.throughput(Throughput::Elements(BACKLOG));
    for (workers, name) in [(1, "one worker"), (2, "two workers")] {
        figure(
            &mut group,
            name,
            || pool(workers),
            |pool| {
                let tasks: Vec<Task<u64>> = (0..BACKLOG)
                    .map(|x| pool.submit(square, x).expect("a task"))
                    .collect();
                for task in tasks {
                    black_box(task.wait().expect("a square"));
                }
            },
        );
    }
    group.finish();
}
