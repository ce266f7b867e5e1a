//! Exceptions that belong to the thread that waits, not to what it did for the pool meanwhile.
//!
//! A thread that waits also starts workers, draws input and runs callbacks; a signal
//! handler may run in the midst of that and raise KeyboardInterrupt. It is kept here for
//! the wait to raise, on the same thread.

use std::cell::RefCell;

use pyo3::exceptions::{PyException, PyGeneratorExit};
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

/// Keeps `error` for this thread's wait if it is one that ends programs. `true`: it was kept.
pub(crate) fn keep(py: Python<'_>, error: &PyErr) -> bool {
    if error.is_instance_of::<PyException>(py) || error.is_instance_of::<PyGeneratorExit>(py) {
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
