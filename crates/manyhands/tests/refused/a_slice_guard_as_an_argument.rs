use manyhands::{Error, LockedSlice, Process, SliceGuard};

fn keep(_: SliceGuard<'static, u32>) {}

fn main() -> Result<(), Error> {
    let numbers = Box::leak(Box::new(LockedSlice::new(3)?));
    Process::spawn(keep, numbers.lock()?)?;
    Ok(())
}
