//! One worker as the parent sees it: its mailbox, what it was handed, how fast it is.
//!
//! Always: `handed` lists, oldest first, exactly the tasks whose frames were pushed and
//! that are neither answered nor taken back; a worker answers in that order. Everything
//! needed to settle a dead worker's tasks is in `handed`, in this process, or in the
//! frames that this process wrote.
//! Not here: choosing the worker (`dispatch`), noticing its death (`supervise`).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use manyhands_os::death::{Child, Hold};
use manyhands_os::fd::EventFd;
use manyhands_os::fork_state::Registration;
use manyhands_shm::arena::{Borrower, Descriptor};
use manyhands_shm::mailbox::{Head, ParentEnd, ResultReader, TaskWriter, Ticket};

use super::task::{Function, Job, Need, Outcome, Payload, Reply, SharedBuffer, Task};
use super::wire::{self, Assembly, Cargo, Garbled, Lending, Stream, to_parent, to_worker};

/// A part of a stream is not worth a frame below this many bytes.
const LEAST_PART: usize = 2048;
/// A task that a worker has not begun for so long is somebody else's, if somebody else is idle. Waking
/// a worker takes a thousandth of it.
const OVERDUE: Duration = Duration::from_millis(50);

/// Which answers a thread that sleeps wants to be woken for at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Those that come within so many nanoseconds.
    pub(super) ns: u64,
    /// Those that are owed now, and no more.
    pub(super) owed: bool,
}

impl Span {
    /// Each by itself.
    pub(super) const EACH: Self = Self { ns: 0, owed: true };
}

/// A task that sits in the worker's mailbox or is being run.
pub(super) struct Handed {
    pub(super) job: Arc<dyn Job>,
    pub(super) index: u64,
    serial: u64,
    mode: u8,
    function: Option<Arc<Function>>,
    ticket: Ticket,
    loans: Vec<Descriptor>,
    /// How many of these loans, the last ones, are buffers; a first one may be the bytes.
    buffers: usize,
    /// Bytes in its frame that are no payload: the table of loans.
    table_len: usize,
    /// What cannot be read back from the ring and from the blocks: all of a payload that was streamed, with
    /// buffers of its own.
    retained: Option<Payload>,
    /// How long the whole payload is, if it is not in the ring.
    bytes: usize,
    streamed: bool,
}

/// What is left of a task whose outcome is known. It may run code of the user when it is dropped, so
/// it is handed on to be dropped without the floor's lock.
pub(super) struct Spent {
    _job: Option<Arc<dyn Job>>,
    _function: Option<Arc<Function>>,
    _payload: Option<Payload>,
}

impl From<Task> for Spent {
    fn from(task: Task) -> Self {
        Self {
            _job: Some(task.job),
            _function: task.function,
            _payload: Some(task.payload),
        }
    }
}

impl From<Vec<SharedBuffer>> for Spent {
    fn from(buffers: Vec<SharedBuffer>) -> Self {
        Self {
            _job: None,
            _function: None,
            _payload: Some(Payload {
                bytes: Vec::new(),
                buffers,
            }),
        }
    }
}

impl From<Arc<Function>> for Spent {
    fn from(function: Arc<Function>) -> Self {
        Self {
            _job: None,
            _function: Some(function),
            _payload: None,
        }
    }
}

impl Handed {
    /// Takes what is needed to settle it from what may be dropped later.
    fn part(self) -> (Arc<dyn Job>, u64, Spent) {
        let job = Arc::clone(&self.job);
        (
            job,
            self.index,
            Spent {
                _job: Some(self.job),
                _function: self.function,
                _payload: self.retained,
            },
        )
    }
}

/// What a stream in progress will turn into once its last part is sent.
enum Closing {
    Function(Arc<Function>),
    /// The stream has its payload.
    Task {
        task: Task,
        serial: u64,
    },
}

/// The task that was being streamed, whole again; else what was.
fn unstreamed((stream, closing): (Stream, Closing)) -> Result<Task, Arc<Function>> {
    match closing {
        Closing::Function(function) => Err(function),
        Closing::Task { mut task, .. } => {
            if let Cargo::Own(payload) = stream.into_cargo() {
                task.payload = payload;
            }
            Ok(task)
        }
    }
}

