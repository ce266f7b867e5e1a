//! What is looked up once and kept.
//!
//! Always: no fork finds it locked. PyO3's `PyOnceLock`, and `intern!` which is made of it, give the interpreter up
//! between taking their lock and making the value; another thread that forks just then leaves its child a lock that
//! nobody will release. Here the interpreter alone keeps threads apart: two may make the value, one is kept.
//! Not here: what belongs to one process only (`manyhands_os::fork_state`).

#![expect(
    clippy::disallowed_types,
    reason = "the one place that uses it with the care it needs"
)]

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

/// A value that is made when it is first needed.
pub(crate) struct Once<T>(PyOnceLock<T>);

impl<T> Once<T> {
    pub(crate) const fn new() -> Self {
        Self(PyOnceLock::new())
    }

    /// The value; `make` may run Python, and is called again after an error.
    #[inline]
    pub(crate) fn get_or_try_init(
        &self,
        py: Python<'_>,
        make: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<&T> {
        if let Some(known) = self.0.get(py) {
            return Ok(known);
        }
        let made = make()?;
        // Nothing here gives the interpreter up. If another thread was first, its value stays.
        drop(self.0.set(py, made));
        Ok(self.0.get(py).expect("it was just set"))
    }
}

/// A name that is made a Python string once: see [`name!`](crate::once::name).
pub(crate) struct Name(pub(crate) &'static str, pub(crate) Once<Py<PyString>>);

impl Name {
    #[inline]
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        let make = || Ok(PyString::intern(py, self.0).unbind());
        match self.1.get_or_try_init(py, make) {
            Ok(name) => name.bind(py),
            Err(_) => unreachable!("making a name does not fail"),
        }
    }
}

/// An interned Python string, kept where this is written: `name!(py, "close")`.
macro_rules! name {
    ($py:expr, $text:expr) => {{
        static NAME: $crate::once::Name = $crate::once::Name($text, $crate::once::Once::new());
        NAME.get($py)
    }};
}
pub(crate) use name;
