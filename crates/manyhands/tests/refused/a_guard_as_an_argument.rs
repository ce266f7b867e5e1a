use manyhands::{Error, LockGuard, Process};

fn keep(_: LockGuard<'static>) {}

fn main() -> Result<(), Error> {
    let lock = Box::leak(Box::new(manyhands::Lock::new()?));
    Process::spawn(keep, lock.lock()?)?;
    Ok(())
}
