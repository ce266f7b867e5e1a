//! Either side of a mailbox or an arena is killed at every moment of an exchange, and the other
//! side finds nothing lost, doubled or torn.

use manyhands_os::memory::{Mapping, Memfd};
use manyhands_shm::arena::{Block, Borrower, Descriptor, Lender, Loan};
use manyhands_shm::mailbox::{self, Head, ParentEnd, Shape, Ticket, WorkerEnd};
use manyhands_testkit::{Ended, Scene, Watchdog, kill_sweep};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

const SHAPE: Shape = Shape {
    task_bytes: 4096,
    result_bytes: 4096,
};

fn map(memfd: &Memfd) -> Arc<Mapping> {
    Arc::new(Mapping::shared(memfd).expect("a mapping"))
}

fn memory(len: usize) -> Memfd {
    Memfd::create("manyhands kill sweep", len as u64).expect("a memfd")
}

fn head(id: u64) -> Head {
    Head {
        kind: 7,
        flags: 8,
        tag: 9,
        id,
        extra: !id,
    }
}

/// Payload `id` of an exchange: none repeats a byte where another one has it.
fn payload(id: u64) -> &'static [u8] {
    const BYTES: [u8; 1400] = {
        let mut bytes = [0; 1400];
        let mut at = 0;
        while at < bytes.len() {
            bytes[at] = (at * 7 + at / 251) as u8;
            at += 1;
        }
        bytes
    };
    const LENGTHS: [usize; 4] = [20, 300, 1000, 64];
    &BYTES[id as usize * 100..][..LENGTHS[id as usize]]
}

/// The worker is killed while it takes tasks and reports results.
struct KilledWorker {
    memfd: Memfd,
    mapping: Arc<Mapping>,
    parent: ParentEnd,
    tickets: Vec<Ticket>,
}

/// The task that the parent took back before the worker began.
const REVOKED: u64 = 1;

impl KilledWorker {
    fn new() -> KilledWorker {
        let memfd = memory(SHAPE.region_len());
        let mapping = map(&memfd);
        let mut parent = mailbox::create(mapping.clone(), SHAPE);
        let tickets: Vec<Ticket> = (0..4)
            .map(|id| parent.tasks.push(head(id), &[payload(id)]).unwrap())
            .collect();
        assert!(parent.tasks.revoke(tickets[REVOKED as usize]));
        assert!(!parent.tasks.publish());
        KilledWorker {
            memfd,
            mapping,
            parent,
            tickets,
        }
    }
}

impl Scene for KilledWorker {
    type Child = WorkerEnd;

    fn prepare(&self) -> WorkerEnd {
        mailbox::attach(map(&self.memfd)).expect("a mailbox")
    }

    fn act(mut worker: WorkerEnd) {
        while let Some(task) = worker.tasks.take().expect("the parent is sound") {
            // A result is its task's bytes, in two parts.
            let (one, other) = task.payload.split_at(7);
            worker.results.push(task.head, &[one, other]).expect("room");
            let _ = worker.results.publish();
        }
        worker.tasks.prepare_sleep();
        worker.tasks.cancel_sleep();
    }

    fn memory(&self) -> &Mapping {
        &self.mapping
    }

    fn check(mut self, ended: Ended) {
        let mut results = Vec::new();
        while let Some(result) = self.parent.results.next().expect("no half-written frame") {
            assert_eq!(result.head, head(result.head.id));
            assert_eq!(result.payload, payload(result.head.id));
            results.push(result.head.id);
        }
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for (id, &ticket) in self.tickets.iter().enumerate() {
            let id = id as u64;
            let back = self
                .parent
                .tasks
                .read_back(ticket)
                .expect("nothing was written over it");
            assert_eq!(back, (head(id), payload(id).to_vec()));
            if self.parent.tasks.was_taken(ticket) {
                taken.push(id);
            } else if id != REVOKED {
                left.push(id);
            }
        }
        let all = [0, 2, 3];
        assert_eq!(
            taken,
            all[..taken.len()],
            "in order, without the revoked one"
        );
        assert_eq!(
            left,
            all[taken.len()..],
            "what was not taken is there for another worker"
        );
        assert_eq!(results, taken[..results.len()], "in order, each once");
        assert!(
            taken.len() - results.len() <= 1,
            "only the running task can be without a result"
        );
        assert!(ended != Ended::Done || results == all);
        assert!(self.parent.tasks.is_drained().is_ok());
        let _ = self.parent.tasks.wake_needed();
    }
}

