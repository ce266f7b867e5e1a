//! Starting programs: what they get of us, and what we get when they cannot be started.

mod common;

use std::io;
use std::os::unix::fs::PermissionsExt;

use common::*;
use manyhands_os::child::{Exec, spawn};
use manyhands_os::death::{Child, ExitStatus};
use manyhands_os::error;
use manyhands_os::fd::{AsFd, AsRawFd, pipe};

#[test]
fn a_program_runs_and_its_exit_code_comes_back() {
    let _watchdog = watchdog();
    let child = Child::own(shell("exit 3", &[])).unwrap();
    assert_eq!(child.wait(None).unwrap(), Some(ExitStatus::Exited(3)));
}

#[test]
fn a_program_that_cannot_be_run_is_an_error_with_its_reason_and_no_child() {
    let _watchdog = watchdog();
    let dir = std::env::temp_dir().join(format!("manyhands-os-child-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = |name: &str, mode| {
        let path = dir.join(name);
        std::fs::write(&path, "no program\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        std::ffi::CString::new(path.to_str().unwrap()).unwrap()
    };
    let cases = [
        (c"/no/such/program".to_owned(), libc::ENOENT),
        (file("plain", 0o600), libc::EACCES),
        (file("text", 0o700), libc::ENOEXEC),
    ];
    for (program, number) in cases {
        let argv = strings(&[c"it"]);
        let failure = spawn(&Exec::new(&program, &argv)).unwrap_err();
        assert_eq!(error::errno(&failure), Some(number));
        let expected = format!("could not start {}: ", program.to_str().unwrap());
        assert!(failure.to_string().starts_with(&expected), "{failure}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    assert_eq!(children, "", "a child was left behind");
}

#[test]
fn a_directory_that_is_not_there_is_named_in_the_error() {
    let argv = strings(&[c"sh"]);
    let exec = Exec {
        cwd: Some(c"/no/such/place"),
        ..Exec::new(c"/bin/sh", &argv)
    };
    let failure = spawn(&exec).unwrap_err();
    assert_eq!(failure.kind(), io::ErrorKind::NotFound);
    assert_eq!(
        failure.to_string(),
        "could not start /bin/sh in /no/such/place: No such file or directory"
    );
}

#[test]
fn a_program_gets_the_descriptors_that_were_named_and_no_other() {
    let _watchdog = watchdog();
    only_named_fds();
}

#[test]
fn a_program_gets_no_other_descriptor_where_close_range_is_missing() {
    let _watchdog = watchdog();
    for errno in [libc::ENOSYS, libc::EPERM] {
        refusing(&[libc::SYS_close_range], errno, only_named_fds);
    }
}

#[test]
fn a_program_gets_no_other_descriptor_where_open_ones_cannot_be_listed_either() {
    let _watchdog = watchdog();
    refusing(
        &[libc::SYS_close_range, libc::SYS_getdents64],
        libc::EPERM,
        || {
            let (ready, wrote) = pipe().unwrap();
            let other = careless(ready.as_fd());
            let script = format!(
                "exec 2>/dev/null; echo x >{0}; echo x >{1} && echo y >{0}",
                path(&wrote),
                path(&other)
            );
            let child = Child::own(shell(&script, &[wrote.as_fd()])).unwrap();
            drop(wrote);
            assert_eq!(read_all(ready), "x\n");
            child.wait(None).unwrap();
        },
    );
}

/// Starts a program amid descriptors of all kinds and looks which ones it has.
fn only_named_fds() {
    let (ready, wrote) = pipe().unwrap();
    let (stays, hold) = pipe().unwrap();
    let others: Vec<_> = (0..40).map(|_| careless(ready.as_fd())).collect();
    let kept = careless(others[20].as_fd());
    let script = format!(
        "exec <{} >{}; echo x; read line",
        path(&stays),
        path(&wrote)
    );
    let keep = [kept.as_fd(), stays.as_fd(), wrote.as_fd(), kept.as_fd()];
    let child = Child::own(shell(&script, &keep)).unwrap();
    assert_eq!(read_byte(&ready), Some(b'x'));
    let mut expected: Vec<i32> = keep[..3].iter().map(AsRawFd::as_raw_fd).collect();
    expected.extend([0, 1, 2]);
    expected.sort_unstable();
    let ours = open_fds(std::process::id() as i32);
    assert!(others.iter().all(|fd| ours.contains(&fd.as_raw_fd())));
    assert_eq!(open_fds(child.pid()), expected);
    drop(hold);
    child.wait(None).unwrap();
}

#[test]
fn a_descriptor_that_is_not_open_cannot_be_kept() {
    let argv = strings(&[c"sh", c"-c", c"exit 0"]);
    // SAFETY: the number is far above any that this program opens; it is looked at by `spawn` only.
    let closed = unsafe { std::os::fd::BorrowedFd::borrow_raw(1_000_000) };
    let failure = spawn(&Exec {
        keep: &[closed],
        ..Exec::new(c"/bin/sh", &argv)
    })
    .unwrap_err();
    assert_eq!(
        failure.to_string(),
        "could not leave descriptor 1000000 to /bin/sh: Bad file descriptor"
    );
}

#[test]
fn a_program_begins_with_our_mask_and_without_our_handlers() {
    let _watchdog = watchdog();
    handle_sigusr1();
    // SAFETY: no memory is involved; nothing in this program needs SIGHUP.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    let status = std::thread::spawn(|| {
        // SAFETY: the set is initialised before it is used.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
        }
        output_of("exec cat /proc/self/status")
    })
    .join()
    .unwrap();
    let mask = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_ascii_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    let bit = |signal: i32| 1u64 << (signal - 1);
    assert_eq!(mask("SigBlk:"), bit(libc::SIGUSR2));
    assert_eq!(mask("SigCgt:"), 0);
    assert_ne!(mask("SigIgn:") & bit(libc::SIGHUP), 0);
    assert_eq!(mask("SigIgn:") & bit(libc::SIGUSR1), 0);
}

#[test]
fn a_program_gets_the_environment_and_the_directory_that_were_given() {
    let _watchdog = watchdog();
    let (read, write) = pipe().unwrap();
    let script = format!("exec >{}; pwd; echo \"$A+$HOME\"", path(&write));
    let script = std::ffi::CString::new(script).unwrap();
    let argv = strings(&[c"sh", c"-c", &script]);
    let env = strings(&[c"A=b c"]);
    let pid = spawn(&Exec {
        env: Some(&env),
        cwd: Some(c"/proc"),
        keep: &[write.as_fd()],
        ..Exec::new(c"/bin/sh", &argv)
    })
    .unwrap();
    drop(write);
    assert_eq!(read_all(read), "/proc\nb c+\n");
    Child::own(pid).unwrap().wait(None).unwrap();
}

#[test]
fn a_program_gets_our_environment_if_none_was_given() {
    let _watchdog = watchdog();
    let path = std::env::var("PATH").unwrap();
    assert_eq!(output_of("echo \"$PATH\"").trim_end(), path);
}

#[test]
fn many_threads_start_programs_at_once() {
    let _watchdog = watchdog();
    std::thread::scope(|scope| {
        for code in 0..8 {
            scope.spawn(move || {
                for _ in 0..20 {
                    let child = Child::own(shell(&format!("exit {code}"), &[])).unwrap();
                    assert_eq!(child.wait(None).unwrap(), Some(ExitStatus::Exited(code)));
                }
            });
        }
    });
}
