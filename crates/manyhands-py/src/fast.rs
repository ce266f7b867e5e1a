//! Calls into Python that may run code of the user: by CPython's vectorcall protocol, which the limited API of
//! 3.11 has in its library but not in its headers, and the few others that a thread of ours makes.
//!
//! Always: a thread that CPython ends in the midst of such a call stays here for ever. Up to 3.13 a thread that wants
//! the interpreter after the program's end is ended by `pthread_exit`, which unwinds its stack: through frames of
//! CPython that is harmless, through ours it is a crash. From 3.14 on CPython itself lets such threads hang.
//! Not here: threads that come back from `detach`, or attach; PyO3 does the same for them.

use std::hint::black_box;
use std::mem::{forget, transmute};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyTuple};

type Object = *mut ffi::PyObject;
type Vectorcall = unsafe extern "C-unwind" fn(Object, *const Object, usize, Object) -> Object;
type Call = unsafe extern "C-unwind" fn(Object, Object, Object) -> Object;
type Unary = unsafe extern "C-unwind" fn(Object) -> Object;
type DecRef = unsafe extern "C-unwind" fn(Object);

unsafe extern "C" {
    /// Exported by every CPython since 3.9, part of the stable ABI since 3.12.
    fn PyObject_Vectorcall(
        callable: *mut ffi::PyObject,
        args: *const *mut ffi::PyObject,
        nargsf: usize,
        kwnames: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
}

/// Stops the thread that unwinds past it; the program is about to end.
struct Stay;

impl Drop for Stay {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// Runs `call`, through which nothing unwinds: see above.
#[inline(always)]
fn staying<R>(call: impl FnOnce() -> R) -> R {
    let stay = Stay;
    let result = call();
    forget(stay);
    result
}

/// A function of CPython's as one that may unwind: it is declared elsewhere as one that never does, and the
/// compiler, did it recognise it, would leave out the way to `Stay`.
macro_rules! unwinding {
    ($function:path as $kind:ty) => {
        transmute::<*const (), $kind>(black_box($function as *const ()))
    };
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
        let vectorcall = unwinding!(PyObject_Vectorcall as Vectorcall);
        let result = staying(|| {
            vectorcall(
                callable.as_ptr(),
                args.as_ptr().add(1),
                (args.len() - 1) | OFFSET,
                std::ptr::null_mut(),
            )
        });
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// `object.method(...)` with the arguments of a vectorcall, for a function that stands in for the method.
///
/// # Safety
/// Attached; `object` is one, and `args`, `nargs` and `keywords` are what a caller passed by that protocol.
#[cold]
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
        let vectorcall = unwinding!(PyObject_Vectorcall as Vectorcall);
        let answer = staying(|| vectorcall(bound, args, nargs, keywords));
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

/// `callable(*args, **options)`
pub(crate) fn call_with<'py>(
    callable: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let options = options.map_or(std::ptr::null_mut(), |options| options.as_ptr());
    // SAFETY: attached, as `callable` proves; borrowed from `Bound`s that outlive the call.
    unsafe {
        let call = unwinding!(ffi::PyObject_Call as Call);
        let result = staying(|| call(callable.as_ptr(), args.as_ptr(), options));
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// `iter(iterable)`
pub(crate) fn iter<'py>(iterable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
    // SAFETY: attached, as `iterable` proves, which outlives the call.
    let iterator = unsafe {
        let iter = unwinding!(ffi::PyObject_GetIter as Unary);
        let result = staying(|| iter(iterable.as_ptr()));
        Bound::from_owned_ptr_or_err(iterable.py(), result)?
    };
    Ok(iterator.cast_into()?)
}

/// `next(iterator)`; `None` at the end.
pub(crate) fn next<'py>(iterator: &Bound<'py, PyIterator>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = iterator.py();
    // SAFETY: attached, as `iterator` proves, which is one and outlives the call.
    let item = unsafe {
        let next = unwinding!(ffi::PyIter_Next as Unary);
        let result = staying(|| next(iterator.as_ptr()));
        Bound::from_owned_ptr_or_opt(py, result)
    };
    match item {
        Some(item) => Ok(Some(item)),
        None => PyErr::take(py).map_or(Ok(None), Err),
    }
}

/// Lets go of an object whose end may run code of the user, as a generator's does.
pub(crate) fn let_go<T>(object: Bound<'_, T>) {
    // SAFETY: attached, as `object` proves, whose reference is given away.
    unsafe {
        let let_go = unwinding!(ffi::Py_DecRef as DecRef);
        let object = object.into_ptr();
        staying(|| let_go(object));
    }
}
