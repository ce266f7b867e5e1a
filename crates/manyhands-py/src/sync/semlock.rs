//! `SemLock`: a lock, a recursive lock or a semaphore, with the interface of `_multiprocessing.SemLock`.
//!
//! Differs from it: lies in memory without a name, so nothing is left behind by a process that is killed; a
//! recursive lock taken through one object is known to be ours through another one of the same lock, and in
//! a forked child it is the parent's; a semaphore never passes its bound.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use manyhands_os::clock::{Deadline, now_ns};
use manyhands_os::futex::{self, Scope};
use manyhands_os::{error, fork_state, identity, named};
use manyhands_shm::sync::{CELL, Holder, Kind, Semaphore};
use pyo3::exceptions::{PyAssertionError, PyOSError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::held::LOOK;
use super::place::{self, Place};
use super::{block, me, quick};
use crate::fds::{duration, os_error};

const RECURSIVE_MUTEX: i32 = 0;
const SEMAPHORE: i32 = 1;
const SEM_VALUE_MAX: i32 = i32::MAX;
const EINVAL: i32 = 22;

/// A lock, a recursive lock or a semaphore that processes share.
#[pyclass(frozen, subclass, module = "manyhands._engine")]
pub(crate) struct SemLock {
    pub(super) place: Place,
    name: Option<String>,
    /// A semaphore: how many were taken less how many were given back through this object, by which thread
    /// last, and in which process (a forked child begins at none).
    taken: AtomicI64,
    last: AtomicU64,
    /// When one that does not wait looked last whether the holder lives.
    looked_ns: AtomicU64,
}

#[pymethods]
impl SemLock {
    /// Makes a lock, or finds one: with `board` and `cell`, what `_share()` said in another process.
    ///
    /// kind -- 0 for a recursive lock, 1 for a semaphore of `value`, at most `maxvalue`
    /// name -- str: others find it by `_rebuild`, unless `unlink`, while this process lives
    /// owned -- bool: a semaphore of 1 is a lock that knows its holder
    #[new]
    #[pyo3(signature = (kind, value, maxvalue, name=None, unlink=false, *, owned=false, board=None, cell=0))]
    #[allow(
        clippy::too_many_arguments,
        reason = "the interface of the standard library's, and two ways in"
    )]
    fn new(
        kind: i32,
        value: i32,
        maxvalue: i32,
        name: Option<String>,
        unlink: bool,
        owned: bool,
        board: Option<i32>,
        cell: u32,
    ) -> PyResult<Self> {
        if let Some(fd) = board {
            return Self::found(Place::inherit(fd, cell)?, None);
        }
        let kind = match kind {
            RECURSIVE_MUTEX => Kind::Recursive,
            SEMAPHORE if owned => Kind::Lock,
            SEMAPHORE => Kind::Semaphore,
            _ => return Err(PyValueError::new_err("unrecognized kind")),
        };
        if value < 0 || maxvalue < 0 {
            return Err(PyOSError::new_err((
                EINVAL,
                format!(
                    "could not make a semaphore of {value}, at most {maxvalue}: Invalid argument; give 0 or more"
                ),
            )));
        }
        let word = if kind == Kind::Semaphore {
            value as u32
        } else {
            0
        };
        let place = Place::make(kind, word, maxvalue as u32)?;
        if let Some(name) = name.as_deref().filter(|_| !unlink) {
            place.publish(name).map_err(|e| name_error(&e, name))?;
        }
        Self::found(place, name.filter(|_| !unlink))
    }

    /// Takes it. False if that is not possible at once (`block` false) or within `timeout` seconds.
    #[pyo3(
        signature = (block=Truth(true), timeout=None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    fn acquire(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<bool> {
        let me = me();
        let too_deep =
            |_| PyOverflowError::new_err("the lock was taken too many times by one thread");
        if self.try_acquire(me).map_err(too_deep)? {
            return Ok(true);
        }
        if !block.0 {
            self.look_now_and_then()?;
            return Ok(false);
        }
        self.acquire_watchfully(py, me, duration(timeout)?)
    }

    /// Gives it back.
    fn release(&self) -> PyResult<()> {
        match self.try_release(me()) {
            Released::Yes => Ok(()),
            Released::NotMine => Err(PyAssertionError::new_err(
                "attempt to release recursive lock not owned by thread",
            )),
            Released::TooOften => Err(too_many()),
        }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, Truth(true), None)
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release()
    }

    /// How often this thread's process has taken it without giving it back.
    #[pyo3(name = "_count")]
    fn count(&self) -> i64 {
        if self.place.kind == Kind::Semaphore {
            return self.noted().0;
        }
        let lock = self.place.board().lock(self.place.cell);
        if lock.holder() == me().process {
            i64::from(lock.depth())
        } else {
            0
        }
    }

    /// acquire() and release() of this very object, as functions that cost less to call.
    #[pyo3(name = "_methods")]
    fn methods<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        quick::methods(slf)
    }

    /// Whether this thread has taken it.
    #[pyo3(name = "_is_mine")]
    fn is_mine(&self) -> bool {
        self.mine(me())
    }

    /// How many could be taken now.
    #[pyo3(name = "_get_value")]
    pub(super) fn value(&self) -> u32 {
        match self.place.kind {
            Kind::Semaphore => self.semaphore().value(),
            _ => u32::from(self.place.board().lock(self.place.cell).holder() == 0),
        }
    }

    /// Makes a semaphore that nobody waits for at least `value`, an int.
    #[pyo3(name = "_raise_to")]
    fn raise_to(&self, value: u32) -> PyResult<()> {
        if self.place.kind != Kind::Semaphore || value > self.place.bound {
            return Err(PyValueError::new_err("no semaphore that counts so far"));
        }
        self.semaphore().raise_to(value);
        Ok(())
    }

    /// Whether none could be taken now.
    #[pyo3(name = "_is_zero")]
    fn is_zero(&self) -> bool {
        self.value() == 0
    }

    /// Does nothing: a forked child's objects know that they are in another process.
    #[pyo3(name = "_after_fork")]
    fn after_fork(&self) {}

    /// What a child needs to have it too: a descriptor, which stays this object's, and a number.
    #[pyo3(name = "_share")]
    fn share(&self) -> PyResult<(i32, u32)> {
        self.place.share().map_err(|e| os_error(&e))
    }

    /// Lets others find it by `name`, a str, while this process lives; raises FileExistsError.
    #[pyo3(name = "_publish")]
    fn publish(&self, name: &str) -> PyResult<()> {
        self.place.publish(name).map_err(|e| name_error(&e, name))
    }

    /// Finds the lock that a process which still runs has published; raises FileNotFoundError.
    #[staticmethod]
    #[pyo3(name = "_rebuild", signature = (_handle, kind, maxvalue, name))]
    fn rebuild(
        _handle: Option<&Bound<'_, PyAny>>,
        kind: i32,
        maxvalue: i32,
        name: &str,
    ) -> PyResult<Self> {
        let lock = Self::found(Place::by_name(name)?, Some(name.to_owned()))?;
        if (lock.kind(), lock.maxvalue()) != (kind, maxvalue) {
            return Err(PyValueError::new_err(format!(
                "the lock {name:?} is of kind {} up to {}, not of kind {kind} up to {maxvalue}",
                lock.kind(),
                lock.maxvalue()
            )));
        }
        Ok(lock)
    }

    /// A number that no other lock has in this process.
    #[getter]
    fn handle(&self) -> usize {
        self.place.board().address(self.place.cell)
    }

    /// 0 for a recursive lock, else 1.
    #[getter]
    fn kind(&self) -> i32 {
        if self.place.kind == Kind::Recursive {
            RECURSIVE_MUTEX
        } else {
            SEMAPHORE
        }
    }

    /// The bound.
    #[getter]
    fn maxvalue(&self) -> i32 {
        self.place.bound as i32
    }

    /// The name it was made with, None if it has none.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    #[classattr]
    #[pyo3(name = "SEM_VALUE_MAX")]
    fn sem_value_max() -> i32 {
        SEM_VALUE_MAX
    }
}

