//! Mailboxes in one process: what each call says, and random interleavings against a model.
#![cfg(not(loom))]

mod common;

use common::{SMALL, head, mailbox, memory, payload, poke};
use manyhands_shm::Malformed;
use manyhands_shm::mailbox::{self, Shape, Ticket};
use proptest::prelude::*;

#[test]
fn nothing_is_visible_before_publish() {
    let (mut parent, mut worker) = mailbox(SMALL);
    parent.tasks.push(head(1), &[b"task"]).unwrap();
    assert!(!worker.tasks.has_next());
    assert!(worker.tasks.take().unwrap().is_none());
    assert!(!parent.tasks.publish(), "the worker is awake");
    assert!(worker.tasks.has_next());
    let task = worker.tasks.take().unwrap().unwrap();
    assert_eq!((task.head, task.payload), (head(1), &b"task"[..]));
}

#[test]
fn a_full_ring_says_so_and_takes_more_after_a_read() {
    let (mut parent, mut worker) = mailbox(SMALL);
    let max = parent.tasks.max_payload();
    assert_eq!(max, 2048 - 32);
    let full = parent
        .tasks
        .push(head(0), &[&payload(0, max + 1)])
        .unwrap_err();
    assert!(!full.is_temporary());
    parent.tasks.push(head(0), &[&payload(0, max)]).unwrap();
    parent.tasks.push(head(1), &[&payload(1, max)]).unwrap();
    assert_eq!(parent.tasks.room(), 0);
    let full = parent.tasks.push(head(2), &[]).unwrap_err();
    assert!(full.is_temporary());
    assert!(!parent.tasks.publish());
    assert_eq!(
        worker.tasks.take().unwrap().unwrap().payload,
        payload(0, max)
    );
    assert!(
        parent.tasks.push(head(2), &[]).is_err(),
        "the first task's bytes are in use"
    );
    worker.tasks.done();
    assert_eq!(parent.tasks.room(), max);
    parent.tasks.push(head(2), &[]).unwrap();
}

#[test]
fn a_ring_is_drained_when_the_last_task_is_done() {
    let (mut parent, mut worker) = mailbox(SMALL);
    assert!(parent.tasks.is_drained().unwrap());
    parent.tasks.push(head(0), &[]).unwrap();
    assert!(!parent.tasks.publish());
    assert!(!parent.tasks.is_drained().unwrap());
    assert!(worker.tasks.take().unwrap().is_some());
    assert!(!parent.tasks.is_drained().unwrap());
    worker.tasks.done();
    assert!(parent.tasks.is_drained().unwrap());
}

#[test]
fn a_sleeping_worker_is_rung_once() {
    let (mut parent, worker) = mailbox(SMALL);
    worker.tasks.prepare_sleep();
    parent.tasks.push(head(0), &[]).unwrap();
    assert!(parent.tasks.publish());
    parent.tasks.push(head(1), &[]).unwrap();
    assert!(!parent.tasks.publish());
    assert!(!parent.tasks.publish(), "nothing new");
    worker.tasks.prepare_sleep();
    worker.tasks.cancel_sleep();
    assert!(!parent.tasks.wake_needed());
    worker.tasks.prepare_sleep();
    assert!(parent.tasks.wake_needed());
    assert!(!parent.tasks.wake_needed());
}

#[test]
fn an_armed_parent_is_rung_at_its_count_and_once() {
    let (mut parent, mut worker) = mailbox(SMALL);
    let mut publish = |count: u64| {
        (0..count).for_each(|id| worker.results.push(head(id), &[]).unwrap());
        worker.results.publish()
    };
    assert!(!publish(1), "not armed");
    parent.results.arm(3);
    assert!(!publish(1));
    assert!(publish(1));
    assert!(!publish(1), "once");
    parent.results.arm(1);
    parent.results.disarm();
    assert!(!publish(1));
    assert_eq!(
        (0..6)
            .map_while(|_| parent.results.next().unwrap().map(|_| ()))
            .count(),
        5
    );
    assert_eq!(parent.results.received(), 5);
}

#[test]
fn an_idle_worker_rings_a_parent_that_waits_for_more() {
    let (mut parent, mut worker) = mailbox(SMALL);
    assert!(!worker.results.unseen(), "nothing published");
    parent.results.arm(9);
    assert!(!worker.results.unseen(), "nothing published");
    worker.results.push(head(0), &[]).unwrap();
    assert!(!worker.results.publish());
    assert!(worker.results.unseen());
    assert!(!worker.results.unseen(), "once for each arming");
    parent.results.arm(9);
    assert!(parent.results.next().unwrap().is_some());
    parent.results.done();
    assert!(!worker.results.unseen(), "all was collected");
}

#[test]
fn a_hint_arrives() {
    let (parent, worker) = mailbox(SMALL);
    assert_eq!(worker.tasks.hint(), 0);
    parent.tasks.hint(77);
    assert_eq!(worker.tasks.hint(), 77);
}

