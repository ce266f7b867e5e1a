//! A parent whose worker answers with frames of any kind, descriptors of any block, and anything anywhere.
//!
//! Always: every task is settled once, whatever the worker says, and the parent goes on.

use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use manyhands::fuzzing::Parent;
use manyhands_os::death::Child;
use manyhands_shm::arena::Lender;
use manyhands_shm::mailbox::{self, Head, Shape};

use crate::script::Script;
use crate::shared::{Seats, Shared};

const SHAPE: Shape = Shape {
    task_bytes: 4096,
    result_bytes: 8192,
};
const ARENA: usize = 256 << 10;

/// A process to be sent signals in the worker's place: it has ended, so they go nowhere.
fn nobody() -> Arc<Child> {
    static NOBODY: OnceLock<Arc<Child>> = OnceLock::new();
    let child = NOBODY.get_or_init(|| {
        let ended = Command::new("true").stdin(Stdio::null()).spawn();
        let mut ended = ended.expect("a process that does nothing");
        let child = Child::own(ended.id() as i32).expect("a child just started");
        ended.wait().expect("its end");
        Arc::new(child)
    });
    Arc::clone(child)
}

thread_local! {
    static SEATS: Seats = Seats::new(SHAPE.region_len(), ARENA);
}

pub(crate) fn run(input: &[u8]) {
    SEATS.with(|seats| {
        seats.clear();
        let [mailbox, arguments, results] = &seats.memory;
        let script = &mut Script::new(input);
        let retries = script.byte().map_or(0, |byte| u32::from(byte % 2));
        let parent = Parent::new(nobody(), mailbox, SHAPE, arguments, results, retries);
        let mut parent = parent.expect("what a parent has");
        answer(script, &mut parent, &seats.shared);
        parent.bury();
    });
}

fn answer(
    script: &mut Script<'_>,
    parent: &mut Parent,
    [mailbox, arguments, results]: &[Shared; 3],
) -> Option<()> {
    let mut worker = mailbox::attach(mailbox.ours.clone()).expect("a mailbox just made");
    let mut lender = Lender::new(results.ours.clone());
    let mut lent = Vec::new();
    let mut taken = Vec::new();
    let mut steps = script.steps();
    while let Some(step) = steps(script) {
        match step % 16 {
            0 => {
                let at = usize::from(script.short()?) * 8 % SHAPE.region_len();
                mailbox.poke(at, script.number()?);
            }
            1 => {
                let at = usize::from(script.byte()?) % 64 * 4;
                let word = script.number()? as u32;
                let which = if step < 128 { arguments } else { results };
                which.write(at, &word.to_le_bytes());
            }
            // What was done with a block, by a slot's turn and state.
            2 => {
                let (slot, state) = (usize::from(script.byte()?), script.byte()?);
                let word = u32::from(state / 8) << 16 | u32::from(state % 8);
                arguments.write(slot % 16 * 4, &word.to_le_bytes());
            }
            3..=5 => {
                let len = usize::from(script.short()?) % 20_000;
                let buffer = usize::from(script.byte()?) * 512;
                parent.hand(len, if step & 16 == 0 { 0 } else { buffer }, step & 32 != 0);
                parent.publish();
            }
            6 => {
                if let Ok(Some(task)) = worker.tasks.take() {
                    taken.push(task.head.id);
                }
            }
            7 => parent.look(),
            8 => parent.take_back(),
            9 => {
                let len = usize::from(script.short()?) * 4;
                if let Some(mut loan) = lender.lend(len) {
                    loan.as_mut_slice().fill(step);
                    lent.push(loan.descriptor());
                }
            }
            10 | 11 => drop(parent.listen()),
            _ => {
                let kind = u16::from(script.byte()?);
                let mut content = Vec::new();
                let mut head = Head {
                    kind: if kind % 8 == 0 { kind } else { kind % 5 },
                    flags: script.short()?,
                    tag: u32::from(script.byte()?),
                    id: u64::from(script.byte()?),
                    extra: script.number()?,
                };
                if step & 16 == 0 && !taken.is_empty() {
                    head.kind = 3;
                    head.id = taken.remove(0);
                }
                if step & 32 != 0 {
                    let count = u32::from(script.byte()? % 8);
                    content.extend_from_slice(&count.to_le_bytes());
                    for _ in 0..count {
                        let which = usize::from(script.byte()?);
                        if let Some(descriptor) = lent.get(which % lent.len().max(1)) {
                            content.extend_from_slice(&descriptor.to_bytes());
                        }
                    }
                    head.flags |= 2;
                }
                let len = usize::from(script.byte()?);
                content.extend_from_slice(script.bytes(len));
                let _ = worker.results.push(head, &[&content]);
                let _ = worker.results.publish();
            }
        }
    }
    Some(())
}
