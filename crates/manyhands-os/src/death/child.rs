//! A child of this process, or of a fork server that reports on it: its sentinel, its status, its signals.
//!
//! Always: the status is fetched at most once, under the lock, and kept; a signal is sent only while the number
//! is known to be the child's. In a process that was forked off the owner, every call is an error.
//!
//! Without pidfds (Linux before 5.3, `EPERM` from old container profiles) the sentinel of an own child is an
//! eventfd that a small thread rings: it sleeps in `waitid` until the child ends, and leaves the status to be
//! fetched. The sentinel of a fork server's child is then the pipe that its status comes through.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};
use rustix::process::{PidfdFlags, WaitOptions, pidfd_open, waitpid};

use super::{ExitStatus, checked, has_ended, start_time};
use crate::clock::Deadline;
use crate::error;
use crate::fd::EventFd;
use crate::fork_state::{self, ParentFd};
use crate::poll;
use crate::signal::Blocked;

/// How long a fork server may take to report the status of a child that has ended before it is given up.
const REPORT_PATIENCE: Duration = Duration::from_secs(5);

/// How often a process is looked at where nothing can wake us when it ends.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A process that this one started, itself or through a fork server. Any thread may wait for it.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    generation: u64,
    origin: Origin,
    fate: Mutex<Option<ExitStatus>>,
}

#[derive(Debug)]
enum Origin {
    /// Ours to reap.
    Own(Sentinel),
    /// A fork server reaps it and writes its status to a pipe.
    Remote {
        pidfd: Option<ParentFd>,
        report: ParentFd,
        started: Option<u64>,
    },
}

/// What becomes readable when an own child ends.
#[derive(Debug)]
enum Sentinel {
    Pidfd(ParentFd),
    Bell(Arc<Bell>),
}

impl Sentinel {
    fn get(&self) -> io::Result<BorrowedFd<'_>> {
        match self {
            Sentinel::Pidfd(fd) => fd.get(),
            Sentinel::Bell(bell) => bell.0.get(),
        }
    }
}

/// An eventfd that stays in this process.
#[derive(Debug)]
struct Bell(ParentFd);

impl Bell {
    fn new() -> io::Result<Arc<Bell>> {
        Ok(Arc::new(Bell(ParentFd::new(EventFd::new()?.into()))))
    }

    fn ring(&self) {
        if let Ok(fd) = self.0.get() {
            // A full bell rings already; there is nothing else that could fail.
            let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
        }
    }
}

