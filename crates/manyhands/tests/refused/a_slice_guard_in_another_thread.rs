use manyhands::{Error, LockedSlice};

fn main() -> Result<(), Error> {
    let numbers = LockedSlice::<u32>::new(3)?;
    let guard = numbers.lock()?;
    std::thread::scope(|scope| {
        scope.spawn(move || drop(guard));
    });
    Ok(())
}
