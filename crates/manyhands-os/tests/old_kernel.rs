//! What an old kernel lacks (`ENOSYS`) or an old container profile refuses (`EPERM`) is done another way.

mod common;
mod ends;

use std::time::{Duration, Instant};

use common::*;
use manyhands_os::fd::{AsFd, EventFd};
use manyhands_os::poll::Poller;

const PIDFDS: [libc::c_long; 2] = [libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal];

#[test]
fn without_pidfds_an_own_childs_end_is_noticed() {
    let _watchdog = watchdog();
    for errno in [libc::ENOSYS, libc::EPERM] {
        refusing(&PIDFDS, errno, ends::own);
    }
}

#[test]
fn with_pidfds_that_cannot_signal_children_are_signalled_by_number() {
    let _watchdog = watchdog();
    refusing(&[libc::SYS_pidfd_send_signal], libc::EPERM, ends::own);
}

#[test]
fn without_pidfds_a_fork_servers_child_is_followed() {
    let _watchdog = watchdog();
    refusing(&PIDFDS, libc::ENOSYS, || ends::remote(false));
}

#[test]
fn without_pidfds_a_parents_end_is_noticed() {
    let _watchdog = watchdog();
    for errno in [libc::ENOSYS, libc::EPERM] {
        refusing(&PIDFDS, errno, ends::parent);
    }
}

#[test]
fn without_a_precise_epoll_a_wait_is_rounded_up() {
    let _watchdog = watchdog();
    for errno in [libc::ENOSYS, libc::EPERM] {
        refusing(&[libc::SYS_epoll_pwait2], errno, || {
            let poller = Poller::new().unwrap();
            let bell = EventFd::new().unwrap();
            poller.add(bell.as_fd(), 5).unwrap();
            let mut ready = Vec::new();
            let asked = Duration::from_micros(1300);
            let began = Instant::now();
            poller.wait(&mut ready, Some(asked)).unwrap();
            assert!(ready.is_empty());
            assert!(began.elapsed() >= asked);
            bell.ring().unwrap();
            poller.wait(&mut ready, None).unwrap();
            assert_eq!(ready, [5]);
        });
    }
}
