//! How payloads cross: inline in a frame, in arena blocks, or streamed in parts.
//!
//! Small payloads travel inside their frame. Large ones are copied once into blocks of
//! the arena, and the frame carries their descriptors. Where the arena has no room (or
//! there is none), the payload is sent ahead of its frame in parts that fit the ring, so
//! that a full arena is slow and never a deadlock. The large buffers of a function, which every
//! worker needs, are kept by the parent, sealed, and the frame says where.
//! Always: whatever the other side wrote is checked here or in `manyhands-shm` before use.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;

use manyhands_os::frozen::{Address, Frozen};
use manyhands_os::memory::{self, Mapping, Memfd};
use manyhands_shm::arena::{Borrower, Descriptor, Lender, TABLE_MAX};
use manyhands_shm::mailbox::Head;

use super::published::Function;
use super::task::{Payload, Piece, Received, Unopened};

/// Frames from the parent to a worker.
pub(super) mod to_worker {
    /// A function: tag = its id, payload = its encoding.
    pub(in super::super) const DEFINE: u16 = 1;
    /// tag = id of a function that is not needed any more.
    pub(in super::super) const FORGET: u16 = 2;
    /// A task: id = its serial number, tag = function id or 0.
    pub(in super::super) const TASK: u16 = 3;
    /// A part of the payload of the frame that follows the last part.
    pub(in super::super) const PART: u16 = 4;
    /// No more tasks: leave.
    pub(in super::super) const STOP: u16 = 5;
}

/// Frames from a worker to the parent.
pub(super) mod to_parent {
    /// The worker is initialised and takes tasks; extra = [`OPENS`](super::OPENS) or 0.
    pub(in super::super) const READY: u16 = 1;
    /// The worker could not be initialised; payload says why.
    pub(in super::super) const FAILED: u16 = 2;
    /// An outcome: id = the task's, extra = nanoseconds that it ran.
    pub(in super::super) const RESULT: u16 = 3;
    /// A part of the payload of the frame that follows the last part.
    pub(in super::super) const PART: u16 = 4;
}

/// The worker can open what the parent has open.
pub(super) const OPENS: u64 = 1;

/// The function raised instead of returning.
pub(super) const RAISED: u16 = 1;
/// The payload begins with a table of descriptors: one a buffer.
const BLOCKS: u16 = 2;
/// The first descriptor of the table is that of the bytes.
const BYTES_IN_BLOCK: u16 = 4;
/// The payload came ahead, in parts; the frame holds their number.
const STREAMED: u16 = 8;
/// The parent keeps the buffers; the payload begins with where.
pub(super) const FROZEN: u16 = 16;
/// The worker could not open what the parent keeps.
pub(super) const CUT_OFF: u16 = 32;
/// The worker has more memory to itself than it may have.
pub(super) const GROWN: u16 = 64;
/// The face's mark is kept in the upper half.
const MODE_SHIFT: u32 = 8;

/// Bytes up to this length stay inside their frame.
pub(super) const INLINE_MAX: usize = 16 << 10;
/// Payload bytes in one part of a stream.
pub(super) const PART_LEN: usize = 32 << 10;
/// How much is set aside for the rest of a piece, for each byte of its first part.
const EARNED: usize = 32;
/// A sane bound on the number of buffers that one payload may announce.
const MAX_PIECES: usize = 1 << 20;

/// For pieces from this length on that go to memory which was never touched the pages are got in one go.
const POPULATE: usize = 1 << 20;

/// And pieces from this length on are worth a thread for half of it.
const GIANT: usize = 32 << 20;

/// An arena that this side lends from.
pub(super) struct Lending {
    lender: Lender,
    memory: Arc<Mapping>,
}

impl Lending {
    pub(super) fn from(arena: &Memfd) -> io::Result<Lending> {
        let memory = Arc::new(Mapping::shared(arena)?);
        if memory::is_counted() {
            memory.populate(0, TABLE_MAX.min(memory.len()))?;
        }
        let lender = Lender::new(Arc::clone(&memory));
        Ok(Lending { lender, memory })
    }

    /// Copies `piece` into a block; `None` if there is no room for it.
    fn lend_filled(&mut self, piece: &[u8]) -> Option<Descriptor> {
        let mut loan = self.lender.lend(piece.len())?;
        if loan.is_cold() && (piece.len() >= POPULATE || memory::is_counted()) {
            let at = loan.offset() as usize;
            // Dropped after an error, the loan goes back.
            fill_cold(&self.memory, at, loan.as_mut_slice(), piece).ok()?;
        } else {
            loan.write(0, piece);
        }
        Some(loan.descriptor())
    }
}

