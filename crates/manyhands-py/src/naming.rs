//! What calls are called, for those who look on: `manyhands top` and `manyhands trace`.
//!
//! Always: a name costs a look into a table; nothing of the user's is kept alive for it.
//! Not here: what messages call a function (`crew`), where names are kept (the engine's page).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use manyhands::engine::Crew;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::once::name;

/// The page has room for so many, and names beyond are names of what a program makes up as it goes.
const MOST: usize = 200;

/// Names that a pool has given ids to.
#[derive(Default)]
pub(crate) struct Names(Mutex<Known>);

#[derive(Default)]
struct Known {
    plain: HashMap<String, u32>,
    /// Of partials, by the name of what they call.
    partials: HashMap<String, u32>,
    /// Types whose objects have no name of their own, by address. Should another type come to lie there, its objects are
    /// called by their class too.
    nameless: HashSet<usize>,
}

impl Names {
    /// The id of what `function`, which was not published, is called; 0: it has no name, or there are too many.
    pub(crate) fn id_of(&self, crew: &Crew, function: &Bound<'_, PyAny>) -> u32 {
        let class = function.get_type();
        let address = class.as_ptr().addr();
        let Ok(class) = class.qualname() else {
            return 0;
        };
        // Asked without the lock: an object may answer by code of the user.
        let inner = match class == "partial" {
            true => function.getattr(name!(function.py(), "func")).ok(),
            false => None,
        };
        let (found, is_partial) = match &inner {
            Some(inner) => (qualname(inner), true),
            // To ask an object for what it does not have takes longer than all else here.
            None if self.known().nameless.contains(&address) => (None, false),
            None => (qualname(function), false),
        };
        let mut known = self.known();
        let (table, name) = match found {
            Some(name) if is_partial => (&mut known.partials, name),
            Some(name) => (&mut known.plain, name),
            None => {
                if known.nameless.len() < MOST {
                    known.nameless.insert(address);
                }
                (&mut known.plain, class)
            }
        };
        let Ok(name) = name.to_cow() else { return 0 };
        if let Some(id) = table.get(&*name) {
            return *id;
        }
        if table.len() >= MOST {
            return 0;
        }
        let id = match is_partial {
            true => crew.name(&format!("partial({name})")),
            false => crew.name(&name),
        };
        table.insert(name.into_owned(), id);
        id
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
