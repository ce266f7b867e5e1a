//! A pipeline: one process makes lines, two count their words, and this one adds up.
//!
//! Each stage ends when nobody is left who could send to it.

use manyhands::{Error, Process, Receiver, Sender, channel};

fn write(lines: Sender<String>) -> Result<(), String> {
    for n in 0..1000 {
        let line = "many hands make light work ".repeat(n % 7);
        lines.send(line).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn count((lines, counts): (Receiver<String>, Sender<usize>)) -> Result<(), String> {
    for line in lines.iter() {
        let words = line
            .map_err(|error| error.to_string())?
            .split_whitespace()
            .count();
        counts.send(words).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    manyhands::init();
    let (lines, written) = channel(100)?;
    let (counts, counted) = channel(100)?;
    let mut children = vec![Process::spawn(write, lines)?];
    for _ in 0..2 {
        let ends = (written.clone(), counts.clone());
        children.push(Process::spawn(count, ends)?);
    }
    drop((written, counts)); // the children alone have these ends now
    let words: usize = counted.iter().sum::<Result<_, _>>()?;
    println!("{words} words");
    for child in children {
        child.join()?.expect("nobody was disconnected");
    }
    Ok(())
}
