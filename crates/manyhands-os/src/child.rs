//! Children: forked, or started as a new program.
//!
//! Always: a new program gets the descriptors that it is meant to have and 0 to 2, nothing else; between the
//! clone and the exec no signal is handled; if the program cannot be run, the caller gets the reason.
//! Not here: noticing a child's end (`death`), what it does (`manyhands`).

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::error;
use crate::fd::{AsRawFd, BorrowedFd, RawFd};
use crate::signal::{self, Blocked, Mask};

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The process that forked; the child's number.
    Parent(i32),
    /// The new process.
    Child,
}

/// Forks this process: `fork(2)`, with the handlers of `pthread_atfork` run.
///
/// # Safety
/// Only the calling thread lives on in the child. If others ran, whatever they held there is held for ever
/// (a mutex, the standard streams' lock), so the child waits for nothing of theirs.
pub unsafe fn fork() -> io::Result<Forked> {
    // Our own handlers have to be there before the first fork, or it would go uncounted.
    crate::fork_state::generation();
    // SAFETY: the caller keeps the contract above.
    match unsafe { libc::fork() } {
        0 => Ok(Forked::Child),
        pid if pid > 0 => Ok(Forked::Parent(pid)),
        _ => Err(error::advised(
            io::Error::last_os_error(),
            "could not fork",
            "raise the limits of processes (`ulimit -u`, the container's `pids.max`) or of memory",
        )),
    }
}

/// A program to start.
#[derive(Clone, Copy, Debug)]
pub struct Exec<'a> {
    /// Path of the program; it is not searched for.
    pub program: &'a CStr,
    /// Its arguments, the first of which is its name.
    pub argv: &'a [CString],
    /// Its environment as "NAME=value"; `None` is this process's.
    pub env: Option<&'a [CString]>,
    /// Descriptors that it keeps, under the same numbers; 0, 1 and 2 it keeps anyway.
    pub keep: &'a [BorrowedFd<'a>],
    /// Its working directory; `None` is this process's.
    pub cwd: Option<&'a CStr>,
}

impl<'a> Exec<'a> {
    /// A program with its arguments, this process's environment and directory, and no further descriptors.
    pub fn new(program: &'a CStr, argv: &'a [CString]) -> Exec<'a> {
        Exec {
            program,
            argv,
            env: None,
            keep: &[],
            cwd: None,
        }
    }
}

/// Starts a program: clone with this process's memory (so it costs the same however large this process is),
/// then exec. The number of the new process.
///
/// The program begins with the calling thread's signal mask. Signals with a handler have their default
/// action, and those that are ignored stay ignored, as after any exec.
pub fn spawn(exec: &Exec<'_>) -> io::Result<i32> {
    let owned_env;
    let env = match exec.env {
        Some(env) => env,
        None => {
            owned_env = this_environment();
            &owned_env
        }
    };
    let argv = pointers(exec.argv);
    let env = pointers(env);
    let mut keep: Vec<RawFd> = exec.keep.iter().map(AsRawFd::as_raw_fd).collect();
    keep.sort_unstable();
    keep.dedup();
    let stack = Stack::new()?;
    let blocked = Blocked::new();
    let mut plan = Plan {
        program: exec.program.as_ptr(),
        argv: argv.as_ptr(),
        env: env.as_ptr(),
        cwd: exec.cwd.map_or(ptr::null(), CStr::as_ptr),
        keep: &keep,
        mask: blocked.previous(),
        failure: None,
    };
    // SAFETY: with CLONE_VFORK this thread sleeps until the child has called exec or ended, so the stack, the
    // plan and all it points to outlive the child's use of them, and nobody else has access. The child runs on
    // a stack of its own. `enter` makes system calls only: it takes no lock, allocates nothing, cannot unwind.
    // All signals are blocked, so no handler of this process runs in the child.
    let pid = unsafe {
        libc::clone(
            enter,
            stack.top(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut plan).cast::<c_void>(),
        )
    };
    let cloned = if pid < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(pid)
    };
    // SAFETY: `plan` is live. The child wrote it, if at all, before this thread went on; read so that the
    // compiler does not assume the value from before the clone.
    let failure = unsafe { ptr::read_volatile(&raw const plan.failure) };
    drop(blocked);
    let name = || exec.program.to_string_lossy();
    let pid = cloned.map_err(|e| {
        error::advised(
            e,
            format!("could not start {}", name()),
            "raise the limits of processes (`ulimit -u`, the container's `pids.max`)",
        )
    })?;
    let Some((step, errno)) = failure else {
        return Ok(pid);
    };
    reap(pid);
    let cause = io::Error::from_raw_os_error(errno);
    let what = match (step, exec.cwd) {
        (Step::Directory, Some(cwd)) => {
            format!("could not start {} in {}", name(), cwd.to_string_lossy())
        }
        (Step::Keep(fd), _) => format!("could not leave descriptor {fd} to {}", name()),
        _ => format!("could not start {}", name()),
    };
    Err(error::context(cause, what))
}

