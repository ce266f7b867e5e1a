//! Errors that say what failed, on what, and what to do, and still know their `errno`.
//!
//! Always: the kind of an error survives its context, so that `Interrupted` and `NotFound` can be matched
//! on, and [`errno`] finds the number through any depth of context.

use std::error::Error;
use std::fmt;
use std::io;

/// An error of the system with the sentence it belongs to.
#[derive(Debug)]
struct Told {
    what: String,
    cause: io::Error,
    advice: String,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, reason(&self.cause))?;
        if self.advice.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.advice)
        }
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// "{what}: {the system's reason}"; where that is a limit reached, also which, and what to do.
pub fn context(cause: impl Into<io::Error>, what: impl Into<String>) -> io::Error {
    advised(cause, what, "")
}

/// "{what}: {the system's reason}; {advice}", or what helps when the reason is a limit that says so itself.
pub fn advised(cause: impl Into<io::Error>, what: impl Into<String>, advice: &str) -> io::Error {
    let cause = cause.into();
    let limit = cause.raw_os_error().and_then(reached);
    let advice = limit.unwrap_or_else(|| advice.to_owned());
    io::Error::new(
        cause.kind(),
        Told {
            what: what.into(),
            cause,
            advice,
        },
    )
}

/// The limit that this error number tells of: how high it is, and what to do.
fn reached(number: i32) -> Option<String> {
    match number {
        libc::EMFILE => Some(format!(
            "this process may have {}: raise the limit (`ulimit -n`), or close some",
            limit(libc::RLIMIT_NOFILE)?
        )),
        libc::ENFILE => {
            Some("all programs together have too many: raise `sysctl fs.file-max`".to_owned())
        }
        libc::EFBIG => Some(format!(
            "files of this process may have {}: raise the limit (`ulimit -f`), or ask for less",
            bytes(limit(libc::RLIMIT_FSIZE)?)
        )),
        _ => None,
    }
}

/// A limit of this process; `None` if there is none.
pub(crate) fn limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut bounds = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the struct is live, and the kernel writes it.
    let answer = unsafe { libc::getrlimit(resource, &raw mut bounds) };
    (answer == 0 && bounds.rlim_cur != libc::RLIM_INFINITY).then_some(bounds.rlim_cur)
}

/// The error number at the bottom of `error`, if it came from the system at all.
pub fn errno(error: &io::Error) -> Option<i32> {
    if let Some(number) = error.raw_os_error() {
        return Some(number);
    }
    let told = error.get_ref()?.downcast_ref::<Told>()?;
    errno(&told.cause)
}

/// The system's words without "(os error 12)", which tells a reader nothing.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match (error.raw_os_error(), text.rfind(" (os error ")) {
        (Some(_), Some(end)) => text[..end].to_owned(),
        _ => text,
    }
}

/// Whether the kernel, or a container's profile in front of it, does not offer this call.
pub(crate) fn unavailable(error: rustix::io::Errno) -> bool {
    matches!(error, rustix::io::Errno::NOSYS | rustix::io::Errno::PERM)
}

/// A number of bytes as people say it: "2 GiB", "1.5 MiB", "17 bytes".
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        if n >> shift > 0 {
            let whole = n >> shift;
            let tenth = ((n >> (shift - 10)) & 1023) * 10 / 1024;
            return if tenth == 0 {
                format!("{whole} {unit}")
            } else {
                format!("{whole}.{tenth} {unit}")
            };
        }
    }
    format!("{n} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_kind_and_its_number_under_context() {
        let inner = context(
            io::Error::from_raw_os_error(libc::ENOMEM),
            "could not map 2 GiB",
        );
        let outer = advised(inner, "could not build the pool", "lower `arena_size`");
        assert_eq!(outer.kind(), io::ErrorKind::OutOfMemory);
        assert_eq!(errno(&outer), Some(libc::ENOMEM));
        assert_eq!(
            outer.to_string(),
            "could not build the pool: could not map 2 GiB: Cannot allocate memory; lower `arena_size`"
        );
    }

    #[test]
    fn a_limit_that_was_reached_says_how_high_it_is_and_what_to_do() {
        let inner = context(
            io::Error::from_raw_os_error(libc::EMFILE),
            "could not do it",
        );
        let files = limit(libc::RLIMIT_NOFILE).unwrap();
        let said = format!(
            "could not do it: Too many open files; this process may have {files}: raise the limit (`ulimit -n`), \
             or close some"
        );
        assert_eq!(inner.to_string(), said);
        // Once is enough.
        assert_eq!(
            context(inner, "no pool").to_string(),
            format!("no pool: {said}")
        );
    }

    #[test]
    fn an_error_of_ours_has_no_number() {
        assert_eq!(errno(&io::Error::other("no such thing")), None);
    }

    #[test]
    fn sizes_read_as_people_say_them() {
        let said = [17, 4096, 1 << 21, 3 << 29, 1 << 31].map(bytes);
        assert_eq!(said, ["17 bytes", "4 KiB", "2 MiB", "1.5 GiB", "2 GiB"]);
    }
}