/// What a worker said since it was last asked.
#[derive(Default)]
pub(super) struct Heard {
    /// Tasks with their outcome.
    pub(super) settled: Vec<(Arc<dyn Job>, u64, Outcome)>,
    /// It became ready.
    pub(super) ready: bool,
    /// Why it could not be initialised.
    pub(super) last_words: Option<Reply>,
    /// What is left of those tasks.
    pub(super) spent: Vec<Spent>,
    /// Anything at all was heard.
    pub(super) anything: bool,
}

pub(super) struct Worker {
    pub(super) number: u64,
    pub(super) child: Arc<Child>,
    tasks: TaskWriter,
    results: ResultReader,
    lender: Option<Lending>,
    borrower: Option<Borrower>,
    /// Dropped before `bell`, as it must be.
    _not_for_children: Registration,
    bell: EventFd,
    /// What ends it when this process is gone, if the crew's hold does not.
    _hold: Option<Hold>,
    handed: VecDeque<Handed>,
    known: HashSet<u32>,
    to_forget: Vec<u32>,
    outgoing: Option<(Stream, Closing)>,
    assembly: Assembly,
    /// Smoothed nanoseconds a task; 0 while nothing is known.
    pace_ns: u64,
    /// How many more tasks it may be given.
    tasks_left: Option<u64>,
    pub(super) ready: bool,
    /// It can open descriptors of this process.
    opens_ours: bool,
    /// It left a task lying for [`OVERDUE`], and has not moved since: it may be stopped.
    absent: bool,
    /// The task that it was seen not to have begun, by serial, and since when.
    lying: Option<(u64, Instant)>,
    pub(super) stopped: bool,
    unpublished: bool,
    result_bytes: usize,
    bytes_held: usize,
    /// To be dropped without the floor's lock, when the worker is next listened to.
    spent: Vec<Spent>,
}

/// What belongs to one worker in the parent's memory.
pub(super) struct Equipment {
    pub(super) mailbox: ParentEnd,
    pub(super) result_bytes: usize,
    pub(super) lender: Option<Lending>,
    pub(super) borrower: Option<Borrower>,
    /// Keeps the bell from forked children.
    pub(super) not_for_children: Registration,
    pub(super) bell: EventFd,
    pub(super) hold: Option<Hold>,
}

impl Worker {
    pub(super) fn new(
        number: u64,
        child: Arc<Child>,
        equipment: Equipment,
        max_tasks: Option<u64>,
    ) -> Self {
        let Equipment {
            mailbox: ParentEnd { tasks, results },
            result_bytes,
            lender,
            borrower,
            not_for_children,
            bell,
            hold,
        } = equipment;
        Self {
            number,
            child,
            tasks,
            results,
            lender,
            borrower,
            _not_for_children: not_for_children,
            bell,
            _hold: hold,
            handed: VecDeque::new(),
            known: HashSet::new(),
            to_forget: Vec::new(),
            outgoing: None,
            assembly: Assembly::default(),
            pace_ns: 0,
            tasks_left: max_tasks,
            ready: false,
            opens_ours: false,
            absent: false,
            lying: None,
            stopped: false,
            unpublished: false,
            result_bytes,
            bytes_held: 0,
            spent: Vec::new(),
        }
    }

    /// Tasks in its mailbox, the running one included.
    pub(super) fn load(&self) -> usize {
        self.handed.len() + usize::from(self.outgoing.is_some())
    }

    /// Bytes of large payloads that it holds.
    pub(super) fn bytes_held(&self) -> usize {
        self.bytes_held
    }

    /// Lets go of every task, begun or not, for a pool that is over. Those not begun never will be: a
    /// worker that outlives its SIGTERM finds nothing more to do.
    pub(super) fn abandon(&mut self, litter: &mut Vec<Spent>) -> Vec<(Arc<dyn Job>, u64, Spent)> {
        self.bytes_held = 0;
        litter.append(&mut self.spent);
        let streaming = match self.outgoing.take().map(unstreamed) {
            Some(Ok(task)) => Some((Arc::clone(&task.job), task.index, task.into())),
            Some(Err(function)) => {
                litter.push(function.into());
                None
            }
            None => None,
        };
        // The youngest first: a streamed task whose parts were read is then never followed by another.
        for handed in self.handed.iter().rev() {
            let _ = self.tasks.revoke(handed.ticket);
        }
        self.handed
            .drain(..)
            .map(Handed::part)
            .chain(streaming)
            .collect()
    }

    /// Smoothed nanoseconds a task takes here; 0 while nothing is known.
    pub(super) fn pace_ns(&self) -> u64 {
        self.pace_ns
    }

