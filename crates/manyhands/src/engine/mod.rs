//! The pool engine: workers, mailboxes, dispatch and supervision, for opaque tasks.
//!
//! A face (the typed [`Pool`](crate::Pool) here, the Python package elsewhere) adds three
//! things: [`Launch`], how a worker comes to life; an encoding of calls and values; and
//! [`Execute`], how a worker runs a call. The engine moves, waits, and survives deaths.
//!
//! A task's journey: [`Crew::submit`] or a [`Source`] gives a [`Task`]; `dispatch`
//! chooses a worker, whose mailbox (`worker`) takes it; the worker's [`Desk`] hands it to
//! `Execute`; the answer is heard by a thread inside [`Crew::wait`], which tells the [`Job`].

mod cancel;
mod chunking;
mod crew;
mod desk;
mod dispatch;
mod feed;
mod floor;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod growth;
mod idle;
mod launch;
mod line;
mod orphans;
mod park;
mod patience;
mod published;
mod stats;
mod stopwatch;
mod supervise;
mod task;
mod tend;
mod terms;
mod trace;
mod turns;
mod wire;
mod worker;

pub use chunking::{Chunking, Seen};
pub use crew::{Config, Crew, Refused, Waited, Watch, Wish};
pub use desk::{Answer, Call, Desk, Execute, Left};
pub use launch::{Launch, SEAT_FDS, Seat, SeatFds};
pub use manyhands_shm::stats::Face;
pub use patience::Patience;
pub use published::{Function, Needs};
pub use stopwatch::Stopwatch;
pub use supervise::Offer;
pub use task::{
    Abandoned, Death, Drawer, Drawn, Job, News, Outcome, Payload, Received, Reply, SharedBuffer,
    Source, Task, Unopened,
};
pub use terms::{Cause, Limit, MaxRestarts, Terms};
pub use trace::{Trace, VARIABLE as TRACE_VARIABLE};
pub use wire::Garbled;
