//! Bringing a worker to life: the seam where the faces differ.
//!
//! The engine prepares a [`Seat`], everything a worker needs to take part, as open file
//! descriptors; a face starts a process that holds them and calls [`Desk::sit`](super::Desk::sit).
//! Always: the parent's copies of the seat's descriptors are closed once the worker has its own.

use std::io;
use std::sync::Arc;

use manyhands_os::death::Child;
use manyhands_os::fd::OwnedFd;

/// The worker's end of its mailbox and arenas, to be handed to a new process.
#[derive(Debug)]
pub struct Seat {
    /// Number of the worker in its pool, counting every replacement.
    pub number: u64,
    /// Process id of the pool's owner: the worker ends when that process does.
    pub parent: i32,
    /// The descriptors, in the order of [`Seat::from_fds`].
    pub fds: SeatFds,
}

/// The open descriptors of a [`Seat`].
#[derive(Debug)]
pub struct SeatFds {
    /// Sealed memory with the task ring and the result ring.
    pub mailbox: OwnedFd,
    /// Sealed memory for large arguments; the parent lends, the worker borrows.
    pub arguments: OwnedFd,
    /// Sealed memory for large results; the worker lends, the parent borrows.
    pub results: OwnedFd,
    /// Wakes the worker.
    pub worker_bell: OwnedFd,
    /// Wakes the parent.
    pub parent_bell: OwnedFd,
    /// Ends the worker in the midst of a task when the parent is gone.
    pub lifeline: OwnedFd,
}

/// How many descriptors a seat has.
pub const SEAT_FDS: usize = 6;

impl Seat {
    /// Takes the descriptors apart, in a fixed order.
    pub fn into_fds(self) -> [OwnedFd; SEAT_FDS] {
        let SeatFds {
            mailbox,
            arguments,
            results,
            worker_bell,
            parent_bell,
            lifeline,
        } = self.fds;
        [
            mailbox,
            arguments,
            results,
            worker_bell,
            parent_bell,
            lifeline,
        ]
    }

    /// Puts a seat together again, in the process that received the descriptors.
    pub fn from_fds(number: u64, parent: i32, fds: [OwnedFd; SEAT_FDS]) -> Self {
        let [
            mailbox,
            arguments,
            results,
            worker_bell,
            parent_bell,
            lifeline,
        ] = fds;
        Self {
            number,
            parent,
            fds: SeatFds {
                mailbox,
                arguments,
                results,
                worker_bell,
                parent_bell,
                lifeline,
            },
        }
    }
}

/// Starts worker processes for a [`Crew`](super::Crew).
pub trait Launch: Send + Sync {
    /// Starts one worker that will sit down at `seat`; returns once the process exists.
    fn launch(&self, seat: Seat) -> io::Result<Arc<Child>>;

    /// The worker that had this process id is gone and was reaped.
    fn buried(&self, pid: i32) {
        let _ = pid;
    }

    /// Whether any thread may drop a job without waiting for anything. If not, jobs that nobody has any
    /// more gather until [`Crew::bury`](super::Crew::bury).
    fn drops_anywhere(&self) -> bool {
        true
    }
}
