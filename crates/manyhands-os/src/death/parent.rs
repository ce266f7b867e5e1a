//! The process that this one works for, seen from below: a worker ends when it does.
//!
//! Without pidfds (see `child`) a small thread looks every 20 milliseconds and rings an eventfd.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};

use super::{checked, has_ended, start_time};
use crate::error;
use crate::fd::{AsFd, BorrowedFd, EventFd, OwnedFd};
use crate::poll;
use crate::signal::Blocked;

/// How often the thread looks where there are no pidfds.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Notices the end of another process, of which this one need not be a child.
#[derive(Debug)]
pub struct ParentWatch {
    who: Watched,
    sign: Sign,
}

/// The process that is watched.
#[derive(Clone, Copy, Debug)]
struct Watched {
    pid: i32,
    started: Option<u64>,
    /// Whether it is our parent: then another parent is the proof of its end.
    is_parent: bool,
}

impl Watched {
    fn has_ended(self) -> bool {
        (self.is_parent && !is_parent(self.pid)) || has_ended(self.pid, self.started)
    }
}

/// What becomes readable when the process ends.
#[derive(Debug)]
enum Sign {
    Pidfd(OwnedFd),
    Bell(Arc<EventFd>),
}

impl ParentWatch {
    /// Watches process `pid`. If it has ended already, the watch says so at once.
    ///
    /// A number may have been given away again before this is called. That is found out if `pid` is this
    /// process's parent; of others pass the start time, to [`started_at`](ParentWatch::started_at).
    pub fn of(pid: i32) -> io::Result<ParentWatch> {
        ParentWatch::new(pid, None, is_parent(pid))
    }

    /// Watches the process `pid` that started at `started`, which it asked of [`start_time`] itself and
    /// passed on.
    pub fn started_at(pid: i32, started: u64) -> io::Result<ParentWatch> {
        ParentWatch::new(pid, Some(started), is_parent(pid))
    }

    fn new(pid: i32, expected: Option<u64>, is_parent: bool) -> io::Result<ParentWatch> {
        let number = checked(pid)?;
        let opened = pidfd_open(number, PidfdFlags::empty());
        let opened = match opened {
            // Our parent still, so nobody else has got its number: no need to look up when it started.
            Ok(fd) if expected.is_none() && is_parent && self::is_parent(pid) => {
                let who = Watched {
                    pid,
                    started: None,
                    is_parent,
                };
                let sign = Sign::Pidfd(fd);
                return Ok(ParentWatch { who, sign });
            }
            opened => opened,
        };
        // After the pidfd was opened, so that both mean the same process.
        let who = Watched {
            pid,
            started: expected.or_else(|| start_time(pid).ok()),
            is_parent,
        };
        let sign = match opened {
            Ok(fd) if !who.has_ended() => Sign::Pidfd(fd),
            Ok(_) | Err(Errno::SRCH) => rung()?,
            Err(e) if error::unavailable(e) && who.has_ended() => rung()?,
            Err(e) if error::unavailable(e) => looked_after(who)?,
            Err(e) => return Err(error::context(e, format!("could not watch process {pid}"))),
        };
        Ok(ParentWatch { who, sign })
    }

    /// Its process number.
    pub fn pid(&self) -> i32 {
        self.who.pid
    }

    /// Readable from the moment the process has ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.sign {
            Sign::Pidfd(fd) => fd.as_fd(),
            Sign::Bell(bell) => bell.as_fd(),
        }
    }

    /// Whether it has ended.
    pub fn gone(&self) -> bool {
        (self.who.is_parent && !is_parent(self.who.pid))
            || poll::is_readable(self.fd()).unwrap_or(false)
            || (matches!(self.sign, Sign::Bell(_)) && self.who.has_ended())
    }
}

impl AsFd for ParentWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

fn is_parent(pid: i32) -> bool {
    Pid::as_raw(getppid()) == pid
}

fn rung() -> io::Result<Sign> {
    let bell = EventFd::new()?;
    bell.ring()?;
    Ok(Sign::Bell(Arc::new(bell)))
}

/// A bell that a thread rings when the process has ended; the thread ends with the watch.
fn looked_after(who: Watched) -> io::Result<Sign> {
    let bell = Arc::new(EventFd::new()?);
    let theirs = Arc::downgrade(&bell);
    // Signals are for threads that have handlers to run.
    let _blocked = Blocked::new();
    thread::Builder::new()
        .name(format!("manyhands-{}", who.pid))
        .stack_size(64 << 10)
        .spawn(move || look_after(who, &theirs))
        .map_err(|e| {
            error::context(
                e,
                format!("could not start a thread that watches process {}", who.pid),
            )
        })?;
    Ok(Sign::Bell(bell))
}

fn look_after(who: Watched, bell: &Weak<EventFd>) {
    while let Some(bell) = bell.upgrade() {
        if who.has_ended() {
            let _ = bell.ring();
            return;
        }
        drop(bell);
        thread::sleep(LOOK_AGAIN);
    }
}
