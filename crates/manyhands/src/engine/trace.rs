//! The timeline that `manyhands trace` draws: what happened to every task, in a log that the command keeps.
//!
//! Always: without the command there is no log, and all that is asked on a task's way is whether there is one. The parent
//! notes what was handed out and heard, the worker when it began and ended: either is killed without harm to the other's
//! records. A log that fills gives up first when tasks were handed out, then tasks, and has room to the last for what
//! these hang on.
//! Not here: the log's layout (`manyhands-shm`), what is drawn (`manyhands/_trace.py`, which knows these records).

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use manyhands_os::clock::now_ns;
use manyhands_os::fork_state;
use manyhands_os::memory::{Mapping, Memfd};
use manyhands_shm::log::{Log, Record, WORDS, Worth};
use manyhands_shm::stats::{Face, Why};

use super::task::{Job, Task};
use super::worker::Worker;

/// Where the log is: a path of `/proc/PID/fd`, in the environment of the program and of all that it starts.
pub const VARIABLE: &str = "MANYHANDS_TRACE";

/// What a record is about; the words that follow its first one, whose upper half is the writer's process id.
mod kind {
    /// time, pool, workers, face
    pub(super) const POOL: u32 = 1;
    /// time, pool
    pub(super) const POOL_END: u32 = 2;
    /// time, pool, id << 32 | part << 8 | bytes here, 32 bytes of text
    pub(super) const NAME: u32 = 3;
    /// time, pool, number, pid
    pub(super) const WORKER: u32 = 4;
    /// time, pool, number, pid
    pub(super) const READY: u32 = 5;
    /// time, pool, number, pid, exit code, why << 1 | it was meant to
    pub(super) const WORKER_END: u32 = 6;
    /// time, pool, serial, number << 32 | name, bytes, when it was queued or 0, when it was heard or 0
    pub(super) const HANDED: u32 = 7;
    /// time begun, serial, name, time ended or 0, 1 ended | 2 raised, bytes of the answer, bytes of the argument
    pub(super) const RUN: u32 = 8;
    /// time, pool, call, name, what kind of call
    pub(super) const CALL: u32 = 9;
    /// time, pool, call, parts, failed
    pub(super) const CALL_END: u32 = 10;
}

/// The log that the environment names, if it names one that can be opened.
fn opened() -> Option<Log> {
    let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty())?;
    let memory = Memfd::open(Path::new(&path), true).ok()?;
    Log::open(Arc::new(Mapping::shared(&memory).ok()?)).ok()
}

fn write(log: &Log, worth: Worth, kind: u32, words: [u64; WORDS - 1]) -> Option<Record> {
    let record = log.claim(worth)?;
    log.write(record, kind, fork_state::pid() as u32, words);
    Some(record)
}

/// A pool's records.
#[derive(Clone)]
pub struct Trace(Arc<Inner>);

struct Inner {
    log: Log,
    pool: u64,
    calls: AtomicU32,
    /// When tasks that wait for a worker were queued, by job and index.
    queued: Mutex<HashMap<(usize, u64), u64>>,
}

impl Trace {
    /// The records of a pool that is just made, if somebody wants them.
    pub(super) fn of_environment(size: usize) -> Option<Self> {
        static POOLS: AtomicU32 = AtomicU32::new(1);
        let log = opened()?;
        let number = POOLS.fetch_add(1, Ordering::Relaxed);
        let pool = (fork_state::pid() as u64) << 32 | u64::from(number);
        write(
            &log,
            Worth::Vital,
            kind::POOL,
            [now_ns(), pool, size as u64, 0, 0, 0, 0],
        );
        Some(Self(Arc::new(Inner {
            log,
            pool,
            calls: AtomicU32::new(1),
            queued: Mutex::default(),
        })))
    }

    fn note(&self, worth: Worth, kind: u32, more: [u64; WORDS - 3]) -> Option<Record> {
        let [a, b, c, d, e] = more;
        let inner = &self.0;
        write(
            &inner.log,
            worth,
            kind,
            [now_ns(), inner.pool, a, b, c, d, e],
        )
    }

    pub(super) fn face(&self, face: Face) {
        self.note(Worth::Vital, kind::POOL, [0, face as u64, 0, 0, 0]);
    }

    pub(super) fn name(&self, id: u32, name: &str) {
        let mut end = name.len().min(32 * 8);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        for (part, bytes) in name.as_bytes()[..end].chunks(32).enumerate() {
            let mut text = [0; 32];
            text[..bytes.len()].copy_from_slice(bytes);
            let word = |at: usize| {
                let mut eight = [0; 8];
                eight.copy_from_slice(&text[at * 8..][..8]);
                u64::from_le_bytes(eight)
            };
            let which = u64::from(id) << 32 | (part as u64) << 8 | bytes.len() as u64;
            self.note(
                Worth::Vital,
                kind::NAME,
                [which, word(0), word(1), word(2), word(3)],
            );
        }
    }

