//! Models of the ring: every interleaving of a writer and a reader, every weak order of memory.
#![cfg(loom)]

use loom::thread;
use manyhands_shm::mailbox::{Head, Shape};
use manyhands_shm::model;

const SHAPE: Shape = Shape {
    task_bytes: 128,
    result_bytes: 256,
};

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn head(id: u64) -> Head {
    Head {
        id,
        extra: !id,
        tag: id as u32,
        kind: 3,
        flags: 4,
    }
}

/// Payloads of a frame's minimum and of two units, so that the ring of four units fills, ends in
/// pads and wraps.
fn payload(id: u64) -> Vec<u8> {
    vec![id as u8 + 1; if id.is_multiple_of(2) { 20 } else { 90 }]
}

#[test]
fn frames_arrive_whole_in_order_and_once_through_a_full_ring() {
    explore(3, || {
        let (mut parent, mut worker) = model::mailbox(SHAPE);
        let writer = thread::spawn(move || {
            for id in 0..4 {
                while worker.results.push(head(id), &[&payload(id)]).is_err() {
                    thread::yield_now();
                }
                assert!(!worker.results.publish(), "nobody is armed");
            }
        });
        for id in 0..4 {
            loop {
                if let Some(frame) = parent.results.next().unwrap() {
                    assert_eq!((frame.head, frame.payload), (head(id), &payload(id)[..]));
                    break;
                }
                thread::yield_now();
            }
        }
        assert!(parent.results.next().unwrap().is_none());
        assert_eq!(parent.results.received(), 4);
        writer.join().unwrap();
    });
}

#[test]
fn one_publish_shows_all_pushed_frames_or_none() {
    explore(3, || {
        let (mut parent, mut worker) = model::mailbox(SHAPE);
        let writer = thread::spawn(move || {
            worker.results.push(head(0), &[b"a"]).unwrap();
            worker.results.push(head(1), &[b"b", b"c"]).unwrap();
            assert!(!worker.results.publish());
        });
        if let Some(frame) = parent.results.next().unwrap() {
            assert_eq!((frame.head, frame.payload), (head(0), &b"a"[..]));
            let frame = parent
                .results
                .next()
                .unwrap()
                .expect("published by the same store");
            assert_eq!((frame.head, frame.payload), (head(1), &b"bc"[..]));
        }
        writer.join().unwrap();
    });
}
