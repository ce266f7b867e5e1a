//! What the engine carries: tasks on their way to a worker, outcomes on their way back.
//!
//! The engine knows neither pickle nor serde: a task is bytes and large buffers,
//! and what becomes of it is told to its [`Job`], exactly once.
//! Not here: how bytes cross to the worker (`wire`), who gets which task (`dispatch`).

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::ThreadId;

use manyhands_os::death::ExitStatus;
use manyhands_os::frozen::{Frozen, FrozenCopy};
use manyhands_shm::arena::Block;

use super::published::{Function, Needs};
use super::terms::{Cause, Terms};

/// A large buffer that a task or a result carries beside its bytes.
///
/// It is looked at until its bytes were copied, to the worker or to memory of the engine's own: at the
/// latest when the task that carries it has to wait for a worker, so that whoever gave it may
/// then use it for something else. It is dropped on whichever thread works for the pool.
pub type SharedBuffer = Arc<dyn Deref<Target = [u8]> + Send + Sync>;

/// What a task or a reply says: opaque bytes, and large buffers that are moved without
/// being part of them.
#[derive(Clone, Default)]
pub struct Payload {
    /// The encoded call or value.
    pub bytes: Vec<u8>,
    /// Buffers that were left out of `bytes`, in the order in which decoding wants them.
    pub buffers: Vec<SharedBuffer>,
    /// What has to be there for whoever decodes it.
    pub needs: Needs,
}

impl Payload {
    /// A payload of bytes alone.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            ..Self::default()
        }
    }

    /// All of its bytes, buffers included.
    pub fn len(&self) -> usize {
        self.bytes.len()
            + self
                .buffers
                .iter()
                .map(|buffer| buffer.len())
                .sum::<usize>()
    }

    /// Whether it carries nothing at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bytes of the copies that tasks which wait have for themselves.
static COPIED: AtomicUsize = AtomicUsize::new(0);
/// Bytes of such copies beyond which a task that was submitted keeps looking at the caller's buffers: a
/// thousand tasks may share one array that is large.
const MOST_COPIED: usize = 64 << 20;

/// A copy of a buffer, counted in [`COPIED`].
struct OwnCopy(Vec<u8>);

impl OwnCopy {
    /// `None`: there is no memory for it.
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut copy = Vec::new();
        copy.try_reserve_exact(bytes.len()).ok()?;
        copy.extend_from_slice(bytes);
        COPIED.fetch_add(copy.len(), Relaxed); // a count, which orders nothing
        Some(Self(copy))
    }
}

impl Drop for OwnCopy {
    fn drop(&mut self) {
        COPIED.fetch_sub(self.0.len(), Relaxed);
    }
}

impl Deref for OwnCopy {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// How much a task that cannot be copied to a worker yet wants to be copied all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Its buffers change when the next one is drawn, or while it is streamed.
    Sure,
    /// As long as there is room for such copies.
    IfCheap,
}

impl Payload {
    /// Makes it independent of the buffers that it was made of, which are returned, to be dropped without
    /// a lock. Where there is no memory for a copy, it goes on with the buffer itself.
    #[must_use]
    pub(super) fn detach(&mut self, need: Need) -> Vec<SharedBuffer> {
        let total: usize = self.buffers.iter().map(|buffer| buffer.len()).sum();
        if need == Need::IfCheap && COPIED.load(Relaxed).saturating_add(total) > MOST_COPIED {
            return Vec::new();
        }
        self.buffers
            .iter_mut()
            .filter_map(|buffer| {
                let copy: SharedBuffer = Arc::new(OwnCopy::of(buffer)?);
                Some(std::mem::replace(buffer, copy))
            })
            .collect()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Payload({} bytes, {} buffers)",
            self.bytes.len(),
            self.buffers.len()
        )
    }
}

/// Buffers of a function that are larger than this in all are frozen.
const FREEZE: usize = 1 << 20;
/// The pieces of one function that workers are told of in one frame; each is a mapping there.
const MOST_FROZEN: usize = 64;

impl Payload {
    /// Freezes what is large, and has it be the buffers from now on; `None` if it is small, or if that cannot be done.
    pub(super) fn freeze(&mut self) -> Option<Frozen> {
        let total: usize = self.buffers.iter().map(|buffer| buffer.len()).sum();
        if total <= FREEZE || self.buffers.len() > MOST_FROZEN {
            return None;
        }
        let pieces: Vec<&[u8]> = self.buffers.iter().map(|buffer| &buffer[..]).collect();
        let frozen = Frozen::create("manyhands function", &pieces).ok()?;
        let copies: Result<Vec<SharedBuffer>, _> = (0..pieces.len())
            .map(|piece| {
                frozen
                    .copy(piece)
                    .map(|copy| Arc::new(copy) as SharedBuffer)
            })
            .collect();
        self.buffers = copies.ok()?;
        Some(frozen)
    }
}

