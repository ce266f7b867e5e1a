//! A pool's workers: how they come to life, and what they do with a call.
//!
//! Always: a worker answers every call, with the result or with why there is none; what a task
//! printed is written out before its answer is. Not here: rings and bells (`engine`).

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use manyhands_os::callable::Callable;
use manyhands_os::death::Child;
use manyhands_os::inherit;
use serde::{Deserialize, Serialize};

use crate::engine::{
    Answer, Call, Desk, Execute, Launch, Left, Payload, Received, SEAT_FDS, Seat, Stopwatch,
};
use crate::entry::{self, errand};
use crate::process::Start;
use crate::typed;

/// Starts workers by executing this program again.
pub(super) struct Reexec {
    /// What the workers are called.
    pub(super) title: Option<String>,
    /// The call that a worker begins with.
    pub(super) initializer: Option<Vec<u8>>,
}

/// What a worker is told, beside the descriptors of its seat.
#[derive(Serialize, Deserialize)]
struct Post {
    number: u64,
    parent: i32,
    initializer: Option<Vec<u8>>,
}

impl Launch for Reexec {
    fn launch(&self, seat: Seat) -> io::Result<Arc<Child>> {
        let post = Post {
            number: seat.number,
            parent: seat.parent,
            initializer: self.initializer.clone(),
        };
        let body = postcard::to_allocvec(&post).map_err(io::Error::other)?;
        let fds = seat.into_fds();
        let borrowed = fds.each_ref().map(AsFd::as_fd);
        // What a worker has to say it says through its mailbox: the socket may be closed.
        let (child, _socket) = Start {
            errand: errand::WORK,
            body: &body,
            fds: &borrowed,
            title: self.title.as_deref(),
            env: &[],
        }
        .start()?;
        Ok(child)
    }
}

/// Whether orders can be read from a letter's text.
#[cfg(feature = "fuzzing")]
pub(crate) fn is_post(text: &[u8]) -> bool {
    postcard::from_bytes::<Post>(text).is_ok()
}

/// Works for the pool that the letter's text and descriptors tell of, then exits.
pub(crate) fn work(text: &[u8], fds: Vec<OwnedFd>) -> ! {
    typed::watch_panics(|_| {});
    let post = match postcard::from_bytes::<Post>(text) {
        Ok(post) => post,
        Err(error) => give_up(&format!("its orders are unreadable: {error}")),
    };
    let fds: [OwnedFd; SEAT_FDS] = match fds.try_into() {
        Ok(fds) => fds,
        Err(fds) => give_up(&format!(
            "{} descriptors came instead of {SEAT_FDS}",
            fds.len()
        )),
    };
    let mut desk = match Desk::sit(Seat::from_fds(post.number, post.parent, fds)) {
        Ok(desk) => desk,
        Err(error) => give_up(&error.to_string()),
    };
    let mut face = Face::default();
    if let Some(call) = post.initializer {
        let answer = Face::answer(typed::execute(&call));
        if answer.raised {
            desk.fail(&mut face, answer);
            entry::exit(entry::PANICKED);
        }
    }
    match desk.serve(&mut face) {
        Ok(Left::Dismissed | Left::Interrupted | Left::Forked) => entry::exit(0),
        Ok(Left::Orphaned) => inherit::leave(entry::ORPHANED),
        Err(garbled) => give_up(&garbled.to_string()),
    }
}

/// Says why this worker is of no use; its death tells the parent that it is none.
fn give_up(reason: &str) -> ! {
    let _ = writeln!(
        io::stderr(),
        "manyhands: worker process {} cannot work: {reason}",
        std::process::id()
    );
    entry::exit(entry::REFUSED)
}

/// The functions that the parent has published.
#[derive(Default)]
struct Face {
    /// Each with its function, or with the answer to every call of it.
    functions: HashMap<u32, Result<Callable, Vec<u8>>>,
}

impl Face {
    fn answer(bytes: Vec<u8>) -> Answer {
        let raised = !typed::returned(&bytes);
        Answer {
            raised,
            mode: 0,
            payload: Payload::new(bytes),
        }
    }
}

impl Execute for Face {
    fn define(&mut self, id: u32, bytes: Received, _: Vec<Received>) {
        let found = match bytes[..].try_into() {
            Ok(name) => typed::find(name),
            Err(_) => Err(typed::refuse(&format!(
                "{} bytes cannot name a function",
                bytes.len()
            ))),
        };
        self.functions.insert(id, found);
    }

    fn forget(&mut self, id: u32) {
        self.functions.remove(&id);
    }

    fn run(&mut self, call: Call, stopwatch: &mut Stopwatch) -> Answer {
        let timed = stopwatch
            .is_needed(call.limit)
            .then(|| stopwatch.start(call.limit));
        let answer = match (timed, self.functions.get(&call.function)) {
            (Some(Err(error)), _) => typed::refuse(&error.to_string()),
            (_, Some(Ok(callable))) => typed::run(*callable, &call.bytes),
            (_, Some(Err(answer))) => answer.clone(),
            (_, None) => typed::refuse(&format!("no function {} was published", call.function)),
        };
        stopwatch.stop();
        // Whoever sees the answer may expect to have seen what was printed.
        let _ = io::stdout().flush();
        Self::answer(answer)
    }
}
