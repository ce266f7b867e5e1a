//! What ends a process at once when another one has ended, in the midst of whatever it does.
//!
//! It is a pipe. One process holds the end to write to, alone, and nobody ever writes; the others have the
//! kernel send them SIGKILL when that end is closed. So it needs no thread, which a fork in such a process
//! would have to fear, and no signal that a program may block or use itself.
//! Always: a process that was forked from any of them is not concerned. Where the kernel cannot do it
//! nothing happens: who can wait has a [`ParentWatch`](super::ParentWatch) as well.

use std::io;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error;
use crate::fd::{AsRawFd, OwnedFd, duplicate, pipe};
use crate::fork_state::{self, ParentFd};

/// The end that is held by the process whose end matters. Let go of, it ends those on its lines.
#[derive(Debug)]
pub struct Hold {
    read: ParentFd,
    _write: ParentFd,
}

/// The end of a process that is to end.
#[derive(Debug)]
pub struct Lifeline {
    fd: OwnedFd,
    taut: bool,
    generation: u64,
}

impl Hold {
    /// One that no line hangs on yet.
    pub fn new() -> io::Result<Hold> {
        let (read, write) = pipe()?;
        Ok(Hold {
            read: ParentFd::new(read),
            _write: ParentFd::new(write),
        })
    }

    /// A line for one process that is to end: the descriptor for [`Lifeline::new`], and what else is to be held for
    /// that process alone, where this hold cannot do it.
    pub fn line(&self) -> io::Result<(OwnedFd, Option<Hold>)> {
        let read = self.read.get()?;
        // The kernel remembers one receiver for an open file: so each line is the pipe's end opened anew.
        let anew = format!("/proc/self/fd/{}", read.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(&*anew, flags, Mode::empty()) {
            Ok(line) => Ok((line, None)),
            Err(e @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
                Err(error::context(e, "could not open a lifeline"))
            }
            // Without `/proc`, or in a sandbox.
            Err(_) => {
                let own = Hold::new()?;
                Ok((duplicate(own.read.get()?)?, Some(own)))
            }
        }
    }
}

impl Lifeline {
    /// The lifeline of this process, slack for now.
    pub fn new(fd: OwnedFd) -> Lifeline {
        for (command, argument) in [
            (libc::F_SETOWN, fork_state::pid()),
            (F_SETSIG, libc::SIGKILL),
        ] {
            // SAFETY: no memory is involved.
            unsafe { libc::fcntl(fd.as_raw_fd(), command, argument) };
        }
        Lifeline {
            fd,
            taut: false,
            generation: fork_state::generation(),
        }
    }

    /// From now on this process ends with the other one. `false`: that has ended already.
    #[inline]
    pub fn tauten(&mut self) -> bool {
        self.taut || self.pull()
    }

    #[cold]
    fn pull(&mut self) -> bool {
        self.set(libc::O_ASYNC);
        // After that, because an end before it sends no signal.
        let mut polled = [PollFd::new(&self.fd, PollFlags::empty())];
        let now = crate::clock::timespec(Some(std::time::Duration::ZERO));
        let _ = rustix::event::poll(&mut polled, now.as_ref());
        if polled[0].revents().contains(PollFlags::HUP) {
            self.taut = false; // whoever asks again is told again
        }
        self.taut
    }

    /// From now on it does not: this process looks for itself.
    pub fn slacken(&mut self) {
        if self.taut {
            self.set(0);
        }
    }

    fn set(&mut self, flags: i32) {
        // The open file is shared with forked children, and theirs to leave alone.
        if self.generation == fork_state::generation() {
            // SAFETY: no memory is involved.
            unsafe { libc::fcntl(self.fd.as_raw_fd(), libc::F_SETFL, flags) };
            self.taut = flags != 0;
        }
    }
}

/// Linux's number for it on every machine that we run on.
const F_SETSIG: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_came_before_is_told_to_everyone_who_asks() {
        let hold = Hold::new().unwrap();
        let (line, _) = hold.line().unwrap();
        drop(hold);
        let mut line = Lifeline::new(line);
        assert!(!line.tauten());
        // A worker asks before its initializer, and again before each task.
        assert!(!line.tauten());
    }
}