/// One unit of work: run by one worker, settled once.
pub struct Task {
    /// Who is told the outcome.
    pub job: Arc<dyn Job>,
    /// Which part of the job this is.
    pub index: u64,
    /// The function to run, if the payload alone does not say it.
    pub function: Option<Arc<Function>>,
    /// A mark of the face's own, given back to its `Execute` unread.
    pub mode: u8,
    /// The encoded argument.
    pub payload: Payload,
    /// How often it was begun by a worker that died before it answered.
    pub losses: u32,
}

impl Task {
    /// Id of what it calls: of its function, or of a name alone; 0: neither.
    pub(super) fn tag(&self) -> u32 {
        match &self.function {
            Some(function) => function.id,
            None => self.job.called(),
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("index", &self.index)
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}

/// Why a worker could not open what the parent keeps.
#[derive(Clone, Debug)]
pub struct Unopened {
    /// For the user.
    pub why: String,
    /// There was no memory, or address space, for it.
    pub wants_memory: bool,
}

/// Bytes that came from the other side: copied out of the ring, still in the arena, or kept by the parent.
#[derive(Debug)]
pub enum Received {
    /// In memory of this process.
    Copied(Vec<u8>),
    /// In a block of the arena that is given back when this is dropped.
    Lent(Block),
    /// Kept by the parent for all workers: a copy of it costs what is written to it.
    Shared(Piece),
    /// It came, so many bytes long, but there was no memory to keep it.
    Missing(u64),
    /// The parent keeps it, so many bytes long, but this worker could not open it, and why.
    Unopened(u64, Unopened),
}

/// One of the buffers that the parent has frozen, as this worker has it.
#[derive(Debug)]
pub struct Piece {
    frozen: Arc<Frozen>,
    number: usize,
    copy: FrozenCopy,
}

impl Piece {
    pub(super) fn of(frozen: &Arc<Frozen>, number: usize) -> io::Result<Self> {
        let frozen = Arc::clone(frozen);
        let copy = frozen.copy(number)?;
        Ok(Self {
            frozen,
            number,
            copy,
        })
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.copy
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.copy
    }
}

impl Received {
    /// The same bytes in memory of their own, if there is memory for them.
    #[must_use]
    pub fn copied(&self) -> Self {
        let mut copy = Vec::new();
        match self {
            Self::Missing(len) => Self::Missing(*len),
            Self::Unopened(len, why) => Self::Unopened(*len, why.clone()),
            Self::Shared(piece) => match Piece::of(&piece.frozen, piece.number) {
                Ok(again) => Self::Shared(again),
                Err(_) => Self::Missing(piece.len() as u64),
            },
            bytes => match copy.try_reserve_exact(bytes.len()) {
                Ok(()) => {
                    copy.extend_from_slice(bytes);
                    Self::Copied(copy)
                }
                Err(_) => Self::Missing(bytes.len() as u64),
            },
        }
    }
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Lent(block) => block,
            Self::Shared(piece) => piece,
            Self::Missing(_) | Self::Unopened(..) => &[],
        }
    }
}

/// A worker's answer to one task.
#[derive(Debug)]
pub struct Reply {
    /// The function raised (panicked) instead of returning.
    pub raised: bool,
    /// A mark of the face's own.
    pub mode: u8,
    /// The encoded value or exception.
    pub bytes: Received,
    /// Its out-of-band buffers.
    pub buffers: Vec<Received>,
    /// Nanoseconds that it ran.
    pub ran_ns: u64,
}

impl Reply {
    /// Its bytes, buffers included.
    pub fn size(&self) -> u64 {
        let buffers: usize = self.buffers.iter().map(|buffer| buffer.len()).sum();
        (self.bytes.len() + buffers) as u64
    }
}

/// How a worker died, and where its task stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The process id that it had.
    pub pid: i32,
    /// Its exit status.
    pub status: ExitStatus,
    /// Why, as far as that is known.
    pub cause: Cause,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker process {} ended with {}", self.pid, self.status)
    }
}

