//! The end of a process: noticing it, waiting for it, and what it said last.
//!
//! Always: a process is named by its pidfd where the kernel has them, so a number that was given away again is
//! never mistaken for it; its status is fetched once and kept; a waiter is woken by the end itself.
//! Not here: what becomes of its work (`manyhands`).

use std::fmt;
use std::fs;
use std::io;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::error;
use crate::fd::{OwnedFd, read_all};
use crate::fork_state;
use crate::signal;

mod child;
mod lifeline;
mod parent;

pub use child::Child;
pub use lifeline::{Hold, Lifeline};
pub use parent::ParentWatch;

/// How a process ended.
///
/// ```
/// use manyhands_os::death::ExitStatus;
///
/// assert_eq!(ExitStatus::Exited(3).to_string(), "exit code 3");
/// assert_eq!(ExitStatus::Signaled(15).to_string(), "signal 15 (SIGTERM)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// It returned or called exit, with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// Nobody knows: somebody else fetched the status, or it was lost with the process that had it.
    Unknown,
}

impl ExitStatus {
    /// As Python's `exitcode`: the code, or minus the signal, or 255 if nobody knows.
    pub fn exitcode(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => code,
            ExitStatus::Signaled(signal) => -signal,
            ExitStatus::Unknown => 255,
        }
    }

    /// From an exit code, or minus a signal.
    pub fn from_exitcode(code: i32) -> ExitStatus {
        if code >= 0 {
            ExitStatus::Exited(code)
        } else {
            ExitStatus::Signaled(code.saturating_neg())
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ExitStatus::Exited(code) => write!(f, "exit code {code}"),
            ExitStatus::Signaled(number) => {
                let name = signal::name(number);
                // What has no name is called "signal 77" already.
                if name.starts_with("SIG") {
                    write!(f, "signal {number} ({name})")
                } else {
                    f.write_str(&name)
                }
            }
            ExitStatus::Unknown => f.write_str("an exit status that nobody knows"),
        }
    }
}

/// When a process started, in clock ticks since the machine did: with its number, its identity.
///
/// An error of the kind `NotFound` if there is no such process.
pub fn start_time(pid: i32) -> io::Result<u64> {
    Ok(Stat::read(pid)?.started)
}

fn checked(pid: i32) -> io::Result<Pid> {
    // Zero and negative numbers mean groups of processes to the kernel.
    let number = if pid > 0 { Pid::from_raw(pid) } else { None };
    number.ok_or_else(|| {
        let text = format!("{pid} is not the number of a process");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

/// What `/proc/PID/stat` says of a process.
struct Stat {
    /// A letter: `Z` is a process whose first thread ended, and that was not fetched yet.
    state: u8,
    threads: u32,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> io::Result<Stat> {
        let what = || format!("could not look up process {pid}");
        let read = fs::File::open(format!("/proc/{pid}/stat")).and_then(read_all);
        let text = read.map_err(|e| match e.raw_os_error() {
            // A process that ends while its file is being read.
            Some(libc::ESRCH) => error::context(io::Error::from(io::ErrorKind::NotFound), what()),
            _ => error::context(e, what()),
        })?;
        Stat::parse(&text).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: its stat file reads oddly", what()),
            )
        })
    }

    /// "42 (a) name) S 1 ...": the name may hold anything, so what follows begins after the last parenthesis.
    fn parse(text: &[u8]) -> Option<Stat> {
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        // The state is field 3, the number of threads field 20 and the start time field 22.
        let threads = fields.nth(16)?.parse().ok()?;
        let started = fields.nth(1)?.parse().ok()?;
        Some(Stat {
            state,
            threads,
            started,
        })
    }

    /// Whether no thread of it runs any more: the first one may have ended before others, for good or for an instant.
    fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

/// `/proc` as it is mounted now.
///
/// It numbers processes as the namespace does that it was mounted in, which need not be ours: who went into a
/// namespace of its own often keeps the `/proc` of the one around it. What it tells of a number is true of a
/// number that came from it, not of one from `getpid`, `fork` or `getppid`, unless [`Proc::is_ours`].
pub(crate) struct Proc {
    folder: OwnedFd,
    /// Tells it from every other `/proc` there is: each mounted file system has a device number of its own.
    pub(crate) view: u64,
}

/// A process as its entry in [`Proc`] shows it.
pub(crate) enum Entry {
    /// It runs, and started at this time.
    Running(u64),
    /// It has ended, and nobody has fetched its status.
    Ended,
    /// No entry: it is gone, or hidden from us.
    None,
}

impl Proc {
    pub(crate) fn open() -> io::Result<Proc> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open("/proc", flags, Mode::empty())
            .map_err(|e| error::context(e, "could not look at /proc"))?;
        let view = rustix::fs::fstat(&folder)?.st_dev;
        Ok(Proc { folder, view })
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        read_all(rustix::fs::openat(
            &self.folder,
            path,
            flags,
            Mode::empty(),
        )?)
    }

    /// This process's number as `/proc` has it, and when it started.
    pub(crate) fn own(&self) -> io::Result<(i32, u64)> {
        let text = self
            .read("self/stat")
            .map_err(|e| error::context(e, "could not look up this process"))?;
        own_entry(&text).ok_or_else(|| {
            let oddly = "could not look up this process: its stat file reads oddly";
            io::Error::new(io::ErrorKind::InvalidData, oddly)
        })
    }

    pub(crate) fn entry(&self, number: i32) -> io::Result<Entry> {
        let text = match self.read(&format!("{number}/stat")) {
            Ok(text) => text,
            Err(e) if is_missing(&e) => return Ok(Entry::None),
            Err(e) => return Err(e),
        };
        let stat = Stat::parse(&text).ok_or(io::ErrorKind::InvalidData)?;
        Ok(if stat.is_dead() {
            Entry::Ended
        } else {
            Entry::Running(stat.started)
        })
    }

    /// Whether its numbers are those of our own namespace.
    pub(crate) fn is_ours(&self) -> bool {
        let is_our_number = |(number, _)| number == fork_state::pid();
        if !self.own().is_ok_and(is_our_number) {
            return false; // of another namespace, or of none that we are in
        }
        // The same number in both is possible. The line has one for each namespace from there to ours; it is
        // missing where the kernel has no namespaces of processes.
        let Ok(status) = self.read("self/status") else {
            return false;
        };
        let mut lines = status.split(|byte| *byte == b'\n');
        let numbers = lines.find_map(|line| line.strip_prefix(b"NSpid:"));
        numbers.is_none_or(|line| line.trim_ascii().iter().all(u8::is_ascii_digit))
    }
}

