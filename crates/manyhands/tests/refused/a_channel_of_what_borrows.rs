use manyhands::{Error, channel};

fn main() -> Result<(), Error> {
    let (sender, _receiver) = channel::<&str>(10)?;
    sender.send("hands")?;
    Ok(())
}
