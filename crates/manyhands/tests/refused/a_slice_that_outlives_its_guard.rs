use manyhands::{Error, LockedSlice};

fn main() -> Result<(), Error> {
    let numbers = LockedSlice::<u32>::new(3)?;
    let mut guard = numbers.lock()?;
    let plain: &mut [u32] = &mut guard;
    drop(guard);
    plain[0] = 1;
    Ok(())
}
