use manyhands::{Error, Process, Receiver, channel};

fn print(lines: Receiver<String>) {
    lines.iter().for_each(|line| println!("{}", line.unwrap()));
}

fn main() -> Result<(), Error> {
    let (_numbers, receiver) = channel::<u64>(10)?;
    Process::spawn(print, receiver)?;
    Ok(())
}
