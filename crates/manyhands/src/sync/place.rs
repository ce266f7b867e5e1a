//! Where a lock lies: a cell of a board, made here or come from another process.
//!
//! Always: a process has each board mapped once, whatever number of locks came with it, and one
//! descriptor of it, because any lock on it may yet be sent to a child.
//! Not here: when a cell may be used again, and why (`manyhands_shm::sync::Board`'s module says it).

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use manyhands_os::identity::{self, Life};
use manyhands_os::memory::{Mapping, Memfd};
use manyhands_os::{fork_state, named};
use manyhands_shm::sync::{Board, Kind};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::parcel::{self, Handle};

/// A board, its descriptor, and the cells of it that this process may give out again.
struct Shared {
    board: Board,
    memory: Handle,
    file: (u64, u64),
    free: Mutex<Vec<u32>>,
}

/// The boards of this process.
struct Boards {
    /// Where the next cell comes from.
    current: Weak<Shared>,
    known: Vec<Weak<Shared>>,
}

static BOARDS: Mutex<Boards> = Mutex::new(Boards {
    current: Weak::new(),
    known: Vec::new(),
});

fn boards() -> MutexGuard<'static, Boards> {
    // Nothing that runs under the lock leaves it half changed when it panics.
    BOARDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says on every board that a fork brought along what this process's number comes from. To be called before the
/// number is used.
pub(super) fn introduce() {
    /// One more than the generation in which it was done.
    static DONE: AtomicU64 = AtomicU64::new(0);
    let now = fork_state::generation() + 1;
    if DONE.load(Relaxed) == now {
        return;
    }
    // In a forked child another thread's lock is held for ever; whoever uses locks there says so again.
    let Ok(boards) = BOARDS.try_lock() else {
        return;
    };
    for shared in boards.known.iter().filter_map(Weak::upgrade) {
        seen_from_here(&shared.board);
    }
    DONE.store(now, Relaxed);
}

fn seen_from_here(board: &Board) {
    match identity::view() {
        0 => {} // nobody tells anything of a process without one
        view => board.seen_from(view),
    }
}

impl Shared {
    fn new(board: Board, memory: Memfd) -> io::Result<Arc<Self>> {
        seen_from_here(&board);
        Ok(Arc::new(Self {
            board,
            file: named::file_identity(&memory)?,
            memory: Arc::new(memory.into()),
            free: Mutex::default(),
        }))
    }

    fn create() -> io::Result<Arc<Self>> {
        let memory = Memfd::create("manyhands locks", Board::LEN as u64)?;
        let mapping = Mapping::shared_with_children(&memory)?;
        Self::new(Board::create(Arc::new(mapping)), memory)
    }

    fn attach(fd: &Handle) -> io::Result<Arc<Self>> {
        let memory = Memfd::from_fd(fd.try_clone()?)?;
        let mapping = Mapping::shared_with_children(&memory)?;
        let board = Board::attach(Arc::new(mapping)).map_err(io::Error::other)?;
        Self::new(board, memory)
    }

    fn free(&self) -> MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cell(&self) -> Option<u32> {
        let again = self.free().pop();
        again.or_else(|| self.board.take())
    }
}

impl Boards {
    fn cell(&mut self) -> io::Result<(Arc<Shared>, u32)> {
        if let Some(current) = self.current.upgrade()
            && let Some(cell) = current.cell()
        {
            return Ok((current, cell));
        }
        let fresh = Shared::create()?;
        let cell = fresh.cell().expect("a new board has cells");
        self.remember(&fresh);
        self.current = Arc::downgrade(&fresh);
        Ok((fresh, cell))
    }

    fn remember(&mut self, shared: &Arc<Shared>) {
        self.known.retain(|known| known.strong_count() > 0);
        self.known.push(Arc::downgrade(shared));
    }

    /// The board behind a descriptor, mapped already or now.
    fn open(&mut self, fd: &Handle) -> io::Result<Arc<Shared>> {
        let file = named::file_identity(fd.as_fd())?;
        let mut known = self.known.iter().filter_map(Weak::upgrade);
        if let Some(shared) = known.find(|known| known.file == file) {
            return Ok(shared);
        }
        drop(known);
        let shared = Shared::attach(fd)?;
        self.remember(&shared);
        Ok(shared)
    }
}

/// A place on its way: the number of the board's descriptor in the parcel, and the cell.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct PlaceNote {
    board: u32,
    cell: u32,
}

/// A cell of a board that holds something.
pub(crate) struct Place {
    shared: Arc<Shared>,
    pub(crate) cell: u32,
    pub(crate) bound: u32,
    /// Made by this process: the generation, and how often it had forked by then.
    made: Option<(u64, u64)>,
    /// Whether another process was told of it.
    sent: AtomicBool,
}

impl Place {
    /// A new one of this process's for `what`.
    pub(crate) fn make(what: &str, kind: Kind, word: u32, bound: u32) -> Result<Arc<Self>, Error> {
        let (shared, cell) = boards()
            .cell()
            .map_err(Error::system(format!("make a {what}")))?;
        shared.board.begin(cell, kind, word, bound);
        Ok(Arc::new(Self {
            shared,
            cell,
            bound,
            made: Some((fork_state::generation(), fork_state::forks())),
            sent: AtomicBool::new(false),
        }))
    }

    pub(crate) fn board(&self) -> &Board {
        &self.shared.board
    }

    /// Whether a process that this one knows by a number on the board has ended for certain.
    pub(crate) fn is_dead(&self, process: u32) -> bool {
        self.board().has_one_view() && identity::life(process) == Life::Dead
    }

    /// Puts it into the parcel of whatever is being encoded.
    pub(crate) fn pack(&self, what: &str) -> Result<PlaceNote, String> {
        let board = parcel::put(what, &self.shared.memory)?;
        self.sent.store(true, Relaxed);
        Ok(PlaceNote {
            board,
            cell: self.cell,
        })
    }

    /// The place that a note tells of, which holds a `kind`.
    pub(crate) fn unpack(what: &str, kind: Kind, note: PlaceNote) -> Result<Arc<Self>, String> {
        let fd = parcel::get(what, note.board)?;
        let shared = boards()
            .open(&fd)
            .map_err(|error| parcel::refuse(format!("no {what} came: {error}")))?;
        let (found, bound) = shared
            .board
            .open(note.cell)
            .map_err(|error| parcel::refuse(format!("no {what} came: {error}")))?;
        if found != kind {
            return Err(parcel::refuse(format!(
                "what came as a {what} is one of another kind ({found:?})"
            )));
        }
        Ok(Arc::new(Self {
            shared,
            cell: note.cell,
            bound,
            made: None,
            sent: AtomicBool::new(true),
        }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let alone = (fork_state::generation(), fork_state::forks());
        if self.made == Some(alone) && !self.sent.load(Relaxed) {
            self.shared.free().push(self.cell);
        }
    }
}

/// Has a type that is one place travel as a note of it.
macro_rules! travels {
    ($type:ident, $what:literal, $kind:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let note = self.place.pack($what).map_err(serde::ser::Error::custom)?;
                note.serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                let note = serde::Deserialize::deserialize(input)?;
                let place = $crate::sync::Place::unpack($what, $kind, note);
                Ok(Self {
                    place: place.map_err(serde::de::Error::custom)?,
                })
            }
        }
    };
}
pub(super) use travels;
