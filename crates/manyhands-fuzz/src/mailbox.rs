//! Mailboxes: both ends, and a hand that writes anything anywhere between any two of their steps.
//!
//! Always: until something was spoilt, what comes out is what went in.

use std::collections::VecDeque;

use manyhands_shm::mailbox::{self, Head, Shape};

use crate::script::Script;
use crate::shared::{Shared, look_at, marked};

const SHAPE: Shape = Shape {
    task_bytes: 4096,
    result_bytes: 4096,
};

thread_local! {
    static SHARED: Shared = Shared::new(SHAPE.region_len());
}

/// Bytes of a mailbox before its rings, and between its words.
const RINGS: usize = 4096;
const LANE: usize = 128;

/// A place in the header's words, at a frame's header, or anywhere.
fn place(script: &mut Script<'_>) -> Option<usize> {
    let (sort, at) = (script.byte()?, usize::from(script.byte()?));
    Some(match sort % 4 {
        0 => at % 9 * LANE,
        1 => RINGS + at % 128 * 64,
        2 => RINGS + at % 128 * 64 + 8 * (usize::from(sort / 4) % 8),
        _ => (usize::from(sort) << 8 | at) * 4 % SHAPE.region_len(),
    })
}

fn head(id: u64) -> Head {
    Head {
        kind: id as u16,
        flags: !id as u16,
        tag: id as u32 ^ 0xa5a5,
        id,
        extra: id << 32,
    }
}

/// What was sent, as long as nothing was spoilt.
#[derive(Default)]
struct Sent {
    waiting: VecDeque<(Head, Vec<u8>)>,
    shown: usize,
}

impl Sent {
    fn expect(&mut self, head: Head, payload: &[u8]) {
        let (sent, bytes) = self.waiting.pop_front().expect("nothing was sent");
        assert!(
            sent == head && bytes == payload,
            "another frame than was sent"
        );
        self.shown -= 1;
    }
}

pub(crate) fn run(input: &[u8]) {
    SHARED.with(|shared| {
        shared.clear();
        steps(shared, &mut Script::new(input));
    });
}

fn steps(shared: &Shared, script: &mut Script<'_>) -> Option<()> {
    let mut parent = mailbox::create(shared.ours.clone(), SHAPE);
    let mut worker = mailbox::attach(shared.theirs.clone()).expect("a mailbox just made");
    let mut tickets = Vec::new();
    let (mut tasks, mut results) = (Sent::default(), Sent::default());
    let (mut spoilt, mut id) = (false, 0);
    let mut steps = script.steps();
    while let Some(step) = steps(script) {
        id += 1;
        match step % 12 {
            0..=2 => {
                let (at, value) = (place(script)?, script.number()?);
                spoilt = true;
                shared.poke(at, value);
            }
            3 | 4 => {
                let payload = marked(id, usize::from(script.short()?) % 2100);
                if let Ok(ticket) = parent.tasks.push(head(id), &[&payload]) {
                    tickets.push((ticket, payload.clone()));
                    tasks.waiting.push_back((head(id), payload));
                }
            }
            5 => {
                let _ = (parent.tasks.publish(), worker.results.publish());
                tasks.shown = tasks.waiting.len();
                results.shown = results.waiting.len();
            }
            6 | 7 => match worker.tasks.take() {
                Ok(Some(task)) => {
                    look_at(task.payload);
                    if !spoilt {
                        tasks.expect(task.head, task.payload);
                    }
                }
                Ok(None) => assert!(spoilt || tasks.shown == 0, "a task is not found"),
                Err(why) => assert!(spoilt, "{why}"),
            },
            8 => {
                let payload = marked(id, usize::from(script.short()?) % 2100);
                if worker.results.push(head(id), &[&payload]).is_ok() {
                    results.waiting.push_back((head(id), payload));
                }
            }
            9 => match parent.results.next() {
                Ok(Some(result)) => {
                    look_at(result.payload);
                    if !spoilt {
                        results.expect(result.head, result.payload);
                    }
                }
                Ok(None) => assert!(spoilt || results.shown == 0, "a result is not found"),
                Err(why) => assert!(spoilt, "{why}"),
            },
            10 => {
                let _ = (parent.tasks.is_drained(), parent.tasks.wake_needed());
                let _ = (parent.results.has_next(), worker.tasks.has_next());
                let _ = (worker.results.unseen(), worker.tasks.hint());
                let _ = (parent.results.due(), parent.tasks.is_asleep());
                assert!(parent.tasks.room() <= parent.tasks.max_payload());
                assert!(worker.results.room() <= worker.results.max_payload());
                parent.results.arm(parent.results.received() + 1);
                worker.tasks.prepare_sleep();
            }
            _ => {
                let Some((ticket, payload)) = tickets.get(usize::from(script.byte()?)) else {
                    continue;
                };
                let _ = parent.tasks.was_taken(*ticket);
                if let Some((_, bytes)) = parent.tasks.read_back(*ticket) {
                    assert!(spoilt || bytes == *payload, "what is read back is another");
                }
                if script.byte()? % 2 == 0 && parent.tasks.revoke(*ticket) {
                    // Which of those that were sent it was does not matter: from here on their order is not known.
                    spoilt = true;
                }
            }
        }
    }
    Some(())
}

/// A mailbox whose header is whatever the bytes say, for the worker that finds it.
pub(crate) fn attach(input: &[u8]) {
    SHARED.with(|shared| {
        shared.clear();
        drop(mailbox::create(shared.ours.clone(), SHAPE));
        headers(shared, &mut Script::new(input));
    });
}

fn headers(shared: &Shared, script: &mut Script<'_>) -> Option<()> {
    let words = script.byte()? % 16;
    for _ in 0..words {
        let (at, value) = (usize::from(script.byte()?) % 64 * 4, script.number()?);
        if script.byte()? % 2 == 0 {
            shared.poke(at, value);
        } else {
            shared.write(at, &(value as u32).to_le_bytes());
        }
    }
    let mut worker = mailbox::attach(shared.ours.clone()).ok()?;
    let mut steps = script.steps();
    while let Some(step) = steps(script) {
        match step % 4 {
            0 => shared.poke(place(script)?, script.number()?),
            1 => {
                if let Ok(Some(task)) = worker.tasks.take() {
                    look_at(task.payload);
                }
            }
            2 => {
                let _ = worker
                    .results
                    .push(head(1), &[&marked(1, usize::from(script.short()?))]);
            }
            _ => {
                let _ = worker.results.publish();
                assert!(worker.results.room() <= worker.results.max_payload());
            }
        }
    }
    Some(())
}