    pub(super) fn end(&self) {
        self.note(Worth::Vital, kind::POOL_END, [0; 5]);
    }

    pub(super) fn lane(&self, number: u64, pid: i32) -> Lane {
        self.note(Worth::Vital, kind::WORKER, [number, pid as u64, 0, 0, 0]);
        Lane {
            trace: self.clone(),
            number,
            pid,
            open: HashMap::new(),
        }
    }

    pub(super) fn buried(&self, number: u64, pid: i32, exitcode: i32, why: Why, meant: bool) {
        let how = (why as u64) << 1 | u64::from(meant);
        let exitcode = i64::from(exitcode) as u64;
        self.note(
            Worth::Vital,
            kind::WORKER_END,
            [number, pid as u64, exitcode, how, 0],
        );
    }

    fn key(job: &Arc<dyn Job>, index: u64) -> (usize, u64) {
        (Arc::as_ptr(job).cast::<()>().addr(), index)
    }

    /// A task has to wait for a worker.
    pub(super) fn put_off(&self, task: &Task) {
        let mut queued = self.0.queued.lock().unwrap_or_else(PoisonError::into_inner);
        // What was cancelled is never handed out: nobody takes its entry away.
        if queued.len() < 1 << 20 {
            queued
                .entry(Self::key(&task.job, task.index))
                .or_insert_with(now_ns);
        }
    }

    /// Hands `task` to `worker`, or gives it back, and notes that.
    pub(super) fn hand(&self, worker: &mut Worker, task: Task, serial: u64) -> Result<(), Task> {
        let (name, key) = (task.tag(), Self::key(&task.job, task.index));
        let bytes = task.payload.len();
        worker.hand(task, serial)?;
        let mut waits = self.0.queued.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = waits.remove(&key).unwrap_or(0);
        drop(waits);
        if let Some(lane) = &mut worker.gauge.lane {
            lane.handed(serial, name, bytes, queued);
        }
        Ok(())
    }

    /// A call with many parts begins; `how` is the face's word for it. Gives its number, for [`Trace::call_ended`].
    pub fn call_began(&self, name: u32, how: u32) -> u32 {
        let call = self.0.calls.fetch_add(1, Ordering::Relaxed);
        self.note(
            Worth::Vital,
            kind::CALL,
            [call.into(), name.into(), how.into(), 0, 0],
        );
        call
    }

    /// It ended.
    pub fn call_ended(&self, call: u32, parts: usize, failed: bool) {
        self.note(
            Worth::Vital,
            kind::CALL_END,
            [call.into(), parts as u64, failed.into(), 0, 0],
        );
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trace({:#x})", self.0.pool)
    }
}

/// A worker's records, as its parent writes them.
pub(super) struct Lane {
    trace: Trace,
    number: u64,
    pid: i32,
    /// The records of tasks that it has.
    open: HashMap<u64, Record>,
}

impl Lane {
    pub(super) fn ready(&self) {
        self.trace.note(
            Worth::Vital,
            kind::READY,
            [self.number, self.pid as u64, 0, 0, 0],
        );
    }

    /// Its worker was handed a task.
    fn handed(&mut self, serial: u64, name: u32, bytes: usize, queued: u64) {
        let who = self.number << 32 | u64::from(name);
        let more = [serial, who, bytes as u64, queued, 0];
        if let Some(record) = self.trace.note(Worth::Detail, kind::HANDED, more) {
            self.open.insert(serial, record);
        }
    }

    /// Its worker's answer was heard.
    pub(super) fn answered(&mut self, serial: u64) {
        if let Some(record) = self.open.remove(&serial) {
            self.trace.0.log.set(record, 7, now_ns());
        }
    }
}

/// A worker's records, as it writes them itself.
pub(super) struct Diary {
    log: Log,
    record: Option<Record>,
}

impl Diary {
    pub(super) fn of_environment() -> Option<Self> {
        Some(Self {
            log: opened()?,
            record: None,
        })
    }

    pub(super) fn begins(&mut self, serial: u64, tag: u32, began: u64, bytes: usize) {
        let words = [began, serial, tag.into(), 0, 0, 0, bytes as u64];
        self.record = write(&self.log, Worth::Main, kind::RUN, words);
    }

    pub(super) fn ends(&mut self, ended: u64, raised: bool, bytes: usize) {
        if let Some(record) = self.record.take() {
            self.log.set(record, 4, ended);
            self.log.set(record, 6, bytes as u64);
            self.log.set(record, 5, 1 | u64::from(raised) << 1);
        }
    }
}
