//! Waiting: for descriptors and for words of memory, with time-outs and signals.

mod common;

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::*;
use manyhands_os::death::{Child, ExitStatus};
use manyhands_os::fd::{AsFd, EventFd, pipe};
use manyhands_os::futex::{self, Scope, Wait};
use manyhands_os::memory::{Mapping, Memfd};
use manyhands_os::poll::{self, Poller};

#[test]
fn a_poller_reports_the_tokens_of_what_is_ready() {
    let _watchdog = watchdog();
    let poller = Poller::new().unwrap();
    let bells: Vec<_> = (0..3).map(|_| EventFd::new().unwrap()).collect();
    for (token, bell) in bells.iter().enumerate() {
        poller.add(bell.as_fd(), token as u64 + 10).unwrap();
    }
    let mut ready = vec![99];
    poller.wait(&mut ready, Some(Duration::ZERO)).unwrap();
    assert!(ready.is_empty());
    bells[2].ring().unwrap();
    poller.wait(&mut ready, None).unwrap();
    assert_eq!(ready, [12]);
    bells[0].ring().unwrap();
    poller.remove(bells[2].as_fd()).unwrap();
    poller.wait(&mut ready, None).unwrap();
    assert_eq!(ready, [10]);
    let twice = poller.add(bells[0].as_fd(), 1).unwrap_err();
    assert_eq!(twice.kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn a_hang_up_is_reported() {
    let _watchdog = watchdog();
    let poller = Poller::new().unwrap();
    let (read, write) = pipe().unwrap();
    poller.add(read.as_fd(), 1).unwrap();
    assert_eq!(
        poll::readable(&[read.as_fd()], Some(Duration::ZERO)).unwrap(),
        [false]
    );
    drop(write);
    let mut ready = Vec::new();
    poller.wait(&mut ready, None).unwrap();
    assert_eq!(ready, [1]);
    assert_eq!(poll::readable(&[read.as_fd()], None).unwrap(), [true]);
}

#[test]
fn more_than_one_batch_is_reported_in_the_end() {
    let _watchdog = watchdog();
    let poller = Poller::new().unwrap();
    let bells: Vec<_> = (0..200).map(|_| EventFd::new().unwrap()).collect();
    for (token, bell) in bells.iter().enumerate() {
        poller.add(bell.as_fd(), token as u64).unwrap();
        bell.ring().unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut ready = Vec::new();
    while seen.len() < bells.len() {
        poller.wait(&mut ready, None).unwrap();
        for token in &ready {
            bells[*token as usize].drain().unwrap();
            assert!(seen.insert(*token));
        }
    }
}

#[test]
fn one_poller_watches_another() {
    let _watchdog = watchdog();
    let (outer, inner) = (Poller::new().unwrap(), Poller::new().unwrap());
    let bell = EventFd::new().unwrap();
    inner.add(bell.as_fd(), 1).unwrap();
    outer.add(inner.fd().unwrap(), 2).unwrap();
    let mut ready = Vec::new();
    outer.wait(&mut ready, Some(Duration::ZERO)).unwrap();
    assert!(ready.is_empty());
    bell.ring().unwrap();
    outer.wait(&mut ready, None).unwrap();
    assert_eq!(ready, [2]);
}

#[test]
fn no_wait_is_shorter_than_asked_for() {
    let _watchdog = watchdog();
    let poller = Poller::new().unwrap();
    let word = AtomicU32::new(0);
    let asked = Duration::from_micros(700);
    let waits: [&dyn Fn(); 3] = [
        &|| poller.wait(&mut Vec::new(), Some(asked)).unwrap(),
        &|| assert!(poll::readable(&[], Some(asked)).unwrap().is_empty()),
        &|| {
            assert_eq!(
                futex::wait(&word, 0, Some(asked), Scope::Private),
                Wait::TimedOut
            )
        },
    ];
    for wait in waits {
        let began = Instant::now();
        wait();
        assert!(began.elapsed() >= asked);
    }
}

#[test]
fn a_signal_ends_every_kind_of_wait() {
    let _watchdog = watchdog();
    let poller = Poller::new().unwrap();
    let answer = interrupted(|| poller.wait(&mut Vec::new(), None));
    assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::Interrupted);
    let (read, _write) = pipe().unwrap();
    let answer = interrupted(|| poll::readable(&[read.as_fd()], None));
    assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::Interrupted);
    let word = AtomicU32::new(0);
    let answer = interrupted(|| futex::wait(&word, 0, None, Scope::Private));
    assert_eq!(answer, Wait::Interrupted);
}

#[test]
fn a_word_that_has_changed_is_not_slept_on() {
    let word = AtomicU32::new(1);
    assert_eq!(futex::wait(&word, 0, None, Scope::Private), Wait::Changed);
    assert_eq!(futex::wait(&word, 0, None, Scope::Shared), Wait::Changed);
    assert_eq!(futex::wake(&word, usize::MAX, Scope::Private), 0);
}

#[test]
fn all_sleepers_of_a_word_are_woken() {
    let _watchdog = watchdog();
    let word = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| while futex::wait(&word, 0, None, Scope::Private) != Wait::Woken {});
        }
        let mut woken = 0;
        while woken < 4 {
            woken += futex::wake(&word, usize::MAX, Scope::Private);
        }
    });
}

#[test]
fn a_word_in_shared_memory_wakes_another_process() {
    let _watchdog = watchdog();
    let memory = Memfd::create("test", 4096).unwrap();
    let mapping = Mapping::shared_with_children(&memory).unwrap();
    // SAFETY: the start of a page, aligned and zero, mapped longer than the reference is used; every access
    // of either process is atomic.
    let word = unsafe { mapping.base().cast::<AtomicU32>().as_ref() };
    let child = forked(|| {
        while word.load(SeqCst) == 0 {
            futex::wait(word, 0, None, Scope::Shared);
        }
        word.store(2, SeqCst);
        futex::wake(word, 1, Scope::Shared);
        0
    });
    word.store(1, SeqCst);
    futex::wake(word, 1, Scope::Shared);
    while word.load(SeqCst) == 1 {
        futex::wait(word, 1, None, Scope::Shared);
    }
    assert_eq!(word.load(SeqCst), 2);
    let child = Child::own(child).unwrap();
    assert_eq!(child.wait(None).unwrap(), Some(ExitStatus::Exited(0)));
}
