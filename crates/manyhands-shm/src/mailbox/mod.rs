//! Mailboxes: one worker's task ring and result ring.
//!
//! Always: one writer and one reader a ring, so a killed worker harms only its own mailbox, which
//! is thrown away; and what the parent needs to settle that worker's tasks is in the parent's own
//! memory ([`Ticket`]) or still in the ring ([`TaskWriter::read_back`]).
//!
//! The parent [`create`]s, in memory that is new or whose last worker is known to be dead; the
//! worker [`attach`]es, once. Each end is made of two halves that may live in different places.
//!
//! Not here: choosing the worker (`dispatch`), noticing its death (`supervise`), payloads that
//! are too big for a ring ([`arena`](crate::arena)).

mod glance;
mod results;
mod tasks;

pub use crate::layout::Head;
pub use glance::Glance;
#[cfg(not(loom))]
pub use glance::glance;
pub use results::{Due, ResultFrame, ResultReader, ResultWriter};
pub use tasks::{TaskFrame, TaskReader, TaskWriter, Ticket};

use crate::atomics::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::doorbell::NEVER;
use crate::error::Malformed;
use crate::layout::{
    AT_ASLEEP, AT_ATTACHED, AT_BEGAN, AT_DUE, AT_HINT, AT_MAGIC, AT_PID, AT_RESULT_BYTES,
    AT_RESULT_HEAD, AT_RESULT_TAIL, AT_TASK_BYTES, AT_TASK_HEAD, AT_TASK_TAIL, AT_VERSION,
    AT_WAKE_AT, HEADER_LEN, MAGIC, VERSION,
};
use crate::region::{Region, check_origin};
use crate::ring::{Consumer, Place, Producer};
use std::sync::Arc;

/// The least a ring may have.
#[cfg(not(loom))]
const MIN_BYTES: u32 = 4096;
#[cfg(loom)]
const MIN_BYTES: u32 = 128;

const FRESH: u32 = 0;
const ATTACHED: u32 = 1;

/// How big a mailbox's rings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the task ring: a power of two, 4096 or more.
    pub task_bytes: u32,
    /// Bytes of the result ring: a power of two, 4096 or more.
    pub result_bytes: u32,
}

impl Shape {
    /// Bytes of memory that a mailbox of this shape takes.
    pub const fn region_len(&self) -> usize {
        HEADER_LEN + self.task_bytes as usize + self.result_bytes as usize
    }

    fn check(&self) -> Result<(), Malformed> {
        let fields = [
            ("the task ring's size in bytes", self.task_bytes),
            ("the result ring's size in bytes", self.result_bytes),
        ];
        for (field, bytes) in fields {
            let value = u64::from(bytes);
            if bytes < MIN_BYTES {
                let (low, high) = (u64::from(MIN_BYTES), 1 << 31);
                return Err(Malformed::OutOfRange {
                    field,
                    value,
                    low,
                    high,
                });
            }
            if !bytes.is_power_of_two() {
                return Err(Malformed::Uneven {
                    field,
                    value,
                    expected: "a power of two",
                });
            }
        }
        Ok(())
    }

    fn tasks(&self) -> Place {
        Place {
            tail: AT_TASK_TAIL,
            head: AT_TASK_HEAD,
            data: HEADER_LEN,
            capacity: u64::from(self.task_bytes),
        }
    }

    fn results(&self) -> Place {
        Place {
            tail: AT_RESULT_TAIL,
            head: AT_RESULT_HEAD,
            data: HEADER_LEN + self.task_bytes as usize,
            capacity: u64::from(self.result_bytes),
        }
    }
}

/// The parent's end.
pub struct ParentEnd {
    /// Tasks go out here.
    pub tasks: TaskWriter,
    /// Results come in here.
    pub results: ResultReader,
}

/// The worker's end.
pub struct WorkerEnd {
    /// Tasks come in here.
    pub tasks: TaskReader,
    /// Results go out here.
    pub results: ResultWriter,
}

