//! What this process may use: its resource limits.
//!
//! Not here: how many CPUs there are (`cpu`).

use std::fmt;
use std::fs::File;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error;
use crate::fd::read_all;

/// Something the kernel limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of address space: beyond it memory cannot be mapped (`RLIMIT_AS`).
    AddressSpace,
    /// Seconds of CPU time: at the soft limit comes SIGXCPU, at the hard one SIGKILL (`RLIMIT_CPU`).
    CpuSeconds,
    /// The number of open descriptors, all of which are smaller (`RLIMIT_NOFILE`).
    OpenFiles,
    /// Bytes of a core dump (`RLIMIT_CORE`).
    Core,
    /// Bytes of private writable memory (`RLIMIT_DATA`).
    Data,
    /// Bytes of a file that is written: beyond it comes SIGXFSZ (`RLIMIT_FSIZE`).
    FileSize,
    /// Bytes of the main thread's stack (`RLIMIT_STACK`).
    Stack,
    /// The user's processes and threads (`RLIMIT_NPROC`).
    Processes,
}

impl Limit {
    fn resource(self) -> Resource {
        match self {
            Limit::AddressSpace => Resource::As,
            Limit::CpuSeconds => Resource::Cpu,
            Limit::OpenFiles => Resource::Nofile,
            Limit::Core => Resource::Core,
            Limit::Data => Resource::Data,
            Limit::FileSize => Resource::Fsize,
            Limit::Stack => Resource::Stack,
            Limit::Processes => Resource::Nproc,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::AddressSpace => "address space",
            Limit::CpuSeconds => "CPU seconds",
            Limit::OpenFiles => "open files",
            Limit::Core => "core dumps",
            Limit::Data => "private memory",
            Limit::FileSize => "the size of files",
            Limit::Stack => "the stack",
            Limit::Processes => "processes",
        })
    }
}

/// A limit's two values; `None` is without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What is enforced; a process may move it up to `hard`.
    pub soft: Option<u64>,
    /// How far `soft` may be raised; a process without privileges can only lower it.
    pub hard: Option<u64>,
}

/// This process's limit.
pub fn get(limit: Limit) -> Bounds {
    let Rlimit { current, maximum } = getrlimit(limit.resource());
    Bounds {
        soft: current,
        hard: maximum,
    }
}

/// Sets both values, for this process and the children it starts from now on.
pub fn set(limit: Limit, bounds: Bounds) -> io::Result<()> {
    let Bounds { soft, hard } = bounds;
    setrlimit(
        limit.resource(),
        Rlimit {
            current: soft,
            maximum: hard,
        },
    )
    .map_err(|e| {
        error::advised(
            e,
            format!(
                "could not limit {limit} to {} (at most {})",
                Said(soft),
                Said(hard)
            ),
            "the first may not exceed the second, and only root may raise the second",
        )
    })
}

/// Sets what is enforced and leaves how far it may be raised.
pub fn set_soft(limit: Limit, soft: Option<u64>) -> io::Result<()> {
    set(limit, Bounds { soft, ..get(limit) })
}

/// Bytes of private writable memory that this process has, as [`Limit::Data`] counts them.
pub fn data_in_use() -> io::Result<u64> {
    let status = File::open("/proc/self/status")
        .and_then(read_all)
        .map_err(|e| error::context(e, "could not read /proc/self/status"))?;
    let status = String::from_utf8_lossy(&status);
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmData:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes << 10).ok_or_else(|| {
        io::Error::other("/proc/self/status does not say how much private memory there is")
    })
}

/// Has this process do with `bytes` of private writable memory in all: what asks for more is refused it.
///
/// # Errors
/// When it has more than that already, give or take what starting up takes: nothing would work.
pub fn limit_data(bytes: u64) -> io::Result<()> {
    let used = data_in_use()?;
    if used.saturating_add(LEAST_DATA) > bytes {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "a limit of {} leaves nothing to work with: {} of private memory are in use already",
                error::bytes(bytes),
                error::bytes(used)
            ),
        ));
    }
    set_soft(Limit::Data, Some(bytes))
}

/// What a process needs beyond what it has, to do anything at all.
const LEAST_DATA: u64 = 4 << 20;

struct Said(Option<u64>);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(n) => n.fmt(f),
            None => f.write_str("unlimited"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_set_is_the_limit() {
        let before = get(Limit::Core);
        set_soft(Limit::Core, Some(0)).unwrap();
        assert_eq!(
            get(Limit::Core),
            Bounds {
                soft: Some(0),
                ..before
            }
        );
        set(Limit::Core, before).unwrap();
        assert_eq!(get(Limit::Core), before);
    }

    #[test]
    fn more_private_memory_is_more_in_use() {
        let before = data_in_use().unwrap();
        let more = vec![1u8; 64 << 20];
        assert!(data_in_use().unwrap() >= before + (60 << 20), "{before}");
        drop(more);
    }

    #[test]
    fn a_limit_below_what_is_in_use_is_refused_in_words() {
        let error = limit_data(1 << 20).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("a limit of 1 MiB leaves nothing to work with: "),
            "{error}"
        );
    }

    #[test]
    fn a_soft_limit_above_the_hard_one_is_refused_in_words() {
        let error = set(
            Limit::Core,
            Bounds {
                soft: Some(2),
                hard: Some(1),
            },
        )
        .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(
            error
                .to_string()
                .starts_with("could not limit core dumps to 2 (at most 1): ")
        );
    }
}
