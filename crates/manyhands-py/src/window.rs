//! How far a stream's input is drawn ahead of its reader, in parts, and how many bytes of values wait for him.
//!
//! Always: what the caller said (`buffersize`, `buffer_bytes`) holds. If nothing was said, a reader that reads is not left far behind,
//! and one that does not read holds nothing up: it may rely on all tasks being done, as with the standard library.
//! Not here: who draws (`items`), who reads (`job`).

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Items ahead of a reader that reads, if the caller did not say: some milliseconds' work of a few workers.
const FEW: u64 = 1024;

/// Bytes of values that wait for a reader that reads, if the caller did not say: enough that no core waits for a reader
/// who takes them as they come, and nothing that a machine would notice.
const FEW_BYTES: u64 = 64 << 20;

/// The bytes of a stream's values.
#[derive(Default)]
pub(crate) struct Weight {
    /// Of those that wait for the reader.
    unread: AtomicU64,
    /// Of one, as the last ones were, and one more; 0 before any came.
    usual: AtomicU64,
}

impl Weight {
    fn came(&self, size: u64) {
        self.unread.fetch_add(size, SeqCst);
        let usual = match self.usual.load(SeqCst) {
            0 => size,
            before => (7 * (before - 1) + size) / 8,
        };
        self.usual.store(usual + 1, SeqCst); // by one at a time: the job is locked
    }

    /// What is left to be read, after so much was.
    fn read(&self, size: u64) -> u64 {
        self.unread.fetch_sub(size, SeqCst) - size
    }

    /// Bytes to be reckoned with when `ahead` parts are under way or wait, as large as the last ones; `None` before any
    /// came.
    fn of(&self, ahead: u64) -> Option<u64> {
        let usual = self.usual.load(SeqCst).checked_sub(1)?;
        Some(usual.saturating_mul(ahead).max(self.unread.load(SeqCst)))
    }
}

/// A bound on what is under way and what waits for the reader.
pub(crate) enum Window {
    /// There is none: nobody reads part by part.
    None,
    /// So many parts, and so many bytes.
    Fixed {
        parts: u64,
        bytes: u64,
        /// So many parts may be under way before it is known how large a value is.
        first: u64,
        read: AtomicU64,
        weight: Weight,
    },
    /// So many once the reader has begun to read; more when it stops.
    Soft {
        parts: AtomicU64,
        bytes: AtomicU64,
        read: AtomicU64,
        weight: Weight,
        /// The part before which the input waits, 0 for none.
        waits_at: AtomicU64,
        /// What was read when it was last looked at.
        seen: AtomicU64,
    },
}

impl Window {
    /// For parts of `chunksize` items: `buffersize` items and `buffer_bytes` bytes, if the caller said so.
    pub(crate) fn new(
        buffersize: Option<usize>,
        buffer_bytes: Option<u64>,
        chunksize: usize,
        workers: usize,
    ) -> Window {
        let (read, weight) = (AtomicU64::new(0), Weight::default());
        match (buffersize, buffer_bytes) {
            (Some(_), _) | (_, Some(_)) => Window::Fixed {
                parts: buffersize.map_or(u64::MAX, |items| (items / chunksize).max(1) as u64),
                bytes: buffer_bytes.unwrap_or(u64::MAX),
                first: buffer_bytes.map_or(u64::MAX, |_| 2 * workers as u64),
                read,
                weight,
            },
            (None, None) => Window::Soft {
                parts: AtomicU64::new((FEW / chunksize as u64).max(4 * workers as u64)),
                bytes: AtomicU64::new(FEW_BYTES),
                read,
                weight,
                waits_at: AtomicU64::new(0),
                seen: AtomicU64::new(0),
            },
        }
    }

    /// Whether part `index` may be drawn.
    pub(crate) fn has_room_for(&self, index: u64) -> bool {
        match self {
            Window::None => true,
            Window::Fixed {
                parts,
                bytes,
                first,
                read,
                weight,
            } => {
                let ahead = index - read.load(SeqCst);
                ahead < *parts
                    && weight
                        .of(ahead)
                        .map_or(ahead < *first, |weight| weight < *bytes)
            }
            Window::Soft {
                parts,
                bytes,
                read,
                weight,
                ..
            } => match read.load(SeqCst) {
                0 => true,
                read => {
                    let ahead = index - read;
                    ahead < parts.load(SeqCst) && weight.of(ahead).unwrap_or(0) < bytes.load(SeqCst)
                }
            },
        }
    }

    /// A value of so many bytes has come, which waits for the reader.
    pub(crate) fn came(&self, size: u64) {
        match self {
            Window::None => {}
            Window::Fixed { weight, .. } | Window::Soft { weight, .. } => weight.came(size),
        }
    }

    /// Part `index` could not be drawn: the input waits for the reader, who comes too late to see that if there is
    /// room now.
    pub(crate) fn wait_at(&self, index: u64) {
        if let Window::Soft { waits_at, .. } = self {
            waits_at.store(index, SeqCst);
        }
    }

    /// The reader has taken one more part, of so many bytes. Whether the input, which waits, is to go on.
    pub(crate) fn took_one(&self, size: u64) -> bool {
        match self {
            Window::None => false,
            Window::Fixed { read, weight, .. } => {
                weight.read(size);
                read.fetch_add(1, SeqCst);
                true
            }
            Window::Soft {
                parts,
                bytes,
                read,
                weight,
                waits_at,
                ..
            } => {
                let left = weight.read(size);
                let read = read.fetch_add(1, SeqCst) + 1;
                let at = waits_at.load(SeqCst);
                // When half of it is read, not after each part.
                at != 0
                    && at.saturating_sub(read) <= parts.load(SeqCst) / 2
                    && left <= bytes.load(SeqCst) / 2
                    && waits_at.swap(0, SeqCst) != 0
            }
        }
    }

    /// A while has gone by. Whether there may be room now: a reader that read nothing meanwhile is left behind from now
    /// on, and where bytes are bounded, values may have come that are smaller than was thought.
    pub(crate) fn grow(&self) -> bool {
        let Window::Soft {
            parts,
            bytes,
            read,
            seen,
            ..
        } = self
        else {
            return matches!(self, Window::Fixed { bytes, .. } if *bytes != u64::MAX);
        };
        let read = read.load(SeqCst);
        let idle = seen.swap(read, SeqCst) == read;
        if idle {
            for bound in [parts, bytes] {
                bound.store(bound.load(SeqCst).saturating_mul(8), SeqCst);
            }
        }
        idle
    }

    /// The reader is gone. Whether nothing more is to be drawn; if not, all of it is.
    pub(crate) fn leave(&self) -> bool {
        if let Window::Soft { parts, bytes, .. } = self {
            parts.store(u64::MAX, SeqCst);
            bytes.store(u64::MAX, SeqCst);
        }
        matches!(self, Window::Fixed { .. })
    }
}
