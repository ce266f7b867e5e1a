use manyhands::{Error, LockedSlice};

fn main() -> Result<(), Error> {
    let numbers = LockedSlice::<u32>::new(3)?;
    println!("{}", numbers[0]);
    Ok(())
}
