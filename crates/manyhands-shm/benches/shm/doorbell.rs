//! What waking costs: a worker, or both sides, asleep between tasks.
//! Not here: how long to wait awake instead (`manyhands`).

use crate::figure::{figure, rested};
use crate::memory::{LINE, head, mailbox, map};
use criterion::Criterion;
use manyhands_os::fd::{AsFd, EventFd};
use manyhands_os::poll;
use manyhands_shm::mailbox::{self, ParentEnd, WorkerEnd};
use manyhands_testkit::{Peer, floor::Sleeper};
use std::hint::black_box;
use std::os::unix::process::parent_id;

/// Measures all of this.
pub(crate) fn measure(criterion: &mut Criterion) {
    unheard(criterion);
    worker_asleep(criterion);
    both_asleep(criterion);
}

/// A worker in another process that sleeps whenever it has nothing to do.
struct Served {
    parent: ParentEnd,
    peer: Peer,
    worker_bell: EventFd,
    parent_bell: EventFd,
}

fn served() -> Served {
    let (parent, memfd) = mailbox();
    let bell = || EventFd::new().expect("an eventfd");
    let (worker_bell, parent_bell) = (bell(), bell());
    let peer = Peer::fork(|| {
        let mut worker = mailbox::attach(map(&memfd)).expect("a mailbox just made");
        loop {
            serve(&mut worker, &worker_bell, &parent_bell);
        }
    });
    Served {
        parent,
        peer,
        worker_bell,
        parent_bell,
    }
}

/// Answers all there is, and sleeps until there is more.
fn serve(worker: &mut WorkerEnd, worker_bell: &EventFd, parent_bell: &EventFd) {
    while let Some(task) = worker.tasks.take().expect("a task or none") {
        worker
            .results
            .push(task.head, &[task.payload])
            .expect("room for one result");
        if worker.results.publish() {
            parent_bell.ring().expect("a bell");
        }
    }
    worker.tasks.prepare_sleep();
    if !worker.tasks.has_next() {
        poll::readable(&[worker_bell.as_fd()], None).expect("a wait");
        worker_bell.drain().expect("a bell");
    }
    worker.tasks.cancel_sleep();
}

impl Served {
    fn send(&mut self) {
        let tasks = &mut self.parent.tasks;
        tasks.push(head(1), &[&LINE]).expect("room for one task");
        if tasks.publish() {
            self.worker_bell.ring().expect("a bell");
        }
    }

    fn wait_awake(&mut self) {
        let Served { parent, peer, .. } = self;
        peer.spin_until(|| black_box(parent.results.next().expect("a result or none")).is_some());
        parent.results.done();
    }

    fn wait_asleep(&mut self) {
        let results = &mut self.parent.results;
        while results.next().expect("a result or none").is_none() {
            results.arm(results.received() + 1);
            if !results.has_next() {
                let either = [self.parent_bell.as_fd(), self.peer.sentinel()];
                let ready = poll::readable(&either, None).expect("a wait");
                assert!(!ready[1], "the peer is gone");
                self.parent_bell.drain().expect("a bell");
            }
        }
        results.done();
    }
}

/// The system call that a sleep costs the side that is awake, with nobody asleep.
fn unheard(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("doorbell, nobody there");
    figure(
        &mut group,
        "floor: a system call",
        || (),
        |()| {
            black_box(parent_id());
        },
    );
    let bell = || EventFd::new().expect("an eventfd");
    figure(&mut group, "rung", bell, |bell| {
        bell.ring().expect("a bell");
    });
    group.finish();
}

/// The worker sleeps, the parent waits awake: a pool whose worker found nothing to do for a while.
fn worker_asleep(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("doorbell, worker asleep");
    rested(&mut group, "floor: futex", Sleeper::new, |sleeper| {
        sleeper.round_trip_awake();
    });
    rested(&mut group, "task and result", served, |served| {
        served.send();
        served.wait_awake();
    });
    group.finish();
}

/// Both sleep: no core is free to wait awake.
fn both_asleep(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("doorbell, both asleep");
    rested(&mut group, "floor: futex", Sleeper::new, |sleeper| {
        sleeper.round_trip();
    });
    rested(&mut group, "task and result", served, |served| {
        served.send();
        served.wait_asleep();
    });
    group.finish();
}
