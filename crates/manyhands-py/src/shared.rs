//! Objects that a pool publishes once for all of its workers and calls: the handle in this process, the object in a worker.
//!
//! A handle pickles as the number that the pool's workers know the object by, and only where a call of that pool is
//! being pickled: what is pickled then keeps the object until its task has ended.
//! Always: a worker unpickles it once, into memory that it maps and that never changes, and forgets it when the pool says
//! so; the memory goes with the last array that is in it.
//! Not here: how workers learn of it (`manyhands::engine`, `published`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use manyhands::engine::{Crew, Function, Needs, Payload, Received};
use manyhands_os::fd;
use manyhands_os::fork_state::{self, ParentFd};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::buffer::Whole;
use crate::codec::{self, SHARED, SharedObject};
use crate::fds::{borrowed as borrowed_fds, os_error};
use crate::once::name;

// ---- in the process that shares it ----

/// A call that is being pickled: whose pool's, and what it needs so far.
struct Draft {
    pool: usize,
    needs: Needs,
}

thread_local! {
    /// Those of this thread; the last one is being pickled now.
    static DRAFTS: RefCell<Vec<Draft>> = const { RefCell::new(Vec::new()) };
}

/// Has `pickle` pickle a call of `pool`, in which handles of that pool may be.
pub(crate) fn for_pool(
    pool: usize,
    pickle: impl FnOnce() -> PyResult<Payload>,
) -> PyResult<Payload> {
    let needs = Needs::default();
    DRAFTS.with_borrow_mut(|drafts| drafts.push(Draft { pool, needs }));
    let pickled = pickle();
    let draft = DRAFTS.with_borrow_mut(Vec::pop);
    let mut payload = pickled?;
    if let Some(draft) = draft {
        payload.needs = draft.needs;
    }
    Ok(payload)
}

/// A duplicate of a descriptor that is there until the call which is being pickled has ended; None: none is.
#[pyfunction]
fn keep_for_call(fd: RawFd) -> PyResult<Option<RawFd>> {
    if DRAFTS.with_borrow(Vec::is_empty) {
        return Ok(None);
    }
    let borrowed = [fd];
    let twin = fd::duplicate(borrowed_fds(&borrowed)?[0]).map_err(|e| os_error(&e))?;
    let number = twin.as_raw_fd();
    let kept: Arc<ParentFd> = Arc::new(ParentFd::new(twin));
    DRAFTS.with_borrow_mut(|drafts| {
        if let Some(draft) = drafts.last_mut() {
            draft.needs.keep(kept);
        }
    });
    Ok(Some(number))
}

/// An object that was published to a pool. Pickled as a part of one of the pool's calls it is, in the worker, that object.
#[pyclass(frozen, weakref, name = "Shared", module = "manyhands")]
pub(crate) struct Shared {
    function: Mutex<Option<Arc<Function>>>,
    crew: Weak<Crew>,
    nbytes: usize,
    generation: u64,
}

impl Shared {
    fn function(&self) -> MutexGuard<'_, Option<Arc<Function>>> {
        self.function.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ours(&self) -> bool {
        self.generation == fork_state::generation()
    }

    /// Of what it is a handle, if that can be used.
    fn published(&self) -> PyResult<(Arc<Function>, Arc<Crew>)> {
        if !self.is_ours() {
            return Err(PyRuntimeError::new_err(
                "this shared object belongs to the process that shared it, which this one was forked off",
            ));
        }
        let function = self.function().clone();
        let function = function.ok_or_else(|| {
            PyValueError::new_err("this shared object was closed: share the object again")
        })?;
        match self.crew.upgrade() {
            Some(crew) if crew.is_open() => Ok((function, crew)),
            _ => Err(PyValueError::new_err(
                "the pool of this shared object has ended: share the object with a pool that runs",
            )),
        }
    }
}

/// Publishes `object` to the workers of `crew`.
pub(crate) fn share<'py>(
    py: Python<'py>,
    crew: &Arc<Crew>,
    object: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, Shared>> {
    let payload = codec::pickled(py, object)?;
    let nbytes = payload.len();
    let parts: Vec<&[u8]> = std::iter::once(&payload.bytes[..])
        .chain(payload.buffers.iter().map(|buffer| &buffer[..]))
        .collect();
    let published = py.detach(|| crew.publish_parts(SHARED, &parts));
    let function = published.map_err(|e| os_error(&e))?;
    Bound::new(
        py,
        Shared {
            function: Mutex::new(Some(function)),
            crew: Arc::downgrade(crew),
            nbytes,
            generation: fork_state::generation(),
        },
    )
}

#[pymethods]
impl Shared {
    /// Bytes of shared memory that it takes.
    #[getter]
    fn nbytes(&self) -> usize {
        self.nbytes
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        !self.is_ours() || self.function().is_none()
    }

