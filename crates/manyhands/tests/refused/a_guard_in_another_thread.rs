use manyhands::{Error, Lock};

fn main() -> Result<(), Error> {
    let lock = Lock::new()?;
    let guard = lock.lock()?;
    std::thread::scope(|scope| {
        scope.spawn(move || drop(guard));
    });
    Ok(())
}
