//! One figure of a benchmark.
//! Always: what it takes is made when it is due and gone when it is done, so that no peer of one figure takes the
//! core that the next one needs.
//! Not here: what is measured.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Throughput};
use std::time::{Duration, Instant};

/// What is compared with each other.
pub(crate) type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// So often a short exchange happens for one reading: what the clock takes, and a slice of time that somebody
/// else had, weigh less then.
const TIMES: u64 = 100;

/// Longer than anybody waits awake.
const PAUSE: Duration = Duration::from_millis(1);

/// What `step` takes.
pub(crate) fn figure<T>(
    group: &mut Group<'_>,
    name: &str,
    make: impl Fn() -> T,
    mut step: impl FnMut(&mut T),
) {
    let mut made = None;
    group.bench_function(name, |bencher| {
        let made = made.get_or_insert_with(&make);
        bencher.iter(|| step(made));
    });
}

/// What `step` takes, where it is short and needs the peer. For all of a group or for none.
pub(crate) fn exchange<T>(
    group: &mut Group<'_>,
    name: &str,
    make: impl Fn() -> T,
    mut step: impl FnMut(&mut T),
) {
    group.throughput(Throughput::Elements(TIMES));
    figure(group, name, make, |made| {
        (0..TIMES).for_each(|_| step(made));
    });
}

/// What `step` takes when nothing has happened for a while, so that whoever may sleep does.
pub(crate) fn rested<T>(
    group: &mut Group<'_>,
    name: &str,
    make: impl Fn() -> T,
    mut step: impl FnMut(&mut T),
) {
    let mut made = None;
    group.sample_size(10); // each takes many times what it measures
    group.bench_function(name, |bencher| {
        let made = made.get_or_insert_with(&make);
        bencher.iter_custom(|times| {
            let steps = (0..times).map(|_| {
                std::thread::sleep(PAUSE);
                let began = Instant::now();
                step(made);
                began.elapsed()
            });
            steps.sum()
        });
    });
}
