//! The entrance: where a spawned child leaves the program's own way.
//!
//! Always: in the process that the user started, [`init`] returns at once; in one that this
//! crate started it never returns. Not here: what the child does then (`entry`).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use manyhands_os::inherit::{self, Inherited};

use crate::entry;
use crate::error::Error;

/// Whether `init` ran here; a child that starts children of its own enters through it as well.
static PREPARED: AtomicBool = AtomicBool::new(false);

/// Prepares this program for starting processes. Call it first in `main`.
///
/// [`Process::spawn`](crate::Process::spawn) and [`Pool`](crate::Pool) start this same program
/// again. In such a child `init` runs the function that the child was started for, sends its
/// result to the parent, and exits: whatever follows in `main` is for the parent alone. What
/// comes *before* `init` in `main` runs in every child too.
///
/// In the parent it costs one look into the environment.
///
/// In tests, where the harness has the `main`, set `harness = false` for the test target and
/// write the `main` yourself (the crate `libtest-mimic` helps).
///
/// ```
/// use manyhands::{Error, Process};
///
/// fn shout(text: String) -> String {
///     text.to_uppercase()
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     assert_eq!(Process::spawn(shout, "hey".to_owned())?.join()?, "HEY");
///     Ok(())
/// }
/// ```
pub fn init() {
    // Relaxed: a flag of its own; a thread that spawns was started after `init` or reads false.
    PREPARED.store(true, Relaxed);
    match inherit::take() {
        Inherited::Nothing => {}
        Inherited::Socket(socket) => entry::enter(socket),
        // The parent was gone before this child had begun: nothing outlives its parent.
        Inherited::Orphaned => inherit::leave(entry::ORPHANED),
    }
}

/// Refuses to start children of a program whose children would not know what they are.
pub(crate) fn require() -> Result<(), Error> {
    if PREPARED.load(Relaxed) {
        Ok(())
    } else {
        Err(Error::NotPrepared)
    }
}
