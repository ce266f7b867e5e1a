//! What calls are called, for those who look on: `manyhands top` and `manyhands trace`.
//!
//! Always: a name costs a look into a table; nothing of the user's is kept alive for it.
//! Not here: what messages call a function (`crew`), where names are kept (the engine's page).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use manyhands::engine::Crew;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::once::name;

/// The page has room for so many, and names beyond are names of what a program makes up as it goes.
const MOST: usize = 200;

/// Names that a pool has given ids to.
#[derive(Default)]
pub(crate) struct Names(Mutex<HashMap<String, u32>>);

impl Names {
    /// The id of what `function`, which was not published, is called; 0: it has no name, or there are too many.
    pub(crate) fn id_of(&self, crew: &Crew, function: &Bound<'_, PyAny>) -> u32 {
        if let Some(name) = qualname(function)
            && let Ok(name) = name.to_cow()
        {
            return self.find(crew, &name);
        }
        self.find(crew, &title(function))
    }

    fn find(&self, crew: &Crew, name: &str) -> u32 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = known.get(name) {
            return *id;
        }
        if known.len() >= MOST {
            return 0;
        }
        let id = crew.name(name);
        known.insert(name.to_owned(), id);
        id
    }
}

/// Its `__qualname__`, if it has one.
fn qualname<'py>(function: &Bound<'py, PyAny>) -> Option<Bound<'py, PyString>> {
    let name = name!(function.py(), "__qualname__");
    let found = function.getattr_opt(name).ok()??;
    found.cast_into().ok()
}

/// What it is called: by its qualified name, a partial by that of what it calls, an instance by that of its class.
pub(crate) fn title(function: &Bound<'_, PyAny>) -> String {
    if let Some(name) = qualname(function) {
        return name.to_string();
    }
    let class = function
        .get_type()
        .qualname()
        .map_or_else(|_| String::new(), |name| name.to_string());
    if class != "partial" {
        return class;
    }
    let inner = function.getattr_opt("func").ok().flatten();
    match inner.as_ref().and_then(qualname) {
        Some(name) => format!("partial({name})"),
        None => class,
    }
}
