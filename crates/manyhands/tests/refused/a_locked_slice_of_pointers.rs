use manyhands::{Error, LockedSlice};

fn main() -> Result<(), Error> {
    LockedSlice::<&'static str>::new(3)?;
    Ok(())
}
