//! Signals: their names, and keeping them away from a thread for a while.
//!
//! Always: a thread started while signals are blocked never gets one, so they go where their handlers are
//! expected to run.
//! Not here: handlers, sending one to a child (`death`).

use std::borrow::Cow;
use std::marker::PhantomData;

/// The name of a signal: "SIGKILL", "SIGRTMIN+3"; "signal 77" if it has none.
pub fn name(signal: i32) -> Cow<'static, str> {
    let name = match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGSTKFLT => "SIGSTKFLT",
        libc::SIGCHLD => "SIGCHLD",
        libc::SIGCONT => "SIGCONT",
        libc::SIGSTOP => "SIGSTOP",
        libc::SIGTSTP => "SIGTSTP",
        libc::SIGTTIN => "SIGTTIN",
        libc::SIGTTOU => "SIGTTOU",
        libc::SIGURG => "SIGURG",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGVTALRM => "SIGVTALRM",
        libc::SIGPROF => "SIGPROF",
        libc::SIGWINCH => "SIGWINCH",
        libc::SIGIO => "SIGIO",
        libc::SIGPWR => "SIGPWR",
        libc::SIGSYS => "SIGSYS",
        _ => return real_time_name(signal),
    };
    Cow::Borrowed(name)
}

fn real_time_name(signal: i32) -> Cow<'static, str> {
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    if signal == first {
        Cow::Borrowed("SIGRTMIN")
    } else if (first..=last).contains(&signal) {
        Cow::Owned(format!("SIGRTMIN+{}", signal - first))
    } else {
        Cow::Owned(format!("signal {signal}"))
    }
}

/// Signals as the kernel keeps them: bit `n - 1` is signal `n`.
pub(crate) type Mask = u64;

/// Sets the calling thread's mask; the one before. Async-signal-safe.
///
/// The system call itself, because glibc's functions leave out the two signals that it uses internally.
pub(crate) fn set_mask(mask: Mask) -> Mask {
    let mut previous: Mask = 0;
    // SAFETY: both masks are live and of the length given. The call cannot fail with these arguments.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut previous,
            size_of::<Mask>(),
        );
    }
    previous
}

/// While it lives, no signal is handled in this thread; those that come are handled when it is dropped.
#[derive(Debug)]
pub struct Blocked {
    previous: Mask,
    /// A mask belongs to a thread.
    _stays: PhantomData<*mut ()>,
}

impl Blocked {
    /// Blocks every signal that can be blocked.
    #[expect(clippy::new_without_default, reason = "an act, not a value")]
    #[must_use = "signals are blocked only while it lives"]
    pub fn new() -> Blocked {
        Blocked {
            previous: set_mask(Mask::MAX),
            _stays: PhantomData,
        }
    }

    /// What was blocked before.
    pub(crate) fn previous(&self) -> Mask {
        self.previous
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        set_mask(self.previous);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_called_by_their_names() {
        assert_eq!(name(libc::SIGKILL), "SIGKILL");
        assert_eq!(name(libc::SIGSEGV), "SIGSEGV");
        assert_eq!(name(libc::SIGRTMIN()), "SIGRTMIN");
        assert_eq!(name(libc::SIGRTMIN() + 2), "SIGRTMIN+2");
        assert_eq!(name(0), "signal 0");
        assert_eq!(name(1000), "signal 1000");
    }

    #[test]
    fn signals_are_blocked_while_the_guard_lives_and_not_longer() {
        let before = set_mask(0);
        let unblockable = (1 << (libc::SIGKILL - 1)) | (1 << (libc::SIGSTOP - 1));
        {
            let blocked = Blocked::new();
            assert_eq!(blocked.previous(), 0);
            let nested = Blocked::new();
            assert_eq!(nested.previous(), Mask::MAX & !unblockable);
        }
        assert_eq!(set_mask(before), 0);
    }
}
