//! What can go wrong, in one enum: every message says what failed, on what, and what to do.
//!
//! Always: a child's panic and a child's death are values here, never a panic of the parent.

use std::fmt;
use std::io;

use manyhands_os::death::ExitStatus;

/// The error of everything in this crate.
///
/// ```
/// use manyhands::{Error, Process};
///
/// fn divide((a, b): (u32, u32)) -> u32 {
///     a / b
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     match Process::spawn(divide, (1, 0))?.join() {
///         Ok(quotient) => println!("{quotient}"),
///         Err(Error::Panicked(panic)) => println!("the child panicked: {}", panic.message),
///         Err(Error::Died(death)) => println!("the child is gone: {}", death.status),
///         Err(other) => return Err(other),
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// [`init`](crate::init) has not run in this process.
    #[error(
        "this program has not called manyhands::init(): call it first in main, before anything \
         else; a process that manyhands starts enters the program there (in tests, use a \
         harness with a main of its own: `harness = false`)"
    )]
    NotPrepared,

    /// The function cannot be named to another process.
    #[error("the function {function} cannot be run in another process: {reason}")]
    Function {
        /// Its type, as the compiler calls it.
        function: &'static str,
        /// Why not, and what to do.
        reason: String,
    },

    /// A value could not be encoded to be sent.
    #[error(
        "could not encode {what} of type {type_name}: {reason}; its Serialize implementation \
         has to work with a compact binary format (sequences and maps of known length)"
    )]
    Encode {
        /// Which value: "the argument", "the result".
        what: &'static str,
        /// The type of the value.
        type_name: String,
        /// What the encoder said.
        reason: String,
    },

    /// A value came, but could not be decoded.
    #[error(
        "could not decode {what} of type {type_name}: {reason}; its Deserialize implementation \
         has to read what Serialize wrote, without asking the format for the type \
         (untagged enums and serde_json::Value do ask)"
    )]
    Decode {
        /// Which value: "the argument", "the result".
        what: &'static str,
        /// The type of the value.
        type_name: String,
        /// What the decoder said.
        reason: String,
    },

    /// The function panicked in the child.
    #[error(transparent)]
    Panicked(#[from] Panicked),

    /// The child ended before it had sent the function's result.
    #[error(transparent)]
    Died(#[from] Died),

    /// The child refused to run what it was asked to.
    #[error("the child process {pid} refused the call: {reason}")]
    Refused {
        /// The process id of the child.
        pid: i32,
        /// Why.
        reason: String,
    },

    /// The result was taken by an earlier call.
    #[error("the result was taken already: an earlier try_join, try_wait or the like returned it")]
    Taken,

    /// A pool was to be built that could not do anything.
    #[error("a pool needs at least one worker, and a worker at least one task: 0 was asked for")]
    NoWorkers,

    /// The pool belongs to the process that this one was forked from.
    #[error("this pool belongs to the parent process: build one of your own in the forked child")]
    Forked,

    /// The pool takes no tasks any more.
    #[error("the pool is closed: it takes no more tasks; build another one")]
    Closed,

    /// The pool was terminated before the task was done.
    #[error("the pool was terminated before the task was done")]
    Terminated,

    /// The task was [cancelled](crate::Task::cancel).
    #[error("the task was cancelled")]
    Cancelled,

    /// The pool's workers do not live long enough to take a task.
    #[error("the pool is broken and takes no more tasks: {reason}")]
    Broken {
        /// What happened to them.
        reason: String,
    },

    /// Nobody has the other end of the channel or pipe any more.
    #[error(
        "nobody has the other end of this channel any more: all its {other}s were dropped, or their \
         processes have ended"
    )]
    Disconnected {
        /// What nobody has: "sender" or "receiver".
        other: &'static str,
    },

    /// The channel holds as much as it can.
    #[error("the channel is full: wait with send, or make it with a larger capacity")]
    Full,

    /// The process that held a lock has ended without giving it back.
    #[error(
        "process {pid} ended while it held the lock: what the lock guards may be half changed; the \
         lock is free again"
    )]
    OwnerDied {
        /// The process id that it had.
        pid: i32,
    },

    /// A thread waits for a lock that it holds itself.
    #[error("this thread holds the lock already, and would wait for ever: drop the guard first")]
    Deadlock,

    /// Too many threads wait for conditions.
    #[error("too many threads wait for conditions: 4096 are all that can wait at once")]
    TooManyWaiters,

    /// A barrier was broken while somebody waited there, or before.
    #[error(
        "the barrier is broken: a party gave up or was killed, or called abort; reset makes it \
         usable again"
    )]
    BrokenBarrier,

    /// A number that was given is out of bounds.
    #[error("{what} cannot be {value}: {low} to {high} are possible")]
    OutOfRange {
        /// What the number is.
        what: &'static str,
        /// The number.
        value: u64,
        /// The least that is possible.
        low: u64,
        /// The most that is possible.
        high: u64,
    },

    /// The system refused something.
    #[error("could not {action}: {source}")]
    System {
        /// What was to be done.
        action: String,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl Error {
    /// Says what was to be done when the kernel refused.
    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}

/// A panic of the function, as the child reported it.
///
/// ```
/// # use manyhands::{Error, Process};
/// # fn main() -> Result<(), Error> {
/// # manyhands::init();
/// let child = Process::spawn(|n: u32| assert!(n > 3, "{n} is too small"), 2)?;
/// let Err(Error::Panicked(panic)) = child.join() else { unreachable!() };
/// assert_eq!(panic.message, "2 is too small");
/// println!("in process {}, at {:?}", panic.pid, panic.location);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Panicked {
    /// The panic's message; empty if its payload was not text.
    pub message: String,
    /// Where it happened: `src/main.rs:3:5`. `None` if the function replaced the panic hook.
    pub location: Option<String>,
    /// The process in which it happened.
    pub pid: i32,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the function panicked in process {}", self.pid)?;
        if let Some(location) = &self.location {
            write!(f, ", {location}")?;
        }
        match self.message.as_str() {
            "" => f.write_str(": (a panic without a message)"),
            message => write!(f, ": {message}"),
        }
    }
}