/// Any object for what `if` makes of it; so that a None which is given is not one that is left out.
struct Truth(bool);

impl FromPyObject<'_, '_> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Truth)
    }
}

/// A recursive lock was taken more often than can be counted.
pub(super) struct TooDeep;

/// What became of a release.
pub(super) enum Released {
    Yes,
    /// A recursive lock that this thread does not hold.
    NotMine,
    /// Nobody held it, or it is at its bound.
    TooOften,
}

impl SemLock {
    fn found(place: Place, name: Option<String>) -> PyResult<Self> {
        if matches!(place.kind, Kind::Event | Kind::Condition) {
            return Err(PyValueError::new_err(
                "what lies there is neither a lock nor a semaphore",
            ));
        }
        Ok(Self {
            place,
            name,
            taken: AtomicI64::new(0),
            last: AtomicU64::new(0),
            looked_ns: AtomicU64::new(0),
        })
    }

    fn semaphore(&self) -> Semaphore<'_> {
        self.place.board().semaphore(self.place.cell)
    }

    fn word(&self) -> &AtomicU32 {
        self.place.board().word(self.place.cell)
    }

    #[inline(always)]
    pub(super) fn try_release(&self, me: Holder) -> Released {
        match self.place.kind {
            Kind::Semaphore => {
                let semaphore = self.semaphore();
                match semaphore.release(self.place.bound) {
                    Err(_) => return Released::TooOften,
                    Ok(None) => {}
                    Ok(Some(made)) => {
                        if self.wake_one() == 0 {
                            semaphore.nobody_slept(made);
                        }
                    }
                }
                self.note(-1, me);
            }
            kind => {
                let lock = self.place.board().lock(self.place.cell);
                if kind == Kind::Recursive {
                    if !lock.is_mine(me) {
                        return Released::NotMine;
                    }
                    if !lock.rise() {
                        return Released::Yes;
                    }
                }
                match lock.release() {
                    Err(_) => return Released::TooOften,
                    Ok(woken) => self.wake_after(woken),
                }
            }
        }
        Released::Yes
    }

    #[inline]
    pub(super) fn wake_after(&self, somebody_sleeps: bool) {
        if somebody_sleeps {
            self.wake_one();
        }
    }

    #[cold]
    fn wake_one(&self) -> usize {
        futex::wake(self.word(), 1, Scope::Shared)
    }

    /// Takes it if that needs no wait; an error when a thread has taken it too often.
    #[inline(always)]
    pub(super) fn try_acquire(&self, me: Holder) -> Result<bool, TooDeep> {
        match self.place.kind {
            Kind::Semaphore => {
                let taken = self.semaphore().try_acquire();
                if taken {
                    self.note(1, me);
                }
                Ok(taken)
            }
            kind => {
                let lock = self.place.board().lock(self.place.cell);
                if kind == Kind::Recursive && lock.is_mine(me) {
                    return if lock.deepen() {
                        Ok(true)
                    } else {
                        Err(TooDeep)
                    };
                }
                Ok(lock.try_acquire(me))
            }
        }
    }

    pub(super) fn acquire_slowly(
        &self,
        py: Python<'_>,
        me: Holder,
        timeout: Option<Duration>,
    ) -> PyResult<bool> {
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Ok(false); // it was not there just now
        }
        if self.place.kind == Kind::Semaphore {
            let taken = block(py, &self.semaphore().wait(), timeout)?;
            if taken {
                self.note(1, me);
            }
            Ok(taken)
        } else {
            block(
                py,
                &self.place.board().lock(self.place.cell).wait(me),
                timeout,
            )
        }
    }

    /// As `acquire_slowly`, and raises `OwnerDied` if the holder of the lock was killed: then the lock is free again.
    fn acquire_watchfully(
        &self,
        py: Python<'_>,
        me: Holder,
        timeout: Option<Duration>,
    ) -> PyResult<bool> {
        if self.place.kind == Kind::Semaphore {
            return self.acquire_slowly(py, me, timeout);
        }
        let deadline = Deadline::after(timeout);
        loop {
            let left = deadline.left().map_or(LOOK, |left| left.min(LOOK));
            if self.acquire_slowly(py, me, Some(left))? {
                return Ok(true);
            }
            self.refuse_the_dead(py)?;
            if deadline.passed() {
                return Ok(false);
            }
        }
    }

    /// For one that asks again and again without waiting: looks whether the holder lives, some times a second.
    #[cold]
    fn look_now_and_then(&self) -> PyResult<()> {
        let (now, then) = (now_ns(), self.looked_ns.load(Relaxed));
        if self.place.kind == Kind::Semaphore || now.saturating_sub(then) < LOOK.as_nanos() as u64 {
            return Ok(());
        }
        self.looked_ns.store(now, Relaxed);
        Python::attach(|py| self.refuse_the_dead(py))
    }

    /// Frees the lock if its holder was killed, and raises `OwnerDied` then.
    fn refuse_the_dead(&self, py: Python<'_>) -> PyResult<()> {
        match self.freed_of_the_dead() {
            None => Ok(()),
            Some(dead) => Err(owner_died(py, dead)),
        }
    }

    /// Frees the lock if its holder was killed; which process that was.
    fn freed_of_the_dead(&self) -> Option<i32> {
        let lock = self.place.board().lock(self.place.cell);
        let holder = lock.holder();
        if holder == 0 || !self.place.is_dead(holder) || !lock.free_of(holder) {
            return None;
        }
        self.wake_after(true);
        Some(identity::pid(holder))
    }

    pub(super) fn mine(&self, me: Holder) -> bool {
        match self.place.kind {
            Kind::Semaphore => {
                let (taken, last) = self.noted();
                taken > 0 && last == me.thread
            }
            _ => self.place.board().lock(self.place.cell).is_mine(me),
        }
    }

    /// Gives it back as often as this thread has taken it; how often that was.
    pub(super) fn give_up_all(&self) -> PyResult<i64> {
        let count = self.count();
        if self.place.kind == Kind::Recursive {
            let lock = self.place.board().lock(self.place.cell);
            self.wake_after(lock.release().map_err(|_| too_many())?);
        } else {
            for _ in 0..count {
                self.release()?;
            }
        }
        Ok(count)
    }

    /// Has who sleeps on `word` while it is `state` woken when this lock, which we hold, is given back: it
    /// could do nothing before. False: nobody sleeps there.
    pub(super) fn wake_with_release(&self, word: &AtomicU32, state: u32) -> bool {
        if self.place.kind == Kind::Semaphore {
            return futex::wake(word, 1, Scope::Shared) > 0;
        }
        self.place.board().lock(self.place.cell).expect_sleepers();
        futex::requeue(word, state, self.word(), 1, Scope::Shared) > 0
    }

    /// Takes it `count` times, waiting as long as that needs. Raises `OwnerDied`, with the lock taken, if a holder was
    /// killed meanwhile.
    pub(super) fn take_again(&self, py: Python<'_>, count: i64) -> PyResult<()> {
        let mut dead = None;
        if count > 0 && self.place.kind != Kind::Semaphore {
            // We may have slept on it, so others may too: see `wake_with_release`.
            let wait = self.place.board().lock(self.place.cell).wait(me());
            while !block(py, &wait, Some(LOOK))? {
                dead = dead.or(self.freed_of_the_dead());
            }
        } else if count > 0 {
            self.acquire(py, Truth(true), None)?;
        }
        for _ in 1..count {
            self.acquire(py, Truth(true), None)?;
        }
        dead.map_or(Ok(()), |dead| Err(owner_died(py, dead)))
    }

    /// Notes that this thread took one (1) or gave one back (-1). Only with the interpreter held, so that
    /// nobody comes between a load and a store.
    #[inline]
    fn note(&self, change: i64, me: Holder) {
        let here = fork_state::generation() << 32;
        let last = self.last.load(Relaxed);
        // What was taken in another generation is the parent's.
        let ours = (last ^ here) >> 32 == 0;
        let taken = if ours { self.taken.load(Relaxed) } else { 0 };
        self.taken.store(taken + change, Relaxed);
        if change > 0 || !ours {
            self.last.store(here | u64::from(me.thread), Relaxed);
        }
    }

    /// How many were taken through this object in this process, and by which thread last.
    fn noted(&self) -> (i64, u32) {
        let last = self.last.load(Relaxed);
        if (last ^ (fork_state::generation() << 32)) >> 32 != 0 {
            return (0, 0);
        }
        (self.taken.load(Relaxed), last as u32)
    }
}

