//! Objects as messages: pickled in one piece, as `reduction.ForkingPickler` does it, and framed. Plain ones are written
//! and read by hand (`shorthand`).
//!
//! Always: what users registered counts, however late, and a pickler is used by one call at a time.
//! Not here: pickles with buffers of their own (`codec`), the frames (`manyhands_os::frame`).

use std::ffi::c_int;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use manyhands_os::frame::{Failure, Receiving, Sending};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::codec::Held;
use crate::connection::through_signals;
use crate::fast;
use crate::once::{Once, name};
use crate::shorthand;

/// What a kept pickler may hold on to between two uses.
const KEEP: usize = 64 << 10;
/// Messages up to this size are copied for the unpickler; longer ones are lent to it.
const COPY: usize = 16 << 10;

/// Memory of messages that are gone, for the next ones: the first touch of fresh memory costs more than the copy.
/// Only with the interpreter held, as all of this file, so that no fork finds it locked.
static ROOMS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// How many are kept, and how large they may be.
const ROOMS_KEPT: usize = 2;
const ROOM: usize = 4 << 20;

/// Memory for `len` bytes, if there is some and it is worth it.
pub(crate) fn room_for(len: usize) -> Option<Vec<u8>> {
    if len <= KEEP {
        return None;
    }
    let mut rooms = locked(&ROOMS);
    let at = rooms.iter().position(|room| room.capacity() >= len)?;
    Some(rooms.swap_remove(at))
}

/// Gives the memory of a message back that is gone.
pub(crate) fn let_go(mut bytes: Vec<u8>) {
    if (KEEP..=ROOM).contains(&bytes.capacity()) {
        bytes.clear();
        let mut rooms = locked(&ROOMS);
        if rooms.len() < ROOMS_KEPT {
            rooms.push(bytes);
        } else if let Some(smaller) = rooms
            .iter_mut()
            .find(|room| room.capacity() < bytes.capacity())
        {
            *smaller = bytes;
        }
    }
}

/// Where a pickler writes: a file with nothing but `write`.
#[pyclass(frozen, module = "manyhands._engine")]
struct Draft {
    bytes: Mutex<Vec<u8>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Draft {
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if let Ok(bytes) = data.cast::<PyBytes>() {
            self.append(bytes.as_bytes());
            return Ok(bytes.as_bytes().len());
        }
        let held = Held::raw(data)?;
        self.append(&held);
        Ok(held.len())
    }
}

impl Draft {
    fn append(&self, data: &[u8]) {
        let mut bytes = locked(&self.bytes);
        if bytes.capacity() - bytes.len() < data.len()
            && let Some(mut room) = room_for(bytes.len() + data.len())
        {
            room.extend_from_slice(&bytes);
            *bytes = room;
        }
        bytes.extend_from_slice(data);
    }
}

/// A long message that arrived: bytes that can be looked at, whose memory is used again when nobody does.
#[pyclass(frozen, module = "manyhands._engine")]
struct Arrived {
    bytes: Vec<u8>,
}

#[pymethods]
impl Arrived {
    fn __len__(&self) -> usize {
        self.bytes.len()
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        let bytes = &slf.get().bytes;
        // SAFETY: `view` is CPython's, not null. The bytes are neither changed nor moved until `slf` is dropped,
        // and PyBuffer_FillInfo takes a reference to `slf` for the view, which it makes a read-only one.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                bytes.as_ptr().cast_mut().cast(),
                bytes.len() as ffi::Py_ssize_t,
                1,
                flags,
            )
        };
        if filled == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        let_go(std::mem::take(&mut self.bytes));
    }
}

/// How many reducers there are, in all places where they are registered.
type Reducers = (usize, usize, usize, bool);

/// A pickler that is kept, with its memo cleared.
struct Writer {
    draft: Py<Draft>,
    dump: Py<PyAny>,
    clear_memo: Py<PyAny>,
    reducers: Reducers,
}

struct Tools {
    pickler: Py<PyAny>,
    loads: Py<PyAny>,
    copyreg: Py<PyDict>,
    extra: Py<PyDict>,
    modules: Py<PyDict>,
}

static TOOLS: Once<Tools> = Once::new();
static SPARE: Mutex<Vec<Writer>> = Mutex::new(Vec::new());