/// Makes a mailbox in `mem`, which must be new, or its last worker dead and its ends dropped.
///
/// # Panics
/// If the shape's sizes are not powers of two of 4096 or more, or `mem` is shorter than
/// [`Shape::region_len`].
#[cfg(not(loom))]
pub fn create(mem: Arc<manyhands_os::memory::Mapping>, shape: Shape) -> ParentEnd {
    create_in(Region::of(mem), shape)
}

/// Takes the worker's end of the mailbox in `mem`, once.
///
/// # Errors
/// [`Malformed`] if `mem` holds no mailbox, one of another version, one that is bigger than `mem`,
/// or one that has its worker already.
#[cfg(not(loom))]
pub fn attach(mem: Arc<manyhands_os::memory::Mapping>) -> Result<WorkerEnd, Malformed> {
    attach_in(Region::of(mem))
}

pub(crate) fn create_in(region: Arc<Region>, shape: Shape) -> ParentEnd {
    if let Err(wrong) = shape.check() {
        panic!("cannot make a mailbox of {shape:?}: {wrong}");
    }
    assert!(
        shape.region_len() <= region.len(),
        "cannot make a mailbox of {shape:?} in {} bytes: it takes {}",
        region.len(),
        shape.region_len(),
    );
    for word in [
        AT_TASK_TAIL,
        AT_TASK_HEAD,
        AT_RESULT_TAIL,
        AT_RESULT_HEAD,
        AT_DUE,
        AT_BEGAN,
    ] {
        region.u64_at(word).store(0, Relaxed);
    }
    for word in [AT_ASLEEP, AT_HINT] {
        region.u32_at(word).store(0, Relaxed);
    }
    region.u64_at(AT_WAKE_AT).store(NEVER, Relaxed);
    region.u32_at(AT_VERSION).store(VERSION, Relaxed);
    region
        .u32_at(AT_TASK_BYTES)
        .store(shape.task_bytes, Relaxed);
    region
        .u32_at(AT_RESULT_BYTES)
        .store(shape.result_bytes, Relaxed);
    region.u32_at(AT_ATTACHED).store(FRESH, Relaxed);
    // pairs with the load in `check_origin`: the header is complete
    region.u64_at(AT_MAGIC).store(MAGIC, Release);
    ParentEnd {
        tasks: TaskWriter::new(Producer::new(region.clone(), shape.tasks())),
        results: ResultReader::new(Consumer::new(region, shape.results())),
    }
}

pub(crate) fn attach_in(region: Arc<Region>) -> Result<WorkerEnd, Malformed> {
    let len = region.len() as u64;
    if region.len() < HEADER_LEN {
        let field = "the mailbox's memory in bytes";
        let low = HEADER_LEN as u64;
        return Err(Malformed::OutOfRange {
            field,
            value: len,
            low,
            high: u64::MAX,
        });
    }
    check_origin(&region, MAGIC, VERSION)?;
    let shape = Shape {
        task_bytes: region.u32_at(AT_TASK_BYTES).load(Relaxed),
        result_bytes: region.u32_at(AT_RESULT_BYTES).load(Relaxed),
    };
    shape.check()?;
    let value = shape.region_len() as u64;
    if value > len {
        let field = "the mailbox's size in bytes";
        return Err(Malformed::OutOfRange {
            field,
            value,
            low: 0,
            high: len,
        });
    }
    region
        .u32_at(AT_ATTACHED)
        .compare_exchange(FRESH, ATTACHED, AcqRel, Acquire)
        .map_err(|found| Malformed::Attached { found })?;
    let pid = manyhands_os::fork_state::pid();
    region.u32_at(AT_PID).store(pid as u32, Relaxed);
    Ok(WorkerEnd {
        tasks: TaskReader::new(Consumer::new(region.clone(), shape.tasks())),
        results: ResultWriter::new(Producer::new(region, shape.results())),
    })
}
