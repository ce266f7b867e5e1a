//! The parent's side of one worker, for the fuzz targets: what it does with whatever the worker says.
//!
//! Always: a task is settled once, or comes back once, whatever the worker does; this is counted here.
//! Not here: the worker, which a target plays.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use manyhands_os::death::Child;
use manyhands_os::memory::{Mapping, Memfd};
use manyhands_shm::arena::Borrower;
use manyhands_shm::mailbox::{self, Shape};

use super::dispatch;
use super::published::{Function, Needs};
use super::stats::Stats;
use super::supervise::private_bell;
use super::task::{Job, News, Outcome, Payload, SharedBuffer, Task};
use super::terms::Terms;
use super::wire::{Garbled, Lending};
use super::worker::{Equipment, Heard, Span, Worker};

/// Tasks that a run hands out at most.
const MOST_TASKS: usize = 64;

/// A job that counts what it is told of each task.
struct Told(Vec<AtomicU32>);

impl Job for Told {
    fn settle(&self, index: u64, _: Outcome) -> News {
        self.0[index as usize].fetch_add(1, Relaxed);
        News::None
    }
}

/// A worker as its parent has it, with one job's tasks.
pub struct Parent {
    workers: Vec<Worker>,
    job: Arc<Told>,
    handed: u64,
    functions: Vec<Arc<Function>>,
}

impl std::fmt::Debug for Parent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parent({} tasks)", self.handed)
    }
}

impl Parent {
    /// The parent of a worker that shares these memories with it, new ones, and whose process is `child`, which may get signals.
    pub fn new(
        child: Arc<Child>,
        mailbox: &Memfd,
        shape: Shape,
        arguments: &Memfd,
        results: &Memfd,
        retries: u32,
    ) -> io::Result<Self> {
        let (bell, not_for_children) = private_bell()?;
        let equipment = Equipment {
            mailbox: mailbox::create(Arc::new(Mapping::shared(mailbox)?), shape),
            result_bytes: shape.result_bytes as usize,
            lender: Some(Lending::from(arguments)?),
            borrower: Some(Borrower::new(Arc::new(Mapping::parted_by_fork(results)?))),
            not_for_children,
            bell,
            hold: None,
        };
        let terms = Terms {
            retries,
            ..Terms::default()
        };
        let worker = Worker::new(0, child, equipment, None, terms, &Stats::none());
        Ok(Self {
            workers: vec![worker],
            job: Arc::new(Told((0..MOST_TASKS).map(|_| AtomicU32::new(0)).collect())),
            handed: 0,
            functions: Vec::new(),
        })
    }

    fn payload(len: usize, buffer: usize) -> Payload {
        let buffer: SharedBuffer = Arc::new(vec![3; buffer]);
        Payload {
            bytes: vec![1; len],
            buffers: if buffer.is_empty() {
                Vec::new()
            } else {
                vec![buffer]
            },
            needs: Needs::default(),
        }
    }

    /// Hands a task out, of so many bytes and a buffer of so many, and of a function if `published`. What there is no
    /// room for is as if it had never been.
    pub fn hand(&mut self, len: usize, buffer: usize, published: bool) {
        if self.handed as usize == MOST_TASKS {
            return;
        }
        let Some(at) = dispatch::choose(&self.workers) else {
            return;
        };
        let function = published.then(|| {
            Arc::new(Function {
                id: 1 + self.functions.len() as u32,
                payload: Self::payload(len / 2, buffer / 2),
                frozen: None,
                graveyard: Arc::default(),
                is_large: false,
                generation: manyhands_os::fork_state::generation(),
            })
        });
        self.functions.extend(function.clone());
        let task = Task {
            job: Arc::clone(&self.job) as Arc<dyn Job>,
            index: self.handed,
            function,
            mode: 1,
            payload: Self::payload(len, buffer),
            losses: 0,
        };
        if self.workers[at].hand(task, 1 + self.handed).is_ok() {
            self.handed += 1;
        }
    }

    /// Shows the worker what it was handed.
    pub fn publish(&mut self) {
        self.workers[0].publish(true);
    }

    /// Hears what the worker says; the bytes of all that came.
    pub fn listen(&mut self) -> Result<usize, Garbled> {
        let mut heard = Heard::default();
        let said = self.workers[0].listen(&mut heard);
        let mut bytes = 0;
        for (job, index, outcome) in heard.settled {
            if let Outcome::Replied(reply) = &outcome {
                bytes += reply.bytes.len() + reply.buffers.iter().map(|b| b.len()).sum::<usize>();
            }
            job.settle(index, outcome);
        }
        if let Some(reply) = heard.last_words {
            bytes += reply.bytes.len();
        }
        said.map(|()| bytes)
    }

    /// Asks all that is asked of a worker before the next task is handed out.
    pub fn look(&mut self) {
        let _ = dispatch::choose(&self.workers);
        let _ = (
            dispatch::loaded(&self.workers),
            dispatch::room(&self.workers),
        );
        let _ = (
            dispatch::idle(&self.workers),
            dispatch::rested(&self.workers),
        );
        let _ = dispatch::still_hot(&self.workers, 0);
        let worker = &mut self.workers[0];
        let _ = (worker.look_after(), worker.has_news(), worker.due_ns());
        worker.look_for();
        worker.arm(Span {
            ns: 150_000,
            owed: true,
        });
        worker.advance_stream();
    }

    /// Takes a task back, if the worker leaves one, to be done by somebody else.
    pub fn take_back(&mut self) {
        if let Some(task) = self.workers[0].take_back() {
            task.job
                .settle(task.index, Outcome::Died(Self::nobodys_death()));
        }
    }

    /// Settles what is left once the worker is dead, and makes sure that every task was settled once.
    ///
    /// # Panics
    /// If one was not.
    pub fn bury(mut self) {
        let _ = self.listen();
        let Some(worker) = self.workers.pop() else {
            return;
        };
        let remains = worker.bury(true);
        let back = remains.again.into_iter().chain(remains.queued);
        let back = back.map(|task| (task.job, task.index));
        let lost = remains.running.into_iter().chain(remains.cancelled);
        for (job, index) in back.chain(lost) {
            job.settle(index, Outcome::Died(Self::nobodys_death()));
        }
        let handed: Range<usize> = 0..self.handed as usize;
        for index in handed {
            let told = self.job.0[index].load(Relaxed);
            assert_eq!(told, 1, "how often task {index} was settled");
        }
    }

    fn nobodys_death() -> super::task::Death {
        super::task::Death {
            pid: 0,
            status: manyhands_os::death::ExitStatus::Unknown,
            cause: super::terms::Cause::Unknown,
        }
    }
}
