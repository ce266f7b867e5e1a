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
//! Processes talk through typed [channels](channel) and [pipes](pipe), wait for each other with
//! [`Lock`], [`Semaphore`], [`Condition`], [`Event`] and [`Barrier`], and share memory as [`SharedSlice`],
//! [`LockedSlice`] and [`Bytes`]. All of these are values that go to a child or to a task as part of its argument, and come
//! back as part of its result:
//!
//! ```
//! use manyhands::{Error, Pool, Sender, channel};
//!
//! fn search((haystack, found): (Vec<u32>, Sender<u32>)) -> Result<(), String> {
//!     for n in haystack.iter().filter(|n| n.is_power_of_two()) {
//!         found.send(*n).map_err(|error| error.to_string())?; // as soon as it is there
//!     }
//!     Ok(())
//! }
//!
//! fn main() -> Result<(), Error> {
//!     manyhands::init();
//!     let pool = Pool::new()?;
//!     let (sender, receiver) = channel(100)?;
//!     let parts = (0..4).map(|n| ((n * 100..n * 100 + 100).collect(), sender.clone()));
//!     let parts: Vec<_> = parts.collect();
//!     drop(sender);
//!     std::thread::scope(|scope| {
//!         let all = scope.spawn(|| receiver.iter().collect::<Result<Vec<u32>, _>>());
//!         pool.map(search, parts)?;
//!         assert_eq!(all.join().unwrap()?.len(), 9); // 1 to 256
//!         Ok(())
//!     })
//! }
//! ```
//!
//! # What to know
//!
//! - **A child is the same program, started again**, so nothing is inherited by accident. Functions
//!   are plain `fn`s (a closure that captures is refused by the compiler: pass what it needs as the
//!   argument); arguments and results are anything that [serde](https://serde.rs) can take apart and
//!   put together.
//! - **Death is an ordinary answer.** A child that is killed is an [`Error::Died`] where its result is
//!   awaited, [`Error::Disconnected`] where a message is, [`Error::OwnerDied`] where its lock is. Nothing
//!   waits for ever for the dead, and nothing is left behind: no files, nothing in `/dev/shm`.
//! - **A child ends when its parent does**, however that ended.
//! - **The parent's threads are not forked**, so a program with threads and runtimes may start children
//!   at any time. Call [`init`] before you start any.
//!
//! # Features
//!
//! - `tokio`: `Receiver::into_async` and `Sender::into_async`, to await messages and room for them. Tasks of a pool are futures without it, for any runtime.
//!
//! # Platforms
//!
//! Linux with glibc, x86-64 and AArch64. Rust 1.88 or newer.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod channel;
#[doc(hidden)]
pub mod engine; // for `manyhands-py`, and no part of the API: it may change with any version
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
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use channel::{AsyncReceiver, AsyncSender};
pub use channel::{Pipe, Receiver, SendError, Sender, channel, pipe};
pub use error::{Died, Error, Panicked};
pub use init::init;
pub use manyhands_os::death::ExitStatus;
pub use manyhands_shm::scalars::Scalar;
pub use pool::{Pool, PoolBuilder, Results, Task};
pub use process::{Process, ProcessBuilder};
pub use shared::{Bytes, LockedSlice, SharedSlice, SliceGuard};
pub use sync::{Barrier, BarrierWait, Condition, Event, Lock, LockGuard, Permit, Semaphore};

/// The README's example, for `cargo test --doc`.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
