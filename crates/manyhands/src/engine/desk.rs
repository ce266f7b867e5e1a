//! The worker's side: takes tasks from its mailbox, answers, and leaves with its parent.
//!
//! Always: a worker that waits, for a task or for room, also waits for the death of its
//! parent, and leaves; one that works is ended by it; and it answers its tasks in the order in which it took them.
//! Not here: what a task means (the face's [`Execute`]).

use manyhands_os::crash_point;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use manyhands_os::clock::now_ns;
use manyhands_os::death::{Lifeline, ParentWatch};
use manyhands_os::fd::{AsFd, EventFd};
use manyhands_os::fork_state::{self, ParentFd};
use manyhands_os::frozen::Frozen;
use manyhands_os::memory::{Mapping, Memfd};
use manyhands_os::poll;
use manyhands_shm::arena::Borrower;
use manyhands_shm::mailbox::{self, Head, WorkerEnd};

use super::growth::Growth;
use super::launch::{Seat, SeatFds};
use super::patience::Patience;
use super::stopwatch::Stopwatch;
use super::task::{Payload, Received};
use super::terms::Limit;
use super::trace::Diary;
use super::wire::{self, Assembly, Cargo, Garbled, Lending, Stream, to_parent, to_worker};

/// A task as the worker sees it.
#[derive(Debug)]
pub struct Call {
    /// Id of its function, as given to [`Execute::define`] before, or of a [name](super::Job::called) for who looks on;
    /// 0: none.
    pub function: u32,
    /// The face's mark.
    pub mode: u8,
    /// The encoded argument.
    pub bytes: Received,
    /// Its out-of-band buffers.
    pub buffers: Vec<Received>,
    /// How long it may take.
    pub limit: Limit,
}

/// What the face answers to a call.
#[derive(Debug)]
pub struct Answer {
    /// The function raised (panicked).
    pub raised: bool,
    /// The face's mark.
    pub mode: u8,
    /// The encoded value or exception.
    pub payload: Payload,
}

/// What a face does for a worker.
pub trait Execute {
    /// A function that following calls will name by `id`.
    fn define(&mut self, id: u32, bytes: Received, buffers: Vec<Received>);
    /// The function `id` will not be named again.
    fn forget(&mut self, id: u32);
    /// Runs one call. Whatever the function does, it is answered. The face starts and stops `stopwatch` around the
    /// user's code, if it is [needed](Stopwatch::is_needed).
    fn run(&mut self, call: Call, stopwatch: &mut Stopwatch) -> Answer;
    /// Gives memory back that it could do without, before it is judged by how much it has.
    fn tidy(&mut self) {}
    /// Runs `wait`, which blocks; a face lets go of an interpreter's lock meanwhile.
    fn while_waiting(&mut self, wait: &mut (dyn FnMut() + Send)) {
        wait();
    }
    /// A signal arrived while waiting. `false`: leave.
    fn interrupted(&mut self) -> bool {
        true
    }
}

/// Why a worker left its desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It was told to.
    Dismissed,
    /// Its parent is gone.
    Orphaned,
    /// The face wished it.
    Interrupted,
    /// This is no worker but a child that a task forked, and that came back from the task.
    Forked,
}

/// A worker's place: its end of the mailbox and of the arenas.
pub struct Desk {
    mailbox: WorkerEnd,
    borrower: Option<Borrower>,
    lender: Option<Lending>,
    bell: EventFd,
    parent_bell: EventFd,
    parent: ParentWatch,
    parent_pid: i32,
    /// It could not open what the parent keeps.
    cut_off: bool,
    lifeline: Lifeline,
    assembly: Assembly,
    patience: Patience,
    stopwatch: Stopwatch,
    growth: Option<Growth>,
    /// Who looks on finds the mailbox by its descriptor.
    _mailbox_fd: ParentFd,
    diary: Option<Diary>,
    generation: u64,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    Bell,
    Orphaned,
    Interrupted,
}

impl Desk {
    /// Takes the place that `seat` describes, in the process that is to be the worker.
    pub fn sit(seat: Seat) -> io::Result<Self> {
        let Seat { parent, fds, .. } = seat;
        let SeatFds {
            mailbox,
            arguments,
            results,
            worker_bell,
            parent_bell,
            lifeline,
        } = fds;
        // Arrays of the user will lie there, and a child that a task forks has them too.
        let map_lasting =
            |fd| io::Result::Ok(Arc::new(Mapping::parted_by_fork(&Memfd::from_fd(fd)?)?));
        let garbled = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let memory = Memfd::from_fd(mailbox)?;
        let rings = Arc::new(Mapping::shared(&memory)?);
        let mailbox = mailbox::attach(rings)
            .map_err(|why| garbled(format!("the mailbox of this worker: {why}")))?;
        let stopwatch = Stopwatch::new(mailbox.results.due());
        let mut lifeline = Lifeline::new(lifeline);
        // An initializer runs next. If the parent is gone already, the first wait tells.
        let _ = lifeline.tauten();
        Ok(Self {
            mailbox,
            // Without an arena everything still crosses, in parts.
            borrower: map_lasting(arguments).ok().map(Borrower::new),
            lender: Memfd::from_fd(results)
                .and_then(|results| Lending::from(&results))
                .ok(),
            bell: EventFd::from_fd(worker_bell),
            parent_bell: EventFd::from_fd(parent_bell),
            parent: ParentWatch::of(parent)?,
            parent_pid: parent,
            cut_off: false,
            lifeline,
            assembly: Assembly::default(),
            patience: Patience::new(),
            stopwatch,
            growth: None,
            _mailbox_fd: ParentFd::new(memory.into()),
            diary: Diary::of_environment(),
            generation: fork_state::generation(),
        })
    }