impl Child {
    /// The child `pid` that this process has started and nobody has waited for yet.
    pub fn own(pid: i32) -> io::Result<Child> {
        let number = checked(pid)?;
        let (sentinel, fate) = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(fd) => (Sentinel::Pidfd(ParentFd::new(fd)), None),
            // It was reaped by somebody else, or by the kernel, which does so where SIGCHLD is ignored.
            Err(Errno::SRCH) => {
                let bell = Bell::new()?;
                bell.ring();
                (Sentinel::Bell(bell), Some(ExitStatus::Unknown))
            }
            Err(e) if error::unavailable(e) => (Sentinel::Bell(watched(pid)?), None),
            Err(e) => return Err(error::context(e, format!("could not watch process {pid}"))),
        };
        Ok(Child::new(pid, Origin::Own(sentinel), fate))
    }

    /// The child `pid` of a fork server, which sends `pidfd` if it has one, and writes the exit code, or minus
    /// the signal, to `report` as a native-endian `i32` after it has reaped the child.
    pub fn remote(pid: i32, pidfd: Option<OwnedFd>, report: OwnedFd) -> io::Result<Child> {
        checked(pid)?;
        let started = if pidfd.is_none() {
            start_time(pid).ok()
        } else {
            None
        };
        let origin = Origin::Remote {
            pidfd: pidfd.map(ParentFd::new),
            report: ParentFd::new(report),
            started,
        };
        Ok(Child::new(pid, origin, None))
    }

    fn new(pid: i32, origin: Origin, fate: Option<ExitStatus>) -> Child {
        Child {
            pid,
            generation: fork_state::generation(),
            origin,
            fate: Mutex::new(fate),
        }
    }

    /// Its process number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable from the moment the child has ended. An error in a process forked off the owner.
    ///
    /// Without pidfds, that of a fork server's child is also readable when the server itself has ended.
    pub fn sentinel(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.origin {
            Origin::Own(sentinel) => sentinel.get(),
            Origin::Remote {
                pidfd: Some(pidfd), ..
            } => pidfd.get(),
            Origin::Remote {
                pidfd: None,
                report,
                ..
            } => report.get(),
        }
    }

    /// How it ended, if it has.
    ///
    /// Once the sentinel is readable the answer is there. It may then take a moment if a fork server is busy,
    /// and is [`ExitStatus::Unknown`] if the server does not report within five seconds, or has ended.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.look(&mut *self.fate()?)
    }

    /// Waits for its end, for at most `timeout`; `None` if it lives on.
    ///
    /// `ErrorKind::Interrupted` if a signal came meanwhile.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<ExitStatus>> {
        let deadline = Deadline::after(timeout);
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            if deadline.passed() {
                return Ok(None);
            }
            self.sleep(deadline.left())?;
        }
    }

    /// Sleeps until it is worth another look, for at most `left`.
    fn sleep(&self, left: Option<Duration>) -> io::Result<()> {
        let at_most = |pause: Duration| Some(left.map_or(pause, |left| left.min(pause)));
        match &self.origin {
            Origin::Own(sentinel) => poll::readable(&[sentinel.get()?], left)?,
            // Readable although the child lives: the server is gone.
            Origin::Remote { pidfd, report, .. } if poll::is_readable(report.get()?)? => {
                match pidfd {
                    Some(pidfd) => poll::readable(&[pidfd.get()?], left)?,
                    None => poll::readable(&[], at_most(LOOK_AGAIN))?,
                }
            }
            // The report follows the end: one wake-up instead of two. Not for ever, as the server may hang.
            Origin::Remote { pidfd, report, .. } => {
                let patience = match pidfd {
                    Some(_) => at_most(REPORT_PATIENCE),
                    None => left,
                };
                poll::readable(&[report.get()?], patience)?
            }
        };
        Ok(())
    }

    /// Sends it a signal; one that has ended is left in peace, which is no error.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let mut fate = self.fate()?;
        if fate.is_some() {
            return Ok(());
        }
        let failed = |e: Errno| {
            let what = format!(
                "could not send {} to process {}",
                crate::signal::name(signal),
                self.pid
            );
            Err(error::context(e, what))
        };
        if let Some(pidfd) = self.pidfd()? {
            match pidfd_send_signal(pidfd, signal) {
                Ok(()) | Err(Errno::SRCH) => return Ok(()),
                Err(e) if error::unavailable(e) => {}
                Err(e) => return failed(e),
            }
        }
        // By its number, which is its own as long as nobody has reaped it: for an own child only we do, under
        // the lock that we hold; another's may be gone between the look and the signal, a matter of
        // microseconds that only kernels without pidfds leave open.
        if self.look(&mut fate)?.is_some() {
            return Ok(());
        }
        // SAFETY: no memory is involved.
        match unsafe { libc::kill(self.pid, signal) } {
            0 => Ok(()),
            _ => match Errno::from_io_error(&io::Error::last_os_error()) {
                Some(Errno::SRCH) | None => Ok(()),
                Some(e) => failed(e),
            },
        }
    }

    fn pidfd(&self) -> io::Result<Option<BorrowedFd<'_>>> {
        match &self.origin {
            Origin::Own(Sentinel::Pidfd(fd))
            | Origin::Remote {
                pidfd: Some(fd), ..
            } => fd.get().map(Some),
            Origin::Own(Sentinel::Bell(_)) | Origin::Remote { pidfd: None, .. } => Ok(None),
        }
    }

    /// The lock around the status; refused in a forked child, where it may be held by a thread that is not
    /// there, and where waiting would be somebody else's business.
    fn fate(&self) -> io::Result<MutexGuard<'_, Option<ExitStatus>>> {
        if self.generation != fork_state::generation() {
            return Err(fork_state::forked(&format!(
                "the child process {}",
                self.pid
            )));
        }
        Ok(self.fate.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks whether it has ended, without waiting for that; keeps the answer.
    fn look(&self, fate: &mut Option<ExitStatus>) -> io::Result<Option<ExitStatus>> {
        if fate.is_none() {
            *fate = match &self.origin {
                Origin::Own(sentinel) => self.reap(sentinel)?,
                Origin::Remote {
                    pidfd,
                    report,
                    started,
                } => self.reported(pidfd.as_ref(), report, *started)?,
            };
        }
        Ok(*fate)
    }

    fn reap(&self, sentinel: &Sentinel) -> io::Result<Option<ExitStatus>> {
        let pid = checked(self.pid)?;
        let status = loop {
            match waitpid(Some(pid), WaitOptions::NOHANG) {
                Ok(None) => return Ok(None),
                Ok(Some((_, status))) => {
                    let exited = status.exit_status().map(ExitStatus::Exited);
                    let signaled = || status.terminating_signal().map(ExitStatus::Signaled);
                    break exited.or_else(signaled).unwrap_or(ExitStatus::Unknown);
                }
                Err(Errno::INTR) => {}
                Err(Errno::CHILD) => {
                    if let Sentinel::Pidfd(fd) = sentinel
                        && !poll::is_readable(fd.get()?)?
                    {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidInput,
                            format!("process {pid:?} is not a child of this one, and lives"),
                        ));
                    }
                    break ExitStatus::Unknown;
                }
                Err(e) => {
                    return Err(error::context(
                        e,
                        format!("could not wait for process {pid:?}"),
                    ));
                }
            }
        };
        if let Sentinel::Bell(bell) = sentinel {
            // The watching thread may not have been there yet.
            bell.ring();
        }
        Ok(Some(status))
    }

    fn reported(
        &self,
        pidfd: Option<&ParentFd>,
        report: &ParentFd,
        started: Option<u64>,
    ) -> io::Result<Option<ExitStatus>> {
        // Most often it is there, or nothing is.
        if let Report::Status(status) = read_report(report.get()?, pidfd.is_none())? {
            return Ok(Some(status));
        }
        let deadline = Deadline::after(Some(REPORT_PATIENCE));
        loop {
            // Looked at before the report: a child that has ended by now may be reported by now.
            let ended = match pidfd {
                Some(pidfd) => poll::is_readable(pidfd.get()?)?,
                None => false,
            };
            match read_report(report.get()?, pidfd.is_none())? {
                Report::Status(status) => return Ok(Some(status)),
                Report::Lost if ended || (pidfd.is_none() && has_ended(self.pid, started)) => {
                    return Ok(Some(ExitStatus::Unknown));
                }
                Report::Pending if ended && deadline.passed() => {
                    return Ok(Some(ExitStatus::Unknown));
                }
                Report::Pending if ended => {
                    match poll::readable(&[report.get()?], deadline.left()) {
                        Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                        _ => {}
                    }
                }
                Report::Lost | Report::Pending => return Ok(None),
            }
        }
    }
}

