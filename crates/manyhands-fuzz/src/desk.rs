//! A worker's desk whose parent writes frames of any kind, descriptors of any block, and anything anywhere.
//!
//! Always: the worker leaves, or says what is wrong with what it was told.

use std::os::fd::OwnedFd;

use manyhands::engine::{Answer, Call, Desk, Execute, Payload, Received, Seat, SeatFds, Stopwatch};
use manyhands_os::fd::{EventFd, pipe};
use manyhands_os::frozen::Frozen;
use manyhands_shm::arena::Lender;
use manyhands_shm::mailbox::{self, Head, Shape, TaskWriter};

use crate::script::Script;
use crate::shared::{Seats, look_at};

const SHAPE: Shape = Shape {
    task_bytes: 8192,
    // Room for an answer to each task that the other ring holds: nobody would make some.
    result_bytes: 16384,
};
const ARENA: usize = 256 << 10;
/// The frame by which a worker is told to leave.
const STOP: Head = Head {
    kind: 5,
    flags: 0,
    tag: 0,
    id: 0,
    extra: 0,
};

thread_local! {
    /// The memories, and what a parent keeps for its workers, in several pieces.
    static SEATS: (Seats, Frozen) = (
        Seats::new(SHAPE.region_len(), ARENA),
        Frozen::create("manyhands-fuzz", &[&[1; 100], &[2; 70_000], &[]]).expect("frozen memory"),
    );
}

/// A face that looks at all it is given, and answers with some of it.
struct Face {
    tasks: TaskWriter,
    waits: usize,
}

impl Execute for Face {
    fn define(&mut self, _: u32, bytes: Received, buffers: Vec<Received>) {
        look_at(&bytes);
        buffers.iter().for_each(|buffer| look_at(buffer));
    }

    fn forget(&mut self, _: u32) {}

    fn run(&mut self, call: Call, stopwatch: &mut Stopwatch) -> Answer {
        look_at(&call.bytes);
        call.buffers.iter().for_each(|buffer| look_at(buffer));
        let copies: Vec<_> = call.buffers.iter().map(Received::copied).collect();
        copies.iter().for_each(|copy| look_at(copy));
        let _ = stopwatch.is_needed(call.limit);
        Answer {
            raised: call.mode & 1 != 0,
            mode: call.mode,
            payload: Payload::new(&call.bytes[..call.bytes.len().min(20)]),
        }
    }

    fn while_waiting(&mut self, _: &mut (dyn FnMut() + Send)) {
        // The word to leave was spoilt, or passed with a frame that was: it is said once more, and then heard.
        self.waits += 1;
        assert!(
            self.waits <= 2,
            "the worker waits though it is told to leave"
        );
        let _ = (self.tasks.push(STOP, &[]), self.tasks.publish());
    }
}

pub(crate) fn run(input: &[u8]) {
    SEATS.with(|(seats, frozen)| {
        seats.clear();
        serve(&mut Script::new(input), seats, frozen);
    });
}

fn serve(script: &mut Script<'_>, seats: &Seats, frozen: &Frozen) -> Option<()> {
    let [mailbox, arena, _] = &seats.shared;
    let mut parent = mailbox::create(mailbox.ours.clone(), SHAPE);
    let mut lender = Lender::new(arena.ours.clone());
    let bell = || OwnedFd::from(EventFd::new().expect("an eventfd"));
    let (line, _held) = pipe().expect("a pipe");
    let mut lent = Vec::new();
    let mut pokes = Vec::new();
    let mut steps = script.steps();
    while let Some(step) = steps(script) {
        match step % 8 {
            0 | 1 if pokes.len() < 4 => {
                pokes.push((script.short(), script.number()));
            }
            2 => {
                let len = usize::from(script.short()?) * 4;
                if let Some(mut loan) = lender.lend(len) {
                    loan.as_mut_slice().fill(step);
                    lent.push(loan.descriptor());
                }
            }
            _ => {
                let kind = u16::from(script.byte()?);
                let mut head = Head {
                    kind: if kind % 8 == 0 { kind } else { kind % 6 },
                    flags: script.short()?,
                    tag: u32::from(script.byte()?),
                    id: u64::from(script.byte()?),
                    extra: 0,
                };
                let mut content = Vec::new();
                match step / 8 % 5 {
                    // A table of blocks, as one side or the other would have it.
                    0 | 1 => {
                        let count = u32::from(script.byte()? % 8);
                        content.extend_from_slice(&count.to_le_bytes());
                        for _ in 0..count {
                            let which = usize::from(script.byte()?);
                            let Some(descriptor) = lent.get(which % lent.len().max(1)) else {
                                break;
                            };
                            content.extend_from_slice(&descriptor.to_bytes());
                        }
                        head.flags |= 2;
                    }
                    // Where something is kept.
                    2 => {
                        let address = frozen.address().ok()?;
                        let places = frozen.pieces().iter();
                        let places = places.flat_map(|place| [place.start, place.end]);
                        let words = [
                            address.fd as u64,
                            address.file.0,
                            address.file.1,
                            frozen.pieces().len() as u64,
                        ];
                        let words = words.into_iter().chain(places);
                        content.extend(words.flat_map(u64::to_le_bytes));
                        if let Some(at) = script.byte().filter(|at| at % 2 == 0) {
                            let at = usize::from(at / 2) % (content.len() / 8) * 8;
                            let word = script.number()?.to_le_bytes();
                            content[at..at + 8].copy_from_slice(&word);
                        }
                        head.kind = 1;
                        head.flags |= 16;
                    }
                    3 => head.extra = script.number()?,
                    _ => {}
                }
                let len = usize::from(script.byte()?);
                content.extend_from_slice(script.bytes(len));
                let _ = parent.tasks.push(head, &[&content]);
            }
        }
    }
    let _ = (parent.tasks.push(STOP, &[]), parent.tasks.publish());
    let memory = |number: usize| seats.memory[number].try_clone().map(OwnedFd::from);
    let (mailbox, arguments, results) = (memory(0).ok()?, memory(1).ok()?, memory(2).ok()?);
    let seat = Seat {
        number: 0,
        parent: std::process::id() as i32,
        fds: SeatFds {
            mailbox,
            arguments,
            results,
            worker_bell: bell(),
            parent_bell: bell(),
            lifeline: line,
        },
    };
    let mut desk = Desk::sit(seat).expect("a seat");
    for (at, value) in pokes {
        // Beyond the words of the rings: with these a worker might wait, as it should.
        let at = 4096 + usize::from(at?) % (SHAPE.region_len() - 4096);
        seats.shared[0].poke(at, value?);
        arena.poke(at % 256, value?);
    }
    let tasks = parent.tasks;
    let mut face = Face { tasks, waits: 0 };
    let _ = desk.serve(&mut face);
    Some(())
}
