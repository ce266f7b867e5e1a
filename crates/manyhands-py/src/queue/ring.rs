//! A queue's ring: memory that all its processes have mapped, in which items pass without a system call.
//!
//! The pipe says what is next. While items are in the ring, a note is in the pipe, as the first thing that nobody has
//! read: so the pipe can be read whenever the queue has items, which programs wait for. What finds no room in the ring goes
//! through the pipe itself, and a mark in the ring has readers go on there.
//!
//! Always: who touches an end holds that end's lock, for as long as a copy takes; an item is there as a whole or not at
//! all, whoever is killed.
//! Not here: how the ring is laid out (`manyhands_shm::fifo`), what goes through the pipe (`pipe`).

use manyhands_os::crash_point;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::futex::{self, Scope};
use manyhands_os::limits::{self, Limit};
use manyhands_os::memory::{Mapping, Memfd};
use manyhands_os::pipe;
use manyhands_shm::Malformed;
use manyhands_shm::fifo::{Fifo, Item, Next, Past, Reader};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::pipe::{Ahead, End, HEADER};
use super::send::total;
use crate::awake;
use crate::fds::{Sendable, os_error, taken, wait_with_signals};
use crate::manager::descriptor;
use crate::message;
use crate::shorthand;
use crate::sync::{Held, SemLock};

/// How much memory an item may wait in, of which only what was used is there.
const CAPACITY: usize = 32 << 20;
/// From this length on other threads run while an item is copied.
const LONG: usize = 128 << 10;

/// How often a reader looks at once whether the writers' lock is free, how long it waits then for who has it before it
/// looks again, and after how long it gives up: that one has been stopped.
const SPINS: usize = 400;
pub(super) const SOON: Duration = Duration::from_millis(1);
const STUCK: Duration = Duration::from_millis(50);

/// In place of a message's length, and no length at all: go on in the ring.
const NOTE: i32 = -3;
/// What stays in the pipe as long as the ring holds items, behind [`NOTE`].
const TOKEN: u8 = b'\n';

/// The memory that a queue's items pass through.
#[pyclass(frozen, weakref, module = "manyhands._engine")]
pub(super) struct QueueRing {
    fifo: Fifo,
    memory: Sendable,
}

#[pymethods]
impl QueueRing {
    /// Makes one, or maps the one that came with this process as descriptor `fd`.
    #[new]
    #[pyo3(signature = (fd=None))]
    fn new(fd: Option<RawFd>) -> PyResult<Self> {
        if fd.is_none() && limits::get(Limit::AddressSpace).soft.is_some() {
            return Err(PyOSError::new_err(
                "the address space is limited: queues leave it to others",
            ));
        }
        let memory = match fd {
            None => Memfd::create("manyhands queue", Fifo::region_len(CAPACITY) as u64),
            Some(fd) => Memfd::from_fd(taken(fd)?),
        };
        let memory = memory.map_err(|e| os_error(&e))?;
        let mapping = Mapping::shared_with_children(&memory).map_err(|e| os_error(&e))?;
        let mapping = Arc::new(mapping);
        Ok(Self {
            fifo: match fd {
                None => Fifo::create(mapping),
                Some(_) => Fifo::attach(mapping).map_err(|e| {
                    PyValueError::new_err(format!("no queue came with this descriptor: {e}"))
                })?,
            },
            memory: Sendable::new(memory).map_err(|e| os_error(&e))?,
        })
    }

    /// The descriptor that another process needs to have it too, which stays this object's; None when the program has
    /// closed it.
    #[pyo3(name = "_share")]
    fn share(&self) -> Option<RawFd> {
        self.memory.descriptor().map(|fd| fd.as_raw_fd())
    }

    /// Has readers turn to the pipe when they have read what is in the ring: for who is about to write to it himself.
    ///
    /// lock -- the writers', which the caller may have
    fn mark(&self, py: Python<'_>, lock: &Bound<'_, SemLock>) -> PyResult<()> {
        let lock = lock.get();
        let held = lock.hold_unless_mine(py)?;
        let marked = turn_to_pipe(&self.fifo).map_err(|e| os_error(&e));
        drop(held);
        marked
    }
}

impl QueueRing {
    pub(super) fn fifo(&self) -> &Fifo {
        &self.fifo
    }
}

fn overwritten(error: &Malformed) -> String {
    format!("the memory of this queue was overwritten: {error}; use a new queue")
}

fn ruined(error: Malformed) -> PyErr {
    PyOSError::new_err(overwritten(&error))
}

// ---- sending ----