    /// Whether it may be given a task at all.
    pub(super) fn takes_tasks(&self) -> bool {
        !self.stopped && self.outgoing.is_none() && self.tasks_left != Some(0)
    }

    /// Whether a task that it is handed now is likely to be begun as soon as those before it are done.
    pub(super) fn is_attentive(&self) -> bool {
        self.ready && !self.absent
    }

    /// Whether it has done all that it was handed and has not gone to sleep yet: it begins the next task at once.
    pub(super) fn is_hot(&self) -> bool {
        self.is_attentive() && self.tasks.is_drained().unwrap_or(false) && !self.tasks.is_asleep()
    }

    /// Whether it holds a task that somebody else could do: all but the first, which it has begun or
    /// is about to; if it is not, that one too.
    pub(super) fn has_spare(&self) -> bool {
        let begins = self.is_attentive() && !self.leaves_lying();
        self.load() > usize::from(begins) && self.handed.back().is_some_and(|last| !last.streamed)
    }

    fn leaves_lying(&self) -> bool {
        let first = self.handed.front().map(|handed| handed.serial);
        self.lying
            .is_some_and(|(serial, since)| Some(serial) == first && since.elapsed() >= OVERDUE)
    }

    /// Looks whether it gets to its tasks. If its first was not begun, says when to look again.
    /// Asked before the caller sleeps, so that no task costs a look at the clock.
    pub(super) fn look_after(&mut self) -> Option<Instant> {
        let first = self.handed.front()?;
        if self.tasks.was_taken(first.ticket) {
            self.lying = None;
            return None;
        }
        let now = Instant::now();
        let since = match self.lying {
            Some((serial, since)) if serial == first.serial => since,
            _ => now,
        };
        self.lying = Some((first.serial, since));
        let due = since + OVERDUE;
        // What is overdue already could not be moved a moment ago.
        Some(if due > now { due } else { now + OVERDUE })
    }

    /// Remembers that a task had to be taken from it, until it moves again.
    fn note_absence(&mut self) {
        self.absent |= self.leaves_lying();
    }

    /// Sees whether a worker that was away is back.
    pub(super) fn look_for(&mut self) {
        // Even if every task was taken back, it has passed their frames once it is back.
        if self.absent && self.tasks.is_drained().unwrap_or(false) {
            self.absent = false;
        }
    }

    /// Whether it has done all the tasks that it was allowed.
    pub(super) fn is_spent(&self) -> bool {
        self.tasks_left == Some(0) && self.handed.is_empty() && !self.stopped
    }

    /// Puts a task into the mailbox, not yet visible to the worker (see `publish`).
    /// Gives the task back when there is no room for it now.
    pub(super) fn hand(&mut self, task: Task, serial: u64) -> Result<(), Task> {
        if !self.takes_tasks() {
            return Err(task);
        }
        self.send_forgets();
        if let Some(function) = &task.function
            && !self.known.contains(&function.id)
        {
            let function = Arc::clone(function);
            if !self.define(function) {
                return Err(task);
            }
        }
        if let Some(left) = &mut self.tasks_left {
            *left -= 1;
        }
        let Some(packed) = wire::pack(
            &task.payload,
            self.lender.as_mut(),
            self.tasks.max_payload(),
        ) else {
            let mut task = task;
            // The parts are cut one by one, long after the caller was told that the task is on its way.
            let detached = task.payload.detach(Need::Sure);
            self.shed(detached);
            let stream = Stream::new(Cargo::Own(std::mem::take(&mut task.payload)));
            self.outgoing = Some((stream, Closing::Task { task, serial }));
            self.advance_stream();
            return Ok(());
        };
        let head = Head {
            kind: to_worker::TASK,
            flags: wire::mark(task.mode) | packed.flags,
            tag: task.function.as_ref().map_or(0, |function| function.id),
            id: serial,
            extra: 0,
        };
        let inline: &[u8] = if packed.inline {
            &task.payload.bytes
        } else {
            &[]
        };
        match self.tasks.push(head, &[&packed.table, inline]) {
            Ok(ticket) => {
                let payload = task.payload;
                let bytes = if packed.flags == 0 { 0 } else { payload.len() };
                let buffers = payload.buffers.len();
                self.shed(payload.buffers);
                self.unpublished = true;
                self.enlist(Handed {
                    job: task.job,
                    index: task.index,
                    serial,
                    mode: task.mode,
                    function: task.function,
                    ticket,
                    loans: packed.loans,
                    buffers,
                    table_len: packed.table.len(),
                    retained: None,
                    bytes,
                    streamed: false,
                });
                Ok(())
            }
            Err(_full) => {
                self.reclaim(packed.loans);
                if let Some(left) = &mut self.tasks_left {
                    *left += 1;
                }
                Err(task)
            }
        }
    }

