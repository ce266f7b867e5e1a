//! Q1. What is multiprocessing, and why is it useful?
//!
//! It is running parts of a program at the same time in processes of their own, each with its own
//! memory, so that work for the processor uses every core. Here the same four pieces of work run
//! one after the other in this process, then spread over processes; the answers are the same, the
//! time is not. A piece of work that crashes takes only its own process with it.

use manyhands::Pool;
use std::time::Instant;

/// How many primes there are below `limit`, found the slow way on purpose.
fn primes_below(limit: u64) -> u64 {
    let is_prime = |n: u64| {
        (2..)
            .take_while(|d| d * d <= n)
            .all(|d| !n.is_multiple_of(d))
    };
    (2..limit).filter(|&n| is_prime(n)).count() as u64
}

/// Says which process it ran in.
fn process_id(_: ()) -> u32 {
    std::process::id()
}

fn main() -> Result<(), manyhands::Error> {
    manyhands::init();
    let limits = [300_000, 300_001, 300_002, 300_003];

    let began = Instant::now();
    let one_after_the_other: Vec<u64> = limits.into_iter().map(primes_below).collect();
    let alone = began.elapsed();

    let pool = Pool::new()?;
    let began = Instant::now();
    let side_by_side: Vec<u64> = pool.map(primes_below, limits)?;
    let together = began.elapsed();

    assert_eq!(one_after_the_other, side_by_side);
    println!("primes below {limits:?}: {side_by_side:?}");
    println!("in one process:  {:>5} ms", alone.as_millis());
    println!("spread over all: {:>5} ms", together.as_millis());

    let worker = pool.submit(process_id, ())?.wait()?;
    println!(
        "a worker is a process of its own: {}",
        worker != std::process::id()
    );
    Ok(())
}
