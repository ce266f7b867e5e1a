//! One worker as the parent sees it: its mailbox, what it was handed, how fast it is.
//!
//! Always: `handed` lists, oldest first, exactly the tasks whose frames were pushed and
//! that are neither answered nor taken back; a worker answers in that order. Everything
//! needed to settle a dead worker's tasks is in `handed`, in this process, or in the
//! frames that this process wrote.
//! Not here: choosing the worker (`dispatch`), noticing its death (`supervise`).

mod handed;
mod recall;
mod stream;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use manyhands_os::death::{Child, Hold};
use manyhands_os::fd::EventFd;
use manyhands_os::fork_state::Registration;
use manyhands_shm::arena::{Borrower, Descriptor};
use manyhands_shm::mailbox::{Head, ParentEnd, ResultReader, TaskWriter};
use manyhands_shm::stats::State;

use super::published::Needs;
use super::stats::{Gauge, Stats};
use super::task::{Abandoned, Job, Need, Outcome, Reply, SharedBuffer, Task};
use super::terms::Terms;
use super::wire::{self, Assembly, Cargo, Garbled, Lending, Stream, to_parent, to_worker};
pub(super) use handed::Spent;
use handed::{Closing, Handed};

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
    /// It has more memory to itself than it may have.
    pub(super) has_grown: bool,
    /// Anything at all was heard.
    pub(super) anything: bool,
}

pub(super) struct Worker {
    pub(super) number: u64,
    /// What others may know of it.
    pub(super) gauge: Gauge,
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
    /// It is given no more, however many those are.
    let_go: bool,
    /// What holds for tasks whose job says nothing else.
    terms: Terms,
    /// The serial of the task for whose sake it was killed: that is cancelled, whatever it says.
    condemned: Option<u64>,
    pub(super) ready: bool,
    /// It can open descriptors of this process.
    opens_ours: bool,
    /// It left a task lying for [`OVERDUE`], and has not moved since: it may be stopped.
    absent: bool,
    /// It was seen with nothing to do, having given so many answers, and since when.
    resting: Option<(u64, Instant)>,
    /// The task that it was seen not to have begun, by serial, and since when.
    lying: Option<(u64, Instant)>,
    pub(super) stopped: bool,
    unpublished: bool,
    result_bytes: usize,
    bytes_held: usize,
    /// To be dropped without the floor's lock, when the worker is next listened to.
    pub(super) spent: Vec<Spent>,
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
        terms: Terms,
        stats: &Stats,
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
            gauge: stats.seat(number, child.pid()),
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
            let_go: false,
            terms,
            condemned: None,
            ready: false,
            opens_ours: false,
            absent: false,
            resting: None,
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

    /// Smoothed nanoseconds a task takes here; 0 while nothing is known.
    pub(super) fn pace_ns(&self) -> u64 {
        self.pace_ns
    }