/// The parent is killed while it hands out tasks, takes one back and collects results.
struct KilledParent {
    mapping: Arc<Mapping>,
    /// The child takes its copy.
    parent: Cell<Option<ParentEnd>>,
    worker: WorkerEnd,
}

impl KilledParent {
    fn new() -> KilledParent {
        let memfd = memory(SHAPE.region_len());
        let mapping = Arc::new(Mapping::shared_with_children(&memfd).expect("a mapping"));
        let mut parent = mailbox::create(mapping.clone(), SHAPE);
        let mut worker = mailbox::attach(map(&memfd)).expect("a mailbox");
        for id in 0..2 {
            parent.tasks.push(head(id), &[payload(id)]).expect("room");
            let _ = parent.tasks.publish();
            let task = worker.tasks.take().expect("sound").expect("published");
            worker
                .results
                .push(task.head, &[task.payload])
                .expect("room");
            let _ = worker.results.publish();
        }
        KilledParent {
            mapping,
            parent: Cell::new(Some(parent)),
            worker,
        }
    }
}

impl Scene for KilledParent {
    type Child = ParentEnd;

    fn prepare(&self) -> ParentEnd {
        self.parent.take().expect("one child a scene")
    }

    fn act(mut parent: ParentEnd) {
        parent.tasks.push(head(2), &[payload(2)]).expect("room");
        let _ = parent.tasks.publish();
        while parent.results.next().expect("sound").is_some() {}
        parent.tasks.push(head(3), &[payload(3)]).expect("room");
        let young = parent.tasks.push(head(0), &[payload(0)]).expect("room");
        let _ = parent.tasks.publish();
        parent.tasks.revoke(young);
        parent.results.arm(3);
    }

    fn memory(&self) -> &Mapping {
        &self.mapping
    }

    fn check(mut self, ended: Ended) {
        // A worker ends when its parent does; until it knows, it must find nothing but whole tasks.
        let mut taken = Vec::new();
        while let Some(task) = self.worker.tasks.take().expect("no half-written frame") {
            assert_eq!(task.head, head(task.head.id));
            assert_eq!(task.payload, payload(task.head.id));
            taken.push(task.head.id);
        }
        let allowed: [&[u64]; 4] = [&[], &[2], &[2, 3, 0], &[2, 3]];
        assert!(
            allowed.contains(&&taken[..]),
            "a publish shows all or nothing: {taken:?}"
        );
        assert!(ended != Ended::Done || taken == [2, 3]);
        self.worker
            .results
            .push(head(1), &[payload(1)])
            .expect("two small results lie there");
        let armed = self.worker.results.publish();
        assert!(ended != Ended::Done || armed);
    }
}

const ARENA: usize = 1 << 16;

/// The borrower is killed while it opens blocks and gives them back.
struct KilledBorrower {
    memfd: Memfd,
    mapping: Arc<Mapping>,
    lender: Lender,
    all: u64,
    sent: [Descriptor; 3],
}

impl KilledBorrower {
    fn new() -> KilledBorrower {
        let memfd = memory(ARENA);
        let mapping = map(&memfd);
        let mut lender = Lender::new(mapping.clone());
        let all = lender.free_bytes();
        let sent = [0, 1, 2].map(|id| {
            let mut loan = lender.lend(payload(id).len()).expect("room");
            loan.write(0, payload(id));
            loan.descriptor()
        });
        KilledBorrower {
            memfd,
            mapping,
            lender,
            all,
            sent,
        }
    }
}

impl Scene for KilledBorrower {
    type Child = (Borrower, [Descriptor; 3]);

    fn prepare(&self) -> Self::Child {
        (Borrower::new(map(&self.memfd)), self.sent)
    }