    fn enlist(&mut self, handed: Handed) {
        self.bytes_held += handed.bytes;
        self.handed.push_back(handed);
    }

    /// Keeps what is not needed any more, to be dropped without the floor's lock.
    fn shed(&mut self, buffers: Vec<SharedBuffer>) {
        if !buffers.is_empty() {
            self.spent.push(buffers.into());
        }
    }

    fn reclaim(&mut self, loans: Vec<Descriptor>) {
        if let Some(lender) = &mut self.lender {
            loans
                .into_iter()
                .for_each(|descriptor| wire::drop_loan(lender, descriptor));
        }
    }

    /// Sends a function ahead of its first task. `false`: not yet, there is no room.
    fn define(&mut self, function: Arc<Function>) -> bool {
        if let Some(frozen) = &function.frozen {
            if !self.ready {
                return false; // it has not said yet whether it can open what we keep
            }
            if self.opens_ours
                && function.payload.bytes.len() <= wire::INLINE_MAX
                && let Ok(table) = wire::frozen_table(frozen)
                && table.len() + function.payload.bytes.len() <= self.tasks.max_payload()
            {
                let parts = [&table[..], &function.payload.bytes[..]];
                return self.push_definition(function.id, wire::FROZEN, &parts);
            }
        }
        let Some(packed) = wire::pack(
            &function.payload,
            self.lender.as_mut(),
            self.tasks.max_payload(),
        ) else {
            self.outgoing = Some((
                Stream::new(Cargo::Published(Arc::clone(&function))),
                Closing::Function(function),
            ));
            self.advance_stream();
            return self.outgoing.is_none();
        };
        let inline: &[u8] = if packed.inline {
            &function.payload.bytes
        } else {
            &[]
        };
        let pushed = self.push_definition(function.id, packed.flags, &[&packed.table, inline]);
        if !pushed {
            self.reclaim(packed.loans);
        }
        pushed
    }

    fn push_definition(&mut self, id: u32, flags: u16, parts: &[&[u8]]) -> bool {
        let head = Head {
            kind: to_worker::DEFINE,
            flags,
            tag: id,
            id: 0,
            extra: 0,
        };
        let pushed = self.tasks.push(head, parts).is_ok();
        if pushed {
            self.unpublished = true;
            self.known.insert(id);
        }
        pushed
    }

    /// Remembers that a function is not needed any more.
    pub(super) fn forget(&mut self, id: u32) {
        if self.known.remove(&id) {
            self.to_forget.push(id);
        }
    }

    fn send_forgets(&mut self) {
        while let Some(&id) = self.to_forget.last() {
            let head = Head {
                kind: to_worker::FORGET,
                flags: 0,
                tag: id,
                id: 0,
                extra: 0,
            };
            if self.tasks.push(head, &[]).is_err() {
                return;
            }
            self.unpublished = true;
            self.to_forget.pop();
        }
    }

    /// Sends what fits of a stream in progress, and its closing frame after the last part.
    pub(super) fn advance_stream(&mut self) {
        while let Some((stream, closing)) = &mut self.outgoing {
            if !stream.is_done() {
                // A part is only cut once it is known to fit.
                let room = self.tasks.room();
                if room < LEAST_PART {
                    return;
                }
                if let Some((head, bytes)) = stream.next_part(to_worker::PART, room) {
                    let pushed = self.tasks.push(head, &[bytes]);
                    debug_assert!(pushed.is_ok(), "room() promised {room} bytes");
                    self.unpublished = true;
                }
                continue;
            }
            let (flags, content) = stream.closing();
            let head = match closing {
                Closing::Function(function) => Head {
                    kind: to_worker::DEFINE,
                    flags,
                    tag: function.id,
                    id: 0,
                    extra: 0,
                },
                Closing::Task { task, serial } => Head {
                    kind: to_worker::TASK,
                    flags: wire::mark(task.mode) | flags,
                    tag: task.function.as_ref().map_or(0, |function| function.id),
                    id: *serial,
                    extra: 0,
                },
            };
            let Ok(ticket) = self.tasks.push(head, &[&content]) else {
                return;
            };
            self.unpublished = true;
            match self.outgoing.take().map(unstreamed) {
                Some(Err(function)) => {
                    self.known.insert(function.id);
                    // Perhaps nobody else needs it any more.
                    self.spent.push(function.into());
                }
                Some(Ok(task)) => self.enlist(Handed {
                    job: task.job,
                    index: task.index,
                    serial: head.id,
                    mode: task.mode,
                    function: task.function,
                    ticket,
                    loans: Vec::new(),
                    buffers: 0,
                    table_len: 0,
                    bytes: task.payload.len(),
                    retained: Some(task.payload),
                    streamed: true,
                }),
                None => {}
            }
        }
    }

