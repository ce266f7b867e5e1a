//! Bytes that came from another process, as an object with Python's buffer protocol.
//!
//! Always: whoever holds a view holds the `Buffer`, and the `Buffer` holds the block; the
//! block goes back to its arena when the last view is gone.

use std::ffi::c_int;

use manyhands::engine::Received;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyTuple};

/// A received buffer: contiguous writable bytes, private to this process's holder.
#[pyclass(frozen, module = "manyhands._engine")]
pub(crate) struct Buffer {
    /// Kept for its `Drop`: `start` points into it.
    _received: Received,
    start: usize,
    len: usize,
}

impl Buffer {
    pub(crate) fn new(mut received: Received) -> Self {
        let (start, len) = match &mut received {
            Received::Copied(bytes) => (bytes.as_mut_ptr(), bytes.len()),
            Received::Lent(block) => (block.as_mut_ptr(), block.len()),
            Received::Shared(piece) => (piece.as_mut_ptr(), piece.len()),
            Received::Missing(_) | Received::Unopened(..) => {
                (std::ptr::NonNull::dangling().as_ptr(), 0)
            }
        };
        Self {
            _received: received,
            start: start as usize,
            len,
        }
    }
}

#[pymethods]
impl Buffer {
    fn __len__(&self) -> usize {
        self.len
    }

    /// Pickles as a bytearray: where it arrives, it is that.
    fn __reduce_ex__<'py>(slf: &Bound<'py, Self>, _protocol: i32) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        let view = py
            .import("pickle")?
            .getattr("PickleBuffer")?
            .call1((slf,))?;
        (py.get_type::<PyByteArray>(), PyTuple::new(py, [view])?).into_pyobject(py)
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        let (start, len) = (slf.get().start, slf.get().len);
        // SAFETY: `view` is CPython's, not null. The bytes live as long as `slf`, to which
        // PyBuffer_FillInfo takes a reference; a moved `Received` keeps its bytes where they are
        // (a Vec's heap, the arena's mapping, or one of its own), so `start` stays right.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                start as *mut _,
                len as ffi::Py_ssize_t,
                0,
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

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Buffer>()
}
