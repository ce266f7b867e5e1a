//! One function in a process of its own: start it, wait for it, get its result.
//!
//! Always: a child owes one answer and sends it before it exits, into a place that holds it
//! until somebody asks; so waiting for the child's death is all the waiting there is, and no
//! parent and child can wait for each other. Not here: what the child does (`entry`), what the
//! bytes of a call mean (`typed`), many children at work (`pool`).

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use manyhands_os::child::{self, Exec};
use manyhands_os::death::{Child, ExitStatus};
use manyhands_os::{fd, inherit, socket};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entry::{self, Greeting, errand};
use crate::error::{Died, Error};
use crate::letter::{self, Letter};
use crate::parcel::{Arrived, Way};
use crate::{init, typed};

/// A function that runs in a child process, and the way to its result.
///
/// The child is this same program, started again: it enters at [`init`](crate::init), runs the
/// function and exits, with code 0, or 101 if the function panicked. It has the parent's
/// arguments, environment, working directory and standard streams; of the parent's memory and
/// open files it has nothing.
///
/// Dropping a `Process` without [`join`](Process::join) lets the child run on, as dropping a
/// [`JoinHandle`](std::thread::JoinHandle) does for a thread; its result is thrown away. And as
/// threads end with their process, a child ends when its parent does: with SIGKILL or in an
/// orderly way, nothing outlives its parent.
///
/// ```
/// use manyhands::{Error, Process};
///
/// fn count_primes(below: u32) -> usize {
///     (2..below).filter(|n| (2..*n).all(|d| n % d != 0)).count()
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     let small = Process::spawn(count_primes, 1_000)?;
///     let large = Process::spawn(count_primes, 30_000)?;
///     println!("{} and {}", small.join()?, large.join()?);
///     Ok(())
/// }
/// ```
pub struct Process<R> {
    child: Arc<Child>,
    /// Where the answer arrives; `None` once it was taken.
    socket: Option<OwnedFd>,
    name: Option<String>,
    result: PhantomData<fn() -> R>,
}

impl Process<()> {
    /// A process with a name or an environment of its own.
    ///
    /// ```
    /// use manyhands::{Error, Process};
    ///
    /// fn zone((): ()) -> Option<String> {
    ///     std::env::var("TZ").ok()
    /// }
    ///
    /// fn main() -> Result<(), Error> {
    ///     manyhands::init();
    ///     let child = Process::builder().name("clock").env("TZ", "UTC").spawn(zone, ())?;
    ///     assert_eq!(child.join()?.as_deref(), Some("UTC"));
    ///     Ok(())
    /// }
    /// ```
    pub fn builder() -> ProcessBuilder {
        ProcessBuilder::default()
    }
}

impl<R: Serialize + DeserializeOwned> Process<R> {
    /// Starts `function(argument)` in a new process.
    ///
    /// A function or a closure that captures nothing will do: what it needs, it is given as
    /// `argument`. Several values travel as a tuple.
    ///
    /// Returns when the process exists and has everything it needs, however large the argument.
    ///
    /// # Errors
    /// [`Error::NotPrepared`] if [`init`](crate::init) has not run, [`Error::Encode`] for an
    /// argument that serde cannot encode, [`Error::Function`] for a function of a shared
    /// library, [`Error::System`] if no process can be started.
    ///
    /// ```
    /// use manyhands::Process;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let child = Process::spawn(|(base, exponent): (u64, u32)| base.pow(exponent), (2, 10))?;
    /// assert_eq!(child.join()?, 1024);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A closure that captures is refused by the compiler; pass what it captures:
    ///
    /// ```compile_fail,E0308
    /// # use manyhands::Process;
    /// let factor = 3;
    /// let child = Process::spawn(|x: u64| x * factor, 14);
    /// ```
    pub fn spawn<A>(function: fn(A) -> R, argument: A) -> Result<Self, Error>
    where
        A: Serialize + DeserializeOwned,
    {
        Process::builder().spawn(function, argument)
    }