/// Has readers turn to the pipe after what is in the ring; the writers' lock is held.
pub(super) fn turn_to_pipe(fifo: &Fifo) -> io::Result<()> {
    // SAFETY: the writers' lock is held, as the caller says: its holder has their end.
    match unsafe { fifo.writer() }.map(|writer| writer.mark()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(io::Error::other(
            "the memory of this queue was overwritten: it has no room for a mark; use a new queue",
        )),
        Err(e) => Err(io::Error::other(overwritten(&e))),
    }
}

/// Puts an item of `parts` into the ring; false if that, or the pipe for its note, has no room now.
///
/// held -- the writers' lock; end -- the pipe's
pub(super) fn put(
    py: Python<'_>,
    fifo: &Fifo,
    _held: &Held<'_>,
    end: End<'_, '_>,
    parts: &[&[u8]],
) -> PyResult<bool> {
    descriptor(end.0)?; // an error if it is closed, though nothing may have to be written
    // SAFETY: the writers' lock is held: its holder has their end.
    let mut writer = unsafe { fifo.writer() }.map_err(ruined)?;
    let pushed = if total(parts) < LONG {
        writer.push(parts)
    } else {
        py.detach(|| writer.push(parts))
    };
    if !pushed {
        return Ok(false);
    }
    let room = || match asked(end.now(pipe::unread))? {
        0 => Ok(Past::Nothing),
        _ if asked(end.now(|fd| pipe::wait_for_room(fd, Some(Duration::ZERO))))? => {
            Ok(Past::Something)
        }
        _ => Err(None),
    };
    let tell = || {
        let note = NOTE.to_be_bytes();
        let pieces = [IoSlice::new(&note), IoSlice::new(&[TOKEN])];
        asked(end.now(|fd| pipe::write_now(fd, &pieces)))
    };
    match writer.publish(room, tell) {
        Ok(()) => Ok(true),
        Err(None) => Ok(false),
        Err(Some(error)) => Err(error),
    }
}

/// What the pipe has answered. None instead of an error: there is no room.
fn asked<T>(answer: PyResult<io::Result<T>>) -> Result<T, Option<PyErr>> {
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(e)) if e.kind() == io::ErrorKind::WouldBlock => Err(None),
        Ok(Err(e)) => Err(Some(os_error(&e))),
        Err(error) => Err(Some(error)),
    }
}

/// How long somebody waits for readers to make room.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    /// Not at all.
    None,
    /// So long in all, and only if they have read something since somebody waited in vain.
    For(Duration),
    /// Until they have read nothing for so long.
    WhileTheyRead(Duration),
}

/// Waits until a reader makes room, if `try_again` finds none; whether it did find some.
///
/// len -- what is to be sent
pub(super) fn wait_for_room(
    py: Python<'_>,
    fifo: &Fifo,
    len: usize,
    patience: Patience,
    mut try_again: impl FnMut() -> PyResult<bool>,
) -> PyResult<bool> {
    let (most, renewed) = match patience {
        Patience::None => return Ok(false),
        Patience::For(_) if !fifo.has_hope() => return Ok(false),
        Patience::For(most) => (most, false),
        Patience::WhileTheyRead(most) => (most, true),
    };
    let mut deadline = Deadline::after(Some(most));
    let mut progress = fifo.progress();
    loop {
        let word = fifo.await_room(len);
        if try_again()? {
            return Ok(true);
        }
        if renewed && progress != fifo.progress() {
            progress = fifo.progress();
            deadline = Deadline::after(Some(most));
        }
        if deadline.passed() {
            fifo.give_up();
            return Ok(false);
        }
        wait_with_signals(py, deadline.left(), |left| {
            match futex::wait(fifo.awaited(), word, left, Scope::Shared) {
                futex::Wait::Interrupted => Err(io::ErrorKind::Interrupted.into()),
                _ => Ok(()),
            }
        })?;
    }
}

// ---- receiving ----

/// Whether items came one upon the other of late: then who takes the last one looks for a moment whether another comes,
/// which saves the note for it.
struct Stream {
    /// How often it was so, less how often it was not; positive where it is worth looking.
    score: AtomicI32,
    looks: AtomicU32,
}

static STREAM: Stream = Stream {
    score: AtomicI32::new(0),
    looks: AtomicU32::new(0),
};

impl Stream {
    /// Less than what a note costs.
    const MOMENT: usize = 200;
    /// One look in so many is made in any case.
    const PROBE: u32 = 64;
    const MOST: i32 = 32;

