//! acquire() and release() as CPython's own kind of function: half the cost of a method of a class of ours.
//!
//! A call without arguments that needs no wait is answered here; every other one is handed to the method of
//! the same name, which also raises what has to be raised.
//!
//! What the unsafe code of this file rests on:
//! - **Bound to a lock.** `methods` alone makes the functions, and binds them to a `SemLock`, to which CPython
//!   holds a reference for them: so `slf` is one in every call.
//! - **Attached.** CPython calls them with the interpreter held, and nothing here gives it up.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_int};
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;

use super::me;
use super::semlock::{Released, SemLock};
use crate::fast;

/// A description of a function, which CPython takes by a pointer that it could write through, and does not.
struct Definition(UnsafeCell<ffi::PyMethodDef>);

// SAFETY: never written after the program began; CPython only reads it.
unsafe impl Sync for Definition {}

impl Definition {
    const fn new(
        name: &'static CStr,
        call: ffi::PyMethodDefPointer,
        flags: c_int,
        doc: &'static CStr,
    ) -> Definition {
        Definition(UnsafeCell::new(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: call,
            ml_flags: flags,
            ml_doc: doc.as_ptr(),
        }))
    }

    fn bind<'py>(&self, slf: &Bound<'py, SemLock>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: attached, as `slf` proves; the definition lives as long as the program.
        unsafe {
            let made = ffi::PyCFunction_NewEx(self.0.get(), slf.as_ptr(), null_mut());
            Bound::from_owned_ptr_or_err(slf.py(), made)
        }
    }
}

static ACQUIRE: Definition = Definition::new(
    c"acquire",
    ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: acquire },
    ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
    c"acquire($self, block=True, timeout=None)\n--\n\nTakes it; False if that is not possible in time.",
);

static RELEASE: Definition = Definition::new(
    c"release",
    ffi::PyMethodDefPointer {
        PyCFunction: release,
    },
    ffi::METH_NOARGS,
    c"release($self, /)\n--\n\nGives it back.",
);

/// acquire() and release() of `slf`.
pub(super) fn methods<'py>(
    slf: &Bound<'py, SemLock>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    Ok((ACQUIRE.bind(slf)?, RELEASE.bind(slf)?))
}

unsafe extern "C" fn acquire(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: Bound to a lock; Attached; the arguments are those of this very call.
    unsafe {
        if nargs == 0 && keywords.is_null() && lock(slf).try_acquire(me()).unwrap_or(false) {
            return ffi::Py_NewRef(ffi::Py_True());
        }
        fast::forward(slf, c"acquire", args, nargs as usize, keywords)
    }
}

unsafe extern "C" fn release(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: Bound to a lock; Attached.
    unsafe {
        match lock(slf).try_release(me()) {
            Released::Yes => ffi::Py_NewRef(ffi::Py_None()),
            // Nothing was changed: the method says what is wrong.
            Released::NotMine | Released::TooOften => {
                fast::forward(slf, c"release", null_mut(), 0, null_mut())
            }
        }
    }
}

/// The lock that a function was bound to.
///
/// # Safety
/// Attached, and `slf` is a `SemLock` which lives for `'a`.
#[inline]
unsafe fn lock<'a>(slf: *mut ffi::PyObject) -> &'a SemLock {
    // SAFETY: the caller's; a frozen class gives out shared references without a count.
    unsafe {
        let py = Python::assume_attached();
        Borrowed::from_ptr(py, slf)
            .cast_unchecked::<SemLock>()
            .get()
    }
}
