//! Q3. Create a process.
//!
//! `Process::spawn` starts a process that runs one function with one argument; `join` waits for
//! it and returns what the function returned. `manyhands::init()` comes first in `main`: it is
//! where the new process finds its way to the function. Here are the answers of four authors.

use manyhands::{Error, Process};

fn my_function(number: u32) {
    println!("Process {number}");
}

fn display(_: ()) {
    println!("This is a child process running.");
}

fn print_number(number: u32) {
    println!("Process ID: {}, Number: {number}", std::process::id());
}

fn worker(_: ()) {
    println!("Worker process is running.");
}

fn main() -> Result<(), Error> {
    manyhands::init();

    Process::spawn(my_function, 1)?.join()?;

    Process::spawn(display, ())?.join()?;
    println!("Main process finished.");

    Process::spawn(print_number, 42)?.join()?;

    Process::spawn(worker, ())?.join()?;
    Ok(())
}
