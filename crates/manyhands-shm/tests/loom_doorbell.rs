//! Models of sleeping: a lost wake leaves every thread blocked, which loom reports as a deadlock.
#![cfg(loom)]

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use manyhands_shm::mailbox::{Head, ParentEnd, Shape, WorkerEnd};
use manyhands_shm::model;

const SHAPE: Shape = Shape {
    task_bytes: 128,
    result_bytes: 128,
};

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// An eventfd: it keeps a ring until somebody waits.
#[derive(Clone)]
struct Event(Arc<(Mutex<bool>, Condvar)>);

impl Event {
    fn new() -> Event {
        Event(Arc::new((Mutex::new(false), Condvar::new())))
    }

    fn ring(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.0.0.lock().unwrap();
        while !*rung {
            rung = self.0.1.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// The worker's wait for a task.
fn take(worker: &mut WorkerEnd, event: &Event) -> u64 {
    loop {
        if let Some(task) = worker.tasks.take().unwrap() {
            return task.head.id;
        }
        worker.tasks.prepare_sleep();
        if !worker.tasks.has_next() {
            event.wait();
        }
        worker.tasks.cancel_sleep();
    }
}

/// The parent's wait until `until` results were received.
fn collect(parent: &mut ParentEnd, until: u64, wake_at: impl Fn(u64) -> u64, event: &Event) {
    while parent.results.received() < until {
        let received = parent.results.received();
        if let Some(result) = parent.results.next().unwrap() {
            assert_eq!(result.head.id, received);
            continue;
        }
        parent.results.arm(wake_at(received));
        if !parent.results.has_next() {
            event.wait();
        }
        parent.results.disarm();
    }
}

fn head(id: u64) -> Head {
    Head {
        id,
        ..Head::default()
    }
}

#[test]
fn a_worker_going_to_sleep_misses_no_task() {
    explore(3, || {
        let (mut parent, mut worker) = model::mailbox(SHAPE);
        let event = Event::new();
        let there = event.clone();
        let sleeper = thread::spawn(move || {
            assert_eq!(take(&mut worker, &there), 0);
            assert_eq!(take(&mut worker, &there), 1);
        });
        for id in 0..2 {
            parent.tasks.push(head(id), &[]).unwrap();
            if parent.tasks.publish() {
                event.ring();
            }
        }
        sleeper.join().unwrap();
    });
}

#[test]
fn a_parent_armed_for_the_next_result_misses_none() {
    explore(3, || {
        let (mut parent, mut worker) = model::mailbox(SHAPE);
        let event = Event::new();
        let there = event.clone();
        let writer = thread::spawn(move || {
            for id in 0..2 {
                worker.results.push(head(id), &[]).unwrap();
                if worker.results.publish() {
                    there.ring();
                }
            }
        });
        collect(&mut parent, 2, |received| received + 1, &event);
        writer.join().unwrap();
    });
}

#[test]
fn a_parent_armed_for_more_than_there_will_be_is_rung_by_the_idle_worker() {
    explore(3, || {
        let (mut parent, mut worker) = model::mailbox(SHAPE);
        let event = Event::new();
        let there = event.clone();
        let writer = thread::spawn(move || {
            for id in 0..2 {
                worker.results.push(head(id), &[]).unwrap();
                if worker.results.publish() {
                    there.ring();
                }
                // Out of work for the moment: the worker would sleep here.
                if worker.results.unseen() {
                    there.ring();
                }
            }
        });
        collect(&mut parent, 2, |_| 100, &event);
        writer.join().unwrap();
    });
}

#[test]
fn an_arming_is_rung_once() {
    explore(3, || {
        let (parent, mut worker) = model::mailbox(SHAPE);
        parent.results.arm(1);
        let writer = thread::spawn(move || {
            let mut rung = 0;
            for id in 0..2 {
                worker.results.push(head(id), &[]).unwrap();
                rung += u32::from(worker.results.publish());
                rung += u32::from(worker.results.unseen());
            }
            rung
        });
        assert_eq!(writer.join().unwrap(), 1);
    });
}

#[test]
fn a_worker_that_waits_for_room_is_woken_when_there_is_some() {
    explore(2, || {
        let (mut parent, mut worker) = model::mailbox(SHAPE);
        let (to_worker, to_parent) = (Event::new(), Event::new());
        let (here, there) = (to_worker.clone(), to_parent.clone());
        let writer = thread::spawn(move || {
            // Two frames fill the ring.
            for id in 0..3 {
                while worker.results.push(head(id), &[]).is_err() {
                    if worker.results.unseen() {
                        there.ring();
                    }
                    worker.tasks.prepare_sleep();
                    if worker.results.room() == 0 {
                        here.wait();
                    }
                    worker.tasks.cancel_sleep();
                }
                if worker.results.publish() {
                    there.ring();
                }
            }
            if worker.results.unseen() {
                there.ring();
            }
        });
        while parent.results.received() < 3 {
            if parent.results.next().unwrap().is_some() {
                parent.results.done();
                if parent.tasks.wake_needed() {
                    to_worker.ring();
                }
                continue;
            }
            parent.results.arm(3);
            if !parent.results.has_next() {
                to_parent.wait();
            }
            parent.results.disarm();
        }
        writer.join().unwrap();
    });
}
