//! Memory that two sides have mapped, kept from one run to the next, and the hand that spoils it.
//!
//! Always: all zero when a run begins, as new memory is; each side has a mapping of its own.

use std::sync::Arc;

use manyhands_os::memory::{Mapping, Memfd};

/// The same memory, mapped once for each side.
pub(crate) struct Shared {
    /// Where the hostile side writes.
    pub(crate) theirs: Arc<Mapping>,
    /// Where our side reads and writes.
    pub(crate) ours: Arc<Mapping>,
}

impl Shared {
    /// New memory.
    pub(crate) fn new(len: usize) -> Shared {
        let memory = Memfd::create("manyhands-fuzz", len as u64).expect("a memfd");
        Shared::of(&memory)
    }

    /// The memory behind a descriptor.
    pub(crate) fn of(memory: &Memfd) -> Shared {
        let map = || Arc::new(Mapping::shared(memory).expect("a mapping"));
        Shared {
            theirs: map(),
            ours: map(),
        }
    }

    /// Makes it as new. Nobody else may use it.
    pub(crate) fn clear(&self) {
        // SAFETY: within the mapping, which nothing uses between two runs.
        unsafe {
            self.theirs
                .base()
                .as_ptr()
                .write_bytes(0, self.theirs.len())
        }
    }

    /// Writes eight bytes, wherever that is, as a broken or hostile process would.
    pub(crate) fn poke(&self, at: usize, value: u64) {
        self.write(at, &value.to_le_bytes());
    }

    /// Writes bytes at `at`, or as near to it as there is room.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.theirs.len())];
        let at = at.min(self.theirs.len() - bytes.len());
        // SAFETY: inside of the mapping; a run has one thread, and whoever reads these bytes must stand any.
        unsafe {
            self.theirs
                .base()
                .as_ptr()
                .add(at)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        }
    }
}

/// Has every byte looked at: what it says may be nonsense, that it can be read may not.
pub(crate) fn look_at(bytes: &[u8]) {
    std::hint::black_box(bytes.to_vec());
}

/// The memories of a worker and its parent, kept from one run to the next.
pub(crate) struct Seats {
    pub(crate) memory: [Memfd; 3],
    /// Mailbox, arguments, results.
    pub(crate) shared: [Shared; 3],
}

impl Seats {
    pub(crate) fn new(mailbox: usize, arena: usize) -> Seats {
        let memory = [mailbox, arena, arena]
            .map(|len| Memfd::create("manyhands-fuzz", len as u64).expect("a memfd"));
        let shared = memory.each_ref().map(Shared::of);
        Seats { memory, shared }
    }

    /// Makes the mailbox as new, and the slots of the arenas.
    pub(crate) fn clear(&self) {
        let [mailbox, arenas @ ..] = &self.shared;
        mailbox.clear();
        arenas.iter().for_each(|arena| arena.write(0, &[0; 4096]));
    }
}

/// Bytes that tell whose they are.
pub(crate) fn marked(id: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![id as u8; len];
    bytes
        .iter_mut()
        .rev()
        .take(8)
        .for_each(|last| *last ^= 0x5a);
    bytes
}
