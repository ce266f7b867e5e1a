//! A pool's workers: how they come to life, and what they do with a call.
//!
//! Always: a worker answers every call, with the result or with why there is none; what a task
//! printed is written out before its answer is. Not here: rings and bells (`engine`).

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use manyhands_os::callable::Callable;
use manyhands_os::death::Child;
use manyhands_os::{clock, fork_state, inherit, limits};
use serde::{Deserialize, Serialize};

use crate::engine::{
    Answer, Call, Desk, Execute, Launch, Left, Payload, Received, SEAT_FDS, Seat, Stopwatch,
};
use crate::entry::{self, errand};
use crate::parcel::{Arrived, Parcel, Way};
use crate::process::Start;
use crate::typed;

use super::shelf::{Mark, Shelf};
use super::{clerk, mode};

/// Starts workers by executing this program again.
pub(super) struct Reexec {
    /// What the workers are called.
    pub(super) title: Option<String>,
    /// Where workers ask for the descriptors of their tasks.
    pub(super) counter: Arc<OwnedFd>,
    /// What they have handed in there.
    pub(super) shelf: Weak<Shelf>,
    /// What each worker may use.
    pub(super) limits: Limits,
    /// The call that a worker begins with.
    pub(super) initializer: Option<(Vec<u8>, Parcel)>,
}

/// What a worker may use.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Limits {
    /// Processor time of each task.
    pub(super) cpu_time: Option<Duration>,
    /// Bytes of private memory.
    pub(super) max_memory: Option<u64>,
    /// Bytes that it may grow by.
    pub(super) max_growth: Option<u64>,
}

/// What a worker is told, beside the descriptors of its seat.
#[derive(Serialize, Deserialize)]
struct Post {
    number: u64,
    parent: i32,
    limits: Limits,
    initializer: Option<Vec<u8>>,
}

