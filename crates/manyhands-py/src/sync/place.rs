//! Where a lock lies: a cell of a board, made here or come from another process.
//!
//! Always: a process has each board mapped once, whatever number of locks came with it, and holds one
//! descriptor of it, because any lock on it may yet be sent to a child. The registry is used with the
//! interpreter held, and Python holds that while it forks, so no child begins with the registry locked.
//! Not here: when a cell may be used again, and why (`manyhands_shm::sync::Board`'s module says it).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use manyhands_os::identity::{self, Life};
use manyhands_os::memory::{Mapping, Memfd};
use manyhands_os::{death, error, exit, fork_state, named};
use manyhands_shm::sync::{Board, Kind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::fds::{Sendable, borrowed, os_error, taken};

const EBADF: i32 = 9;

/// A board, its descriptor, and the cells of it that this process may give out again.
struct Shared {
    board: Board,
    memory: Sendable,
    /// Cells that nobody can have any more, and the process they are good for: a child has a copy.
    free: Mutex<(u64, Vec<u32>)>,
}

/// The boards of this process.
struct Boards {
    /// Where the next cell comes from.
    current: Option<Arc<Shared>>,
    known: Vec<Weak<Shared>>,
    /// Those that came with this process, by the number of the descriptor they came as. They stay, because
    /// several objects that are unpickled name the same number.
    inherited: Vec<(RawFd, Arc<Shared>)>,
}

static BOARDS: Mutex<Boards> = Mutex::new(Boards {
    current: None,
    known: Vec::new(),
    inherited: Vec::new(),
});

fn boards() -> MutexGuard<'static, Boards> {
    // Nothing that runs under the lock leaves it half changed when it panics.
    BOARDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says on every board that a fork brought along what this process's number comes from: it may have gone into
/// another namespace. To be called before the number is used. False: not yet done, call it again.
pub(super) fn introduce() -> bool {
    /// One more than the generation in which it was done.
    static DONE: AtomicU64 = AtomicU64::new(0);
    let now = fork_state::generation() + 1;
    if DONE.load(Relaxed) == now {
        return true;
    }
    let done = introduce_everywhere();
    if done {
        DONE.store(now, Relaxed);
    }
    done
}

fn introduce_everywhere() -> bool {
    let boards = match BOARDS.try_lock() {
        Ok(boards) => boards,
        Err(TryLockError::Poisoned(e)) => e.into_inner(),
        // A garbage collection in the midst of a change of the registry has run somebody's finalizer.
        Err(TryLockError::WouldBlock) => return false,
    };
    for shared in boards.known.iter().filter_map(Weak::upgrade) {
        seen_from_here(&shared.board);
    }
    true
}

fn seen_from_here(board: &Board) {
    match identity::view() {
        0 => {} // nobody tells anything of a process without one
        view => board.seen_from(view),
    }
}

/// Says of every lock that this process holds that it ends in an orderly way: whoever waits for one goes on waiting, as
/// with the standard library's, and is not told that its holder was killed.
pub(super) fn leave() {
    let Ok(boards) = BOARDS.try_lock() else {
        return; // another thread is in the midst of something, and will not get through it
    };
    for shared in boards.known.iter().filter_map(Weak::upgrade) {
        shared.board.leave(identity::process());
    }
}

/// Has that done when this process ends by `exit`; forked children have it done too.
fn leave_at_exit() {
    extern "C" fn at_exit() {
        leave();
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| exit::call(at_exit));
}

/// A board of other processes', to look at and not to use.
pub(super) fn look_at(fd: RawFd) -> PyResult<Board> {
    let memory = Memfd::from_fd(taken(fd)?).map_err(|e| os_error(&e))?;
    let mapping = Mapping::shared(&memory).map_err(|e| os_error(&e))?;
    Board::attach(Arc::new(mapping)).map_err(|e| PyValueError::new_err(e.to_string()))
}

impl Shared {
    fn create() -> io::Result<Arc<Shared>> {
        let memory = Memfd::create("manyhands locks", Board::LEN as u64)?;
        let mapping = Mapping::shared_with_children(&memory)?;
        Shared::new(Board::create(Arc::new(mapping)), memory)
    }

    fn attach(memory: Memfd) -> PyResult<Arc<Shared>> {
        let mapping = Mapping::shared_with_children(&memory).map_err(|e| os_error(&e))?;
        let board = Board::attach(Arc::new(mapping)).map_err(|e| {
            PyValueError::new_err(format!("no lock came with this descriptor: {e}"))
        })?;
        Shared::new(board, memory).map_err(|e| os_error(&e))
    }

    fn new(board: Board, memory: Memfd) -> io::Result<Arc<Shared>> {
        let memory = Sendable::new(memory)?;
        leave_at_exit();
        seen_from_here(&board);
        Ok(Arc::new(Shared {
            board,
            memory,
            free: Mutex::new((fork_state::generation(), Vec::new())),
        }))
    }

    /// The cells this process may give out again; none in a child that only inherited the list.
    fn free(&self) -> MutexGuard<'_, (u64, Vec<u32>)> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.0 != fork_state::generation() {
            *free = (fork_state::generation(), Vec::new());
        }
        free
    }

    fn cell(&self) -> Option<u32> {
        let again = self.free().1.pop();
        again.or_else(|| self.board.take())
    }
}

impl Boards {
    fn cell(&mut self) -> io::Result<(Arc<Shared>, u32)> {
        if let Some(current) = &self.current
            && current.memory.descriptor().is_some()
            && let Some(cell) = current.cell()
        {
            return Ok((Arc::clone(current), cell));
        }
        let fresh = Shared::create()?;
        let cell = fresh.cell().expect("a new board has cells");
        self.remember(&fresh);
        self.current = Some(Arc::clone(&fresh));
        Ok((fresh, cell))
    }