fn tools(py: Python<'_>) -> PyResult<&Tools> {
    TOOLS.get_or_try_init(py, || {
        let pickler = py
            .import("manyhands.reduction")?
            .getattr("ForkingPickler")?;
        Ok(Tools {
            extra: pickler
                .getattr("_extra_reducers")?
                .cast_into::<PyDict>()?
                .unbind(),
            pickler: pickler.unbind(),
            loads: py.import("_pickle")?.getattr("loads")?.unbind(),
            copyreg: py
                .import("copyreg")?
                .getattr("dispatch_table")?
                .cast_into::<PyDict>()?
                .unbind(),
            modules: py
                .import("sys")?
                .getattr("modules")?
                .cast_into::<PyDict>()?
                .unbind(),
        })
    })
}

impl Tools {
    fn reducers(&self, py: Python<'_>) -> PyResult<Reducers> {
        let modules = self.modules.bind(py);
        let neighbours = match modules.get_item(name!(py, "multiprocessing.reduction"))? {
            Some(module) => module
                .getattr(name!(py, "ForkingPickler"))?
                .getattr(name!(py, "_extra_reducers"))?
                .len()?,
            None => 0,
        };
        let sockets = modules.contains(name!(py, "socket"))?;
        Ok((
            self.copyreg.bind(py).len(),
            self.extra.bind(py).len(),
            neighbours,
            sockets,
        ))
    }
}

impl Writer {
    fn new(py: Python<'_>, tools: &Tools, reducers: Reducers) -> PyResult<Self> {
        let draft = Bound::new(
            py,
            Draft {
                bytes: Mutex::default(),
            },
        )?;
        let pickler = tools.pickler.bind(py).call1((&draft,))?;
        Ok(Self {
            dump: pickler.getattr("dump")?.unbind(),
            clear_memo: pickler.getattr("clear_memo")?.unbind(),
            draft: draft.unbind(),
            reducers,
        })
    }
}

/// Pickles `value`. The error is the pickler's own.
pub(crate) fn dumps(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Some(bytes) = shorthand::write(value) {
        return Ok(bytes);
    }
    let tools = tools(py)?;
    let reducers = tools.reducers(py)?;
    let spare = locked(&SPARE)
        .pop()
        .filter(|writer| writer.reducers == reducers);
    let writer = match spare {
        Some(writer) => writer,
        None => Writer::new(py, tools, reducers)?,
    };
    // A writer whose dump failed is thrown away with whatever it has memoised.
    fast::call1(writer.dump.bind(py), value)?;
    fast::call0(writer.clear_memo.bind(py))?;
    let bytes = {
        let mut draft = locked(&writer.draft.get().bytes);
        if draft.len() <= KEEP {
            let copy = draft.to_vec();
            draft.clear();
            copy
        } else {
            std::mem::take(&mut *draft)
        }
    };
    let mut spare = locked(&SPARE);
    if spare.len() < 8 {
        spare.push(writer);
    }
    Ok(bytes)
}

/// The bytes of a message as an object that can be unpickled.
pub(crate) fn as_object(py: Python<'_>, bytes: Vec<u8>) -> PyResult<Bound<'_, PyAny>> {
    if bytes.len() <= COPY {
        Ok(PyBytes::new(py, &bytes).into_any())
    } else {
        Ok(Bound::new(py, Arrived { bytes })?.into_any())
    }
}

/// Unpickles a message. The error is the unpickler's own.
pub(crate) fn loads(py: Python<'_>, bytes: Vec<u8>) -> PyResult<Bound<'_, PyAny>> {
    if bytes.len() <= COPY
        && let Some(value) = shorthand::read(py, &bytes)
    {
        return Ok(value);
    }
    let data = as_object(py, bytes)?;
    fast::call1(tools(py)?.loads.bind(py), &data)
}

/// Sends bytes as one message; returns when the kernel has all of it.
pub(crate) fn send(py: Python<'_>, fd: BorrowedFd<'_>, bytes: &[u8]) -> PyResult<()> {
    let mut message = Sending::new(bytes);
    through_signals(py, || message.advance(fd).map_err(Failure::System))
}

/// Receives one message, and waits for it.
pub(crate) fn receive(py: Python<'_>, fd: BorrowedFd<'_>) -> PyResult<Vec<u8>> {
    let mut message = Receiving::new(None);
    through_signals(py, || message.advance(fd))?;
    Ok(message.into_bytes())
}
