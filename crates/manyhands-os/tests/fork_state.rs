//! Forks: who this is, and what a forked child must not keep.

mod common;

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use common::*;
use manyhands_os::death::{Child, ExitStatus};
use manyhands_os::fd::{AsFd, AsRawFd, EventFd, RawFd, pipe};
use manyhands_os::fork_state::{self, ParentFd};
use manyhands_os::poll::Poller;

fn succeeded(pid: i32) {
    assert_eq!(
        Child::own(pid).unwrap().wait(None).unwrap(),
        Some(ExitStatus::Exited(0))
    );
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes any number.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Exit code of a forked child whose claims are these; the first false one's place.
fn claims(list: &[bool]) -> i32 {
    list.iter()
        .position(|claim| !claim)
        .map_or(0, |at| at as i32 + 1)
}

#[test]
fn every_fork_is_another_generation_and_pid() {
    let _watchdog = watchdog();
    let (generation, pid) = (fork_state::generation(), fork_state::pid());
    assert_eq!(pid, std::process::id() as i32);
    let child = forked(|| {
        let (second, parent) = (fork_state::generation(), fork_state::pid());
        let grandchild = forked(|| {
            claims(&[
                fork_state::generation() > second,
                fork_state::pid() != parent,
                fork_state::pid() == std::process::id() as i32,
            ])
        });
        let status = Child::own(grandchild).unwrap().wait(None).unwrap();
        claims(&[
            second > generation,
            parent != pid,
            status == Some(ExitStatus::Exited(0)),
        ])
    });
    succeeded(child);
    assert_eq!(
        (fork_state::generation(), fork_state::pid()),
        (generation, pid)
    );
}

#[test]
fn a_fork_by_somebody_elses_code_is_noticed() {
    let _watchdog = watchdog();
    let generation = fork_state::generation();
    let bell = ParentFd::new(EventFd::new().unwrap().into());
    let number = bell.get().unwrap().as_raw_fd();
    // SAFETY: the child only looks at two numbers and ends.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = claims(&[fork_state::generation() > generation, !is_open(number)]);
        // SAFETY: ends the child.
        unsafe { libc::_exit(code) };
    }
    succeeded(pid);
}

#[test]
fn a_parents_descriptor_is_closed_in_the_child_and_refuses_to_be_used() {
    let _watchdog = watchdog();
    let (_read, write) = pipe().unwrap();
    let number = write.as_raw_fd();
    let ours = ParentFd::new(write);
    succeeded(forked(|| {
        let closed = !is_open(number);
        let refused = ours
            .get()
            .is_err_and(|e| e.to_string().contains("was forked from it"));
        // SAFETY: the number was found closed, so this call makes it ours.
        let taken = unsafe { OwnedFd::from_raw_fd(libc::dup2(0, number)) };
        drop(ours);
        let untouched = is_open(number);
        drop(taken);
        claims(&[closed, refused, untouched])
    }));
}

#[test]
fn a_descriptor_is_registered_only_as_long_as_its_registration_lives() {
    let _watchdog = watchdog();
    let (read, write) = pipe().unwrap();
    let registration = fork_state::close_in_child(&read);
    drop(fork_state::close_in_child(&write));
    let (gone, stays) = (read.as_raw_fd(), write.as_raw_fd());
    succeeded(forked(|| claims(&[!is_open(gone), is_open(stays)])));
    assert!(is_open(gone));
    drop(registration);
    succeeded(forked(|| claims(&[is_open(gone)])));
}

#[test]
fn a_fork_that_fails_leaves_the_parent_as_it_was() {
    let _watchdog = watchdog();
    let generation = fork_state::generation();
    let failure = refusing(&[libc::SYS_clone, libc::SYS_clone3], libc::EAGAIN, || {
        // SAFETY: there is no child.
        unsafe { manyhands_os::child::fork() }.unwrap_err()
    });
    assert!(
        failure
            .to_string()
            .starts_with("could not fork: Resource temporarily"),
        "{failure}"
    );
    assert_eq!(fork_state::generation(), generation);
    let fresh = ParentFd::new(EventFd::new().unwrap().into());
    let number = fresh.get().unwrap().as_raw_fd();
    succeeded(forked(|| claims(&[!is_open(number)])));
}

#[test]
fn a_poller_of_the_parent_refuses_to_be_used_in_the_child() {
    let _watchdog = watchdog();
    let poller = Poller::new().unwrap();
    let bell = EventFd::new().unwrap();
    poller.add(bell.as_fd(), 1).unwrap();
    succeeded(forked(|| {
        let refused = [
            poller.remove(bell.as_fd()).is_err(),
            poller.wait(&mut Vec::new(), None).is_err(),
            poller.add(bell.as_fd(), 2).is_err(),
        ];
        claims(&refused)
    }));
    bell.ring().unwrap();
    let mut ready = Vec::new();
    poller.wait(&mut ready, None).unwrap();
    assert_eq!(ready, [1]);
}

#[test]
fn a_child_forked_amid_registrations_can_register_at_once() {
    let _watchdog = watchdog();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    drop(ParentFd::new(EventFd::new().unwrap().into()));
                }
            });
        }
        for _ in 0..100 {
            succeeded(forked(|| {
                let fresh = ParentFd::new(EventFd::new().unwrap().into());
                claims(&[fresh.get().is_ok()])
            }));
        }
        done.store(true, Relaxed);
    });
}
