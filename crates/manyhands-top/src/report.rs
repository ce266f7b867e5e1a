//! The report: what pools and workers are doing, in the form that `manyhands top --json` prints.
//!
//! Always: the names and meanings of fields are kept within a `version`; new ones may come. Times are seconds, sizes bytes.
//! `docs/top.md` describes every field.

use serde::Serialize;

/// All pools at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of this form.
    pub version: u32,
    /// The release that made it.
    pub manyhands: &'static str,
    /// When, in seconds since 1970.
    pub time: f64,
    /// Seconds that rates are measured over; 0: there are none yet.
    pub interval: f64,
    /// The process that was asked about; `None`: all.
    #[serde(skip)]
    pub pid: Option<i32>,
    /// By age, the oldest first.
    pub pools: Vec<Pool>,
    /// Pools that cannot be looked at.
    pub unreadable: Vec<Unreadable>,
}

/// A pool that another release of manyhands made.
#[derive(Clone, Debug, Serialize)]
pub struct Unreadable {
    /// Its process.
    pub pid: i32,
    /// What is wrong.
    pub why: String,
}

/// One pool.
#[derive(Clone, Debug, Serialize)]
pub struct Pool {
    /// The process that has it.
    pub pid: i32,
    /// The command line of that.
    pub program: String,
    /// `Pool`, `ProcessPoolExecutor` or `Rust`.
    pub face: &'static str,
    /// `open`, `closing` or `over`.
    pub state: &'static str,
    /// Seconds since it was made.
    pub age: f64,
    /// How many workers there should be.
    pub size: u32,
    /// Workers that are being started.
    pub launching: u64,
    /// Workers that this report has no room for.
    pub unlisted: u64,
    /// Tasks that no worker has room for yet.
    pub waiting: u64,
    /// Tasks that workers have and have not begun.
    pub queued: u64,
    /// Maps whose input is not drawn to its end.
    pub inputs: u64,
    /// Tasks that were handed out, answered, answered with an exception, and lost with their worker.
    pub handed: u64,
    /// See `handed`.
    pub done: u64,
    /// See `handed`.
    pub raised: u64,
    /// See `handed`.
    pub lost: u64,
    /// Tasks answered a second.
    pub rate: Option<f64>,
    /// Mean seconds of a task.
    pub mean: Option<f64>,
    /// Bytes of arguments so far.
    pub bytes_out: u64,
    /// Bytes of results so far.
    pub bytes_in: u64,
    /// Bytes of arguments a second.
    pub bytes_out_rate: Option<f64>,
    /// Bytes of results a second.
    pub bytes_in_rate: Option<f64>,
    /// Workers ever started.
    pub started: u64,
    /// Workers that died though nobody asked them to.
    pub deaths: u64,
    /// The last of them.
    pub last_death: Option<Death>,
    /// Its workers, by number.
    pub workers: Vec<Worker>,
}

/// A death.
#[derive(Clone, Debug, Serialize)]
pub struct Death {
    /// The process id that it had.
    pub pid: i32,
    /// As `Process.exitcode`: a signal's number is negative.
    pub exitcode: i32,
    /// Why, as far as that is known.
    pub cause: Cause,
    /// Seconds ago.
    pub ago: f64,
}

/// Why a worker died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing tells.
    Unknown,
    /// It was overdue.
    TimeLimit,
    /// Memory ran out.
    OutOfMemory,
}

/// What a worker is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// It runs one task for long, and uses no processor for it.
    Stuck,
    /// A signal stopped it, or a debugger.
    Stopped,
    /// It has ended, and its pool has not noticed yet.
    Dead,
    /// It runs a task.
    Running,
    /// It is being started.
    Starting,
    /// It has nothing to do.
    Waiting,
    /// It was told to leave.
    Leaving,
}

impl WorkerState {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::Leaving => "leaving",
        }
    }
}

/// One worker.
#[derive(Clone, Debug, Serialize)]
pub struct Worker {
    /// Its number in the pool, counting every replacement.
    pub number: u64,
    /// Its process id, as its parent numbers it.
    pub pid: i32,
    /// What it is up to.
    pub state: WorkerState,
    /// Seconds since it was started.
    pub age: f64,
    /// What it runs, as far as that can be seen.
    pub task: Option<Task>,
    /// Tasks that it has and has not answered.
    pub load: u64,
    /// Tasks that it has answered.
    pub done: u64,
    /// Of these, those that raised.
    pub raised: u64,
    /// Tasks answered a second.
    pub rate: Option<f64>,
    /// Mean seconds of a task.
    pub mean: Option<f64>,
    /// The share of the interval in which it ran tasks.
    pub busy: Option<f64>,
    /// Bytes of arguments so far.
    pub bytes_out: u64,
    /// Bytes of results so far.
    pub bytes_in: u64,
    /// Processors that it used over the interval: 1 is one whole.
    pub cpu: Option<f64>,
    /// Bytes of memory that it has.
    pub memory: Option<u64>,
}

/// A task that is being run.
#[derive(Clone, Debug, Serialize)]
pub struct Task {
    /// What it calls; absent if that has no name.
    pub name: Option<String>,
    /// Its number in the pool.
    pub serial: u64,
    /// Seconds that it has run.
    #[serde(rename = "for")]
    pub seconds: f64,
}

/// How many workers are up to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// All of them.
    pub workers: usize,
    /// Those that run a task.
    pub running: usize,
    /// Those that have nothing to do.
    pub waiting: usize,
    /// Those that are stuck, stopped or dead.
    pub troubled: usize,
}

impl Running {
    /// Counts.
    pub fn of<'a>(workers: impl IntoIterator<Item = &'a Worker>) -> Running {
        let mut counted = Running::default();
        for worker in workers {
            counted.workers += 1;
            match worker.state {
                WorkerState::Running => counted.running += 1,
                WorkerState::Waiting => counted.waiting += 1,
                WorkerState::Stuck | WorkerState::Stopped | WorkerState::Dead => {
                    counted.troubled += 1;
                }
                WorkerState::Starting | WorkerState::Leaving => {}
            }
        }
        counted
    }
}

impl Report {
    /// As JSON, in one line without its end.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() // numbers and texts: it cannot fail
    }
}
