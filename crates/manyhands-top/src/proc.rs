//! What `/proc` says of processes: whose they are, what they use, which memory they hold open.
//!
//! Always: a process may end between any two looks, and then it just is not there.

use std::fs;
use std::path::{Path, PathBuf};

/// Clock ticks in a second, in what `/proc` tells: the same on every Linux that Rust knows.
const TICKS: f64 = 100.0;

/// A process at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// The effective user.
    pub(crate) user: u32,
    /// Its number where it lives: in the innermost namespace.
    pub(crate) own_pid: i32,
    /// Memory that is there, in bytes.
    pub(crate) memory: u64,
    /// One letter.
    pub(crate) state: char,
}

impl Status {
    pub(crate) fn of(pid: i32) -> Option<Status> {
        Status::parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    fn parse(text: &str) -> Option<Status> {
        let mut status = Status::default();
        let mut has_user = false;
        for line in text.lines() {
            let (name, value) = line.split_once(':')?;
            let mut words = value.split_whitespace();
            match name {
                "State" => status.state = words.next()?.chars().next()?,
                "Uid" => {
                    status.user = words.nth(1)?.parse().ok()?;
                    has_user = true;
                }
                "Pid" => status.own_pid = words.next()?.parse().ok()?,
                "NSpid" => status.own_pid = words.last()?.parse().ok()?,
                "VmRSS" => {
                    status.memory = words.next()?.parse::<u64>().ok()?.saturating_mul(1024);
                }
                _ => {}
            }
        }
        has_user.then_some(status)
    }
}

/// The user whose processes are ours to see.
pub(crate) fn this_user() -> Option<u32> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    Status::parse(&text).map(|status| status.user)
}

/// Seconds of processor time that a process has used.
pub(crate) fn processor_time(pid: i32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    ticks(&text).map(|ticks| ticks as f64 / TICKS)
}

fn ticks(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything, parentheses too.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// The command line, in one line.
pub(crate) fn command(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let mut line = words.join(" ");
    if let Some((path, rest)) = words.split_first()
        && let Some(name) = Path::new(path).file_name()
    {
        let name = name.to_string_lossy();
        line = [&*name]
            .into_iter()
            .chain(rest.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ");
    }
    // It is another's text and goes to a terminal.
    line.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

/// Every process there is.
pub(crate) fn all() -> Vec<i32> {
    let Ok(folder) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    folder
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The descriptors of `pid` that are memory with this name.
pub(crate) fn memory(pid: i32, name: &str) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new(); // not ours to see, or gone
    };
    let wanted = format!("/memfd:{name}");
    let is_meant = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|target| {
            let target = target.to_string_lossy();
            let target = target.strip_suffix(" (deleted)").unwrap_or(&target);
            target == wanted
        })
    };
    folder
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_meant)
        .collect()
}

/// The namespace that `pid` has its number from.
pub(crate) fn namespace(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_hides_no_figures() {
        let stat = "7 (a) S (b) R 1 7 7 0 -1 4194304 90 0 0 0 31 11 0 0 20 0 1 0 5 0 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn a_status_gives_the_number_in_the_innermost_namespace() {
        let text = "Name:\tx\nState:\tT (stopped)\nPid:\t4711\nUid:\t1\t1000\t1\t1\nNSpid:\t4711\t12\nVmRSS:\t   64 kB\n";
        let status = Status::parse(text).expect("a whole status");
        assert_eq!(
            (status.user, status.own_pid, status.memory, status.state),
            (1000, 12, 65536, 'T')
        );
        assert!(Status::parse("Name:\tx\n").is_none());
        assert!(Status::parse("nonsense").is_none());
    }

    #[test]
    fn this_process_is_one_of_ours() {
        let pid = i32::try_from(std::process::id()).expect("a small number");
        assert!(all().contains(&pid));
        let status = Status::of(pid).expect("it lives");
        assert_eq!(Some(status.user), this_user());
        assert!(status.memory > 0 && processor_time(pid).is_some());
        assert!(!command(pid).is_empty());
    }
}