/// The number and the start time in a text of `/proc/self/stat`.
fn own_entry(text: &[u8]) -> Option<(i32, u64)> {
    let number = text.split(|byte| *byte == b' ').next()?;
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some((number, Stat::parse(text)?.started))
}

fn is_missing(e: &io::Error) -> bool {
    // ESRCH: a process that ends while its file is being read.
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH)
}

/// This process's number as `/proc` has it, and when it started: what others need to find it there.
pub fn own_start() -> io::Result<(i32, u64)> {
    Proc::open()?.own()
}

/// Whether no process of our namespace has this number, not even one that ended and was not fetched. Unlike
/// `/proc`, the kernel hides nobody from this question.
pub(crate) fn is_free(pid: i32) -> bool {
    checked(pid).is_ok_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// Whether process `pid` that started at `started` has ended, as far as can be told. No answer is "no".
fn has_ended(pid: i32, started: Option<u64>) -> bool {
    if is_free(pid) {
        return true;
    }
    let Ok(proc) = Proc::open() else {
        return false;
    };
    match proc.entry(pid) {
        Ok(Entry::Ended) => proc.is_ours(),
        Ok(Entry::Running(now)) => started.is_some_and(|then| then != now) && proc.is_ours(),
        Ok(Entry::None) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_read_as_people_say_them() {
        let said = [
            ExitStatus::Exited(3),
            ExitStatus::Signaled(9),
            ExitStatus::Signaled(77),
            ExitStatus::Unknown,
        ];
        assert_eq!(
            said.map(|status| status.to_string()),
            [
                "exit code 3",
                "signal 9 (SIGKILL)",
                "signal 77",
                "an exit status that nobody knows"
            ]
        );
        assert_eq!(said.map(ExitStatus::exitcode), [3, -9, -77, 255]);
        assert_eq!(ExitStatus::from_exitcode(-9), ExitStatus::Signaled(9));
        assert_eq!(ExitStatus::from_exitcode(0), ExitStatus::Exited(0));
    }

    #[test]
    fn a_stat_file_is_read_whatever_the_name_is() {
        let text = b"42 (a) Z 1 2 (x) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 0 0\n";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.threads, stat.started), (b'S', 1, 98765));
        for bad in [
            &b""[..],
            b"42 (x",
            b"42 (x) ",
            b"42 (x) S 1 2",
            b"42 (x) S \xff",
        ] {
            assert!(Stat::parse(bad).is_none());
        }
    }

    #[test]
    fn a_process_whose_first_thread_alone_has_ended_lives() {
        let stat = |state: &str, threads: u32| {
            let text =
                format!("42 (x) {state} 1 42 42 0 -1 0 1 2 3 4 5 6 7 8 20 0 {threads} 0 98765 0");
            Stat::parse(text.as_bytes()).unwrap()
        };
        assert!(stat("Z", 1).is_dead() && stat("X", 0).is_dead());
        assert!(!stat("Z", 2).is_dead() && !stat("R", 1).is_dead());
    }

    #[test]
    fn this_process_has_started_and_no_process_has_not() {
        let me = std::process::id() as i32;
        let started = start_time(me).unwrap();
        assert_eq!(started, start_time(me).unwrap());
        assert!(!has_ended(me, Some(started)));
        assert!(has_ended(me, Some(started + 1)));
        assert_eq!(
            start_time(i32::MAX).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert!(has_ended(i32::MAX, None));
    }
}
