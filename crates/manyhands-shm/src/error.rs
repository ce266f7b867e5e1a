//! What can be wrong with shared memory, and that a ring is full.
//! Always: an error names the field, the value found there and the bound it broke.
//! Not here: what to do about it (`manyhands` replaces the worker).

/// Shared memory does not hold what its peer should have written.
///
/// It was overwritten, or the peer runs another version of manyhands. The peer cannot be
/// trusted any further: end it and replace it together with its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The first word is not a mailbox's.
    #[error(
        "this memory is no mailbox: it begins with {found:#018x}, a mailbox with {expected:#018x}; pass the memory that the parent made"
    )]
    Magic {
        /// The word found.
        found: u64,
        /// The word a mailbox begins with.
        expected: u64,
    },
    /// The mailbox was laid out by another version.
    #[error(
        "the mailbox has layout version {found}, this process knows version {expected}; parent and worker must run the same manyhands"
    )]
    Version {
        /// The version found.
        found: u32,
        /// The version of this process.
        expected: u32,
    },
    /// The mailbox has its worker already: a second reader of one ring would corrupt both.
    #[error(
        "the mailbox already has a worker (state word {found}); make a new mailbox for each worker"
    )]
    Attached {
        /// The state word found.
        found: u32,
    },
    /// A number is outside of what its place allows.
    #[error(
        "{field} is {value}, allowed is {low} to {high}; the peer's memory was overwritten, replace the worker"
    )]
    OutOfRange {
        /// Which number.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The least value allowed.
        low: u64,
        /// The greatest value allowed.
        high: u64,
    },
    /// A number must be a multiple of another one, or a power of two.
    #[error(
        "{field} is {value}, which is not {expected}; the peer's memory was overwritten, replace the worker"
    )]
    Uneven {
        /// Which number.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What it should be, in words.
        expected: &'static str,
    },
    /// A claim word holds no known state.
    #[error(
        "the claim word of the task at position {position} is {found}, not one of 1 (queued), 2 (taken), 3 (revoked); the peer's memory was overwritten, replace the worker"
    )]
    Claim {
        /// Where the frame begins.
        position: u64,
        /// The word found.
        found: u32,
    },
    /// A descriptor names a block that is not lent: opened before, taken back, or never lent.
    #[error(
        "arena slot {slot} holds {found:#010x}, a block lent under this descriptor would hold {expected:#010x}; it was opened before or taken back"
    )]
    NotLent {
        /// The slot's number.
        slot: u32,
        /// The word found.
        found: u32,
        /// The word of a block that may be opened.
        expected: u32,
    },
}

/// A ring has no room for this frame now; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room for a payload of {needed} bytes (the ring takes at most {max} at once); wait until the peer has read, or send it through an arena"
)]
pub struct Full {
    /// Bytes of the payload that did not fit.
    pub needed: usize,
    /// The biggest payload that an empty ring takes.
    pub max: usize,
}

impl Full {
    /// Whether waiting can help: false for a payload that not even an empty ring takes.
    pub const fn is_temporary(&self) -> bool {
        self.needed <= self.max
    }
}
