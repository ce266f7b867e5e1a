//! A look into a mailbox from outside: what its worker is at.
//!
//! Always: it only looks, at memory that any process may have written, and that goes on being written: what is seen may be
//! of two moments that lie close together.

#[cfg(not(loom))]
use std::sync::Arc;

#[cfg(not(loom))]
use crate::atomics::Ordering::Relaxed;
#[cfg(not(loom))]
use crate::error::Malformed;
#[cfg(not(loom))]
use crate::layout::{
    AT_ASLEEP, AT_BEGAN, AT_PID, AT_SERIAL, AT_TAG, AT_TASK_HEAD, AT_TASK_TAIL, HEADER_LEN, MAGIC,
    VERSION,
};
#[cfg(not(loom))]
use crate::region::{Region, check_origin};

/// What a worker is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// The worker's process id, as it numbers itself; 0: nobody has this mailbox yet.
    pub pid: i32,
    /// When it began what it runs, on the monotonic clock; 0: it runs nothing.
    pub began_ns: u64,
    /// The task's serial number.
    pub serial: u64,
    /// The task's tag.
    pub tag: u32,
    /// It sleeps until there is a task.
    pub asleep: bool,
    /// There is something that it has not taken.
    pub has_mail: bool,
}

/// Looks into the mailbox in `mem`.
///
/// # Errors
/// [`Malformed`] if `mem` holds no mailbox, or one of another version.
#[cfg(not(loom))]
pub fn glance(mem: Arc<manyhands_os::memory::Mapping>) -> Result<Glance, Malformed> {
    let region = Region::of(mem);
    if region.len() < HEADER_LEN {
        return Err(Malformed::OutOfRange {
            field: "the mailbox's memory in bytes",
            value: region.len() as u64,
            low: HEADER_LEN as u64,
            high: u64::MAX,
        });
    }
    check_origin(&region, MAGIC, VERSION)?;
    let long = |at| region.u64_at(at).load(Relaxed);
    let word = |at| region.u32_at(at).load(Relaxed);
    // A task that ended while its number was read is tried again; never for long.
    let mut seen = (0, 0, 0);
    for _ in 0..8 {
        let began = long(AT_BEGAN);
        seen = (began, long(AT_SERIAL), word(AT_TAG));
        if long(AT_BEGAN) == began {
            break;
        }
    }
    let (began_ns, serial, tag) = seen;
    Ok(Glance {
        pid: word(AT_PID) as i32,
        began_ns,
        serial,
        tag,
        asleep: word(AT_ASLEEP) != 0,
        has_mail: long(AT_TASK_TAIL) > long(AT_TASK_HEAD),
    })
}