fn owner_died(py: Python<'_>, pid: i32) -> PyErr {
    let made = || {
        py.import("manyhands.errors")?
            .getattr("_owner_died")?
            .call1((pid,))
    };
    made().map_or_else(|error| error, PyErr::from_value)
}

/// The locks that are held on the board behind `fd`, which is closed: `(cell, kind, pid, thread)`; a pid of 0 has ended
/// in an orderly way.
#[pyfunction]
fn held_locks(fd: i32) -> PyResult<Vec<(u32, &'static str, i32, i32)>> {
    let board = place::look_at(fd)?;
    let said = |(cell, kind, holder): (u32, Kind, Holder)| {
        let kind = if kind == Kind::Recursive {
            "RLock"
        } else {
            "Lock"
        };
        (
            cell,
            kind,
            identity::pid(holder.process),
            identity::thread_number(holder.thread),
        )
    };
    Ok(board.held().into_iter().map(said).collect())
}

/// Says of every lock that this process holds that it ends in an orderly way.
#[pyfunction]
fn leave_locks() {
    place::leave();
}

fn too_many() -> PyErr {
    PyValueError::new_err("semaphore or lock released too many times")
}

/// The OSError for a name, which says the name as Python's own do.
pub(crate) fn name_error(cause: &std::io::Error, name: &str) -> PyErr {
    match error::errno(cause) {
        Some(number) => {
            let text = cause.to_string();
            let end = text.rfind(" (os error ").unwrap_or(text.len());
            PyOSError::new_err((number, text[..end].to_owned(), name.to_owned()))
        }
        None => os_error(cause),
    }
}

/// Removes the name of a lock; raises FileNotFoundError if there is none.
#[pyfunction]
fn sem_unlink(name: &str) -> PyResult<()> {
    named::unlink(name).map_err(|e| name_error(&e, name))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<SemLock>()?;
    m.add("LOCK_CELL", CELL)?;
    m.add_function(wrap_pyfunction!(held_locks, m)?)?;
    m.add_function(wrap_pyfunction!(leave_locks, m)?)?;
    m.add_function(wrap_pyfunction!(sem_unlink, m)?)
}