    /// The object as workers have it, made anew: its arrays lie in the same memory, and can only be read.
    fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (function, _) = self.published()?;
        let memory = function.memory().map_err(|e| os_error(&e))?;
        let memory = memory.ok_or_else(|| PyRuntimeError::new_err("no memory was shared"))?;
        SharedObject::new(&function.payload().bytes, Whole::Mapped(memory))?.load(py)
    }

    /// Lets go of the object: workers forget it as soon as no call that has it is left.
    fn close(&self) {
        if !self.is_ours() {
            return;
        }
        let function = self.function().take();
        drop(function);
        if let Some(crew) = self.crew.upgrade() {
            crew.forget_large();
        }
    }

    /// `Shared[int]`, as types of a running program.
    #[classmethod]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let alias = cls.py().import("types")?.getattr("GenericAlias")?;
        alias.call1((cls, item))
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyTuple>) {
        self.close();
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        let alone = || {
            PyTypeError::new_err(
                "a shared object can be sent in the calls of its pool alone, as an argument or a part of one: not by a \
                 queue, a pipe, to a Process, nor as a result",
            )
        };
        let is_ours = slf.get().is_ours();
        if is_ours && DRAFTS.with_borrow(Vec::is_empty) {
            return Err(alone());
        }
        let (function, _) = slf.get().published()?;
        let id = function.id();
        DRAFTS.with_borrow_mut(|drafts| {
            let draft = drafts.last_mut().ok_or_else(alone)?;
            if draft.pool != function.pool() {
                return Err(PyValueError::new_err(
                    "this shared object belongs to another pool: share the object with this one too",
                ));
            }
            draft.needs.add(function);
            Ok(())
        })?;
        let find = py
            .import(name!(py, "manyhands._engine"))?
            .getattr(name!(py, "shared_object"))?;
        (find, (id,)).into_pyobject(py)
    }

    fn __repr__(&self) -> String {
        let state = match (self.closed(), self.crew.upgrade()) {
            (true, _) => "closed".to_owned(),
            (_, Some(crew)) if crew.is_open() => format!("{} bytes", self.nbytes),
            _ => "of a pool that has ended".to_owned(),
        };
        format!("<manyhands.Shared {state}>")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

// ---- in a worker ----

static OBJECTS: Mutex<Option<HashMap<u32, SharedObject>>> = Mutex::new(None);

fn objects() -> MutexGuard<'static, Option<HashMap<u32, SharedObject>>> {
    OBJECTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker begins, and knows of none: those of a worker that it was forked off are another pool's.
pub(crate) fn begin() {
    let of_others = objects().replace(HashMap::new());
    // They are left to that worker's memory, of which this is a copy: to drop them may run code of the user.
    std::mem::forget(of_others);
}

/// The pool says that calls will name an object by `id`; perhaps its memory cannot be had.
pub(crate) fn define(id: u32, bytes: &Received, memory: Received) {
    let object = codec::complete(bytes, std::slice::from_ref(&memory))
        .and_then(|()| SharedObject::new(bytes, Whole::Received(memory)))
        .unwrap_or_else(SharedObject::Lost);
    let before = objects().get_or_insert_default().insert(id, object);
    drop(before);
}

/// No call will name it again.
pub(crate) fn forget(id: u32) {
    let object = objects().as_mut().and_then(|objects| objects.remove(&id));
    drop(object); // without the lock: that may run code of the user
}

/// The object that the pool's calls name by `id`.
#[pyfunction]
fn shared_object(py: Python<'_>, id: u32) -> PyResult<Py<PyAny>> {
    let unknown = || PyRuntimeError::new_err(format!("no shared object {id} is known here"));
    // Taken out to be unpickled without the lock, as that runs code of the user.
    let object = {
        let mut objects = objects();
        let known = objects.as_mut().ok_or_else(unknown)?;
        match known.get(&id).ok_or_else(unknown)? {
            SharedObject::Made(object) => return Ok(object.clone_ref(py)),
            SharedObject::Lost(why) => return Err(why.clone_ref(py)),
            SharedObject::Pickled(whole, places) => {
                SharedObject::Pickled(Arc::clone(whole), places.clone())
            }
        }
    };
    let made = object.load(py)?.unbind();
    let before = objects()
        .as_mut()
        .and_then(|known| known.get_mut(&id))
        .map(|known| std::mem::replace(known, SharedObject::Made(made.clone_ref(py))));
    drop(before);
    Ok(made)
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Shared>()?;
    m.add_function(wrap_pyfunction!(keep_for_call, m)?)?;
    m.add_function(wrap_pyfunction!(shared_object, m)?)
}
