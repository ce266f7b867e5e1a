//! The Rust half of `make demo`: what threads and processes do where no interpreter lock is.
//!
//! Reads every Python source file below a folder with a small scanner, then asks a slow server many
//! questions, each in a plain loop, in threads, and in the processes of manyhands' pool. Every
//! measurement runs in a process of its own, rounds interleaved, and the three have to agree.

mod jobs;
mod measure;
mod scanner;
mod show;

use manyhands::{Error, Process};
use measure::{Job, Measured, Order, Way};
use show::Progress;
use std::path::PathBuf;
use std::time::Duration;

/// What the command line asks for.
struct Options {
    rounds: usize,
    workers: usize,
    waiters: usize,
    questions: usize,
    every: usize,
    folder: PathBuf,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let cores = std::thread::available_parallelism()
            .map_or(2, usize::from)
            .max(2);
        let mut options = Self {
            rounds: 3,
            workers: cores,
            waiters: 16,
            questions: 240,
            every: 1,
            folder: PathBuf::new(),
        };
        while let Some(argument) = arguments.next() {
            let target = match argument.as_str() {
                "--rounds" => &mut options.rounds,
                "--workers" => &mut options.workers,
                "--waiters" => &mut options.waiters,
                "--questions" => &mut options.questions,
                "--every" => &mut options.every,
                folder => {
                    options.folder = folder.into();
                    continue;
                }
            };
            let number = arguments.next().and_then(|text| text.parse().ok());
            *target = number
                .filter(|&n| n > 0)
                .ok_or(format!("{argument} wants a number from 1"))?;
        }
        if !options.folder.is_dir() {
            return Err(
                "name a folder with Python source files, for example /usr/lib/python3".into(),
            );
        }
        Ok(options)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    manyhands::init();
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("demo: {problem}");
            std::process::exit(2);
        }
    };
    println!("The same for the Rust face; no interpreter lock here.\n");
    scan(&options)?;
    wait(&options)?;
    Ok(())
}

/// The job that computes.
fn scan(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = jobs::source_files(&options.folder)?
        .into_iter()
        .step_by(options.every)
        .collect();
    // Reading them here also brings them into the kernel's cache.
    let bytes: usize = files
        .iter()
        .map(|path| std::fs::read(path).map_or(0, |b| b.len()))
        .sum();
    println!(
        "3. Work for the processor: scan {} source files ({}), count lines, definitions and tokens; {} workers.",
        show::grouped(files.len() as u64),
        show::size(bytes as u64),
        options.workers
    );
    let order = Order {
        job: Job::Scan(files),
        workers: options.workers,
        way: Way::Plain,
    };
    let found = compare(&order, options.rounds)?;
    let counts = found[0][0].counts;
    println!(
        "   All three ways agree: {} lines, {} definitions, {} tokens.\n",
        show::grouped(counts.lines),
        show::grouped(counts.definitions),
        show::grouped(counts.tokens)
    );
    show::report(&found, options.workers);
    println!(
        "\n  So: without an interpreter lock threads use all cores too. What processes add is that nothing is\n  \
         shared by accident and that a crash stays where it happened; what they cost stands in the table.\n"
    );
    Ok(())
}

/// The job that waits.
fn wait(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let delay = Duration::from_millis(20);
    let port = jobs::slow_server(delay)?;
    println!(
        "4. Waiting: ask a server on this machine {} questions, each answered after {} ms; {} workers.",
        options.questions,
        delay.as_millis(),
        options.waiters
    );
    let questions = (0..options.questions as u64)
        .map(|number| (port, number))
        .collect();
    let order = Order {
        job: Job::Wait(questions),
        workers: options.waiters,
        way: Way::Plain,
    };
    let found = compare(&order, options.rounds)?;
    println!("   All three ways got the same answers.\n");
    show::report(&found, options.waiters);
    Ok(())
}

/// Measures all ways, round by round; one list of measurements for each way.
fn compare(order: &Order, rounds: usize) -> Result<Vec<Vec<Measured>>, Error> {
    let mut progress = Progress::new();
    let mut found: Vec<Vec<Measured>> = Way::ALL.map(|_| Vec::new()).into();
    for round in 1..=rounds {
        for (way, measured) in Way::ALL.into_iter().zip(&mut found) {
            progress.show(&format!(
                "round {round} of {rounds} · {}",
                way.label(order.workers)
            ));
            let order = Order {
                way,
                ..order.clone()
            };
            measured.push(Process::spawn(measure::measure, order)?.join()?);
        }
    }
    progress.clear();
    let first = found[0][0].counts;
    assert!(
        found.iter().flatten().all(|one| one.counts == first),
        "the ways do not agree"
    );
    Ok(found)
}