/// What became of a task.
#[derive(Debug)]
pub enum Outcome {
    /// A worker ran it and answered.
    Replied(Reply),
    /// The worker that was running it died.
    Died(Death),
    /// It never ran to its end: the pool was terminated or is broken.
    Abandoned(Arc<Abandoned>),
}

/// Why a pool gives up the tasks that it still has.
#[derive(Debug)]
pub enum Abandoned {
    /// `terminate` was called.
    Terminated,
    /// It was cancelled before a worker began it.
    Cancelled,
    /// A worker of a pool that [breaks](super::Config::breaks) died.
    Died {
        /// Which one, and how.
        death: Death,
        /// The [label](Job::label) of what it was running.
        running: Option<String>,
        /// What it said of its failure, if it could not be initialised.
        last_words: Option<Reply>,
    },
    /// Workers die before they are ready, or none can be started.
    Broken {
        /// What happened, for the user.
        reason: String,
        /// What the last worker said of its failure, if it could.
        last_words: Option<Reply>,
    },
}

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Terminated => f.write_str("the pool was terminated before the task was done"),
            Self::Cancelled => f.write_str("the task was cancelled"),
            Self::Died { death, .. } => write!(f, "the pool is broken: {death}"),
            Self::Broken { reason, .. } => f.write_str(reason),
        }
    }
}

/// What the collecting thread owes a job after telling it an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nobody waits for this.
    None,
    /// Threads that wait for the job should look again.
    Look,
    /// [`Job::finish`] is to be called, then waiting threads should look again.
    Finish,
}

/// Receives the outcomes of the tasks that were submitted in its name.
pub trait Job: Send + Sync {
    /// Task `index` has this outcome. Called once a task, on whichever thread collects,
    /// with no lock of the engine held; must not block and must not call user code.
    fn settle(&self, index: u64, outcome: Outcome) -> News;

    /// The work that `settle` asked for by [`News::Finish`]: callbacks of the user. Called by the
    /// thread in [`Crew::tend`](super::Crew::tend), which has to be there for such jobs, with no lock
    /// and no role of the engine held, so it may use the pool.
    fn finish(&self) {}

    /// What it asks for, if that is something else than the pool has for all. Asked under the engine's lock, so it must
    /// be at hand.
    fn terms(&self) -> Option<Terms> {
        None
    }

    /// Id of the [name](super::Crew::name) of what its tasks call, where these have no function that was published; 0:
    /// it has none. Asked under the engine's lock.
    fn called(&self) -> u32 {
        0
    }

    /// What it is called in messages. Asked under the engine's lock, so it must be at hand.
    fn label(&self) -> Option<String> {
        None
    }
}

/// What a source says after it was drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// There may be more.
    More,
    /// There may be more, once [`Source::is_ready`] says so.
    Paused,
    /// There will be no more.
    Done,
}

/// Which thread draws from a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawer {
    /// Whichever works for the pool: drawing waits for nothing.
    Anyone,
    /// This one alone, which waits for what comes of it.
    Owner(ThreadId),
    /// One that does nothing else, in [`Crew::feed`](super::Crew::feed): drawing may wait for whatever
    /// the user's iterator waits for, perhaps for something that a thread does which waits for the pool.
    Feeder,
}

/// Tasks that are drawn when a worker is about to need them.
pub trait Source: Send {
    /// Which thread is to draw from it.
    fn drawer(&self) -> Drawer {
        Drawer::Anyone
    }

    /// The priority of its tasks. Asked under the engine's lock, so it must be at hand.
    fn priority(&self) -> i32 {
        0
    }

    /// Nobody wants the rest of it.
    fn is_over(&self) -> bool {
        false
    }

    /// Gives up to `want` tasks to `take`, until that says `false`.
    ///
    /// Runs the user's iterator, so no lock and no role of the engine is held. A source
    /// that fails settles its own job and is done.
    fn draw(&mut self, want: usize, take: &mut dyn FnMut(Task) -> bool) -> Drawn;

    /// Whether a paused source may be drawn from again; asked under the engine's lock, after
    /// [`Crew::resume`](super::Crew::resume). `hurry`: the pool is being joined, so nothing may wait for a
    /// consumer that will not come.
    fn is_ready(&self, hurry: bool) -> bool {
        let _ = hurry;
        true
    }

    /// It has been paused for a while. `true`: it may be drawn from further ahead of its consumer than before.
    fn grow(&mut self) -> bool {
        false
    }
}
