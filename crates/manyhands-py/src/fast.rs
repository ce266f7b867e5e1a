//! Calls by CPython's vectorcall protocol, which the limited API of 3.11 has in its
//! library but not in its headers.

use pyo3::ffi;
use pyo3::prelude::*;

unsafe extern "C" {
    /// Exported by every CPython since 3.9, part of the stable ABI since 3.12.
    fn PyObject_Vectorcall(
        callable: *mut ffi::PyObject,
        args: *const *mut ffi::PyObject,
        nargsf: usize,
        kwnames: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
}

/// Lets the callee use the slot before the first argument for `self`.
const OFFSET: usize = 1 << (usize::BITS - 1);

fn call<'py>(
    callable: &Bound<'py, PyAny>,
    args: &mut [*mut ffi::PyObject],
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: `args[0]` is scratch for the callee, the rest are pointers borrowed from
    // `Bound`s that outlive the call; we are attached, as `callable` proves.
    unsafe {
        let result = PyObject_Vectorcall(
            callable.as_ptr(),
            args.as_ptr().add(1),
            (args.len() - 1) | OFFSET,
            std::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// `object.method(...)` with the arguments of a vectorcall, for a function that stands in for the method.
///
/// # Safety
/// Attached; `object` is one, and `args`, `nargs` and `keywords` are what a caller passed by that protocol.
pub(crate) unsafe fn forward(
    object: *mut ffi::PyObject,
    method: &std::ffi::CStr,
    args: *const *mut ffi::PyObject,
    nargs: usize,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's; the method is ours until it is let go.
    unsafe {
        let bound = ffi::PyObject_GetAttrString(object, method.as_ptr());
        if bound.is_null() {
            return bound;
        }
        let answer = PyObject_Vectorcall(bound, args, nargs, keywords);
        ffi::Py_DECREF(bound);
        answer
    }
}

/// `callable()`
pub(crate) fn call0<'py>(callable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    call(callable, &mut [std::ptr::null_mut()])
}

/// `callable(argument)`
pub(crate) fn call1<'py>(
    callable: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    call(callable, &mut [std::ptr::null_mut(), argument.as_ptr()])
}
