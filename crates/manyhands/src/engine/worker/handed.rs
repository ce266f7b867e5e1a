//! A task in a worker's hands, and what is left of it afterwards.
//!
//! Always: what is left may run code of the user when it is dropped, so it is handed on to be dropped without the
//! floor's lock.

use std::sync::Arc;

use manyhands_shm::arena::Descriptor;
use manyhands_shm::mailbox::Ticket;

use super::super::published::{Function, Needs};
use super::super::task::{Job, Payload, SharedBuffer, Task};
use super::super::wire::{Cargo, Stream};

/// A task that sits in the worker's mailbox or is being run.
pub(in crate::engine) struct Handed {
    pub(in crate::engine) job: Arc<dyn Job>,
    pub(in crate::engine) index: u64,
    pub(super) serial: u64,
    pub(super) mode: u8,
    pub(super) function: Option<Arc<Function>>,
    pub(super) ticket: Ticket,
    pub(super) loans: Vec<Descriptor>,
    /// How many of these loans, the last ones, are buffers; a first one may be the bytes.
    pub(super) buffers: usize,
    /// What it needs beside its function, unless that is in `retained`.
    pub(super) needs: Needs,
    /// Bytes in its frame that are no payload: the table of loans.
    pub(super) table_len: usize,
    /// What cannot be read back from the ring and from the blocks, with buffers of its own: all of a payload that was
    /// streamed, or that may be needed once more after the worker had it.
    pub(super) retained: Option<Payload>,
    /// How long the whole payload is, if it is not in the ring.
    pub(super) bytes: usize,
    pub(super) streamed: bool,
    /// How often it was lost before.
    pub(super) losses: u32,
}

/// What is left of a task whose outcome is known. It may run code of the user when it is dropped, so
/// it is handed on to be dropped without the floor's lock.
pub(in crate::engine) struct Spent {
    _job: Option<Arc<dyn Job>>,
    _function: Option<Arc<Function>>,
    _payload: Option<Payload>,
    _needs: Needs,
}

impl From<Task> for Spent {
    fn from(task: Task) -> Self {
        Self {
            _job: Some(task.job),
            _function: task.function,
            _payload: Some(task.payload),
            _needs: Needs::default(),
        }
    }
}

impl From<Vec<SharedBuffer>> for Spent {
    fn from(buffers: Vec<SharedBuffer>) -> Self {
        Self {
            _job: None,
            _function: None,
            _payload: Some(Payload {
                buffers,
                ..Payload::default()
            }),
            _needs: Needs::default(),
        }
    }
}

impl From<Arc<Function>> for Spent {
    fn from(function: Arc<Function>) -> Self {
        Self {
            _job: None,
            _function: Some(function),
            _payload: None,
            _needs: Needs::default(),
        }
    }
}

impl Handed {
    /// Takes what is needed to settle it from what may be dropped later.
    pub(super) fn part(self) -> (Arc<dyn Job>, u64, Spent) {
        let job = Arc::clone(&self.job);
        (
            job,
            self.index,
            Spent {
                _job: Some(self.job),
                _function: self.function,
                _payload: self.retained,
                _needs: self.needs,
            },
        )
    }
}

/// What a stream in progress will turn into once its last part is sent.
pub(super) enum Closing {
    Function(Arc<Function>),
    /// The stream has its payload.
    Task {
        task: Task,
        serial: u64,
    },
}

/// The task that was being streamed, whole again; else what was.
pub(super) fn unstreamed((stream, closing): (Stream, Closing)) -> Result<Task, Arc<Function>> {
    match closing {
        Closing::Function(function) => Err(function),
        Closing::Task { mut task, .. } => {
            if let Cargo::Own(payload) = stream.into_cargo() {
                task.payload = payload;
            }
            Ok(task)
        }
    }
}

/// The unfinished tasks of a dead worker.
pub(in crate::engine) struct Remains {
    /// Begun, and lost with it.
    pub(in crate::engine) running: Vec<(Arc<dyn Job>, u64)>,
    /// Begun, and to be run once more.
    pub(in crate::engine) again: Vec<Task>,
    /// Begun, and cancelled with it.
    pub(in crate::engine) cancelled: Vec<(Arc<dyn Job>, u64)>,
    /// Never begun: unharmed, in order.
    pub(in crate::engine) queued: Vec<Task>,
    /// What is left of those that were begun.
    pub(in crate::engine) spent: Vec<Spent>,
}