    /// Tells the parent that this worker is initialised, then serves it until it leaves.
    pub fn serve(&mut self, face: &mut dyn Execute) -> Result<Left, Garbled> {
        let opens = if Frozen::can_open_of(self.parent_pid) {
            wire::OPENS
        } else {
            0
        };
        crash_point!("worker.before-ready");
        self.say(face, to_parent::READY, 0, 0, opens, Payload::default());
        crash_point!("worker.ready");
        if let Some(growth) = &mut self.growth {
            growth.begin();
        }
        loop {
            let Some(frame) = self.mailbox.tasks.take()? else {
                match self.idle(face) {
                    Woken::Bell => continue,
                    Woken::Orphaned => return Ok(Left::Orphaned),
                    Woken::Interrupted => return Ok(Left::Interrupted),
                }
            };
            if !self.lifeline.tauten() {
                return Ok(Left::Orphaned);
            }
            let (head, content) = (frame.head, frame.payload);
            match head.kind {
                to_worker::TASK => {
                    let (bytes, buffers) =
                        self.assembly
                            .unpack(head.flags, content, self.borrower.as_ref())?;
                    let size = match &self.diary {
                        Some(_) => {
                            bytes.len() + buffers.iter().map(|buffer| buffer.len()).sum::<usize>()
                        }
                        None => 0,
                    };
                    let call = Call {
                        function: head.tag,
                        mode: wire::mode(head.flags),
                        bytes,
                        buffers,
                        limit: Limit::unpacked(head.extra),
                    };
                    crash_point!("worker.task-taken");
                    let began = now_ns();
                    self.mailbox.results.begins(head.id, head.tag, began);
                    if let Some(diary) = &mut self.diary {
                        diary.begins(head.id, head.tag, began, size);
                    }
                    let answer = face.run(call, &mut self.stopwatch);
                    let ended = now_ns();
                    let ran = ended.saturating_sub(began);
                    if fork_state::generation() != self.generation {
                        // The mailbox is the worker's; it is not even mapped here.
                        return Ok(Left::Forked);
                    }
                    self.mailbox.results.ends();
                    if let Some(diary) = &mut self.diary {
                        diary.ends(ended, answer.raised, answer.payload.len());
                    }
                    crash_point!("worker.task-done");
                    let raised = if answer.raised { wire::RAISED } else { 0 };
                    let cut_off = if self.cut_off { wire::CUT_OFF } else { 0 };
                    let has_grown = self.growth.as_mut().is_some_and(|growth| {
                        growth.is_too_much(ended, answer.payload.len(), || face.tidy())
                    });
                    let grown = if has_grown { wire::GROWN } else { 0 };
                    let flags = wire::mark(answer.mode) | raised | cut_off | grown;
                    if self.say(face, to_parent::RESULT, flags, head.id, ran, answer.payload)
                        == Woken::Orphaned
                    {
                        return Ok(Left::Orphaned);
                    }
                }
                to_worker::DEFINE if head.flags & wire::FROZEN != 0 => {
                    let (buffers, bytes) = wire::open_frozen(content, self.parent_pid)?;
                    self.cut_off = buffers
                        .iter()
                        .any(|piece| matches!(piece, Received::Unopened(..)));
                    let bytes = Received::Copied(bytes.to_vec());
                    face.define(head.tag, bytes, buffers);
                    crash_point!("worker.function-defined");
                }
                to_worker::DEFINE => {
                    let (bytes, buffers) =
                        self.assembly
                            .unpack(head.flags, content, self.borrower.as_ref())?;
                    face.define(head.tag, bytes, buffers);
                    crash_point!("worker.function-defined");
                }
                to_worker::FORGET => face.forget(head.tag),
                to_worker::PART => {
                    self.assembly.part(&head, content)?;
                    self.mailbox.tasks.done();
                    // Whoever streams waits for the room that this part took.
                    let _ = self.parent_bell.ring();
                }
                to_worker::STOP => return Ok(Left::Dismissed),
                kind => return Err(Garbled::Kind(kind)),
            }
        }
    }

