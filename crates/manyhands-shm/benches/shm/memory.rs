//! Memory for both sides of an exchange.

use manyhands_os::memory::{Mapping, Memfd};
use manyhands_shm::mailbox::{self, Head, ParentEnd, Shape};
use std::sync::Arc;

/// With its header a frame of one cache line.
pub(crate) const LINE: [u8; 32] = [7; 32];

/// Big enough for all that is under way in these benchmarks.
const SHAPE: Shape = Shape {
    task_bytes: 64 << 10,
    result_bytes: 64 << 10,
};

/// New memory.
pub(crate) fn memfd(len: usize) -> Memfd {
    Memfd::create("manyhands-shm bench", len as u64).expect("a memfd")
}

/// Memory as one process has it.
pub(crate) fn map(memfd: &Memfd) -> Arc<Mapping> {
    Arc::new(Mapping::shared(memfd).expect("a mapping"))
}

/// The parent's end of a new mailbox, and its memory for whoever attaches.
pub(crate) fn mailbox() -> (ParentEnd, Memfd) {
    let memfd = memfd(SHAPE.region_len());
    (mailbox::create(map(&memfd), SHAPE), memfd)
}

/// A frame's head.
pub(crate) fn head(id: u64) -> Head {
    Head {
        id,
        ..Head::default()
    }
}
