//! What it takes to start processes and see them off: one, and a pool's.
//! Not here: what they do (`pool`).

use std::process::{Child, Command, Stdio};

use criterion::Criterion;
use manyhands::{Pool, Process};

use crate::figure::figure;
use crate::square;

/// An argument by which this program leaves before it has begun.
const LEAVE: &str = "leave-at-once";

/// Whether this process was started to do nothing; asked before anything is done.
pub(crate) fn is_to_leave() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == LEAVE)
}

/// Measures all of this.
pub(crate) fn measure(criterion: &mut Criterion) {
    process(criterion);
    pool(criterion);
}

/// This program, started by the standard library to do nothing.
fn leaver() -> Child {
    Command::new("/proc/self/exe")
        .arg(LEAVE)
        .stdin(Stdio::null())
        .spawn()
        .expect("this program can be started")
}

/// A function in a process of its own.
fn process(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("process, started and reaped");
    group.sample_size(20);
    figure(
        &mut group,
        "floor: exec, exit, wait",
        || (),
        |()| {
            leaver().wait().expect("a child of ours");
        },
    );
    figure(
        &mut group,
        "spawn, join",
        || (),
        |()| {
            let child = Process::spawn(square, 7).expect("a process");
            assert_eq!(child.join().expect("a square"), 49);
        },
    );
    group.finish();
}

/// A pool for one map.
fn pool(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool of two, made, used and dropped");
    group.sample_size(20);
    figure(
        &mut group,
        "floor: exec, exit, wait of two",
        || (),
        |()| {
            for mut child in [leaver(), leaver()] {
                child.wait().expect("a child of ours");
            }
        },
    );
    figure(
        &mut group,
        "build, map, drop",
        || (),
        |()| {
            let pool = Pool::builder().workers(2).build().expect("a pool");
            assert_eq!(pool.map(square, 0..4).expect("squares"), [0, 1, 4, 9]);
        },
    );
    group.finish();
}
