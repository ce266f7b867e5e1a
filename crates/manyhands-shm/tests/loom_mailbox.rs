//! Models of the claim: the worker takes while the parent revokes.
#![cfg(loom)]

use loom::thread;
use manyhands_shm::mailbox::{Head, Shape};
use manyhands_shm::model;

const SHAPE: Shape = Shape {
    task_bytes: 256,
    result_bytes: 128,
};

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn head(id: u64) -> Head {
    Head {
        id,
        ..Head::default()
    }
}

#[test]
fn each_task_is_either_taken_or_revoked() {
    explore(3, || {
        let (mut parent, mut worker) = model::mailbox(SHAPE);
        let first = parent.tasks.push(head(1), &[b"one"]).unwrap();
        let second = parent.tasks.push(head(2), &[b"two"]).unwrap();
        let taker = thread::spawn(move || {
            let mut taken = Vec::new();
            for _ in 0..2 {
                if let Some(task) = worker.tasks.take().unwrap() {
                    assert_eq!(
                        task.payload,
                        if task.head.id == 1 { b"one" } else { b"two" }
                    );
                    taken.push(task.head.id);
                }
            }
            worker.tasks.done();
            taken
        });
        assert!(!parent.tasks.publish());
        // As a cancellation does: the youngest first.
        let revoked = [
            (2, parent.tasks.revoke(second)),
            (1, parent.tasks.revoke(first)),
        ];
        for (ticket, (id, revoked)) in [second, first].into_iter().zip(revoked) {
            if revoked {
                assert!(!parent.tasks.was_taken(ticket));
                let (back, payload) = parent.tasks.read_back(ticket).unwrap();
                assert_eq!(
                    (back.id, &payload[..]),
                    (id, if id == 1 { &b"one"[..] } else { b"two" })
                );
            } else {
                assert!(parent.tasks.was_taken(ticket));
            }
        }
        let taken = taker.join().unwrap();
        for (id, revoked) in revoked {
            // Not revoked, it was taken, since `was_taken` said so.
            assert_eq!(taken.contains(&id), !revoked, "task {id}");
        }
    });
}

#[test]
fn a_written_over_task_counts_as_taken_and_is_never_touched() {
    explore(2, || {
        let (mut parent, mut worker) = model::mailbox(SHAPE);
        let first = parent.tasks.push(head(0), &[&[7; 90]]).unwrap();
        assert!(!parent.tasks.publish());
        let taker = thread::spawn(move || {
            let mut next = 0;
            while next < 3 {
                match worker.tasks.take().unwrap() {
                    Some(task) => {
                        assert_eq!((task.head.id, task.payload.len()), (next, 90));
                        next += 1;
                    }
                    None => thread::yield_now(),
                }
            }
        });
        for id in 1..3 {
            while parent.tasks.push(head(id), &[&[7; 90]]).is_err() {
                thread::yield_now();
            }
            assert!(!parent.tasks.publish());
        }
        // The third frame lies where the first one did.
        assert!(parent.tasks.was_taken(first));
        assert!(!parent.tasks.revoke(first));
        assert!(parent.tasks.read_back(first).is_none());
        taker.join().unwrap();
        assert!(parent.tasks.is_drained().is_ok());
    });
}
