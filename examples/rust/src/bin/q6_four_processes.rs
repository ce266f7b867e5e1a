//! Q6. Create four processes, each of which prints a different number.
//!
//! All four are started before the first is waited for, so they run side by side and print in
//! any order. Here are the answers of five authors, group by group.

use manyhands::{Error, Process};

fn says(n: u32) {
    println!("Process {n} says: {n}");
}

fn printing(n: u32) {
    println!("Process printing number: {n}");
}

fn with_id(n: u32) {
    println!("Process ID: {}, Number: {n}", std::process::id());
}

fn with_name(n: u32) {
    println!("Process {n}: Printing number {n}");
}

fn bare(n: u32) {
    println!("{n}");
}

/// Starts a process for each number, then waits for all of them.
fn four(function: fn(u32), numbers: std::ops::Range<u32>) -> Result<(), Error> {
    let processes = numbers
        .map(|n| Process::spawn(function, n))
        .collect::<Result<Vec<_>, _>>()?;
    processes.into_iter().try_for_each(|process| process.join())
}

fn main() -> Result<(), Error> {
    manyhands::init();

    four(says, 0..4)?;

    four(printing, 1..5)?;
    println!("All processes finished.");

    four(with_id, 1..5)?;

    four(with_name, 1..5)?;
    println!("All processes have finished.");

    four(bare, 0..4)
}