    /// Tells the worker to leave once it has done what it was handed. `false`: no room yet.
    pub(super) fn stop(&mut self) -> bool {
        if !self.stopped && self.outgoing.is_none() {
            let head = Head {
                kind: to_worker::STOP,
                flags: 0,
                tag: 0,
                id: 0,
                extra: 0,
            };
            self.stopped = self.tasks.push(head, &[]).is_ok();
            self.unpublished |= self.stopped;
        }
        self.stopped
    }

    /// Makes what was pushed visible, and wakes the worker if it sleeps.
    pub(super) fn publish(&mut self, may_spin: bool) {
        if std::mem::take(&mut self.unpublished) {
            self.tasks.hint(u32::from(may_spin));
            if self.tasks.publish() {
                // A bell that cannot be rung is a closed one: its worker's death is told by its sentinel.
                let _ = self.bell.ring();
            }
        }
    }

    /// Whether it has said something that was not heard yet.
    pub(super) fn has_news(&self) -> bool {
        self.results.has_next()
    }

    /// Asks to be woken when the worker has given the answers that are due in `span`, or has nothing left to do.
    /// Whether that may be after the first answer: as long as the others take, however wrong the guess is.
    pub(super) fn arm(&self, span: Span) -> bool {
        let most = match span.owed {
            true => self.handed.len() as u64,
            false => u64::MAX / 2,
        };
        let after = match self.pace_ns {
            0 => 1,
            pace => (span.ns / pace).min(most).max(1),
        };
        self.results.arm(self.results.received() + after);
        after > 1
    }

    /// The same for a worker that was just handed a task, unless it owes a wake-up already.
    pub(super) fn arm_too(&self, span: Span) {
        if span.ns == 0 || !self.results.is_armed() {
            self.arm(span);
        }
    }

    pub(super) fn disarm(&self) {
        self.results.disarm();
    }

    /// Takes in everything it has said.
    pub(super) fn listen(&mut self, heard: &mut Heard) -> Result<(), Garbled> {
        heard.spent.append(&mut self.spent);
        let mut drained = 0;
        while let Some(frame) = self.results.next()? {
            heard.anything = true;
            let (head, content) = (frame.head, frame.payload);
            drained += 64 + content.len();
            match head.kind {
                to_parent::READY => {
                    self.ready = true;
                    self.opens_ours = head.extra & wire::OPENS != 0;
                    heard.ready = true;
                }
                to_parent::PART => self.assembly.part(&head, content)?,
                kind @ (to_parent::RESULT | to_parent::FAILED) => {
                    let (bytes, buffers) =
                        self.assembly
                            .unpack(head.flags, content, self.borrower.as_ref())?;
                    let raised = head.flags & wire::RAISED != 0;
                    let reply = Reply {
                        raised,
                        mode: wire::mode(head.flags),
                        bytes,
                        buffers,
                        ran_ns: head.extra,
                    };
                    if kind == to_parent::FAILED {
                        heard.last_words = Some(reply);
                        continue;
                    }
                    let expected = self.handed.front().map(|handed| handed.serial);
                    if expected != Some(head.id) {
                        return Err(Garbled::Stranger(head.id));
                    }
                    self.absent = false;
                    if head.flags & wire::CUT_OFF != 0 && self.opens_ours {
                        // What it has of functions may be without their buffers: they are sent once more.
                        self.opens_ours = false;
                        self.known.clear();
                    }
                    if let Some(handed) = self.handed.pop_front() {
                        self.bytes_held -= handed.bytes;
                        self.pace_ns = match self.pace_ns {
                            0 => head.extra.max(1),
                            pace => (pace - pace / 4).saturating_add(head.extra / 4).max(1),
                        };
                        let (job, index, spent) = handed.part();
                        heard.settled.push((job, index, Outcome::Replied(reply)));
                        heard.spent.push(spent);
                    }
                }
                kind => return Err(Garbled::Kind(kind)),
            }
        }
        if drained > 0 {
            if self.outgoing.is_some() {
                self.advance_stream();
            }
            if let Some(lender) = &mut self.lender {
                lender.sweep();
            }
        }
        // Only a worker that sleeps for want of room needs to be told of it, and its ring was well filled.
        if drained > self.result_bytes / 4 && self.tasks.wake_needed() {
            let _ = self.bell.ring();
        }
        Ok(())
    }