    fn remember(&mut self, shared: &Arc<Shared>) {
        self.known.retain(|known| known.strong_count() > 0);
        self.known.push(Arc::downgrade(shared));
    }

    /// The board behind a descriptor, mapped already or now.
    fn find(&mut self, fd: BorrowedFd<'_>) -> PyResult<Option<Arc<Shared>>> {
        let file = named::file_identity(fd).map_err(|e| os_error(&e))?;
        let mut known = self.known.iter().filter_map(Weak::upgrade);
        Ok(known.find(|known| known.memory.file() == file))
    }
}

/// A cell of a board that holds something.
pub(super) struct Place {
    /// The same as `shared`'s, one step nearer.
    board: Board,
    shared: Arc<Shared>,
    pub(super) cell: u32,
    pub(super) kind: Kind,
    pub(super) bound: u32,
    /// Made by this process: the generation, and how often it had forked by then.
    made: Option<(u64, u64)>,
    /// Whether another process was told of it.
    sent: AtomicBool,
}

impl Place {
    /// A new one of this process's.
    pub(super) fn make(kind: Kind, word: u32, bound: u32) -> PyResult<Place> {
        let (shared, cell) = boards().cell().map_err(|e| os_error(&e))?;
        shared.board.begin(cell, kind, word, bound);
        Ok(Place {
            board: shared.board.clone(),
            shared,
            cell,
            kind,
            bound,
            made: Some((fork_state::generation(), fork_state::forks())),
            sent: AtomicBool::new(false),
        })
    }

    /// The one in `cell` of the board that came with this process as descriptor `fd`, which is kept.
    pub(super) fn inherit(fd: RawFd, cell: u32) -> PyResult<Place> {
        let mut boards = boards();
        let here = boards.inherited.iter().find(|(number, _)| *number == fd);
        let shared = match here {
            Some((_, shared)) => Arc::clone(shared),
            None => {
                let shared = match boards.find(borrowed(&[fd])?[0])? {
                    Some(shared) => shared,
                    None => {
                        let memory = Memfd::from_fd(taken(fd)?).map_err(|e| os_error(&e))?;
                        let shared = Shared::attach(memory)?;
                        boards.remember(&shared);
                        shared
                    }
                };
                boards.inherited.push((fd, Arc::clone(&shared)));
                shared
            }
        };
        Place::open(shared, cell)
    }

    /// The one that a note tells of, left by a process that still runs.
    pub(super) fn by_name(name: &str) -> PyResult<Place> {
        let gone =
            |e: io::Error| os_error(&error::context(e, format!("there is no lock {name:?}")));
        let note = named::read_note(name).map_err(gone)?;
        let Some((pid, started, fd, cell)) = parse(&note) else {
            let text = format!("what is called {name:?} is no lock of manyhands");
            return Err(PyValueError::new_err(text));
        };
        let fd = named::open_of_other(pid, started, fd).map_err(gone)?;
        let mut boards = boards();
        let shared = match boards.find(fd.as_fd())? {
            Some(shared) => shared,
            None => {
                let shared = Shared::attach(Memfd::from_fd(fd).map_err(|e| os_error(&e))?)?;
                boards.remember(&shared);
                shared
            }
        };
        Place::open(shared, cell)
    }

    fn open(shared: Arc<Shared>, cell: u32) -> PyResult<Place> {
        let (kind, bound) = shared
            .board
            .open(cell)
            .map_err(|e| PyValueError::new_err(e.to_string()))?;
        Ok(Place {
            board: shared.board.clone(),
            shared,
            cell,
            kind,
            bound,
            made: None,
            sent: AtomicBool::new(true),
        })
    }

    #[inline]
    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    /// Whether the process that was found to hold it, or to wait here, has ended for certain.
    pub(super) fn is_dead(&self, process: u32) -> bool {
        self.board.has_one_view() && identity::life(process) == Life::Dead
    }

    /// What another process needs to have it too: the board's descriptor, still ours, and the cell.
    pub(super) fn share(&self) -> io::Result<(RawFd, u32)> {
        let fd = self.shared.memory.descriptor().ok_or_else(|| {
            error::advised(
                io::Error::from_raw_os_error(EBADF),
                "could not send this lock to another process",
                "the program has closed its descriptor, as os.closerange() does: make locks after that",
            )
        })?;
        self.sent.store(true, Relaxed);
        Ok((fd.as_raw_fd(), self.cell))
    }

    /// Leaves a note under `name`, by which others find it for as long as this process lives.
    pub(super) fn publish(&self, name: &str) -> io::Result<()> {
        let (fd, cell) = self.share()?;
        let (pid, started) = death::own_start()?;
        named::leave_note(
            name,
            &format!("manyhands-lock {pid} {started} {fd} {cell}\n"),
        )
    }
}

fn parse(note: &str) -> Option<(i32, u64, i32, u32)> {
    let mut words = note
        .strip_prefix("manyhands-lock ")?
        .split_ascii_whitespace();
    Some((
        words.next()?.parse().ok().filter(|pid| *pid > 0)?,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok().filter(|fd| *fd >= 0)?,
        words.next()?.parse().ok()?,
    ))
}

impl Drop for Place {
    fn drop(&mut self) {
        let alone = (fork_state::generation(), fork_state::forks());
        if self.made == Some(alone) && !self.sent.load(Relaxed) {
            self.shared.free().1.push(self.cell);
        }
    }
}