#[test]
fn what_is_no_mailbox_is_refused() {
    let (here, there) = memory(SMALL.region_len());
    let refused = |what: &str| match mailbox::attach(there.clone()) {
        Ok(_) => panic!("attached to memory with {what}"),
        Err(malformed) => malformed,
    };
    assert!(matches!(
        refused("zeros"),
        Malformed::Magic { found: 0, .. }
    ));
    let make = || drop(mailbox::create(here.clone(), SMALL));
    make();
    poke(&here, 8, 99 | 4096 << 32);
    assert!(matches!(
        refused("version 99"),
        Malformed::Version { found: 99, .. }
    ));
    make();
    poke(&here, 12, 8192 | 4096 << 32);
    assert!(matches!(
        refused("too big a shape"),
        Malformed::OutOfRange { value: 16384, .. }
    ));
    make();
    poke(&here, 12, 4097 | 4096 << 32);
    assert!(matches!(
        refused("an odd shape"),
        Malformed::Uneven { value: 4097, .. }
    ));
    make();
    poke(&here, 12, 0);
    assert!(matches!(
        refused("an empty shape"),
        Malformed::OutOfRange { value: 0, .. }
    ));
    make();
    assert!(mailbox::attach(there.clone()).is_ok());
    assert!(matches!(
        refused("a worker"),
        Malformed::Attached { found: 1 }
    ));
    let (page, _) = memory(1);
    assert!(mailbox::attach(page).is_err());
}

#[test]
#[should_panic(expected = "cannot make a mailbox of")]
fn a_mailbox_bigger_than_its_memory_is_a_callers_mistake() {
    let (here, _) = memory(4096);
    mailbox::create(here, SMALL);
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Publish,
    Take,
    Done,
    Revoke(prop::sample::Index),
    Report(usize),
    PublishResults,
    Next,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![3 => 0..100_usize, 1 => 0..2100_usize];
    prop_oneof![
        4 => len.clone().prop_map(Step::Push),
        3 => Just(Step::Publish),
        4 => Just(Step::Take),
        1 => Just(Step::Done),
        2 => any::<prop::sample::Index>().prop_map(Step::Revoke),
        3 => len.prop_map(Step::Report),
        2 => Just(Step::PublishResults),
        3 => Just(Step::Next),
    ]
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fate {
    Queued,
    Taken,
    Revoked,
}

struct Task {
    ticket: Ticket,
    payload: Vec<u8>,
    fate: Fate,
    /// Bytes of frames and pads pushed before and with this one.
    reach: u64,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_loses_doubles_and_tears_nothing(
        steps in prop::collection::vec(step(), 1..300),
        result_bytes in prop_oneof![Just(4096_u32), Just(8192)],
    ) {
        let (mut parent, mut worker) = mailbox(Shape { result_bytes, ..SMALL });
        let mut tasks: Vec<Task> = Vec::new();
        let mut visible = 0; // tasks
        let mut reach = 0;
        let mut results: Vec<Vec<u8>> = Vec::new();
        let (mut published, mut collected) = (0, 0); // results
        for step in steps {
            match step {
                Step::Push(len) => {
                    let id = tasks.len() as u64;
                    let bytes = payload(id, len);
                    let (room, cut) = (parent.tasks.room(), len / 3);
                    match parent.tasks.push(head(id), &[&bytes[..cut], &[], &bytes[cut..]]) {
                        Ok(ticket) => {
                            prop_assert!(len <= room, "room said {room}");
                            let frame = (len as u64 + 32).next_multiple_of(64);
                            let to_end = 4096 - reach % 4096;
                            reach += frame + if to_end < frame { to_end } else { 0 };
                            tasks.push(Task { ticket, payload: bytes, fate: Fate::Queued, reach });
                        }
                        Err(full) => {
                            prop_assert!(len > room || room == 0, "room said {room}, push {full}");
                            prop_assert_eq!(full.needed, len);
                        }
                    }
                }
                Step::Publish => {
                    prop_assert!(!parent.tasks.publish());
                    visible = tasks.len();
                }
                Step::Take => {
                    let next = tasks[..visible].iter().position(|task| task.fate == Fate::Queued);
                    let got = worker.tasks.take().unwrap();
                    prop_assert_eq!(got.as_ref().map(|task| task.head), next.map(|id| head(id as u64)));
                    if let (Some(id), Some(task)) = (next, got) {
                        prop_assert_eq!(task.payload, &tasks[id].payload[..]);
                        tasks[id].fate = Fate::Taken;
                    }
                }
                Step::Done => worker.tasks.done(),
                Step::Revoke(index) if !tasks.is_empty() => {
                    let task = index.get(&tasks);
                    let (ticket, queued) = (task.ticket, task.fate == Fate::Queued);
                    prop_assert_eq!(parent.tasks.revoke(ticket), queued);
                    if queued {
                        let index = index.index(tasks.len());
                        tasks[index].fate = Fate::Revoked;
                    }
                }
                Step::Revoke(_) => {}
                Step::Report(len) => {
                    let bytes = payload(results.len() as u64, len);
                    let room = worker.results.room();
                    let pushed = worker.results.push(head(results.len() as u64), &[&bytes]);
                    prop_assert_eq!(pushed.is_ok(), len <= room && room > 0);
                    if pushed.is_ok() {
                        results.push(bytes);
                    }
                }
                Step::PublishResults => {
                    prop_assert!(!worker.results.publish());
                    published = results.len();
                }
                Step::Next => {
                    let got = parent.results.next().unwrap();
                    prop_assert_eq!(got.is_some(), collected < published);
                    if let Some(result) = got {
                        prop_assert_eq!(result.head, head(collected as u64));
                        prop_assert_eq!(result.payload, &results[collected][..]);
                        collected += 1;
                    }
                }
            }
            for (id, task) in tasks.iter().enumerate() {
                let start = task.reach - (task.payload.len() as u64 + 32).next_multiple_of(64);
                let kept = reach - start <= 4096;
                prop_assert!(kept || task.fate != Fate::Queued, "a queued task was written over");
                let back = parent.tasks.read_back(task.ticket);
                prop_assert_eq!(back, kept.then(|| (head(id as u64), task.payload.clone())));
                let taken = task.fate == Fate::Taken || !kept;
                prop_assert_eq!(parent.tasks.was_taken(task.ticket), taken);
            }
        }
    }
}