    /// Waits until the child has ended, and returns what its function returned.
    ///
    /// # Errors
    /// [`Error::Panicked`] with the message of the child's panic; [`Error::Died`] if the child
    /// ended without an answer: killed, aborted, or by `std::process::exit`; [`Error::Decode`]
    /// and [`Error::Encode`] if argument or result could not be translated; [`Error::Taken`] if
    /// [`try_join`](Process::try_join) has returned the result before.
    ///
    /// ```
    /// # use manyhands::{Error, Process};
    /// # fn main() -> Result<(), Error> {
    /// # manyhands::init();
    /// fn fail(why: String) {
    ///     panic!("{why}");
    /// }
    /// let error = Process::spawn(fail, "no luck".to_owned())?.join().unwrap_err();
    /// assert!(matches!(error, Error::Panicked(panic) if panic.message == "no luck"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn join(mut self) -> Result<R, Error> {
        loop {
            // Without a limit, only the death of the child ends the wait.
            if let Some(result) = self.join_until(None)? {
                return Ok(result);
            }
        }
    }

    /// Returns the result if the child has ended, `None` if it is still running.
    ///
    /// # Errors
    /// As [`join`](Process::join).
    ///
    /// ```
    /// # use manyhands::Process;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let mut child = Process::spawn(|n: u64| n + 1, 1)?;
    /// let two = loop {
    ///     match child.try_join()? {
    ///         Some(result) => break result,
    ///         None => std::thread::yield_now(), // or something more useful
    ///     }
    /// };
    /// assert_eq!(two, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_join(&mut self) -> Result<Option<R>, Error> {
        self.join_until(Some(Instant::now()))
    }

    /// Waits for the result, `timeout` at most; `None` if the child is still running then.
    ///
    /// # Errors
    /// As [`join`](Process::join).
    ///
    /// ```
    /// # use manyhands::Process;
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let mut child = Process::spawn(|n: u64| n + 1, 1)?;
    /// match child.join_timeout(Duration::from_secs(10))? {
    ///     Some(result) => println!("{result}"),
    ///     None => child.kill()?,
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<R>, Error> {
        self.join_until(Instant::now().checked_add(timeout))
    }

    fn join_until(&mut self, deadline: Option<Instant>) -> Result<Option<R>, Error> {
        if self.socket.is_none() {
            return Err(Error::Taken);
        }
        let Some(status) = self.wait_until(deadline)? else {
            return Ok(None);
        };
        let pid = self.pid();
        let socket = self.socket.take().ok_or(Error::Taken)?;
        let letter = letter::receive(socket.as_fd())
            .map_err(Error::system(format!("read the answer of process {pid}")))?;
        match letter {
            Some(Letter {
                kind: entry::ANSWER,
                text,
                fds,
            }) => typed::decode(&text, Arrived::of(fds, Vec::new())).map(Some),
            _ => Err(Died::with(pid, status).into()),
        }
    }
}

