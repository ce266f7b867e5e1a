//! Memory for the tests: real memfds, mapped once for each side.
#![allow(dead_code, unreachable_pub, reason = "each test crate uses its part")]

use manyhands_os::memory::{Mapping, Memfd};
use manyhands_shm::mailbox::{self, Head, ParentEnd, Shape, WorkerEnd};
use std::sync::Arc;

/// A new memory and two mappings of it, as two processes would have.
pub fn memory(len: usize) -> (Arc<Mapping>, Arc<Mapping>) {
    let memfd = Memfd::create("manyhands-shm test", len as u64).expect("a memfd");
    let map = || Arc::new(Mapping::shared(&memfd).expect("a mapping"));
    (map(), map())
}

/// The smallest mailbox.
pub const SMALL: Shape = Shape {
    task_bytes: 4096,
    result_bytes: 4096,
};

/// Both ends of a new mailbox.
pub fn mailbox(shape: Shape) -> (ParentEnd, WorkerEnd) {
    let (here, there) = memory(shape.region_len());
    let parent = mailbox::create(here, shape);
    (parent, mailbox::attach(there).expect("a mailbox just made"))
}

/// A frame's head that tells which one it is.
pub fn head(id: u64) -> Head {
    Head {
        kind: id as u16,
        flags: !id as u16,
        tag: id as u32 ^ 0xa5a5,
        id,
        extra: id << 32,
    }
}

/// Bytes that tell whose they are, and that begin and end where they should.
pub fn payload(id: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (id.wrapping_mul(31) ^ at ^ at >> 8) as u8)
        .collect()
}

/// Writes into the other side's memory, as a broken or hostile process would.
pub fn poke(mem: &Mapping, at: usize, value: u64) {
    assert!(at + 8 <= mem.len());
    // SAFETY: inside of the mapping; these tests have one thread, and whoever reads these bytes
    // must stand any.
    unsafe {
        mem.base()
            .as_ptr()
            .add(at)
            .cast::<u64>()
            .write_unaligned(value)
    }
}
