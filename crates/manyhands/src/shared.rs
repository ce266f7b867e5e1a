//! Memory that processes share: numbers that all may change, and bytes that nobody does.
//!
//! Always: it has no name, and is gone with the last process that has it; it goes to another process
//! as a descriptor, however long it is.

mod bytes;
mod slice;

pub use bytes::Bytes;
pub use slice::SharedSlice;
