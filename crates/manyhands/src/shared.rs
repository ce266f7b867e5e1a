//! Memory that processes share: numbers that all may change, or one at a time, and bytes that nobody does.
//!
//! Always: it has no name, and is gone with the last process that has it; it goes to another process
//! as a descriptor, however long it is.

mod bytes;
mod locked;
mod slice;

pub use bytes::Bytes;
pub use locked::{LockedSlice, SliceGuard};
pub use slice::SharedSlice;
