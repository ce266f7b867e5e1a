//! Q2. What are the differences between multiprocessing and multithreading?
//!
//! Threads live in one process and share its memory: cheap to start, easy to talk between, and
//! one crash ends them all. Processes have memory of their own: what one changes no other sees,
//! arguments and results are copied, a start costs more, and a crash stays where it happened.
//! (In Python there is a further difference, the interpreter lock; see `examples/python`.)

use manyhands::{Error, Process};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Adds to the counter of the process it runs in; returns what that counter is then.
fn add(amount: u64) -> u64 {
    // Relaxed: joining the thread or the process is what orders it before the reader's load.
    COUNTER.fetch_add(amount, Ordering::Relaxed) + amount
}

/// Ends its process at once, as a bug in foreign code might.
fn crash(_: ()) {
    std::process::abort();
}

fn main() -> Result<(), Error> {
    manyhands::init();

    let began = Instant::now();
    thread::spawn(|| add(1)).join().expect("add does not panic");
    let thread_took = began.elapsed();
    println!(
        "after a thread added 1, the counter here is {}",
        COUNTER.load(Ordering::Relaxed)
    );

    let began = Instant::now();
    let there = Process::spawn(add, 1)?.join()?;
    let process_took = began.elapsed();
    println!(
        "after a process added 1, the counter there is {there}, and here it still is {}",
        COUNTER.load(Ordering::Relaxed)
    );

    println!(
        "a thread took {} µs from start to end, a process {} µs",
        thread_took.as_micros(),
        process_took.as_micros()
    );

    match Process::spawn(crash, ())?.join() {
        Err(Error::Died(death)) => println!("a process crashed, and this one goes on: {death}"),
        other => println!("a process was to crash, but: {other:?}"),
    }
    Ok(())
}
