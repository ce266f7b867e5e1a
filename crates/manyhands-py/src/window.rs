//! How far a stream's input is drawn ahead of its reader, in parts.
//!
//! Always: what the caller said (`buffersize`) holds. If nothing was said, a reader that reads is not left far behind,
//! and one that does not read holds nothing up: it may rely on all tasks being done, as with the standard library.
//! Not here: who draws (`items`), who reads (`job`).

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Items ahead of a reader that reads, if the caller did not say: some milliseconds' work of a few workers.
const FEW: u64 = 1024;

/// A bound on what is under way and what waits for the reader.
pub(crate) enum Window {
    /// There is none: nobody reads part by part.
    None,
    /// So many parts.
    Fixed { parts: u64, read: AtomicU64 },
    /// So many once the reader has begun to read; more when it stops.
    Soft {
        parts: AtomicU64,
        read: AtomicU64,
        /// The part before which the input waits, 0 for none.
        waits_at: AtomicU64,
        /// What was read when it was last looked at.
        seen: AtomicU64,
    },
}

impl Window {
    /// For parts of `chunksize` items: `buffersize` items, if the caller said so.
    pub(crate) fn new(buffersize: Option<usize>, chunksize: usize, workers: usize) -> Window {
        let read = AtomicU64::new(0);
        match buffersize {
            Some(items) => Window::Fixed {
                parts: (items / chunksize).max(1) as u64,
                read,
            },
            None => Window::Soft {
                parts: AtomicU64::new((FEW / chunksize as u64).max(4 * workers as u64)),
                read,
                waits_at: AtomicU64::new(0),
                seen: AtomicU64::new(0),
            },
        }
    }

    /// Whether part `index` may be drawn.
    pub(crate) fn has_room_for(&self, index: u64) -> bool {
        match self {
            Window::None => true,
            Window::Fixed { parts, read } => index - read.load(SeqCst) < *parts,
            Window::Soft { parts, read, .. } => match read.load(SeqCst) {
                0 => true,
                read => index - read < parts.load(SeqCst),
            },
        }
    }

    /// Part `index` could not be drawn: the input waits for the reader, who comes too late to see that if there is
    /// room now.
    pub(crate) fn wait_at(&self, index: u64) {
        if let Window::Soft { waits_at, .. } = self {
            waits_at.store(index, SeqCst);
        }
    }

    /// The reader has taken one more part. Whether the input, which waits, is to go on.
    pub(crate) fn took_one(&self) -> bool {
        match self {
            Window::None => false,
            Window::Fixed { read, .. } => {
                read.fetch_add(1, SeqCst);
                true
            }
            Window::Soft {
                parts,
                read,
                waits_at,
                ..
            } => {
                let read = read.fetch_add(1, SeqCst) + 1;
                let at = waits_at.load(SeqCst);
                // When half of it is read, not after each part.
                at != 0
                    && at.saturating_sub(read) <= parts.load(SeqCst) / 2
                    && waits_at.swap(0, SeqCst) != 0
            }
        }
    }

    /// A while has gone by. Whether a reader that read nothing meanwhile is left behind from now on.
    pub(crate) fn grow(&self) -> bool {
        let Window::Soft {
            parts, read, seen, ..
        } = self
        else {
            return false;
        };
        let read = read.load(SeqCst);
        let idle = seen.swap(read, SeqCst) == read;
        if idle {
            let now = parts.load(SeqCst);
            parts.store(now.saturating_mul(8), SeqCst);
        }
        idle
    }

    /// The reader is gone. Whether nothing more is to be drawn; if not, all of it is.
    pub(crate) fn leave(&self) -> bool {
        if let Window::Soft { parts, .. } = self {
            parts.store(u64::MAX, SeqCst);
        }
        matches!(self, Window::Fixed { .. })
    }
}
