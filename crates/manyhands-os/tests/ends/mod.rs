//! Ends of processes, told once for kernels with pidfds and for those without.

#![allow(dead_code, reason = "each test program uses its own part of it")]

use std::os::fd::OwnedFd;
use std::time::Duration;

use manyhands_os::death::{Child, ExitStatus, ParentWatch, start_time};
use manyhands_os::fd::{AsFd, pipe};
use manyhands_os::{fork_state, poll};

use crate::common::*;

const A_WHILE: Option<Duration> = Some(Duration::from_millis(30));

pub(crate) fn own() {
    // One that lives, is killed, and stays known.
    let (pid, hold) = sleeper();
    let child = Child::own(pid).unwrap();
    assert_eq!(child.pid(), pid);
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait(A_WHILE).unwrap(), None);
    assert_eq!(child.wait(Some(Duration::ZERO)).unwrap(), None);
    assert!(!poll::is_readable(child.sentinel().unwrap()).unwrap());
    child.signal(libc::SIGKILL).unwrap();
    poll::readable(&[child.sentinel().unwrap()], None).unwrap();
    // The sentinel says that it has ended, so the answer is there, and stays.
    for _ in 0..3 {
        assert_eq!(
            child.try_wait().unwrap(),
            Some(ExitStatus::Signaled(libc::SIGKILL))
        );
    }
    assert_eq!(
        child.wait(None).unwrap(),
        Some(ExitStatus::Signaled(libc::SIGKILL))
    );
    assert!(poll::is_readable(child.sentinel().unwrap()).unwrap());
    child.signal(libc::SIGKILL).unwrap();
    drop(hold);
    // One that ends by itself, perhaps before it is watched.
    for code in [0, 1, 77, 255] {
        let child = Child::own(shell(&format!("exit {code}"), &[])).unwrap();
        assert_eq!(child.wait(None).unwrap(), Some(ExitStatus::Exited(code)));
        assert!(poll::is_readable(child.sentinel().unwrap()).unwrap());
    }
    // One that was killed and is asked without waiting first.
    let (pid, _hold) = sleeper();
    let child = Child::own(pid).unwrap();
    child.signal(libc::SIGTERM).unwrap();
    assert_eq!(
        child.wait(None).unwrap(),
        Some(ExitStatus::Signaled(libc::SIGTERM))
    );
}

/// A child that we reap ourselves in place of a fork server.
struct Served {
    own: Child,
    remote: Child,
    server: Option<OwnedFd>,
    _hold: OwnedFd,
}

fn served(with_pidfd: bool) -> Served {
    let (pid, hold) = sleeper();
    let own = Child::own(pid).unwrap();
    let (report, server) = pipe().unwrap();
    let pidfd = with_pidfd.then(|| {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
    });
    let remote = Child::remote(pid, pidfd, report).unwrap();
    Served {
        own,
        remote,
        server: Some(server),
        _hold: hold,
    }
}

pub(crate) fn remote(with_pidfd: bool) {
    // The server reports.
    for code in [0i32, 7, -9] {
        let Served {
            own,
            remote,
            server,
            _hold,
        } = served(with_pidfd);
        assert_eq!(remote.try_wait().unwrap(), None);
        assert_eq!(remote.wait(A_WHILE).unwrap(), None);
        remote.signal(libc::SIGKILL).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                own.wait(None).unwrap();
                rustix::io::write(server.as_ref().unwrap(), &code.to_ne_bytes()).unwrap();
            });
            let status = remote.wait(None).unwrap();
            assert_eq!(status, Some(ExitStatus::from_exitcode(code)));
        });
        drop(server);
        assert_eq!(
            remote.try_wait().unwrap(),
            Some(ExitStatus::from_exitcode(code))
        );
        assert!(poll::is_readable(remote.sentinel().unwrap()).unwrap());
    }
    // The server dies first: the child lives on, and how it ends nobody knows.
    let Served {
        own,
        remote,
        server,
        _hold,
    } = served(with_pidfd);
    drop(server);
    assert_eq!(remote.try_wait().unwrap(), None);
    assert_eq!(remote.wait(A_WHILE).unwrap(), None);
    own.signal(libc::SIGKILL).unwrap();
    assert_eq!(remote.wait(None).unwrap(), Some(ExitStatus::Unknown));
    own.wait(None).unwrap();
    remote.signal(libc::SIGKILL).unwrap();
}

pub(crate) fn parent() {
    // A real parent, killed while its child watches it.
    let (read, write) = pipe().unwrap();
    let parent = forked(|| {
        let me = fork_state::pid();
        forked(|| {
            let watch = ParentWatch::of(me).unwrap();
            rustix::io::write(&write, &[if watch.gone() { b'g' } else { b'l' }]).unwrap();
            poll::readable(&[watch.fd()], None).unwrap();
            rustix::io::write(&write, &[if watch.gone() { b'g' } else { b'l' }]).unwrap();
            0
        });
        loop {
            std::thread::park();
        }
    });
    drop(write);
    let parent = Child::own(parent).unwrap();
    assert_eq!(read_byte(&read), Some(b'l'));
    parent.signal(libc::SIGKILL).unwrap();
    assert_eq!(read_byte(&read), Some(b'g'));
    parent.wait(None).unwrap();
    assert_eq!(read_byte(&read), None);

    // Some other process, which is gone as soon as it is a zombie.
    let (pid, hold) = sleeper();
    let child = Child::own(pid).unwrap();
    let started = start_time(pid).unwrap();
    let watch = ParentWatch::started_at(pid, started).unwrap();
    assert_eq!(watch.pid(), pid);
    assert!(!watch.gone());
    assert!(!poll::is_readable(watch.as_fd()).unwrap());
    // The number is right, the process is another one.
    let other = ParentWatch::started_at(pid, started - 1).unwrap();
    assert!(other.gone());
    assert!(poll::is_readable(other.fd()).unwrap());
    drop(hold);
    poll::readable(&[watch.fd()], None).unwrap();
    assert!(watch.gone());
    assert!(ParentWatch::of(pid).unwrap().gone(), "a zombie is dead");
    child.wait(None).unwrap();
    let late = ParentWatch::of(pid).unwrap();
    assert!(late.gone());
    assert!(poll::is_readable(late.fd()).unwrap());
}