    fn goes_on(&self, found: impl Fn() -> bool) -> bool {
        let score = self.score.load(Relaxed);
        let probing = self.looks.fetch_add(1, Relaxed).is_multiple_of(Self::PROBE);
        if score <= 0 && !probing || !awake::may_spin() {
            return false;
        }
        for _ in 0..Self::MOMENT {
            if found() {
                self.score
                    .store((score.max(0) + 2).min(Self::MOST), Relaxed);
                return true;
            }
            std::hint::spin_loop();
        }
        self.score.store((score - 1).max(-1), Relaxed);
        false
    }
}

/// An item as it came.
pub(super) enum Message<'py> {
    Pickle(Vec<u8>),
    /// Bytes, which need no unpickling.
    Value(Bound<'py, PyBytes>),
}

impl<'py> Message<'py> {
    /// The pickle that was asked for.
    pub(super) fn pickle(self) -> Option<Vec<u8>> {
        match self {
            Message::Pickle(bytes) => Some(bytes),
            Message::Value(_) => None,
        }
    }

    pub(super) fn value(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Message::Pickle(bytes) => message::loads(py, bytes),
            Message::Value(value) => Ok(value.into_any()),
        }
    }
}

/// What a look into the ring came to.
pub(super) enum Taken<'py> {
    Item(Message<'py>),
    /// The pipe is to be looked at again: the note was taken, or something is there by now.
    Again,
    /// Nothing is there, and somebody is just putting something.
    Busy,
    /// It is longer than wanted, and still there.
    TooLong,
}

/// How an item is wanted.
#[derive(Clone, Copy)]
pub(super) enum As {
    Value,
    /// The pickle that it is, of at most so many bytes.
    Pickle(u64),
}

/// What readers need: the pipe's end, both locks, and the ring.
#[derive(Clone, Copy)]
pub(super) struct Side<'a, 'py> {
    pub(super) end: End<'a, 'py>,
    pub(super) lock: &'a SemLock,
    pub(super) senders: &'a SemLock,
    pub(super) fifo: &'a Fifo,
}