/// What has come through a fork server's pipe.
enum Report {
    Pending,
    Status(ExitStatus),
    /// The server has ended without a word.
    Lost,
}

/// Reads what the server wrote. If the pipe is the `sentinel` too, what it wrote stays in it, so that it stays
/// readable.
fn read_report(fd: BorrowedFd<'_>, sentinel: bool) -> io::Result<Report> {
    if !poll::is_readable(fd)? {
        return Ok(Report::Pending);
    }
    let mut code = [0; 4];
    loop {
        // A pipe takes and gives so few bytes as a whole.
        let read = if sentinel {
            peek(fd, &mut code)
        } else {
            rustix::io::read(fd, &mut code)
        };
        match read {
            Ok(4) => {
                let code = i32::from_ne_bytes(code);
                return Ok(Report::Status(ExitStatus::from_exitcode(code)));
            }
            Ok(_) => return Ok(Report::Lost),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Report::Pending),
            Err(e) => return Err(error::context(e, "could not read a fork server's report")),
        }
    }
}

/// Reads from a pipe without taking anything out, by way of another pipe.
fn peek(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<usize, Errno> {
    let (copy, copier) = pipe_with(PipeFlags::CLOEXEC)?;
    match tee(fd, copier, bytes.len(), SpliceFlags::NONBLOCK)? {
        0 => Ok(0),
        n => rustix::io::read(copy, &mut bytes[..n]),
    }
}

/// A bell that a thread rings when the child `pid` ends.
fn watched(pid: i32) -> io::Result<Arc<Bell>> {
    let bell = Bell::new()?;
    let theirs = Arc::clone(&bell);
    // Signals are for threads that have handlers to run.
    let _blocked = Blocked::new();
    thread::Builder::new()
        .name(format!("manyhands-{pid}"))
        .stack_size(64 << 10)
        .spawn(move || {
            await_end(pid);
            theirs.ring();
        })
        .map_err(|e| {
            error::context(
                e,
                format!("could not start a thread that watches process {pid}"),
            )
        })?;
    Ok(bell)
}

/// Sleeps until the child has ended, and leaves its status to be fetched.
fn await_end(pid: i32) {
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: `info` is valid for writes; nobody reads it.
        let ended = unsafe {
            libc::waitid(
                libc::P_PID,
                pid as libc::id_t,
                info.as_mut_ptr(),
                libc::WEXITED | libc::WNOWAIT,
            )
        };
        // ECHILD: it is reaped already.
        if ended == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return;
        }
    }
}

/// The system call itself: rustix takes no real-time signals, nor signal 0.
fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    // SAFETY: a null `siginfo` lets the kernel fill in its own.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if sent == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}
