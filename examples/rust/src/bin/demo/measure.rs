//! One measurement: one job, run one way, in a process of its own.

use crate::jobs;
use crate::scanner::Counts;
use manyhands::Pool;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

/// How a job is spread.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Way {
    Plain,
    Threads,
    Manyhands,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Threads, Self::Manyhands];

    /// What it is called in the table.
    pub(crate) fn label(self, workers: usize) -> String {
        match self {
            Self::Plain => "plain loop".into(),
            Self::Threads => format!("{workers} threads"),
            Self::Manyhands => format!("{workers} processes, manyhands"),
        }
    }
}

/// What is to be done, and on what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    Scan(Vec<String>),
    Wait(Vec<(u16, u64)>),
}

/// One measurement to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) job: Job,
    pub(crate) workers: usize,
    pub(crate) way: Way,
}

/// What a measurement found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) took: Duration,
    pub(crate) start: Duration,
    pub(crate) call: Duration,
    /// Processor time used, divided by the time that passed, in hundredths.
    pub(crate) busy: u64,
    pub(crate) memory: u64,
    pub(crate) counts: Counts,
}

/// Runs one order; the function of the process that each measurement gets.
pub(crate) fn measure(order: Order) -> Measured {
    match order.job {
        Job::Scan(files) => run(order.way, order.workers, jobs::scan, files),
        Job::Wait(questions) => run(order.way, order.workers, jobs::ask, questions),
    }
}

fn run<A>(way: Way, workers: usize, function: fn(A) -> Counts, items: Vec<A>) -> Measured
where
    A: Clone + Send + Sync + Serialize + DeserializeOwned,
{
    match way {
        Way::Plain => Measured {
            call: middle(|| std::hint::black_box(jobs::nothing as fn(()))(())),
            ..timed(|| add_up(items.into_iter().map(function)))
        },
        Way::Threads => threads(workers, function, &items),
        // A panic's message reaches the demo, which started this process.
        Way::Manyhands => {
            processes(workers, function, items).unwrap_or_else(|error| panic!("{error}"))
        }
    }
}

/// Scoped threads that draw items from a shared counter.
fn threads<A: Clone + Sync>(workers: usize, function: fn(A) -> Counts, items: &[A]) -> Measured {
    let next = AtomicUsize::new(0);
    let draw = || {
        // Relaxed: the counter only hands out numbers; the items were there before the threads.
        let taken = std::iter::from_fn(|| items.get(next.fetch_add(1, Ordering::Relaxed)).cloned());
        add_up(taken.map(function))
    };
    let found = timed(|| {
        thread::scope(|scope| {
            let crew: Vec<_> = (0..workers).map(|_| scope.spawn(draw)).collect();
            add_up(
                crew.into_iter()
                    .map(|one| one.join().expect("the jobs do not panic")),
            )
        })
    });
    // Starting a thread and calling a function in it are the same thing here.
    let start = middle(|| {
        thread::spawn(|| jobs::nothing(()))
            .join()
            .expect("it does nothing")
    });
    Measured {
        start,
        call: start,
        ..found
    }
}

/// The processes of a manyhands pool.
fn processes<A>(
    workers: usize,
    function: fn(A) -> Counts,
    items: Vec<A>,
) -> Result<Measured, manyhands::Error>
where
    A: Serialize + DeserializeOwned,
{
    let began = Instant::now();
    let pool = Pool::builder().workers(workers).build()?;
    let nothing = || pool.submit(jobs::nothing, ()).and_then(|task| task.wait());
    nothing()?;
    let start = began.elapsed();
    let mut counts = Ok(Vec::new());
    let found = timed(|| {
        counts = pool.map(function, items);
        add_up(counts.iter().flatten().copied())
    });
    counts?;
    let call = middle(|| nothing().expect("the pool has just worked"));
    Ok(Measured {
        start,
        call,
        ..found
    })
}

/// Does the work and measures what it takes; start and call are the caller's to fill in.
fn timed(work: impl FnOnce() -> Counts) -> Measured {
    let (began, before) = (Instant::now(), processor_time());
    let counts = work();
    let took = began.elapsed();
    let used = processor_time().saturating_sub(before);
    Measured {
        took,
        start: Duration::ZERO,
        call: Duration::ZERO,
        busy: (100.0 * used.as_secs_f64() / took.as_secs_f64()).round() as u64,
        memory: memory(),
        counts,
    }
}

fn add_up(counts: impl Iterator<Item = Counts>) -> Counts {
    counts.fold(Counts::default(), |mut sum, one| {
        sum += one;
        sum
    })
}

/// The middle one of many runs of `act`.
fn middle(mut act: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..300)
        .map(|_| {
            let began = Instant::now();
            act();
            began.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// This process and its children.
fn family() -> impl Iterator<Item = u32> {
    let mine = process::id();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(move |&pid| pid == mine || stat(pid, 1) == Some(u64::from(mine)))
}

/// Bytes that the family holds, pages shared by several counted once (PSS).
fn memory() -> u64 {
    let pss = |pid| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find(|line| line.starts_with("Pss:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    1024 * family().filter_map(pss).sum::<u64>()
}

/// Processor time that the family has used so far.
fn processor_time() -> Duration {
    // User and system time, in ticks; there are 100 of them in a second on every Linux.
    let ticks: u64 = family()
        .map(|pid| stat(pid, 11).unwrap_or(0) + stat(pid, 12).unwrap_or(0))
        .sum();
    Duration::from_millis(10 * ticks)
}

/// A number from /proc/PID/stat, counted from the process's state on.
fn stat(pid: u32, field: usize) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit(')')
        .next()?
        .split_whitespace()
        .nth(field)?
        .parse()
        .ok()
}