impl<'py> Side<'_, 'py> {
    /// Takes the note out of the pipe if nothing is in the ring before what comes through the pipe, as it may be when a
    /// reader or a writer was killed. The readers' lock is held.
    pub(super) fn heal(&self) -> PyResult<()> {
        // SAFETY: the readers' lock is held: its holder has their end.
        let mut reader = unsafe { self.fifo.reader() }.map_err(ruined)?;
        match reader.look().map_err(ruined)? {
            Next::Item(_) => {}
            Next::Mark => self.take_note()?,
            Next::Nothing if reader.is_stray() => self.take_note()?,
            Next::Nothing => {
                while !self.quieten(&reader, None)? && self.senders.free_of_the_dead()? {}
            }
        }
        Ok(())
    }

    /// Whether the pipe says that the ring is next.
    pub(super) fn is_next(ahead: &Ahead) -> bool {
        ahead.length() == Some(NOTE)
    }

    pub(super) fn is_note(length: i128) -> bool {
        length == i128::from(NOTE)
    }

    /// Notes that the pipe says so.
    pub(super) fn noted(&self) {
        Ahead::new(NOTE.to_be_bytes(), HEADER).keep(self.lock);
    }

    /// Takes what is next in the ring; the pipe has said that it is there. The readers' lock is held.
    pub(super) fn take(&self, py: Python<'py>, wanted: As) -> PyResult<Taken<'py>> {
        // SAFETY: the readers' lock is held: its holder has their end.
        let mut reader = unsafe { self.fifo.reader() }.map_err(ruined)?;
        match reader.look().map_err(ruined)? {
            Next::Item(item) => {
                if let As::Pickle(most) = wanted
                    && item.len() as u64 > most
                {
                    return Ok(Taken::TooLong);
                }
                let message = copied(py, &reader, &item, wanted)?;
                // Whoever waits for the pipe is not to find it readable because of what was there.
                if reader.is_last(&item) {
                    self.quieten_after(py, &reader, &item)?;
                }
                if reader.pass(item) {
                    futex::wake(self.fifo.awaited(), usize::MAX, Scope::Shared);
                }
                Ok(Taken::Item(message))
            }
            Next::Mark => self.take_note().map(|()| Taken::Again),
            Next::Nothing if self.quieten(&reader, None)? => Ok(Taken::Again),
            // Not to wait for who sends something past the ring, and perhaps waits for us.
            Next::Nothing if reader.is_stray() => self.take_note().map(|()| Taken::Again),
            Next::Nothing => Ok(Taken::Busy),
        }
    }

    /// Takes the note out of the pipe unless there is more than `last`. Who has put that may not yet have given the
    /// writers' lock back, and others may have it: they are waited for, unless they have sent something.
    fn quieten_after(&self, py: Python<'py>, reader: &Reader<'_>, last: &Item) -> PyResult<()> {
        if STREAM.goes_on(|| !reader.is_last(last)) {
            return Ok(());
        }
        for _ in 0..SPINS {
            if self.quieten(reader, Some(last))? || !reader.is_last(last) {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let deadline = Deadline::after(Some(STUCK));
        while !self.quieten(reader, Some(last))? && reader.is_last(last) && !deadline.passed() {
            match self.end.now(pipe::unread)? {
                Ok(0 | 1) => {}
                _ => break, // more than the note's token
            }
            drop(self.senders.hold(py, Some(SOON))?);
        }
        Ok(())
    }

    /// Takes the note out of the pipe if nothing is in the ring but `last`; false if somebody is just putting something.
    fn quieten(&self, reader: &Reader<'_>, last: Option<&Item>) -> PyResult<bool> {
        let _held = match self.senders.is_held_by_me() {
            true => None,
            false => match self.senders.hold_now()? {
                None => return Ok(false),
                held => held,
            },
        };
        // SAFETY: both locks are held.
        if unsafe { reader.is_drained(last) } {
            self.take_note()?;
            // One too many: see `manyhands_shm::fifo`.
            while Side::is_next(&Ahead::of(self.lock)) {
                self.take_note()?;
            }
        }
        Ok(true)
    }

    /// Takes the note, and the beginning of what is behind it.
    fn take_note(&self) -> PyResult<()> {
        let mut token = [0];
        let mut next = [0; HEADER];
        let mut pieces = [IoSliceMut::new(&mut token), IoSliceMut::new(&mut next)];
        let lock = self.lock.half_way();
        let read = self.end.now(|fd| pipe::read_now(fd, &mut pieces));
        crash_point!("queue.note-taken");
        match read {
            // Without a token a stranger has read from the pipe; then there is nothing to take.
            Ok(Ok(n)) => Ahead::new(next, n.saturating_sub(1)).keep(self.lock),
            Ok(Err(ref e)) if e.kind() == io::ErrorKind::WouldBlock => {
                Ahead::default().keep(self.lock);
            }
            _ => {}
        }
        drop(lock);
        match read? {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(os_error(&e)),
            _ => Ok(()),
        }
    }
}

/// An item's bytes, in memory of this process.
fn copied<'py>(
    py: Python<'py>,
    reader: &Reader<'_>,
    item: &Item,
    wanted: As,
) -> PyResult<Message<'py>> {
    let payload = reader.payload(item);
    if let (As::Value, Some(content)) = (wanted, shorthand::long_bytes(payload)) {
        return bytes_of(py, content).map(Message::Value);
    }
    let mut room = message::room_for(payload.len()).unwrap_or_default();
    let reserved = room.try_reserve_exact(payload.len());
    reserved.map_err(|_| no_memory(payload.len()))?;
    if payload.len() < LONG {
        room.extend_from_slice(payload);
    } else {
        py.detach(|| room.extend_from_slice(payload));
    }
    Ok(Message::Pickle(room))
}

fn no_memory(len: usize) -> PyErr {
    pyo3::exceptions::PyMemoryError::new_err(format!("no memory for an item of {len} bytes"))
}

/// A new bytes object, whose memory is touched once.
fn bytes_of<'py>(py: Python<'py>, content: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: attached; a new object of that length, whose bytes nobody has seen, or null and an error.
    let made = unsafe {
        let len = content.len() as ffi::Py_ssize_t;
        let made = ffi::PyBytes_FromStringAndSize(std::ptr::null(), len);
        Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked::<PyBytes>()
    };
    // SAFETY: attached; it is a bytes object.
    let to = unsafe { ffi::PyBytes_AsString(made.as_ptr()) };
    let to = SendPtr(to.cast());
    let copy = move || {
        let SendPtr(to) = { to };
        // SAFETY: `to` has that many bytes, for `made` lives; nobody else has it yet, and nothing lies in both.
        unsafe { std::ptr::copy_nonoverlapping(content.as_ptr(), to, content.len()) }
    };
    if content.len() < LONG {
        copy();
    } else {
        py.detach(copy);
    }
    Ok(made)
}

/// An address that goes to another thread, or to none: that of memory which nobody else uses.
struct SendPtr(*mut u8);

// SAFETY: an address alone; see `bytes_of` for what lies there.
unsafe impl Send for SendPtr {}