    /// Takes the youngest task back that the worker has not begun, if there is one.
    pub(super) fn take_back(&mut self) -> Option<Task> {
        self.note_absence();
        let last = self.handed.back()?;
        if last.streamed || !self.tasks.revoke(last.ticket) {
            return None;
        }
        let handed = self.handed.pop_back()?;
        self.bytes_held -= handed.bytes;
        self.restore(handed)
    }

    /// Whether it has begun a task of `job`.
    pub(super) fn has_begun(&self, job: &Arc<dyn Job>) -> bool {
        self.handed
            .iter()
            .any(|handed| Arc::ptr_eq(&handed.job, job) && self.tasks.was_taken(handed.ticket))
    }

    /// Takes back every task that was not begun, of jobs that `is_meant` says yes to.
    pub(super) fn take_back_those(
        &mut self,
        mut is_meant: impl FnMut(&Arc<dyn Job>) -> bool,
    ) -> Vec<(Arc<dyn Job>, u64, Spent)> {
        let mut taken = Vec::new();
        let mut kept = VecDeque::with_capacity(self.handed.len());
        for handed in std::mem::take(&mut self.handed) {
            if is_meant(&handed.job) && !handed.streamed && self.tasks.revoke(handed.ticket) {
                self.bytes_held -= handed.bytes;
                let mut handed = handed;
                self.reclaim(std::mem::take(&mut handed.loans));
                taken.push(handed.part());
                if let Some(left) = &mut self.tasks_left {
                    *left += 1;
                }
            } else {
                kept.push_back(handed);
            }
        }
        self.handed = kept;
        taken
    }

    fn restore(&mut self, handed: Handed) -> Option<Task> {
        let payload = match handed.retained {
            Some(payload) => payload,
            None => {
                let (_, mut frame) = self.tasks.read_back(handed.ticket)?;
                let mut recalled = Vec::with_capacity(handed.loans.len());
                if let Some(lender) = &mut self.lender {
                    for descriptor in handed.loans {
                        recalled.push(lender.recall(descriptor)?);
                    }
                }
                let buffers = recalled.split_off(recalled.len().checked_sub(handed.buffers)?);
                Payload {
                    bytes: match recalled.first() {
                        Some(bytes) => bytes.to_vec(),
                        None => frame.split_off(handed.table_len.min(frame.len())),
                    },
                    buffers: buffers
                        .into_iter()
                        .map(|loan| Arc::new(loan) as SharedBuffer)
                        .collect(),
                }
            }
        };
        if let Some(left) = &mut self.tasks_left {
            *left += 1;
        }
        Some(Task {
            job: handed.job,
            index: handed.index,
            function: handed.function,
            mode: handed.mode,
            payload,
        })
    }

    /// Settles the affairs of a worker that is known to be dead, after a last `listen`:
    /// the task that it was running, and those that it had not begun.
    pub(super) fn bury(mut self) -> Remains {
        let mut remains = Remains {
            running: Vec::new(),
            queued: Vec::new(),
            spent: Vec::new(),
        };
        for handed in std::mem::take(&mut self.handed) {
            if self.tasks.was_taken(handed.ticket) {
                let (job, index, spent) = handed.part();
                remains.running.push((job, index));
                remains.spent.push(spent);
            } else {
                let (job, index) = (Arc::clone(&handed.job), handed.index);
                match self.restore(handed) {
                    Some(task) => remains.queued.push(task),
                    None => remains.running.push((job, index)),
                }
            }
        }
        match self.outgoing.take().map(unstreamed) {
            Some(Ok(task)) => remains.queued.push(task),
            Some(Err(function)) => remains.spent.push(function.into()),
            None => {}
        }
        remains.spent.append(&mut self.spent);
        remains
    }
}

/// The unfinished tasks of a dead worker.
pub(super) struct Remains {
    /// Begun, and lost with it.
    pub(super) running: Vec<(Arc<dyn Job>, u64)>,
    /// Never begun: unharmed, in order.
    pub(super) queued: Vec<Task>,
    /// What is left of those that were begun.
    pub(super) spent: Vec<Spent>,
}