/// This process's environment, as exec wants it.
fn this_environment() -> Vec<CString> {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let mut line = name.as_bytes().to_vec();
            line.push(b'=');
            line.extend(value.as_bytes());
            CString::new(line).ok()
        })
        .collect()
}

/// The null-terminated array of pointers that exec takes; valid while `strings` is.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// Takes away the child that could not become a program. Another thread may have done so.
fn reap(pid: i32) {
    let pid = Pid::from_raw(pid);
    while matches!(waitpid(pid, WaitOptions::empty()), Err(Errno::INTR)) {}
}

/// The stack that a child runs on until its exec, with a page below that faults.
struct Stack {
    base: *mut c_void,
}

impl Stack {
    const GUARD: usize = 64 << 10; // a page, however large pages are
    const LEN: usize = Stack::GUARD + (64 << 10);

    fn new() -> io::Result<Stack> {
        let failed = |e| error::context(e, "could not get a stack to start a program on");
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::STACK | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice, so none that exists is touched.
        let base =
            unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), Stack::LEN, rights, flags) };
        let stack = Stack {
            base: base.map_err(failed)?,
        };
        // SAFETY: the lowest part of the mapping just made, which nobody uses yet.
        unsafe { rustix::mm::mprotect(stack.base, Stack::GUARD, MprotectFlags::empty()) }
            .map_err(failed)?;
        Ok(stack)
    }

    /// Its upper end, where it begins, aligned to a page and so to what the processor wants.
    fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.base.byte_add(Stack::LEN) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; the child that ran on it has its own memory by now or is
        // gone (see `spawn`).
        let _ = unsafe { rustix::mm::munmap(self.base, Stack::LEN) };
    }
}

/// All that the child needs, made ready before it exists; and what it says if it fails.
struct Plan<'a> {
    program: *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    cwd: *const c_char,
    /// Sorted, each once.
    keep: &'a [RawFd],
    mask: Mask,
    failure: Option<(Step, i32)>,
}

/// What the child was doing when it failed.
#[derive(Clone, Copy)]
enum Step {
    Keep(RawFd),
    Directory,
    Exec,
}

/// The child's whole life before the program.
extern "C" fn enter(plan: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes its plan, which nobody else touches while this runs.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    plan.failure = Some(become_program(plan));
    // SAFETY: ends the process without running anything of its memory's owner.
    unsafe { libc::_exit(127) }
}

/// Returns only if something failed.
fn become_program(plan: &Plan<'_>) -> (Step, i32) {
    forget_handlers();
    for &fd in plan.keep {
        // SAFETY: changes a flag in this child's own table of descriptors.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
            return (Step::Keep(fd), last_errno());
        }
    }
    close_others(plan.keep);
    // SAFETY: `cwd` is null or a string that `spawn` keeps alive.
    if !plan.cwd.is_null() && unsafe { libc::chdir(plan.cwd) } < 0 {
        return (Step::Directory, last_errno());
    }
    signal::set_mask(plan.mask);
    // SAFETY: a string and two null-terminated arrays of strings, which `spawn` keeps alive.
    unsafe { libc::execve(plan.program, plan.argv, plan.env) };
    (Step::Exec, last_errno())
}

