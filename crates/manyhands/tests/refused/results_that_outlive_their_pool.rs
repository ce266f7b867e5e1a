use manyhands::{Error, Pool};

fn main() -> Result<(), Error> {
    let results = {
        let pool = Pool::new()?;
        pool.imap(|n: u64| n, 0..3)?
    };
    results.for_each(|n| println!("{}", n.unwrap()));
    Ok(())
}