    /// Whether it may be given a task at all.
    pub(super) fn takes_tasks(&self) -> bool {
        !self.stopped && self.condemned.is_none() && self.outgoing.is_none() && !self.is_leaving()
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

    /// The priority of the task that it was handed last.
    pub(super) fn last_rank(&self) -> Option<i32> {
        let terms = self.handed.back()?.job.terms();
        Some(terms.map_or(0, |terms| terms.priority))
    }

    /// Tasks that it does not run, nor is about to.
    pub(super) fn left_lying(&self) -> usize {
        let is_away = self.ready && (self.absent || self.leaves_lying());
        self.load().saturating_sub(usize::from(!is_away))
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

    /// How long it has had nothing to do, as far as was looked; the time between two looks may be missing.
    pub(super) fn rested(&mut self, now: Instant) -> Duration {
        let answers = self.results.received();
        let since = match self.resting {
            _ if self.load() > 0 || !self.ready => None,
            Some((before, since)) if before == answers => Some(since),
            _ => Some(now),
        };
        self.resting = since.map(|since| (answers, since));
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Gives it no more tasks: it is told to leave when it has done what it has.
    pub(super) fn let_go(&mut self) {
        self.let_go = true;
    }

    /// Whether it is given no more tasks.
    pub(super) fn is_leaving(&self) -> bool {
        self.let_go || self.tasks_left == Some(0)
    }

    /// Whether it has done all the tasks that it was allowed.
    pub(super) fn is_spent(&self) -> bool {
        self.is_leaving() && self.handed.is_empty() && !self.stopped
    }

    /// Puts a task into the mailbox, not yet visible to the worker (see `publish`).
    /// Gives the task back when there is no room for it now.
    pub(super) fn hand(&mut self, task: Task, serial: u64) -> Result<(), Task> {
        if !self.takes_tasks() {
            return Err(task);
        }
        self.send_forgets();
        if !self.define_all(&task) {
            return Err(task);
        }
        if let Some(left) = &mut self.tasks_left {
            *left -= 1;
        }
        let terms = task.job.terms().unwrap_or(self.terms);
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
            tag: task.tag(),
            id: serial,
            extra: terms.limit.packed(),
        };
        let inline: &[u8] = if packed.inline {
            &task.payload.bytes
        } else {
            &[]
        };
        match self.tasks.push(head, &[&packed.table, inline]) {
            Ok(ticket) => {
                let mut payload = task.payload;
                let bytes = if packed.flags == 0 { 0 } else { payload.len() };
                let buffers = payload.buffers.len();
                let mut needs = Needs::default();
                let retained = if terms.retries > task.losses {
                    // What the worker has of it is the worker's to change.
                    let detached = payload.detach(Need::Sure);
                    self.shed(detached);
                    Some(payload)
                } else {
                    needs = payload.needs;
                    self.shed(payload.buffers);
                    None
                };
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
                    needs,
                    table_len: packed.table.len(),
                    retained,
                    bytes,
                    streamed: false,
                    losses: task.losses,
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
            if self.stopped {
                self.gauge.set_state(State::Leaving);
            }
        }
        self.stopped
    }

    /// Makes what was pushed visible, and wakes the worker if it sleeps.
    pub(super) fn publish(&mut self, may_spin: bool) {
        if std::mem::take(&mut self.unpublished) {
            self.gauge.show(self.load());
            self.tasks.hint(u32::from(may_spin));
            if self.tasks.publish() {
                // A bell that cannot be rung is a closed one: its worker's death is told by its sentinel.
                let _ = self.bell.ring();
            }
        }
    }

    /// When the call that it has is overdue, as it said itself; `None`: it has none with a limit.
    pub(super) fn due_ns(&self) -> Option<u64> {
        Some(self.results.due()).filter(|due| *due > 0)
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
                    self.lying = None; // until now it could not take any
                    self.gauge.set_state(State::Ready);
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
                    heard.has_grown |= head.flags & wire::GROWN != 0;
                    if head.flags & wire::CUT_OFF != 0 && self.opens_ours {
                        // What it has of functions may be without their buffers: they are sent once more.
                        self.opens_ours = false;
                        self.known.clear();
                    }
                    if let Some(handed) = self.handed.pop_front() {
                        self.bytes_held -= handed.bytes;
                        let (size, ran_ns) = (reply.size(), reply.ran_ns);
                        self.gauge.answered(head.id, size, raised, ran_ns);
                        self.pace_ns = match self.pace_ns {
                            0 => head.extra.max(1),
                            pace => (pace - pace / 4).saturating_add(head.extra / 4).max(1),
                        };
                        let outcome = if self.condemned == Some(head.id) {
                            Outcome::Abandoned(Arc::new(Abandoned::Cancelled))
                        } else {
                            Outcome::Replied(reply)
                        };
                        let (job, index, spent) = handed.part();
                        heard.settled.push((job, index, outcome));
                        heard.spent.push(spent);
                    }
                }
                kind => return Err(Garbled::Kind(kind)),
            }
        }
        if drained > 0 {
            self.gauge.show(self.load());
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
}
