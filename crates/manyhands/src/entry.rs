//! The child's side of a start: read the parent's letter, do the errand, exit.
//!
//! Always: nothing of the letter is used before the child knows that the writer runs this very
//! build; the child ends when its parent does, however that died; the outcome is sent before
//! the process exits, so the parent that sees the exit finds it. Not here: how the socket was
//! found (`manyhands_os::inherit`), what a call means (`typed`).

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use manyhands_os::callable::Key;
use manyhands_os::death::{self, ParentWatch};
use manyhands_os::signal::Blocked;
use manyhands_os::{fork_state, image, inherit, poll};
use serde::{Deserialize, Serialize};

use crate::letter::{self, Letter};
use crate::parcel::Arrived;
use crate::{pool, typed};

/// What a child is started for: the kind of the letter that it finds.
pub(crate) mod errand {
    /// Make one call and exit.
    pub(crate) const CALL: u32 = 1;
    /// Take a seat in a pool.
    pub(crate) const WORK: u32 = 2;
}

/// The kind of the letter that answers a call.
pub(crate) const ANSWER: u32 = 3;

/// Exit code of a child whose function panicked: that of a Rust program that panics.
pub(crate) const PANICKED: i32 = 101;
/// Exit code of a child that could not do what it was asked to.
pub(crate) const REFUSED: i32 = 102;
/// Exit code of a child whose parent is gone.
pub(crate) const ORPHANED: i32 = 103;

/// Begins every letter to a child: who writes, so that the child can trust the rest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Greeting {
    /// The parent's build, which has to be the child's.
    build: [u8; 20],
    /// The key that seals the names of functions.
    key: [u8; Key::LEN],
    /// The parent's process id.
    parent: i32,
    /// When the parent started, where that is known: a process id may be given away again.
    started: Option<u64>,
    /// What the process is called in `ps` and `top`.
    title: String,
}

impl Greeting {
    /// Introduces this process to a child that will be called `title`.
    pub(crate) fn new(title: String) -> std::io::Result<Self> {
        Ok(Self {
            build: image::build_id()?,
            key: Key::mine().to_bytes(),
            parent: fork_state::pid(),
            started: death::start_time(fork_state::pid()).ok(),
            title,
        })
    }

    /// The beginning of a letter's text.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("bytes, numbers and a string encode")
    }
}

/// Does what the parent's letter says, then exits.
pub(crate) fn enter(socket: OwnedFd) -> ! {
    let Letter { kind, text, fds } = match letter::receive(socket.as_fd()) {
        Ok(Some(letter)) => letter,
        Ok(None) => give_up(&socket, "the request is incomplete"),
        Err(error) => give_up(&socket, &format!("the request is unreadable: {error}")),
    };
    let rest = match believe(&text) {
        Ok(rest) => rest,
        Err(reason) => give_up(&socket, &reason),
    };
    match kind {
        errand::CALL => call(socket, rest, Arrived::of(fds, Vec::new())),
        errand::WORK => pool::work(rest, fds),
        other => give_up(&socket, &format!("the request is of unknown kind {other}")),
    }
}

/// Checks who wrote, takes over what the parent hands down, and returns the rest of the text.
fn believe(text: &[u8]) -> Result<&[u8], String> {
    let (greeting, rest) = postcard::take_from_bytes::<Greeting>(text)
        .map_err(|error| format!("the request's greeting is unreadable: {error}"))?;
    let build = image::build_id()
        .map_err(|error| format!("could not read this program's build id: {error}"))?;
    if greeting.build != build {
        return Err("the child runs another build of the program than its parent".to_owned());
    }
    if !Key::adopt(greeting.key) {
        return Err(
            "this process has named functions already, before manyhands::init(): call \
                    init first in main"
                .to_owned(),
        );
    }
    inherit::set_title(&greeting.title);
    end_with(greeting.parent, greeting.started)?;
    Ok(rest)
}

/// Lets this process end when its parent is gone.
fn end_with(parent: i32, started: Option<u64>) -> Result<(), String> {
    let watch = match started {
        Some(started) => ParentWatch::started_at(parent, started),
        None => ParentWatch::of(parent),
    };
    let watch =
        watch.map_err(|error| format!("could not watch the parent process {parent}: {error}"))?;
    if watch.gone() {
        inherit::leave(ORPHANED);
    }
    // Signals are for the function's threads.
    let _blocked = Blocked::new();
    std::thread::Builder::new()
        .name("parent watch".to_owned())
        .stack_size(64 << 10)
        .spawn(move || {
            loop {
                // An error would be a signal: look, and wait again.
                let _ = poll::readable(&[watch.as_fd()], None);
                if watch.gone() {
                    inherit::leave(ORPHANED);
                }
            }
        })
        .map_err(|error| format!("could not start the thread that watches the parent: {error}"))?;
    Ok(())
}

/// Makes one call and sends the answer.
fn call(socket: OwnedFd, call: &[u8], arrived: Arrived) -> ! {
    let socket = Arc::new(socket);
    typed::watch_panics({
        let socket = Arc::clone(&socket);
        move |last_words| {
            let _ = letter::send(socket.as_fd(), ANSWER, &[&last_words], &[]);
        }
    });
    let (answer, parcel) = typed::execute(call, arrived);
    let code = match () {
        () if typed::returned(&answer) => 0,
        () if typed::panicked(&answer) => PANICKED,
        () => REFUSED,
    };
    // A parent that let go of its Process has closed the other end, and wants no answer.
    if let Err(error) = letter::send(socket.as_fd(), ANSWER, &[&answer], &parcel.borrowed())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        give_up(
            &socket,
            &format!(
                "the answer of {} bytes could not be sent: {error}",
                answer.len()
            ),
        );
    }
    exit(code)
}

/// Tells the parent why nothing was done.
fn give_up(socket: &OwnedFd, reason: &str) -> ! {
    // If that fails too, the exit code has to do.
    let _ = letter::send(socket.as_fd(), ANSWER, &[&typed::refuse(reason)], &[]);
    exit(REFUSED)
}

/// Leaves in an orderly way: what the function printed is written out.
pub(crate) fn exit(code: i32) -> ! {
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    std::process::exit(code)
}
