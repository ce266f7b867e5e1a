//! Bytes between processes: rings, mailboxes and arenas in memory that two processes map.
//!
//! Always: a word that another process may write is copied once and range-checked before it is
//! used, so a hostile or half-dead peer gets [`Malformed`], never a panic or a stray access; and
//! a process killed at any instruction leaves frames that are whole or absent, never torn.
//!
//! Not here: any system call. Memory comes as an `Arc<manyhands_os::memory::Mapping>`; sleeping
//! and waking is the caller's (the methods that say "must be woken" say when).
//!
//! ```
//! use std::sync::Arc;
//! use manyhands_os::memory::{Mapping, Memfd};
//! use manyhands_shm::mailbox::{self, Head, Shape};
//!
//! let shape = Shape { task_bytes: 4096, result_bytes: 4096 };
//! let memory = Memfd::create("doc", shape.region_len() as u64)?;
//! let mut parent = mailbox::create(Arc::new(Mapping::shared(&memory)?), shape);
//! let mut worker = mailbox::attach(Arc::new(Mapping::shared(&memory)?))?; // in the other process
//!
//! let ticket = parent.tasks.push(Head { id: 7, ..Head::default() }, &[b"six times ", b"seven"])?;
//! parent.tasks.publish();
//! let task = worker.tasks.take()?.expect("one task was published");
//! assert_eq!((task.head.id, task.payload), (7, &b"six times seven"[..]));
//! assert!(parent.tasks.was_taken(ticket));
//!
//! worker.results.push(Head { id: 7, ..Head::default() }, &[b"42"])?;
//! worker.results.publish();
//! assert_eq!(parent.results.next()?.expect("one result was published").payload, b"42");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod arena;
mod atomics;
mod doorbell;
mod error;
pub mod fifo;
#[cfg(not(loom))]
pub mod guarded;
mod layout;
#[cfg(not(loom))]
pub mod log;
pub mod mailbox;
mod region;
mod ring;
#[cfg(not(loom))]
pub mod scalars;
#[cfg(not(loom))]
pub mod stats;
pub mod sync;

pub use error::{Full, Malformed};

#[cfg(loom)]
#[doc(hidden)]
pub mod model;