impl<R> Process<R> {
    /// The process id of the child.
    ///
    /// ```
    /// # use manyhands::Process;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let child = Process::spawn(|()| std::process::id(), ())?;
    /// let pid = child.pid();
    /// assert_eq!(child.join()?, pid as u32);
    /// # Ok(())
    /// # }
    /// ```
    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// The name that the builder gave it, if any.
    ///
    /// ```
    /// # use manyhands::Process;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let child = Process::builder().name("adder").spawn(|n: u64| n + 1, 1)?;
    /// assert_eq!(child.name(), Some("adder"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether the child still runs.
    ///
    /// ```
    /// # use manyhands::Process;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// fn sleep((): ()) {
    ///     std::thread::sleep(std::time::Duration::from_secs(3600));
    /// }
    /// let child = Process::spawn(sleep, ())?;
    /// assert!(child.is_alive());
    /// child.kill()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_alive(&self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How the child ended; `None` while it runs.
    ///
    /// # Errors
    /// [`Error::System`] in a process that is not the child's parent: one forked off meanwhile.
    ///
    /// ```
    /// # use manyhands::{Error, ExitStatus, Process};
    /// # fn main() -> Result<(), Error> {
    /// # manyhands::init();
    /// fn exit(code: i32) {
    ///     std::process::exit(code);
    /// }
    /// let child = Process::spawn(exit, 3)?;
    /// while child.is_alive() {
    ///     std::thread::yield_now();
    /// }
    /// assert_eq!(child.exit_status()?, Some(ExitStatus::Exited(3)));
    /// assert!(matches!(child.join(), Err(Error::Died(_))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn exit_status(&self) -> Result<Option<ExitStatus>, Error> {
        self.child
            .try_wait()
            .map_err(Error::system(self.action("look after")))
    }

    /// Asks the child to end, with SIGTERM. A child that has ended is left in peace.
    ///
    /// # Errors
    /// [`Error::System`] if this process may not send the signal.
    ///
    /// ```
    /// # use manyhands::{Error, Process};
    /// # fn main() -> Result<(), Error> {
    /// # manyhands::init();
    /// fn sleep((): ()) {
    ///     std::thread::sleep(std::time::Duration::from_secs(3600));
    /// }
    /// let child = Process::spawn(sleep, ())?;
    /// child.terminate()?;
    /// let Err(Error::Died(death)) = child.join() else { unreachable!() };
    /// assert_eq!(death.status.to_string(), "signal 15 (SIGTERM)");
    /// # Ok(())
    /// # }
    /// ```
    pub fn terminate(&self) -> Result<(), Error> {
        self.signal(SIGTERM)
    }

    /// Ends the child at once, with SIGKILL. A child that has ended is left in peace.
    ///
    /// # Errors
    /// [`Error::System`] if this process may not send the signal.
    ///
    /// ```
    /// # use manyhands::{Error, Process};
    /// # fn main() -> Result<(), Error> {
    /// # manyhands::init();
    /// fn sleep((): ()) {
    ///     std::thread::sleep(std::time::Duration::from_secs(3600));
    /// }
    /// let child = Process::spawn(sleep, ())?;
    /// child.kill()?;
    /// assert!(matches!(child.join(), Err(Error::Died(_))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn kill(&self) -> Result<(), Error> {
        self.signal(SIGKILL)
    }

    fn signal(&self, signal: i32) -> Result<(), Error> {
        self.child
            .signal(signal)
            .map_err(Error::system(self.action("send a signal to")))
    }

    fn action(&self, what: &str) -> String {
        format!("{what} the child process {}", self.pid())
    }

    /// Waits for the child's death, to the deadline at most.
    fn wait_until(&self, deadline: Option<Instant>) -> Result<Option<ExitStatus>, Error> {
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            match self.child.wait(left) {
                // A signal that this process handles is no reason to stop waiting.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(Error::system(self.action("wait for"))),
            }
        }
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("pid", &self.pid())
            .field("name", &self.name)
            .finish()
    }
}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        if self.is_alive() {
            bury_later(Arc::clone(&self.child));
        }
    }
}

// The same numbers on every Linux.
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Children whose `Process` was dropped while they ran: they are reaped when the next one
/// is started or dropped, so that no more than a handful of zombies gather.
static LET_GO: Mutex<Vec<Arc<Child>>> = Mutex::new(Vec::new());

fn bury_later(child: Arc<Child>) {
    LET_GO
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(child);
    bury();
}

/// Reaps the children that nobody holds any more and that have ended.
fn bury() {
    // Whoever holds the lock buries them; and in a forked child it may be held for ever.
    let Ok(mut children) = LET_GO.try_lock() else {
        return;
    };
    children.retain(|child| matches!(child.try_wait(), Ok(None)));
}

/// Settings for a [`Process`], made by [`Process::builder`].
///
/// ```
/// use manyhands::Process;
/// # fn main() -> Result<(), manyhands::Error> {
/// # manyhands::init();
/// let child = Process::builder().name("adder").env("DEPTH", "1").spawn(|n: u64| n + 1, 1)?;
/// # child.join()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ProcessBuilder {
    name: Option<String>,
    env: Vec<(OsString, OsString)>,
}

impl ProcessBuilder {
    /// The name of the process, which `ps` and `top` show too (its first 15 bytes).
    ///
    /// ```
    /// # use manyhands::Process;
    /// let adder = Process::builder().name("adder");
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets a variable in the child's environment, which otherwise is the parent's.
    ///
    /// ```
    /// # use manyhands::Process;
    /// let utc = Process::builder().env("TZ", "UTC");
    /// ```
    #[must_use]
    pub fn env(mut self, variable: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((variable.into(), value.into()));
        self
    }

