//! What the tests share: a watchdog, children to observe, and a kernel that refuses things.

#![allow(dead_code, reason = "each test program uses its own part of it")]

use std::ffi::{CStr, CString};
use std::io::Read;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use manyhands_os::child::{Exec, Forked, fork, spawn};
use manyhands_os::death::Child;
use manyhands_os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, pipe};

/// Ends the test program if a test hangs; the only clock that a test looks at.
pub(crate) struct Watchdog(#[expect(dead_code, reason = "its end is the message")] Sender<()>);

pub(crate) fn watchdog() -> Watchdog {
    let (living, ended) = channel();
    let name = thread::current().name().unwrap_or("a test").to_owned();
    thread::spawn(move || {
        use std::sync::mpsc::RecvTimeoutError::Timeout;
        if ended.recv_timeout(Duration::from_secs(120)) == Err(Timeout) {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    });
    Watchdog(living)
}

/// Runs a shell script that keeps `fds`; its process number.
pub(crate) fn shell(script: &str, fds: &[BorrowedFd<'_>]) -> i32 {
    let argv = [
        c"sh".to_owned(),
        c"-c".to_owned(),
        CString::new(script).unwrap(),
    ];
    spawn(&Exec {
        keep: fds,
        ..Exec::new(c"/bin/sh", &argv)
    })
    .unwrap()
}

/// A descriptor as a shell redirects to or from it: `>&10` is too much for some shells.
pub(crate) fn path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// What a script writes to its standard output.
pub(crate) fn output_of(script: &str) -> String {
    let (read, write) = pipe().unwrap();
    let pid = shell(
        &format!("exec >{}; {script}", path(&write)),
        &[write.as_fd()],
    );
    drop(write);
    let text = read_all(read);
    Child::own(pid).unwrap().wait(None).unwrap();
    text
}

pub(crate) fn read_all(fd: OwnedFd) -> String {
    let mut text = String::new();
    std::fs::File::from(fd).read_to_string(&mut text).unwrap();
    text
}

pub(crate) fn read_byte(fd: &OwnedFd) -> Option<u8> {
    let mut byte = [0];
    match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut byte)).unwrap() {
        0 => None,
        _ => Some(byte[0]),
    }
}

/// A child that lives until the returned end of a pipe is closed, here or by our own end, and then exits with 1.
pub(crate) fn sleeper() -> (i32, OwnedFd) {
    let (read, hold) = pipe().unwrap();
    let (ready, say) = pipe().unwrap();
    let script = format!("exec <{}; echo >{}; read line", path(&read), path(&say));
    let pid = shell(&script, &[read.as_fd(), say.as_fd()]);
    // To open a pipe that nobody writes to would block it.
    assert_eq!(read_byte(&ready), Some(b'\n'));
    (pid, hold)
}

/// Forks; the child runs `act`, which must not wait for anything of another thread's, and exits with what it
/// returns, or is ended by an alarm. Its process number.
pub(crate) fn forked(act: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child waits for nothing of another thread's: glibc keeps its allocator usable, and the
    // acts of these tests neither print nor lock.
    match unsafe { fork() }.unwrap() {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            // SAFETY: no memory is involved.
            unsafe { libc::alarm(60) };
            let code = act();
            // SAFETY: ends the child without running the test program's destructors.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Runs `act` in a thread for which, and for whose children, the kernel answers `errno` to these calls.
pub(crate) fn refusing<T: Send>(
    calls: &[libc::c_long],
    errno: i32,
    act: impl FnOnce() -> T + Send,
) -> T {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                refuse(calls, errno);
                act()
            })
            .join()
            .unwrap()
    })
}

fn refuse(calls: &[libc::c_long], errno: i32) {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let verdict = |k| step(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for call in calls {
        program.push(step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            *call as u32,
        ));
        program.push(verdict(libc::SECCOMP_RET_ERRNO | errno as u32));
    }
    program.push(verdict(libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the filter lives through the call, which copies it.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const filter,
            0,
            0,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// Has SIGUSR1 handled by doing nothing, so that it interrupts a wait.
pub(crate) fn handle_sigusr1() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: zeros are a valid `sigaction`; the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
}

/// Runs `wait` in a thread that gets SIGUSR1 again and again until it returns.
pub(crate) fn interrupted<T: Send>(wait: impl FnOnce() -> T + Send) -> T {
    handle_sigusr1();
    thread::scope(|scope| {
        let (said, who) = channel();
        let waiter = scope.spawn(move || {
            // SAFETY: no memory is involved.
            said.send(unsafe { libc::pthread_self() }).unwrap();
            wait()
        });
        let who = who.recv().unwrap();
        while !waiter.is_finished() {
            // SAFETY: the thread is not joined yet, so its handle is valid.
            unsafe { libc::pthread_kill(who, libc::SIGUSR1) };
            thread::sleep(Duration::from_millis(1));
        }
        waiter.join().unwrap()
    })
}

/// The descriptors that a process has open.
pub(crate) fn open_fds(pid: i32) -> Vec<i32> {
    let list = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut fds: Vec<i32> = list
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    fds.sort_unstable();
    fds
}

/// A copy of `fd` that is not closed on exec: what a careless library leaves open.
pub(crate) fn careless(fd: BorrowedFd<'_>) -> OwnedFd {
    rustix::io::dup(fd).unwrap()
}

pub(crate) fn strings(list: &[&CStr]) -> Vec<CString> {
    list.iter().map(|s| (*s).to_owned()).collect()
}
