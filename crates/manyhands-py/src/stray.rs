//! Exceptions that belong to the thread that waits, not to what it did for the pool meanwhile.
//!
//! A thread that waits also starts workers, draws input and pickles it; a signal handler may
//! run in the midst of that and raise KeyboardInterrupt, or whatever it likes. It is kept here
//! for the wait to raise, on the same thread.

use std::cell::RefCell;

use pyo3::exceptions::{PyException, PyGeneratorExit, PySystemExit};
use pyo3::prelude::*;

thread_local! {
    static STRAY: RefCell<Kept> = const { RefCell::new(Kept(None)) };
}

/// What a thread kept. One that ends with it has no interpreter any more to drop it with: there it stays.
struct Kept(Option<PyErr>);

impl Drop for Kept {
    fn drop(&mut self) {
        std::mem::forget(self.0.take());
    }
}

/// Whether `error` says nothing about what this thread did when it was raised: it ends programs, or a
/// signal handler raised it.
pub(crate) fn is_stray(py: Python<'_>, error: &PyErr) -> bool {
    if error.is_instance_of::<PyGeneratorExit>(py) {
        return false;
    }
    if !error.is_instance_of::<PyException>(py) {
        return true;
    }
    is_from_handler(py, error)
}

/// Like `is_stray`, where `SystemExit` is what other exceptions are: what it says depends on where it was raised.
pub(crate) fn is_stray_or_exit_of_handler(py: Python<'_>, error: &PyErr) -> bool {
    if error.is_instance_of::<PySystemExit>(py) {
        is_from_handler(py, error)
    } else {
        is_stray(py, error)
    }
}

fn is_from_handler(py: Python<'_>, error: &PyErr) -> bool {
    let from_handler = || {
        let errors = py.import("manyhands.errors")?;
        let said = errors.call_method1("_is_from_handler", (error.traceback(py),))?;
        said.is_truthy()
    };
    from_handler().unwrap_or(false)
}

/// Whether this is the thread that signal handlers run in.
pub(crate) fn is_main_thread(py: Python<'_>) -> bool {
    let same = || {
        let threading = py.import("threading")?;
        let main = threading.call_method0("main_thread")?.getattr("ident")?;
        main.eq(threading.call_method0("get_ident")?)
    };
    same().unwrap_or(false)
}

/// Whether this thread's wait has something to raise, and should come to it.
pub(crate) fn is_kept(py: Python<'_>) -> bool {
    // A thread that never waits for itself never takes what was kept for it.
    STRAY.with_borrow(|kept| kept.0.is_some()) && is_main_thread(py)
}

/// Keeps `error` for this thread's wait if it belongs there. `true`: it was kept.
pub(crate) fn keep(py: Python<'_>, error: &PyErr) -> bool {
    if !is_stray(py, error) {
        return false;
    }
    let error = error.clone_ref(py);
    drop(STRAY.with_borrow_mut(|kept| kept.0.replace(error)));
    true
}

/// Takes what was kept on this thread.
pub(crate) fn take() -> Option<PyErr> {
    STRAY.with_borrow_mut(|kept| kept.0.take())
}
