//! A forked child that goes forward instruction by instruction.
//!
//! Always: the child is killed and reaped when the [`Traced`] is dropped, and by the kernel if
//! this process dies first.
//! Not here: what to do at which instruction (`killed`).

use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a step led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One more instruction was executed.
    Stopped,
    /// The child is at its end, with this exit code.
    Exited(i32),
}

/// A child under trace, stopped.
pub struct Traced {
    pid: libc::pid_t,
    ended: Option<i32>,
    /// The kernel takes requests from the thread that forked, and from no other.
    _one_thread: PhantomData<*const ()>,
}

impl Traced {
    /// Forks a child that prepares, stops, and later acts. Only `act` is single-stepped; it should
    /// take the same way each time.
    ///
    /// # Errors
    /// If the child cannot be forked or traced.
    pub fn fork<P>(prepare: impl FnOnce() -> P, act: impl FnOnce(P)) -> io::Result<Traced> {
        // SAFETY: the child runs the two closures and `_exit`s. They may allocate: glibc keeps its
        // allocator usable in a forked child. They take no lock that another thread may hold.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid == 0 {
            let code = catch_unwind(AssertUnwindSafe(|| {
                let prepared = prepare();
                // SAFETY: plain calls without pointers.
                unsafe {
                    libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                    libc::raise(libc::SIGSTOP);
                }
                act(prepared);
            }))
            .map_or(101, |()| 0);
            // SAFETY: ends the child, running nothing of the parent's.
            unsafe { libc::_exit(code) };
        }
        let mut traced = Traced {
            pid,
            ended: None,
            _one_thread: PhantomData,
        };
        match traced.wait()? {
            Step::Stopped => {}
            Step::Exited(code) => {
                return Err(io::Error::other(format!(
                    "the child ended early with code {code}"
                )));
            }
        }
        // SAFETY: the child is stopped and ours to trace; no pointers.
        let set = unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, libc::PTRACE_O_EXITKILL) };
        if set < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(traced)
        }
    }

    /// Executes one more instruction.
    ///
    /// # Errors
    /// If the child cannot be traced any further.
    pub fn step(&mut self) -> io::Result<Step> {
        if let Some(code) = self.ended {
            return Ok(Step::Exited(code));
        }
        // SAFETY: the child is stopped and ours to trace; no pointers, no signal delivered.
        if unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.pid, 0, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        self.wait()
    }

    /// Kills the child with SIGKILL where it stands, and reaps it.
    pub fn kill(self) {
        drop(self);
    }

    fn wait(&mut self) -> io::Result<Step> {
        let mut status = 0;
        loop {
            // SAFETY: `status` outlives the call.
            if unsafe { libc::waitpid(self.pid, &raw mut status, 0) } == self.pid {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        if libc::WIFSTOPPED(status) {
            return match libc::WSTOPSIG(status) {
                libc::SIGTRAP | libc::SIGSTOP => Ok(Step::Stopped),
                signal => Err(io::Error::other(format!("the child got signal {signal}"))),
            };
        }
        let code = match libc::WIFEXITED(status) {
            true => libc::WEXITSTATUS(status),
            false => -libc::WTERMSIG(status),
        };
        self.ended = Some(code);
        Ok(Step::Exited(code))
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // SAFETY: no pointers; the child is not reaped yet, so the number is still its own.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            while self.ended.is_none() && self.wait().is_ok() {}
        }
    }
}
