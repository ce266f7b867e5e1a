//! Shared memory for Python: named segments, and memory without a name for the heap.
//!
//! Always: descriptors go to Python, which maps them (`mmap`) and closes them.
//! Not here: what is in a segment (`manyhands.shared_memory`), who removes its name (`resource_tracker`).

use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

use manyhands_os::memory::Memfd;
use manyhands_os::named;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::fds::{borrowed, os_error};
use crate::sync::name_error;

/// Up to this a segment gets its memory when it is made, and so does one that is large for the folder; others may be
/// meant to stay sparse.
const RESERVED_AT_ONCE: u64 = 64 << 20;

fn checked(name: &str) -> PyResult<&str> {
    if name.contains('\0') {
        return Err(PyValueError::new_err("embedded null character"));
    }
    Ok(name)
}

/// Opens or makes the segment `name`, a str; `flags` and `mode` are os.open's. Returns a descriptor.
#[pyfunction]
#[pyo3(signature = (name, flags, mode=0o600))]
fn shm_open(py: Python<'_>, name: &str, flags: i32, mode: u32) -> PyResult<RawFd> {
    checked(name)?;
    let opened = py.detach(|| named::open(name, flags, mode));
    opened
        .map(IntoRawFd::into_raw_fd)
        .map_err(|e| name_error(&e, name))
}

/// Removes the name of a segment; raises FileNotFoundError if there is none.
#[pyfunction]
fn shm_unlink(name: &str) -> PyResult<()> {
    checked(name)?;
    named::unlink(name).map_err(|e| name_error(&e, name))
}

/// Makes sure that a segment has room for `size` bytes; raises OSError (ENOSPC) if it has not.
#[pyfunction]
fn shm_reserve(py: Python<'_>, fd: RawFd, size: u64) -> PyResult<()> {
    let fd = [fd];
    let fd = borrowed(&fd)?[0];
    let done = py.detach(|| {
        if size <= RESERVED_AT_ONCE || named::is_much(fd, size)? {
            named::reserve(fd, size)
        } else {
            Ok(())
        }
    });
    done.map_err(|e| os_error(&e))
}

/// Makes memory of `size` bytes without a name, all zero, which cannot be made shorter. Returns a descriptor.
#[pyfunction]
fn memory(name: &str, size: u64) -> PyResult<RawFd> {
    let memory = Memfd::create(checked(name)?, size).map_err(|e| os_error(&e))?;
    Ok(OwnedFd::from(memory).into_raw_fd())
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(shm_open, m)?)?;
    m.add_function(wrap_pyfunction!(shm_unlink, m)?)?;
    m.add_function(wrap_pyfunction!(shm_reserve, m)?)?;
    m.add_function(wrap_pyfunction!(memory, m)?)
}
