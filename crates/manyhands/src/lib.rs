//! Multiprocessing that survives the death of a worker: functions run in processes of their
//! own, by one or by pools of many, and results, panics and deaths come back as values.
//!
//! ```
//! use manyhands::Process;
//!
//! fn square(x: u64) -> u64 {
//!     x * x
//! }
//!
//! fn main() -> Result<(), manyhands::Error> {
//!     manyhands::init(); // first in main: a child enters here and never returns
//!     let child = Process::spawn(square, 42)?;
//!     println!("{}", child.join()?);
//!     Ok(())
//! }
//! ```
//!
//! A pool keeps its workers, and goes on when one of them panics or is killed:
//!
//! ```
//! use manyhands::Pool;
//!
//! fn main() -> Result<(), manyhands::Error> {
//!     manyhands::init();
//!     let pool = Pool::new()?; // a worker for each processor
//!     let lengths = pool.map(|word: String| word.len(), ["many", "hands"].map(String::from))?;
//!     assert_eq!(lengths, [4, 5]);
//!     let task = pool.submit(|x: u64| x * x, 7)?;
//!     assert_eq!(task.wait()?, 49);
//!     Ok(())
//! }
//! ```
//!
//! A child is the same program, started again, so nothing is inherited by accident. Functions
//! are plain `fn`s (a closure that captures is refused by the compiler: pass what it needs as
//! the argument); arguments and results are anything that [serde](https://serde.rs) can take
//! apart and put together.
//!
//! Linux, x86-64 and AArch64.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod channel;
pub mod engine;
mod entry;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod init;
mod letter;
mod parcel;
mod pool;
mod process;
mod shared;
mod sync;
mod typed;

#[cfg(feature = "tokio")]
pub use channel::AsyncReceiver;
pub use channel::{Pipe, Receiver, SendError, Sender, channel, pipe};
pub use error::{Died, Error, Panicked};
pub use init::init;
pub use manyhands_os::death::ExitStatus;
pub use manyhands_shm::scalars::Scalar;
pub use pool::{Pool, PoolBuilder, Results, Task};
pub use process::{Process, ProcessBuilder};
pub use shared::{Bytes, SharedSlice};
pub use sync::{Barrier, BarrierWait, Condition, Event, Lock, LockGuard, Permit, Semaphore};