fn last_errno() -> i32 {
    // SAFETY: errno is the calling thread's, which sleeps meanwhile (the child shares its thread-locals).
    unsafe { *libc::__errno_location() }
}

/// The kernel's `sigaction`, of which only the handler in front is of interest.
type Action = [u64; 4];

/// Gives every signal that has a handler its default action: exec would do so too, but only after the mask is
/// lifted, and until then a handler of the parent's would run in the parent's memory.
fn forget_handlers() {
    const SIGNALS: c_int = 64;
    let size = size_of::<Mask>();
    let default: Action = [0; 4];
    for number in 1..=SIGNALS {
        let mut action: Action = [0; 4];
        // SAFETY: the kernel's structure has at most 32 bytes on 64-bit targets. The system call itself,
        // because glibc's function refuses the two signals that it uses internally.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                ptr::null::<Action>(),
                &raw mut action,
                size,
            );
        }
        if action[0] != libc::SIG_DFL as u64 && action[0] != libc::SIG_IGN as u64 {
            // SAFETY: as above; zeros are the default action without flags. The table of handlers is the
            // child's own (no CLONE_SIGHAND).
            unsafe {
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    number,
                    &raw const default,
                    ptr::null_mut::<Action>(),
                    size,
                );
            }
        }
    }
}

/// Closes every descriptor above 2 that is not in `keep`.
fn close_others(keep: &[RawFd]) {
    let mut first = 3;
    for &fd in keep.iter().filter(|fd| **fd >= 3) {
        close_range(first, fd - 1);
        first = fd + 1;
    }
    close_range(first, RawFd::MAX);
}

/// Closes the descriptors from `first` to `last`.
fn close_range(first: RawFd, last: RawFd) {
    if first > last {
        return;
    }
    // SAFETY: the table of descriptors is the child's own (no CLONE_FILES), and nothing of the child owns one.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if closed < 0 && !close_listed(first, last) {
        close_each(first, last);
    }
}

/// Without `close_range` (Linux before 5.9, old container profiles): closes those that `/proc` lists.
/// False where that cannot be read.
fn close_listed(first: RawFd, last: RawFd) -> bool {
    // SAFETY: a constant string.
    let dir = unsafe {
        libc::open(
            c"/proc/self/fd".as_ptr(),
            libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC,
        )
    };
    if dir < 0 {
        return false;
    }
    // Room for some tens of entries, aligned as they are.
    let mut room = [0u64; 256];
    loop {
        // SAFETY: the buffer is valid for writes of its length.
        let n = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                dir,
                room.as_mut_ptr(),
                size_of_val(&room),
            )
        };
        if n <= 0 {
            // SAFETY: opened above.
            unsafe { libc::close(dir) };
            return n == 0;
        }
        let mut at = 0;
        while at < n as usize {
            let entry = room
                .as_ptr()
                .cast::<u8>()
                .wrapping_add(at)
                .cast::<libc::dirent64>();
            // SAFETY: the kernel filled the first `n` bytes with whole entries, each with its length, and a
            // name that ends with a zero.
            let (len, name) = unsafe {
                (
                    usize::from((*entry).d_reclen),
                    CStr::from_ptr((&raw const (*entry).d_name).cast()),
                )
            };
            at += len;
            match number(name) {
                Some(fd) if (first..=last).contains(&fd) && fd != dir => {
                    // SAFETY: as in `close_range`.
                    unsafe { libc::close(fd) };
                }
                _ => {}
            }
        }
    }
}

/// A decimal number; none for "." and "..".
fn number(name: &CStr) -> Option<RawFd> {
    let mut value: RawFd = 0;
    for &digit in name.to_bytes() {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value
            .checked_mul(10)?
            .checked_add(RawFd::from(digit - b'0'))?;
    }
    Some(value)
}

/// The last resort: every number below the limit.
fn close_each(first: RawFd, last: RawFd) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writes.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    let end = limit.rlim_cur.min(RawFd::MAX as u64) as RawFd;
    for fd in first..end.min(last.saturating_add(1)) {
        // SAFETY: as in `close_range`.
        unsafe { libc::close(fd) };
    }
}
