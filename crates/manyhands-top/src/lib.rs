//! What every pool of a user is doing, seen from outside.
//!
//! A pool keeps a page of figures in memory without a name (`manyhands_shm::stats`), and a worker notes in its mailbox what
//! it is at. Both are found by their descriptors in `/proc`, opened to be read, and believed as far as they make sense.
//! Always: the processes that are looked at notice nothing, and none of another user is looked at.
//!
//! [`Sampler::look`] gives a [`Report`]; [`run`] shows one after the other in a terminal.
#![forbid(unsafe_code)]

mod app;
mod format;
mod proc;
mod report;
mod sampler;
mod screen;

pub use app::{Options, run};
pub use report::{Cause, Death, Pool, Report, Running, Task, Unreadable, Worker, WorkerState};
pub use sampler::Sampler;
pub use screen::{Sort, View, plain};
