//! Q5. Create a pool of worker processes.
//!
//! `Pool::new()` starts a worker for each processor, `Pool::builder()` as many as one says;
//! `map` runs a function on every item and returns the results in the items' order. Here are the
//! answers of five authors; the first leaves its data and its task to the reader.

use manyhands::{Error, Pool};

fn my_task(_data: u64) {}

fn square(n: u64) -> u64 {
    n * n
}

fn main() -> Result<(), Error> {
    manyhands::init();

    Pool::new()?.map(my_task, 0..1000)?;

    let three = Pool::builder().workers(3).build()?;
    println!("Squares: {:?}", three.map(square, [1, 2, 3, 4, 5])?);
    println!("Result: {:?}", three.map(square, [1, 2, 3, 4, 5])?);
    drop(three);

    let four = Pool::builder().workers(4).build()?;
    println!("{:?}", four.map(square, [1, 2, 3, 4, 5])?);
    println!("{:?}", four.map(square, [1, 2, 3, 4, 5])?);
    Ok(())
}
