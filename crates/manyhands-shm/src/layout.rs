//! Where what lies in shared memory: the mailbox's header and the frames' headers.
//! Always: `repr(C)`, sizes asserted, offsets and never pointers; words that different sides
//! write, or that one side writes often and the other polls, are 128 bytes apart (two cache
//! lines: processors fetch them in pairs).
//! Not here: the arena's slot table, an array of words with nothing to lay out (`arena`).

use core::mem::{offset_of, size_of};

/// "manyhand" in ASCII, read as a little-endian number.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"manyhand");
/// Changes whenever anything in this file does.
pub(crate) const VERSION: u32 = 3;

/// Bytes from one word that is written often to the next.
const LANE: usize = 128;

/// A word with a lane for itself.
#[repr(C, align(128))]
pub(crate) struct Lane<T> {
    word: T,
}

/// What the memory is; written once, by `create`.
#[repr(C, align(128))]
pub(crate) struct Identity {
    magic: u64,
    version: u32,
    task_bytes: u32,
    result_bytes: u32,
    /// 0 until the worker attaches, then 1.
    attached: u32,
}

/// What the worker is at, for whoever looks in from outside; written by the worker alone.
#[repr(C, align(128))]
pub(crate) struct Current {
    /// When it began, on the monotonic clock; 0: it has no task.
    began: u64,
    serial: u64,
    tag: u32,
    /// Of the worker, as it numbers itself.
    pid: u32,
}

/// The first page of a mailbox. "Writes" says who stores there in the course of things.
#[repr(C)]
pub(crate) struct MailboxHeader {
    identity: Identity,
    /// Parent writes at each publish, worker polls.
    task_tail: Lane<u64>,
    /// Worker writes at each take, parent reads when the ring looks full.
    task_head: Lane<u64>,
    /// Worker writes before sleeping, parent reads at each publish and clears.
    asleep: Lane<u32>,
    /// Parent writes now and then.
    hint: Lane<u32>,
    /// Worker writes at each publish, parent polls.
    result_tail: Lane<u64>,
    /// Parent writes at each `next`, worker reads when the ring looks full.
    result_head: Lane<u64>,
    /// Parent writes before sleeping, worker reads at each publish and clears.
    wake_at: Lane<u64>,
    /// Worker writes around each call that has a time limit, parent reads once the worker is dead.
    due: Lane<u64>,
    current: Current,
}

const _: () = assert!(size_of::<Lane<u64>>() == LANE && size_of::<Lane<u32>>() == LANE);
const _: () = assert!(size_of::<Identity>() == LANE && offset_of!(Identity, attached) == 20);
const _: () = assert!(size_of::<MailboxHeader>() == 10 * LANE);
const _: () = assert!(size_of::<MailboxHeader>() <= HEADER_LEN);

/// Bytes before the first ring.
#[cfg(not(loom))]
pub(crate) const HEADER_LEN: usize = 4096;
#[cfg(loom)]
pub(crate) const HEADER_LEN: usize = 2048;

pub(crate) const AT_MAGIC: usize = offset_of!(MailboxHeader, identity.magic);
pub(crate) const AT_VERSION: usize = offset_of!(MailboxHeader, identity.version);
pub(crate) const AT_TASK_BYTES: usize = offset_of!(MailboxHeader, identity.task_bytes);
pub(crate) const AT_RESULT_BYTES: usize = offset_of!(MailboxHeader, identity.result_bytes);
pub(crate) const AT_ATTACHED: usize = offset_of!(MailboxHeader, identity.attached);
pub(crate) const AT_TASK_TAIL: usize = offset_of!(MailboxHeader, task_tail.word);
pub(crate) const AT_TASK_HEAD: usize = offset_of!(MailboxHeader, task_head.word);
pub(crate) const AT_ASLEEP: usize = offset_of!(MailboxHeader, asleep.word);
pub(crate) const AT_HINT: usize = offset_of!(MailboxHeader, hint.word);
pub(crate) const AT_RESULT_TAIL: usize = offset_of!(MailboxHeader, result_tail.word);
pub(crate) const AT_RESULT_HEAD: usize = offset_of!(MailboxHeader, result_head.word);
pub(crate) const AT_WAKE_AT: usize = offset_of!(MailboxHeader, wake_at.word);
pub(crate) const AT_DUE: usize = offset_of!(MailboxHeader, due.word);
pub(crate) const AT_BEGAN: usize = offset_of!(MailboxHeader, current.began);
pub(crate) const AT_SERIAL: usize = offset_of!(MailboxHeader, current.serial);
pub(crate) const AT_TAG: usize = offset_of!(MailboxHeader, current.tag);
pub(crate) const AT_PID: usize = offset_of!(MailboxHeader, current.pid);

/// What a frame says about itself; the payload is opaque bytes.
///
/// The rings carry these fields and give them no meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Head {
    /// What sort of frame this is.
    pub kind: u16,
    /// Details of the sort.
    pub flags: u16,
    /// A small number that goes with the frame.
    pub tag: u32,
    /// Which task the frame belongs to.
    pub id: u64,
    /// One more number.
    pub extra: u64,
}

/// Before each payload.
#[repr(C)]
pub(crate) struct FrameHeader {
    /// Bytes of payload, or [`PAD`].
    len: u32,
    /// Who has the task (`mailbox::tasks`); 0 in results.
    claim: u32,
    head: Head,
}

const _: () = assert!(size_of::<Head>() == 24);
const _: () = assert!(size_of::<FrameHeader>() == 32);

pub(crate) const FRAME_HEADER_LEN: usize = size_of::<FrameHeader>();
pub(crate) const AT_FRAME_LEN: usize = offset_of!(FrameHeader, len);
pub(crate) const AT_FRAME_CLAIM: usize = offset_of!(FrameHeader, claim);
pub(crate) const AT_FRAME_HEAD: usize = offset_of!(FrameHeader, head);

/// Frames begin at multiples of this.
pub(crate) const UNIT: usize = 64;
/// In place of a length: nothing here, go on at the ring's beginning.
pub(crate) const PAD: u32 = u32::MAX;
