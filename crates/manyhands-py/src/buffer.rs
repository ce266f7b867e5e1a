//! Bytes that came from another process, as an object with Python's buffer protocol.
//!
//! Always: whoever holds a view holds the `Buffer`, and the `Buffer` holds the block; the
//! block goes back to its arena when the last view is gone. What many calls share can only be read.

use std::ffi::c_int;
use std::ops::{Deref, Range};
use std::sync::Arc;

use manyhands::engine::{Received, SharedBuffer};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyTuple};

/// Bytes that came from another process, or lie in memory that processes share.
pub(crate) enum Piece {
    Own(Received),
    /// Some of the bytes of an object that a pool shares with its workers; they never change.
    Shared(Arc<Whole>, Range<usize>),
}

/// All memory of an object that a pool shares with its workers.
pub(crate) enum Whole {
    Received(Received),
    Mapped(SharedBuffer),
}

impl Whole {
    /// Some of its bytes. `None`: there are no such.
    pub(crate) fn piece(self: &Arc<Self>, start: u64, len: u64) -> Option<Piece> {
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        self.get(start..end)?;
        Some(Piece::Shared(Arc::clone(self), start..end))
    }
}

impl Deref for Whole {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Received(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(whole, place) => &whole[place.clone()],
        }
    }
}

/// A received buffer: contiguous bytes, writable and private to this process's holder unless they are shared.
#[pyclass(frozen, module = "manyhands._engine")]
pub(crate) struct Buffer {
    /// Kept for its `Drop`: `start` points into it.
    _piece: Piece,
    start: usize,
    len: usize,
    is_read_only: bool,
}

impl Buffer {
    pub(crate) fn new(mut piece: Piece) -> Self {
        let is_read_only = matches!(piece, Piece::Shared(..));
        let (start, len) = match &mut piece {
            Piece::Own(Received::Copied(bytes)) => (bytes.as_mut_ptr(), bytes.len()),
            Piece::Own(Received::Lent(block)) => (block.as_mut_ptr(), block.len()),
            Piece::Own(Received::Shared(piece)) => (piece.as_mut_ptr(), piece.len()),
            Piece::Own(Received::Missing(_) | Received::Unopened(..)) => {
                (std::ptr::NonNull::dangling().as_ptr(), 0)
            }
            Piece::Shared(whole, place) => {
                let bytes = &whole[place.clone()];
                (bytes.as_ptr().cast_mut(), bytes.len())
            }
        };
        Self {
            _piece: piece,
            start: start as usize,
            len,
            is_read_only,
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
        let is_read_only = c_int::from(slf.get().is_read_only);
        // SAFETY: `view` is CPython's, not null. The bytes live as long as `slf`, to which
        // PyBuffer_FillInfo takes a reference; a moved `Piece` keeps its bytes where they are
        // (a Vec's heap, the arena's mapping, or one of its own), so `start` stays right. Nobody is let write to what
        // others look at.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                start as *mut _,
                len as ffi::Py_ssize_t,
                is_read_only,
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
