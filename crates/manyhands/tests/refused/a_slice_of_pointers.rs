use manyhands::{Error, SharedSlice};

fn main() -> Result<(), Error> {
    SharedSlice::<*const u8>::new(10)?;
    Ok(())
}