/// Gets pages for `block`, which begins at `at` of `memory`, and copies `piece` there; a giant's halves on two cores.
fn fill_cold(memory: &Mapping, at: usize, block: &mut [u8], piece: &[u8]) -> io::Result<()> {
    let fill = |at: usize, block: &mut [u8], piece: &[u8]| {
        memory.populate(at, piece.len())?;
        block.copy_from_slice(piece);
        Ok(())
    };
    if piece.len() < GIANT {
        return fill(at, block, piece);
    }
    let half = piece.len() / 2;
    let (first, second) = block.split_at_mut(half);
    thread::scope(|scope| {
        let rest = &piece[half..];
        let helper =
            thread::Builder::new().spawn_scoped(scope, move || fill(at + half, second, rest))?;
        fill(at, first, &piece[..half])?;
        helper
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

impl Deref for Lending {
    type Target = Lender;

    fn deref(&self) -> &Lender {
        &self.lender
    }
}

impl DerefMut for Lending {
    fn deref_mut(&mut self) -> &mut Lender {
        &mut self.lender
    }
}

/// Puts the face's mark into the flags of a frame.
pub(super) fn mark(mode: u8) -> u16 {
    u16::from(mode) << MODE_SHIFT
}

/// Reads the face's mark from the flags of a frame.
pub(super) fn mode(flags: u16) -> u8 {
    (flags >> MODE_SHIFT) as u8
}

/// A payload made ready for its frame.
pub(super) struct Packed {
    /// Flags to add to the frame's.
    pub(super) flags: u16,
    /// What precedes the inline bytes in the frame.
    pub(super) table: Vec<u8>,
    /// Whether the bytes themselves belong into the frame.
    pub(super) inline: bool,
    /// The blocks that were lent for it.
    pub(super) loans: Vec<Descriptor>,
}

/// Copies what is large into blocks of `lender`. `None`: it has to be streamed.
pub(super) fn pack(
    payload: &Payload,
    lender: Option<&mut Lending>,
    frame_max: usize,
) -> Option<Packed> {
    let inline_max = INLINE_MAX.min(frame_max / 2);
    let inline = payload.bytes.len() <= inline_max;
    if inline && payload.buffers.is_empty() {
        return Some(Packed {
            flags: 0,
            table: Vec::new(),
            inline,
            loans: Vec::new(),
        });
    }
    let pieces = usize::from(!inline) + payload.buffers.len();
    let table_len = 4 + pieces * Descriptor::LEN;
    let lender = lender?;
    if table_len + if inline { payload.bytes.len() } else { 0 } > frame_max {
        return None;
    }
    let mut table = Vec::with_capacity(table_len);
    table.extend_from_slice(&(pieces as u32).to_le_bytes());
    let mut loans = Vec::with_capacity(pieces);
    let large = (!inline).then_some(&payload.bytes[..]);
    for piece in large
        .into_iter()
        .chain(payload.buffers.iter().map(|buffer| &buffer[..]))
    {
        let Some(descriptor) = lender.lend_filled(piece) else {
            loans
                .drain(..)
                .for_each(|descriptor| drop_loan(lender, descriptor));
            return None;
        };
        table.extend_from_slice(&descriptor.to_bytes());
        loans.push(descriptor);
    }
    Some(Packed {
        flags: BLOCKS | if inline { 0 } else { BYTES_IN_BLOCK },
        table,
        inline,
        loans,
    })
}

/// Where the parent keeps the buffers: its descriptor, the file's identity, how many pieces, and their places; all
/// in little-endian words of eight bytes.
pub(super) fn frozen_table(frozen: &Frozen) -> io::Result<Vec<u8>> {
    let Address { fd, file } = frozen.address()?;
    let pieces = frozen.pieces();
    let words = [fd as u64, file.0, file.1, pieces.len() as u64];
    let places = pieces.iter().flat_map(|place| [place.start, place.end]);
    Ok(words
        .into_iter()
        .chain(places)
        .flat_map(u64::to_le_bytes)
        .collect())
}

/// Opens what a table says that the process `parent` keeps; the pieces, and the bytes after the table. Pieces that
/// cannot be had say why.
pub(super) fn open_frozen(content: &[u8], parent: i32) -> Result<(Vec<Received>, &[u8]), Garbled> {
    let (words, _) = content.as_chunks::<8>();
    let garbled = |announced| Garbled::Table {
        announced,
        len: content.len(),
    };
    let ([fd, device, inode, count], rest) = words.split_first_chunk().ok_or(garbled(0))?;
    let [fd, device, inode, count] =
        [fd, device, inode, count].map(|word| u64::from_le_bytes(*word));
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > rest.len() / 2 {
        return Err(garbled(count));
    }
    let end = 32 + 16 * count;
    let (pairs, _) = rest[..2 * count].as_chunks::<2>();
    let places: Vec<_> = pairs
        .iter()
        .map(|[start, end]| u64::from_le_bytes(*start)..u64::from_le_bytes(*end))
        .collect();
    let lens: Vec<u64> = places
        .iter()
        .map(|place| place.end.saturating_sub(place.start))
        .collect();
    let address = Address {
        fd: fd as i32,
        file: (device, inode),
    };
    let frozen = Frozen::open(parent, address, places).map(Arc::new);
    let pieces = lens.into_iter().enumerate().map(|(number, len)| {
        match frozen.as_ref().map(|frozen| Piece::of(frozen, number)) {
            Ok(Ok(piece)) => Received::Shared(piece),
            Ok(Err(why)) => Received::Unopened(len, unopened(&why)),
            Err(why) => Received::Unopened(len, unopened(why)),
        }
    });
    Ok((pieces.collect(), &content[end..]))
}

fn unopened(why: &io::Error) -> Unopened {
    Unopened {
        why: why.to_string(),
        wants_memory: why.kind() == io::ErrorKind::OutOfMemory,
    }
}

/// Takes a block back that nobody opened.
pub(super) fn drop_loan(lender: &mut Lender, descriptor: Descriptor) {
    // `false`: the other side opened it after all, and releases it itself.
    lender.reclaim(descriptor);
}

/// Whose payload is on its way in parts.
pub(super) enum Cargo {
    /// A task's or an answer's.
    Own(Payload),
    /// A function's, which others may be waiting for too.
    Published(Arc<Function>),
}

impl Cargo {
    fn payload(&self) -> &Payload {
        match self {
            Self::Own(payload) => payload,
            Self::Published(function) => &function.payload,
        }
    }
}

/// A payload on its way in parts.
pub(super) struct Stream {
    cargo: Cargo,
    piece: usize,
    at: usize,
}

impl Stream {
    pub(super) fn new(cargo: Cargo) -> Self {
        Self {
            cargo,
            piece: 0,
            at: 0,
        }
    }

    fn piece(&self) -> Option<&[u8]> {
        match self.piece {
            0 => Some(&self.cargo.payload().bytes),
            n => self
                .cargo
                .payload()
                .buffers
                .get(n - 1)
                .map(|buffer| &buffer[..]),
        }
    }

    /// The next part, at most `room` bytes of it; `None`: all parts are sent.
    pub(super) fn next_part(&mut self, kind: u16, room: usize) -> Option<(Head, &[u8])> {
        let (index, from) = (self.piece, self.at);
        let len = self.piece()?.len();
        let to = len.min(from + room.min(PART_LEN));
        if to == len {
            self.piece += 1;
            self.at = 0;
        } else {
            self.at = to;
        }
        let piece = match index {
            0 => &self.cargo.payload().bytes[..],
            n => &self.cargo.payload().buffers[n - 1][..],
        };
        Some((
            Head {
                kind,
                flags: 0,
                tag: index as u32,
                id: 0,
                extra: len as u64,
            },
            &piece[from..to],
        ))
    }

    /// Whether every part was handed out.
    pub(super) fn is_done(&self) -> bool {
        self.piece > self.cargo.payload().buffers.len()
    }

    /// Flags and content of the frame that closes the stream.
    pub(super) fn closing(&self) -> (u16, [u8; 4]) {
        (
            STREAMED,
            (1 + self.cargo.payload().buffers.len() as u32).to_le_bytes(),
        )
    }

    /// What was sent, to be sent again to somebody else.
    pub(super) fn into_cargo(self) -> Cargo {
        self.cargo
    }
}

/// Collects the parts of a stream on the receiving side.
#[derive(Default)]
pub(super) struct Assembly {
    pieces: Vec<Received>,
}

/// What came does not follow the protocol: the peer is broken or hostile.
#[derive(Debug, thiserror::Error)]
pub enum Garbled {
    /// The shared memory itself is inconsistent.
    #[error(transparent)]
    Memory(#[from] manyhands_shm::Malformed),
    /// A frame of an unknown kind.
    #[error("a frame of unknown kind {0}")]
    Kind(u16),
    /// A table of descriptors that does not fit its frame.
    #[error("a table of {announced} descriptors in a frame of {len} bytes")]
    Table {
        /// Descriptors that the table says it has.
        announced: usize,
        /// Bytes of the frame.
        len: usize,
    },
    /// A descriptor where this side has no arena.
    #[error("a descriptor of a block, but no arena is in use")]
    NoArena,
    /// A part that does not continue what came before it.
    #[error("part of piece {piece} while piece {current} was being received")]
    Part {
        /// The piece that the part names.
        piece: usize,
        /// The piece that was expected.
        current: usize,
    },
    /// An outcome of a task that this worker was not given.
    #[error("a result for task {0}, which the worker was not running")]
    Stranger(u64),
}

impl Assembly {
    /// Takes in one part.
    pub(super) fn part(&mut self, head: &Head, bytes: &[u8]) -> Result<(), Garbled> {
        let piece = head.tag as usize;
        if piece == self.pieces.len() && piece < MAX_PIECES {
            // The announced length is a hint from the peer: what is set aside for it has to be earned by what came.
            let mut begun = Vec::new();
            let _ = begun.try_reserve((head.extra as usize).min(EARNED * bytes.len()));
            self.pieces.push(Received::Copied(begun));
        } else if piece + 1 != self.pieces.len() {
            return Err(Garbled::Part {
                piece,
                current: self.pieces.len(),
            });
        }
        // A payload that does not fit into memory is the matter of whoever asked for it, not of
        // this process: what it names is missing, and the stream goes on.
        if let Received::Copied(begun) = &mut self.pieces[piece] {
            let room = begun
                .try_reserve(bytes.len())
                .or_else(|_| begun.try_reserve_exact(bytes.len()));
            match room {
                Ok(()) => begun.extend_from_slice(bytes),
                Err(_) => self.pieces[piece] = Received::Missing(head.extra),
            }
        }
        Ok(())
    }

    /// Takes the payload of a frame apart.
    pub(super) fn unpack(
        &mut self,
        flags: u16,
        content: &[u8],
        borrower: Option<&Borrower>,
    ) -> Result<(Received, Vec<Received>), Garbled> {
        if flags & STREAMED != 0 {
            let mut pieces = std::mem::take(&mut self.pieces).into_iter();
            let bytes = pieces
                .next()
                .unwrap_or_else(|| Received::Copied(Vec::new()));
            return Ok((bytes, pieces.collect()));
        }
        self.pieces.clear();
        if flags & BLOCKS == 0 {
            return Ok((Received::Copied(content.to_vec()), Vec::new()));
        }
        let borrower = borrower.ok_or(Garbled::NoArena)?;
        let table_error = |announced| Garbled::Table {
            announced,
            len: content.len(),
        };
        let (count, rest) = content.split_first_chunk::<4>().ok_or(table_error(0))?;
        let count = u32::from_le_bytes(*count) as usize;
        if count > rest.len() / Descriptor::LEN || (flags & BYTES_IN_BLOCK != 0 && count == 0) {
            return Err(table_error(count));
        }
        let (table, inline) = rest.split_at(count * Descriptor::LEN);
        let mut blocks = Vec::with_capacity(count);
        let (entries, _) = table.as_chunks::<{ Descriptor::LEN }>();
        for entry in entries {
            let block = Received::Lent(borrower.open(Descriptor::from_bytes(*entry))?);
            blocks.push(match borrower.is_worn().then(|| block.copied()) {
                Some(copy @ Received::Copied(_)) => copy,
                _ => block,
            });
        }
        let bytes = if flags & BYTES_IN_BLOCK != 0 {
            blocks.remove(0)
        } else {
            Received::Copied(inline.to_vec())
        };
        Ok((bytes, blocks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_part(len: u64, bytes: &[u8]) -> usize {
        let head = Head {
            extra: len,
            ..Head::default()
        };
        let mut assembly = Assembly::default();
        assembly.part(&head, bytes).unwrap();
        match &assembly.pieces[0] {
            Received::Copied(begun) => begun.capacity(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_length_that_was_only_announced_sets_little_aside() {
        assert_eq!(first_part(u64::MAX, &[]), 0);
        assert!(first_part(u64::MAX, &[1; 100]) <= 100 * EARNED);
        // Who sends full parts has room for the rest of a piece at once.
        assert!(first_part(1 << 20, &[1; PART_LEN]) >= 1 << 20);
        assert!(first_part(1 << 40, &[1; PART_LEN]) <= 2 << 20);
    }
}