impl std::error::Error for Panicked {}

/// The death of a child that owed a result.
///
/// ```
/// # use manyhands::{Error, ExitStatus, Pool};
/// # use std::time::Duration;
/// # fn main() -> Result<(), Error> {
/// # manyhands::init();
/// fn sleep(seconds: u64) {
///     std::thread::sleep(Duration::from_secs(seconds));
/// }
/// let pool = Pool::builder().workers(1).task_timeout(Duration::from_millis(50)).build()?;
/// let Err(Error::Died(death)) = pool.submit(sleep, 3600)?.wait() else { unreachable!() };
/// assert!(death.overdue);
/// assert_eq!(death.status, ExitStatus::Signaled(9));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Died {
    /// The process id that it had.
    pub pid: i32,
    /// How it ended.
    pub status: ExitStatus,
    /// It was killed because its task took longer than [`task_timeout`](crate::PoolBuilder::task_timeout).
    pub overdue: bool,
    /// The kernel killed it because memory ran out, as far as its counters tell.
    pub out_of_memory: bool,
}

impl Died {
    /// A death that nothing but its status tells of.
    pub(crate) fn with(pid: i32, status: ExitStatus) -> Self {
        Self {
            pid,
            status,
            overdue: false,
            out_of_memory: false,
        }
    }
}

impl fmt::Display for Died {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the child process {} died before the function returned: {}",
            self.pid, self.status
        )?;
        match self.status {
            _ if self.overdue => {
                f.write_str(" (its task took longer than the pool's task_timeout)")
            }
            _ if self.out_of_memory => f.write_str(
                " (by the kernel, because memory ran out: use fewer workers or smaller tasks)",
            ),
            ExitStatus::Exited(0) => f.write_str(
                " (it ran to an orderly end: the function called std::process::exit, or main \
                 ends without calling manyhands::init() first)",
            ),
            // SIGKILL, by its number on every Linux.
            ExitStatus::Signaled(9) => {
                f.write_str(" (killed; perhaps by the kernel, because memory ran out)")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Died {}
