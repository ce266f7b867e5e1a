//! What a frame costs: tasks there and results back, with nobody asleep.
//! Not here: waking (`doorbell`).

use crate::figure::{exchange, figure};
use crate::memory::{LINE, head, mailbox, map};
use criterion::{Criterion, Throughput};
use manyhands_shm::mailbox::{self, ParentEnd, WorkerEnd};
use manyhands_testkit::{Peer, floor::Echo};
use std::hint::black_box;
use std::sync::atomic::{Ordering::SeqCst, fence};

/// So many frames are under way at a time: they fit the ring.
const MANY: u64 = 512;

/// Measures all of this.
pub(crate) fn measure(criterion: &mut Criterion) {
    there_and_back(criterion);
    under_way(criterion);
    alone(criterion);
}

/// A worker in another process that answers each task with a result of the same bytes, and never sleeps.
struct Served {
    parent: ParentEnd,
    peer: Peer,
}

fn served() -> Served {
    let (parent, memfd) = mailbox();
    let peer = Peer::fork(|| {
        let mut worker = mailbox::attach(map(&memfd)).expect("a mailbox just made");
        loop {
            answer(&mut worker);
        }
    });
    Served { parent, peer }
}

/// Answers the task that is next, if there is one.
#[inline]
fn answer(worker: &mut WorkerEnd) {
    if let Some(task) = worker.tasks.take().expect("a task or none") {
        worker
            .results
            .push(task.head, &[task.payload])
            .expect("room for as many results as tasks");
        let _ = worker.results.publish(); // nobody sleeps
    }
}

impl Served {
    fn push(&mut self, id: u64) {
        self.parent
            .tasks
            .push(head(id), &[&LINE])
            .expect("room for as many tasks as are under way");
    }

    fn publish(&mut self) {
        let _ = self.parent.tasks.publish(); // nobody sleeps
    }

    fn collect(&mut self, count: u64) {
        let Served { parent, peer } = self;
        for _ in 0..count {
            peer.spin_until(|| {
                let result = parent.results.next().expect("a result or none");
                black_box(result).is_some()
            });
        }
        parent.results.done();
    }
}

/// One task at a time.
fn there_and_back(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring, one there and back");
    exchange(&mut group, "floor: a line", || Echo::new(1), Echo::exchange);
    exchange(&mut group, "task and result", served, |served| {
        served.push(1);
        served.publish();
        served.collect(1);
    });
    group.finish();
}

/// Many tasks at a time.
fn under_way(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring, 512 there and back");
    group.throughput(Throughput::Elements(MANY));
    let lines = || Echo::new(MANY as usize);
    figure(&mut group, "floor: lines", lines, Echo::exchange);
    figure(&mut group, "tasks published one by one", served, |served| {
        for id in 0..MANY {
            served.push(id);
            served.publish();
        }
        served.collect(MANY);
    });
    figure(&mut group, "tasks published together", served, |served| {
        (0..MANY).for_each(|id| served.push(id));
        served.publish();
        served.collect(MANY);
    });
    group.finish();
}

/// The instructions alone: both sides in one thread, so that no line changes its core.
fn alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring, one there and back on one core");
    // Each publish is followed by one, without which a wake could be lost.
    figure(
        &mut group,
        "floor: two fences",
        || (),
        |()| {
            fence(SeqCst);
            fence(SeqCst);
        },
    );
    let both = || {
        let (parent, memfd) = mailbox();
        (
            parent,
            mailbox::attach(map(&memfd)).expect("a mailbox just made"),
        )
    };
    figure(&mut group, "task and result", both, |(parent, worker)| {
        parent.tasks.push(head(1), &[&LINE]).expect("room");
        let _ = parent.tasks.publish(); // nobody sleeps
        answer(worker);
        black_box(parent.results.next().expect("a result").is_some());
        parent.results.done();
    });
    group.finish();
}
