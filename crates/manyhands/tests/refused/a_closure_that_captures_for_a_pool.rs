use manyhands::{Error, Pool};

fn main() -> Result<(), Error> {
    manyhands::init();
    let factor = 3;
    Pool::new()?.map(|x: u64| x * factor, 1..4)?;
    Ok(())
}
