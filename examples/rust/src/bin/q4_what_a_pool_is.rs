//! Q4. What is a pool, and why is it used?
//!
//! A pool keeps a few worker processes and hands them many tasks, one after the other, so that the
//! price of starting a process is paid once a worker and not once a task. Here 200 small tasks
//! run in a process each, and then in a pool of two.

use manyhands::{Pool, Process};
use std::collections::BTreeMap;
use std::time::Instant;

/// The square of a number, and the process that found it.
fn square(number: u64) -> (u64, u32) {
    (number * number, std::process::id())
}

fn main() -> Result<(), manyhands::Error> {
    manyhands::init();
    const TASKS: u64 = 200;

    let began = Instant::now();
    let mut alone = Vec::new();
    for number in 0..TASKS {
        alone.push(Process::spawn(square, number)?.join()?.0);
    }
    let a_process_a_task = began.elapsed();

    let began = Instant::now();
    let pool = Pool::builder().workers(2).build()?;
    let pooled: Vec<(u64, u32)> = pool.map(square, 0..TASKS)?;
    let a_pool = began.elapsed();

    assert!(alone.iter().eq(pooled.iter().map(|(square, _)| square)));
    let mut done_by = BTreeMap::<u32, u32>::new();
    for (_, worker) in &pooled {
        *done_by.entry(*worker).or_default() += 1;
    }
    println!(
        "{TASKS} tasks, a process each: {:>7} µs",
        a_process_a_task.as_micros()
    );
    println!(
        "{TASKS} tasks, a pool of 2:    {:>7} µs, its start included",
        a_pool.as_micros()
    );
    println!(
        "tasks done by each worker: {:?}",
        done_by.into_values().collect::<Vec<_>>()
    );
    Ok(())
}