    /// From now on no call may use more processor time than this.
    pub fn limit_processor_time(&mut self, time: Duration) {
        self.stopwatch.limit_processor_time(time);
    }

    /// From now on answers say whether this process has grown by more than so many bytes since it was ready: its parent
    /// has it leave then.
    pub fn limit_growth(&mut self, bytes: u64) -> io::Result<()> {
        self.growth = Some(Growth::new(bytes)?);
        Ok(())
    }

    /// Tells the parent why this worker could not be initialised.
    pub fn fail(&mut self, face: &mut dyn Execute, why: Answer) {
        let flags = wire::mark(why.mode) | wire::RAISED;
        self.say(face, to_parent::FAILED, flags, 0, 0, why.payload);
    }

    /// Whether the parent is gone.
    pub fn is_orphaned(&self) -> bool {
        self.parent.gone()
    }

    /// Sends one frame, waiting for room as long as the parent lives.
    fn say(
        &mut self,
        face: &mut dyn Execute,
        kind: u16,
        flags: u16,
        id: u64,
        extra: u64,
        payload: Payload,
    ) -> Woken {
        let results = &mut self.mailbox.results;
        if let Some(lender) = &mut self.lender
            && (payload.bytes.len() > wire::INLINE_MAX || !payload.buffers.is_empty())
        {
            lender.sweep();
        }
        if let Some(packed) = wire::pack(&payload, self.lender.as_mut(), results.max_payload()) {
            let head = Head {
                kind,
                flags: flags | packed.flags,
                tag: 0,
                id,
                extra,
            };
            let inline: &[u8] = if packed.inline { &payload.bytes } else { &[] };
            return self.push(face, head, &[&packed.table, inline]);
        }
        let mut stream = Stream::new(Cargo::Own(payload));
        let max = results.max_payload();
        while let Some((head, bytes)) = stream.next_part(to_parent::PART, max) {
            if self.push(face, head, &[bytes]) == Woken::Orphaned {
                return Woken::Orphaned;
            }
            crash_point!("worker.part-sent");
        }
        let (more, content) = stream.closing();
        self.push(
            face,
            Head {
                kind,
                flags: flags | more,
                tag: 0,
                id,
                extra,
            },
            &[&content],
        )
    }

    fn push(&mut self, face: &mut dyn Execute, head: Head, parts: &[&[u8]]) -> Woken {
        while self.mailbox.results.push(head, parts).is_err() {
            if self.mailbox.results.unseen() {
                let _ = self.parent_bell.ring();
            }
            self.mailbox.tasks.prepare_sleep();
            crash_point!("worker.full");
            let needed = parts.iter().map(|part| part.len()).sum();
            if self.mailbox.results.room() < needed {
                // The parent rings when it has made room; the time-out heals a bell that was not heard.
                let woken = self.block(face, Some(Duration::from_millis(100)));
                if woken == Woken::Orphaned {
                    return woken;
                }
            }
            self.mailbox.tasks.cancel_sleep();
        }
        if self.mailbox.results.publish() {
            let _ = self.parent_bell.ring();
        }
        Woken::Bell
    }

    /// Waits for the next task: first awake, if a core is free for that, then asleep.
    fn idle(&mut self, face: &mut dyn Execute) -> Woken {
        let tasks = &self.mailbox.tasks;
        let patience = &mut self.patience;
        let mut found = false;
        if tasks.hint() != 0 && patience.is_worth_it() {
            face.while_waiting(&mut || found = patience.spin(|| tasks.has_next()));
            if found {
                return Woken::Bell;
            }
        }
        // Nothing that the parent waits for may stay unannounced while this side sleeps.
        if self.mailbox.results.unseen() {
            let _ = self.parent_bell.ring();
        }
        tasks.prepare_sleep();
        let woken = if tasks.has_next() {
            Woken::Bell
        } else {
            // While it waits it sees for itself, and leaves in an orderly way.
            self.lifeline.slacken();
            crash_point!("worker.before-sleep");
            self.block(face, None)
        };
        self.mailbox.tasks.cancel_sleep();
        woken
    }

    /// Sleeps until the bell rings or the parent dies.
    fn block(&mut self, face: &mut dyn Execute, limit: Option<Duration>) -> Woken {
        loop {
            let mut polled = Ok(Vec::new());
            face.while_waiting(&mut || {
                polled = poll::readable(&[self.bell.as_fd(), self.parent.fd()], limit)
            });
            match polled {
                Ok(ready) => {
                    if ready.get(1) == Some(&true) && self.parent.gone() {
                        return Woken::Orphaned;
                    }
                    if ready.first() == Some(&true) {
                        let _ = self.bell.drain();
                    }
                    return Woken::Bell;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    if !face.interrupted() {
                        return Woken::Interrupted;
                    }
                }
                // For want of memory, or because a task has left this process a limit of no descriptors: look soon.
                Err(_) if self.parent.gone() => return Woken::Orphaned,
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(10));
                    return Woken::Bell;
                }
            }
        }
    }
}
