//! Shared memory: the workers of a pool read one text, and count in one table.

use std::sync::atomic::Ordering::Relaxed;

use manyhands::{Bytes, Error, Pool, SharedSlice};

const PART: usize = 64 << 10;

fn count((part, table): (Bytes, SharedSlice<u64>)) {
    let mut here = [0; 256];
    part.iter().for_each(|byte| here[usize::from(*byte)] += 1);
    for (all, here) in table.atomics().iter().zip(here) {
        all.fetch_add(here, Relaxed);
    }
}

fn main() -> Result<(), Error> {
    manyhands::init();
    let text = "many hands make light work ".repeat(100_000);
    let table = SharedSlice::new(256)?;
    let parts = text
        .as_bytes()
        .chunks(PART)
        .map(|part| (Bytes::from(part), table.clone()));
    Pool::new()?.map(count, parts)?;
    for letter in ["a", "k", "z"] {
        println!("{letter}: {}", table.get(letter.as_bytes()[0].into()));
    }
    Ok(())
}
