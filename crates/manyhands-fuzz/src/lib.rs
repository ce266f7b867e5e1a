//! What manyhands reads of other processes, each decoder as a function of arbitrary bytes: a fuzz target.
//!
//! Always: a target returns for whatever bytes it is given, soon, and with bounded memory; what it finds it tells by a
//! panic. The same bytes do the same thing, so that what was found can be looked at again.
//! Not here: who thinks up the bytes. libFuzzer does so in `fuzz/`, a plain test in `tests/corpus.rs`.
//! What each target covers and what was found is in `docs/design/fuzzing.md`.

mod arena;
mod board;
mod calls;
mod desk;
mod fifo;
mod frames;
mod letter;
mod listen;
mod mailbox;
mod parcel;
mod script;
mod shared;

/// A decoder, to be fed with whatever there is.
#[derive(Clone, Copy)]
pub struct Target {
    /// What it is called, and its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Does what the bytes say.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frames",
        run: frames::run,
    },
    Target {
        name: "letter",
        run: letter::run,
    },
    Target {
        name: "mailbox",
        run: mailbox::run,
    },
    Target {
        name: "attach",
        run: mailbox::attach,
    },
    Target {
        name: "arena",
        run: arena::run,
    },
    Target {
        name: "fifo",
        run: fifo::run,
    },
    Target {
        name: "board",
        run: board::run,
    },
    Target {
        name: "calls",
        run: calls::run,
    },
    Target {
        name: "parcel",
        run: parcel::run,
    },
    Target {
        name: "desk",
        run: desk::run,
    },
    Target {
        name: "listen",
        run: listen::run,
    },
];

/// The target with this name.
///
/// # Panics
/// If there is none.
pub fn target(name: &str) -> Target {
    *TARGETS
        .iter()
        .find(|target| target.name == name)
        .unwrap_or_else(|| panic!("no target is called {name}"))
}