impl Launch for Reexec {
    fn launch(&self, seat: Seat) -> io::Result<Arc<Child>> {
        let post = Post {
            number: seat.number,
            parent: seat.parent,
            limits: self.limits,
            initializer: self.initializer.as_ref().map(|(call, _)| call.clone()),
        };
        let body = postcard::to_allocvec(&post).map_err(io::Error::other)?;
        let fds = seat.into_fds();
        let parcel = self.initializer.iter().flat_map(|(_, parcel)| &parcel.fds);
        let borrowed: Vec<_> = fds
            .iter()
            .map(AsFd::as_fd)
            .chain([self.counter.as_fd()])
            .chain(parcel.map(|fd| fd.as_fd()))
            .collect();
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

    fn buried(&self, pid: i32) {
        if let Some(shelf) = self.shelf.upgrade() {
            shelf.bury(pid);
        }
    }
}

/// Whether orders can be read from a letter's text.
#[cfg(feature = "fuzzing")]
pub(crate) fn is_post(text: &[u8]) -> bool {
    postcard::from_bytes::<Post>(text).is_ok()
}

/// Works for the pool that the letter's text and descriptors tell of, then exits.
pub(crate) fn work(text: &[u8], mut fds: Vec<OwnedFd>) -> ! {
    typed::watch_panics(|_| {});
    let post = match postcard::from_bytes::<Post>(text) {
        Ok(post) => post,
        Err(error) => give_up(&format!("its orders are unreadable: {error}")),
    };
    let parcel = fds.split_off(fds.len().min(SEAT_FDS + 1));
    let counter = fds.pop();
    let (fds, counter): ([OwnedFd; SEAT_FDS], OwnedFd) = match (fds.try_into(), counter) {
        (Ok(fds), Some(counter)) => (fds, counter),
        _ => give_up("too few descriptors came"),
    };
    let mut desk = match Desk::sit(Seat::from_fds(post.number, post.parent, fds)) {
        Ok(desk) => desk,
        Err(error) => give_up(&error.to_string()),
    };
    let mut face = Face {
        functions: HashMap::new(),
        counter,
        next: clock::now_ns(), // no worker before it had this number, nor has one after it
        cpu_time: post.limits.cpu_time,
    };
    if let Some(bytes) = post.limits.max_memory
        && let Err(error) = limits::limit_data(bytes)
    {
        let why = typed::refuse(&error.to_string());
        desk.fail(&mut face, Face::answer((why, Parcel::default())));
        entry::exit(entry::REFUSED);
    }
    if let Some(bytes) = post.limits.max_growth
        && let Err(error) = desk.limit_growth(bytes)
    {
        give_up(&format!("it cannot see how much memory it has: {error}"));
    }
    if let Some(call) = post.initializer {
        let answer = Face::answer(typed::execute(&call, Arrived::of(parcel, Vec::new())));
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

/// What a worker knows of its pool.
struct Face {
    /// Where to ask for descriptors, and to hand them in.
    counter: OwnedFd,
    /// The number of the next parcel that is handed in.
    next: u64,
    /// What a task may use of the processor, until the stopwatch knows.
    cpu_time: Option<Duration>,
    /// The functions that the parent has published, each with what to call or with the answer to every call of it.
    functions: HashMap<u32, Result<Callable, Vec<u8>>>,
}

impl Face {
    /// What belongs to a call beside its bytes, which are what is left.
    fn unload(&self, call: &mut Call) -> Result<(Arrived, usize), String> {
        let buffers = std::mem::take(&mut call.buffers);
        if call.mode & mode::PARCEL == 0 {
            return Ok((Arrived::of(Vec::new(), buffers), call.bytes.len()));
        }
        let (argument, number) = call
            .bytes
            .split_last_chunk()
            .ok_or("its bytes are too few to name a parcel")?;
        let fds = clerk::ask(self.counter.as_fd(), u64::from_le_bytes(*number))
            .map_err(|error| format!("could not get the descriptors of the task: {error}"))?;
        Ok((Arrived::of(fds, buffers), argument.len()))
    }

    /// Hands in what belongs to an answer beside its bytes and buffers; the answer, marked with where that is.
    fn hand_in(&mut self, (mut bytes, parcel): (Vec<u8>, Parcel)) -> Answer {
        if parcel.fds.is_empty() {
            return Self::answer((bytes, parcel));
        }
        let mark = Mark {
            pid: fork_state::pid(),
            number: self.next,
        };
        self.next += 1;
        match clerk::hand_in(self.counter.as_fd(), mark, &parcel.borrowed()) {
            Ok(()) => {
                bytes.extend_from_slice(&mark.to_bytes());
                let mut answer = Self::answer((bytes, parcel));
                answer.mode |= mode::PARCEL;
                answer
            }
            Err(error) => {
                let why = format!("could not hand in the descriptors of the result: {error}");
                Self::answer((typed::refuse(&why), Parcel::default()))
            }
        }
    }

    fn answer((bytes, parcel): (Vec<u8>, Parcel)) -> Answer {
        let raised = !typed::returned(&bytes);
        Answer {
            raised,
            mode: 0,
            payload: Payload {
                bytes,
                buffers: parcel.buffers,
                ..Payload::default()
            },
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

    fn run(&mut self, mut call: Call, stopwatch: &mut Stopwatch) -> Answer {
        let alone = |answer| (answer, Parcel::default());
        let (arrived, len) = match self.unload(&mut call) {
            Ok(unloaded) => unloaded,
            Err(why) => return Self::answer(alone(typed::refuse(&why))),
        };
        if let Some(time) = self.cpu_time.take() {
            stopwatch.limit_processor_time(time);
        }
        let timed = stopwatch
            .is_needed(call.limit)
            .then(|| stopwatch.start(call.limit));
        let answer = match (timed, self.functions.get(&call.function)) {
            (Some(Err(error)), _) => alone(typed::refuse(&error.to_string())),
            (_, Some(Ok(callable))) => {
                typed::run(*callable, &call.bytes[..len], arrived, Way::Task)
            }
            (_, Some(Err(answer))) => alone(answer.clone()),
            (_, None) => {
                let why = format!("no function {} was published", call.function);
                alone(typed::refuse(&why))
            }
        };
        let answer = self.hand_in(answer);
        stopwatch.stop();
        // Whoever sees the answer may expect to have seen what was printed.
        let _ = io::stdout().flush();
        answer
    }
}
