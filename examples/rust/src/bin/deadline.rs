//! Await: calls side by side in one thread, and one that takes too long and is ended.

use std::time::Duration;

use manyhands::{Error, Pool};

fn sleep(milliseconds: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(milliseconds));
    milliseconds
}

async fn work(pool: &Pool) -> Result<(), Error> {
    let (short, shorter) = tokio::join!(pool.submit(sleep, 20)?, pool.submit(sleep, 10)?);
    println!("slept {} ms and {} ms", short?, shorter?);

    let long = pool.submit(sleep, 3_600_000)?.cancel_on_drop(true);
    match tokio::time::timeout(Duration::from_millis(50), long).await {
        Ok(slept) => println!("slept {} ms", slept?),
        Err(_) => println!("an hour is too long: cancelled"),
    }
    println!("the pool goes on: {} ms", pool.submit(sleep, 1)?.await?);
    Ok(())
}

fn main() -> Result<(), Error> {
    manyhands::init(); // before the runtime: a child must not start one
    let pool = Pool::builder().workers(2).build()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(work(&pool))
}