    /// Starts `function(argument)` in a new process, as [`Process::spawn`] does.
    ///
    /// # Errors
    /// As [`Process::spawn`]; [`Error::System`] too for a variable that no environment can hold.
    ///
    /// ```
    /// # use manyhands::Process;
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let child = Process::builder().name("adder").spawn(|n: u64| n + 1, 1)?;
    /// assert_eq!(child.join()?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn<A, R>(self, function: fn(A) -> R, argument: A) -> Result<Process<R>, Error>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        init::require()?;
        let (call, parcel) = typed::encode(Way::Letter, &typed::name(function)?, &argument)?;
        drop(argument);
        let (child, socket) = Start {
            errand: errand::CALL,
            body: &call,
            fds: &parcel.borrowed(),
            title: self.name.as_deref(),
            env: &self.env,
        }
        .start()
        .map_err(Error::system("start a process"))?;
        Ok(Process {
            child,
            socket: Some(socket),
            name: self.name,
            result: PhantomData,
        })
    }
}

/// A child to be started: this program again, with a letter waiting for it.
pub(crate) struct Start<'a> {
    /// What it is for.
    pub(crate) errand: u32,
    /// The text of its letter, after the greeting.
    pub(crate) body: &'a [u8],
    /// Descriptors that its letter carries.
    pub(crate) fds: &'a [BorrowedFd<'a>],
    /// What it is called; otherwise, what this process is called.
    pub(crate) title: Option<&'a str>,
    /// Variables to set.
    pub(crate) env: &'a [(OsString, OsString)],
}

impl Start<'_> {
    /// Starts it. The socket is where its answer arrives.
    pub(crate) fn start(self) -> io::Result<(Arc<Child>, OwnedFd)> {
        bury();
        let (ours, theirs) = socket::pair()?;
        // The standard streams stay what they are, even where the parent has closed some.
        let theirs = if theirs.as_raw_fd() > 2 {
            theirs
        } else {
            fd::duplicate(theirs.as_fd())?
        };
        let greeting = Greeting::new(self.title.map_or_else(inherit::title, str::to_owned))?;
        letter::send(
            ours.as_fd(),
            self.errand,
            &[&greeting.to_bytes(), self.body],
            self.fds,
        )?;
        let argv = std::env::args_os()
            .map(|argument| c_string(argument, "an argument"))
            .collect::<io::Result<Vec<_>>>()?;
        let env = environment(self.env, theirs.as_fd())?;
        let pid = child::spawn(&Exec {
            // The file that this program was started from, even if another took its path.
            program: c"/proc/self/exe",
            argv: &argv,
            env: Some(&env),
            keep: &[theirs.as_fd()],
            cwd: None,
        })?;
        // Before the child is watched, which takes a descriptor: now there is one to be had.
        drop(theirs);
        Ok((Arc::new(Child::own(pid)?), ours))
    }
}

/// This process's environment with `changes` and the marker for a child.
fn environment(
    changes: &[(OsString, OsString)],
    socket: BorrowedFd<'_>,
) -> io::Result<Vec<CString>> {
    let unchanged = |name: &OsStr| {
        !inherit::is_marker(name) && changes.iter().all(|(changed, _)| changed != name)
    };
    let mut entries = std::env::vars_os()
        .filter(|(name, _)| unchanged(name))
        .chain(last_of_each(changes))
        .map(|(name, value)| entry(&name, &value))
        .collect::<io::Result<Vec<_>>>()?;
    entries.push(inherit::marker(socket));
    Ok(entries)
}

/// A variable that was set twice has its last value.
fn last_of_each(
    changes: &[(OsString, OsString)],
) -> impl Iterator<Item = (OsString, OsString)> + '_ {
    changes
        .iter()
        .enumerate()
        .filter_map(|(at, (name, value))| {
            let again = changes[at + 1..].iter().any(|(later, _)| later == name);
            (!again).then(|| (name.clone(), value.clone()))
        })
}

fn entry(name: &OsStr, value: &OsStr) -> io::Result<CString> {
    if name.is_empty() || name.as_bytes()[1..].contains(&b'=') {
        let why = format!("{name:?} cannot be the name of an environment variable");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let mut entry = name.to_owned();
    entry.push("=");
    entry.push(value);
    c_string(entry, "an environment variable")
}

fn c_string(text: OsString, what: &str) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(|error| {
        let why = format!(
            "{what} contains a NUL byte at position {}",
            error.nul_position()
        );
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })
}
