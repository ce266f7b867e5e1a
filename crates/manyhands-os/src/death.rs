//! The end of a process: noticing it, waiting for it, and what it said last.
//!
//! Always: a process is named by its pidfd where the kernel has them, so a number that was given away again is
//! never mistaken for it; its status is fetched once and kept; a waiter is woken by the end itself.
//! Not here: what becomes of its work (`manyhands`).

use std::fmt;
use std::fs;
use std::io;

use rustix::process::Pid;

use crate::error;
use crate::fork_state;
use crate::signal;

mod child;
mod parent;

pub use child::Child;
pub use parent::ParentWatch;

/// How a process ended.
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
    /// A letter: `Z` is a process that ended and was not fetched yet.
    state: u8,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> io::Result<Stat> {
        let what = || format!("could not look up process {pid}");
        let text = fs::read(format!("/proc/{pid}/stat")).map_err(|e| match e.raw_os_error() {
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
        // The state is field 3 and the start time field 22.
        let started = fields.nth(18)?.parse().ok()?;
        Some(Stat { state, started })
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// When a process started, or `None` if it has ended; an error where `/proc` does not tell.
pub(crate) fn running_since(pid: i32) -> io::Result<Option<u64>> {
    match Stat::read(pid) {
        Ok(stat) => Ok((!stat.is_dead()).then_some(stat.started)),
        // Nobody is there, unless nothing is: then `/proc` is missing.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Stat::read(fork_state::pid()).map(|_| None)
        }
        Err(e) => Err(e),
    }
}

/// Whether process `pid` that started at `started` has ended, as `/proc` tells it. No answer is "no".
fn has_ended(pid: i32, started: Option<u64>) -> bool {
    match Stat::read(pid) {
        Ok(stat) => stat.is_dead() || started.is_some_and(|started| started != stat.started),
        Err(e) => e.kind() == io::ErrorKind::NotFound,
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
        assert_eq!((stat.state, stat.started), (b'S', 98765));
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