    fn act((borrower, sent): Self::Child) {
        let [first, second, third] = sent.map(|sent| borrower.open(sent).expect("lent"));
        drop(second);
        drop(first);
        std::mem::forget(third);
    }

    fn memory(&self) -> &Mapping {
        &self.mapping
    }

    fn check(mut self, ended: Ended) {
        self.lender.sweep();
        let unopened = self.sent.map(|sent| self.lender.reclaim(sent));
        assert!(
            unopened.is_sorted(),
            "opened from the first to the last: {unopened:?}"
        );
        assert!(ended != Ended::Done || self.lender.lent_bytes() == 1024);
        self.lender.reclaim_all();
        assert_eq!(
            (self.lender.lent_bytes(), self.lender.free_bytes()),
            (0, self.all)
        );
        assert!(
            self.lender.lend(self.all as usize).is_some(),
            "all of it is one piece"
        );
    }
}

/// The lender, a worker, is killed while it fills blocks and sends them with its results.
struct KilledLender {
    mailbox: Memfd,
    arena: Memfd,
    mapping: Arc<Mapping>,
    parent: ParentEnd,
    borrower: Borrower,
}

impl KilledLender {
    fn new() -> KilledLender {
        let (mailbox, arena) = (memory(SHAPE.region_len()), memory(ARENA));
        let mapping = map(&mailbox);
        let parent = mailbox::create(mapping.clone(), SHAPE);
        let borrower = Borrower::new(map(&arena));
        KilledLender {
            mailbox,
            arena,
            mapping,
            parent,
            borrower,
        }
    }
}

impl Scene for KilledLender {
    type Child = (WorkerEnd, [Loan; 2]);

    fn prepare(&self) -> Self::Child {
        let worker = mailbox::attach(map(&self.mailbox)).expect("a mailbox");
        let mut lender = Lender::new(map(&self.arena));
        (
            worker,
            [0, 1].map(|id| lender.lend(payload(id).len()).expect("room")),
        )
    }

    fn act((mut worker, loans): Self::Child) {
        for (id, mut loan) in (0..).zip(loans) {
            loan.write(0, payload(id));
            let sent = loan.descriptor().to_bytes();
            worker.results.push(head(id), &[&sent]).expect("room");
            let _ = worker.results.publish();
        }
    }

    fn memory(&self) -> &Mapping {
        &self.mapping
    }

    fn check(mut self, ended: Ended) {
        let mut blocks: Vec<Block> = Vec::new();
        while let Some(result) = self.parent.results.next().expect("no half-written frame") {
            assert_eq!(result.head, head(blocks.len() as u64));
            let bytes = result.payload.try_into().expect("a descriptor");
            let descriptor = Descriptor::from_bytes(bytes);
            blocks.push(
                self.borrower
                    .open(descriptor)
                    .expect("a block that was sent can be opened"),
            );
        }
        for (id, block) in blocks.iter().enumerate() {
            assert_eq!(
                &block[..],
                payload(id as u64),
                "a block that was sent is filled"
            );
        }
        assert!(ended != Ended::Done || blocks.len() == 2);
    }
}

fn sweep<S: Scene>(what: &'static str, make: impl Fn() -> S) {
    let _watchdog = Watchdog::new(what, Duration::from_secs(600));
    let swept = kill_sweep(make, 8);
    println!("{what}: {swept:?}");
    assert!(swept.changes >= 5, "the child did something: {swept:?}");
}

#[test]
fn a_worker_killed_at_any_instruction_loses_doubles_and_tears_no_task() {
    sweep("killed worker", KilledWorker::new);
}

#[test]
fn a_parent_killed_at_any_instruction_leaves_its_worker_whole_tasks() {
    sweep("killed parent", KilledParent::new);
}

#[test]
fn a_borrower_killed_at_any_instruction_leaves_the_arena_whole() {
    sweep("killed borrower", KilledBorrower::new);
}

#[test]
fn a_lender_killed_at_any_instruction_has_sent_only_filled_blocks() {
    sweep("killed lender", KilledLender::new);
}
