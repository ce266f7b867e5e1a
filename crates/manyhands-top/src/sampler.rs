//! Looking: finds the pages of all pools, asks `/proc` about their workers, and compares with the look before.
//!
//! Always: what was read is another process's word. Numbers that make no sense come out as silly figures, never as a panic.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use manyhands_os::clock::now_ns;
use manyhands_os::memory::{Mapping, Memfd};
use manyhands_shm::mailbox::{self, Glance};
use manyhands_shm::stats::{self, Face, Phase, Seated, Snapshot, State, Tally, Why};

use crate::proc::{self, Status};
use crate::report::{Cause, Death, Pool, Report, Task, Unreadable, Worker, WorkerState};

/// What a mailbox's memory is called.
const MAILBOX: &str = "manyhands-mailbox";
/// Less of a processor than this is none: the kernel counts in hundredths of a second.
const NO_CPU: f64 = 0.02;
/// Seconds in a nanosecond.
const NANO: f64 = 1e-9;

/// Which pool: its process and when it was made. Which worker: that and its number.
type PoolKey = (i32, u64);
type WorkerKey = (i32, u64, u64);

#[derive(Clone, Copy, Default)]
struct Before {
    tally: Tally,
    cpu: Option<f64>,
    /// How long what it runs has run, if that began before the look.
    running_ns: u64,
}

/// Looks at pools, again and again.
#[derive(Default)]
pub struct Sampler {
    /// Of this process alone.
    pid: Option<i32>,
    /// A task is stuck after so many seconds without any use of a processor.
    stuck_after: f64,
    at_ns: u64,
    pools: HashMap<PoolKey, Tally>,
    workers: HashMap<WorkerKey, Before>,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler").finish_non_exhaustive()
    }
}

fn open(path: &Path) -> io::Result<Arc<Mapping>> {
    Mapping::read_only(&Memfd::open(path, false)?).map(Arc::new)
}

fn seconds(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 * NANO
}

impl Sampler {
    /// Looks at the pools of process `pid`, or at all of this user. A task that runs for longer than `stuck_after` seconds
    /// while its worker uses no processor is called stuck.
    pub fn new(pid: Option<i32>, stuck_after: f64) -> Sampler {
        Sampler {
            pid,
            stuck_after,
            ..Sampler::default()
        }
    }

    /// What is going on now. Rates are those since the last look; the first one has none.
    pub fn look(&mut self) -> Report {
        let now = now_ns();
        let interval = match self.at_ns {
            0 => 0.0,
            before => seconds(before, now),
        };
        let mut report = Report {
            version: 1,
            manyhands: env!("CARGO_PKG_VERSION"),
            time: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0.0, |since| since.as_secs_f64()),
            interval,
            pid: self.pid,
            pools: Vec::new(),
            unreadable: Vec::new(),
        };
        let mut seen = Sampler::new(self.pid, self.stuck_after);
        seen.at_ns = now;
        let Some(user) = proc::this_user() else {
            return report;
        };
        let mut pids = self.pid.map_or_else(proc::all, |pid| vec![pid]);
        pids.sort_unstable();
        for pid in pids {
            let Some(status) = Status::of(pid).filter(|status| status.user == user) else {
                continue;
            };
            for path in proc::memory(pid, stats::NAME) {
                let Ok(mapping) = open(&path) else { continue };
                match Snapshot::read(&mapping) {
                    // A forked child closes its parent's page at once; it may be caught before that.
                    Ok(page) if page.owner == status.own_pid => {
                        let is_foreign = status.own_pid != pid;
                        let pids = if is_foreign {
                            relatives(pid)
                        } else {
                            HashMap::new()
                        };
                        let pool = Looked {
                            pid,
                            mapping: &mapping,
                            page: &page,
                            now,
                            interval,
                            before: self,
                            is_foreign,
                            pids,
                        };
                        let pool = pool.report(&mut seen);
                        // One that is over and whose workers have gone is nothing but an object in a program.
                        if page.phase != Phase::Over || !page.workers.is_empty() {
                            report.pools.push(pool);
                        }
                    }
                    Ok(_) => {}
                    Err(why) => report.unreadable.push(Unreadable {
                        pid,
                        why: why.to_string().replace("mailbox", "page of figures"),
                    }),
                }
            }
        }
        report
            .pools
            .sort_by(|one, other| other.age.total_cmp(&one.age));
        *self = seen;
        report
    }
}

/// Processes in the namespace of `pid`, by their numbers there.
fn relatives(pid: i32) -> HashMap<i32, i32> {
    let Some(theirs) = proc::namespace(pid) else {
        return HashMap::new();
    };
    proc::all()
        .into_iter()
        .filter(|other| proc::namespace(*other).as_ref() == Some(&theirs))
        .filter_map(|other| Some((Status::of(other)?.own_pid, other)))
        .collect()
}

/// A page that was read, and what is needed to make sense of it.
struct Looked<'a> {
    pid: i32,
    mapping: &'a Arc<Mapping>,
    page: &'a Snapshot,
    now: u64,
    interval: f64,
    before: &'a Sampler,
    /// It numbers processes otherwise than we do; then by these.
    is_foreign: bool,
    pids: HashMap<i32, i32>,
}

impl Looked<'_> {
    fn rate(&self, before: Option<u64>, now: u64) -> Option<f64> {
        let before = before.filter(|_| self.interval > 0.0)?;
        Some(now.saturating_sub(before) as f64 / self.interval)
    }

    fn report(&self, seen: &mut Sampler) -> Pool {
        let page = self.page;
        let total = page
            .workers
            .iter()
            .fold(page.gone, |sum, worker| sum.and(worker.tally));
        let key = (self.pid, page.started_ns);
        let before = self.before.pools.get(&key);
        seen.pools.insert(key, total);
        let mut workers: Vec<Worker> = page
            .workers
            .iter()
            .map(|worker| self.worker(worker, seen))
            .collect();
        workers.sort_by_key(|worker| worker.number);
        let queued = workers
            .iter()
            .map(|worker| worker.load.saturating_sub(u64::from(worker.task.is_some())))
            .fold(0, u64::saturating_add);
        Pool {
            pid: self.pid,
            program: proc::command(self.pid),
            face: match page.face {
                Face::Rust => "Rust",
                Face::Pool => "Pool",
                Face::Executor => "ProcessPoolExecutor",
            },
            state: match page.phase {
                Phase::Open => "open",
                Phase::Closing => "closing",
                Phase::Over => "over",
            },
            age: seconds(page.started_ns, self.now),
            size: page.size,
            launching: page.launching,
            unlisted: page.crowd,
            waiting: page.waiting,
            queued,
            inputs: page.sources,
            handed: total.handed,
            done: total.answered,
            raised: total.raised,
            lost: page.lost,
            rate: self.rate(before.map(|tally| tally.answered), total.answered),
            mean: mean(&total),
            bytes_out: total.bytes_out,
            bytes_in: total.bytes_in,
            bytes_out_rate: self.rate(before.map(|tally| tally.bytes_out), total.bytes_out),
            bytes_in_rate: self.rate(before.map(|tally| tally.bytes_in), total.bytes_in),
            started: page.started,
            deaths: page.deaths,
            last_death: page.last_death.map(|death| Death {
                pid: death.pid,
                exitcode: death.exitcode,
                cause: match death.why {
                    Why::Unknown => Cause::Unknown,
                    Why::TimeLimit => Cause::TimeLimit,
                    Why::OutOfMemory => Cause::OutOfMemory,
                },
                ago: seconds(death.at_ns, self.now),
            }),
            workers,
        }
    }

    fn worker(&self, seated: &Seated, seen: &mut Sampler) -> Worker {
        let key = (self.pid, self.page.started_ns, seated.number);
        let before = self.before.workers.get(&key);
        // As we number it.
        let pid = match self.is_foreign {
            false => Some(seated.pid),
            true => self.pids.get(&seated.pid).copied(),
        };
        let status = pid.and_then(Status::of);
        let cpu_time = pid.and_then(proc::processor_time);
        let glance = pid.and_then(|pid| glance(pid, seated.pid));
        let running = glance.filter(|glance| glance.began_ns > 0);
        // It may have begun since the page was read.
        let running_ns = running.map_or(0, |glance| now_ns().saturating_sub(glance.began_ns));
        let cpu = match (before.and_then(|before| before.cpu), cpu_time) {
            (Some(before), Some(now)) if self.interval > 0.0 => {
                Some(((now - before) / self.interval).max(0.0))
            }
            _ => None,
        };
        let tally = seated.tally;
        seen.workers.insert(
            key,
            Before {
                tally,
                cpu: cpu_time,
                running_ns,
            },
        );
        let task = running.map(|glance| Task {
            name: stats::name_of(self.mapping, glance.tag).map(printable),
            serial: glance.serial,
            seconds: running_ns as f64 * NANO,
        });
        let state = self.state(seated, pid, status.as_ref(), task.as_ref(), cpu, &glance);
        Worker {
            number: seated.number,
            pid: seated.pid,
            state,
            age: seconds(seated.started_ns, self.now),
            task,
            load: seated.load,
            done: tally.answered,
            raised: tally.raised,
            rate: self.rate(before.map(|before| before.tally.answered), tally.answered),
            mean: mean(&tally),
            busy: before.filter(|_| self.interval > 0.0).map(|before| {
                // What was answered meanwhile, less what of it ran before, and what runs now.
                let answered = tally.ran_ns.saturating_sub(before.tally.ran_ns);
                let ran = answered.saturating_add(running_ns);
                let ran = ran.saturating_sub(before.running_ns) as f64 * NANO;
                (ran / self.interval).clamp(0.0, 1.0)
            }),
            bytes_out: tally.bytes_out,
            bytes_in: tally.bytes_in,
            cpu,
            memory: status.map(|status| status.memory),
        }
    }

    fn state(
        &self,
        seated: &Seated,
        pid: Option<i32>,
        status: Option<&Status>,
        task: Option<&Task>,
        cpu: Option<f64>,
        glance: &Option<Glance>,
    ) -> WorkerState {
        match status.map(|status| status.state) {
            Some('T' | 't') => return WorkerState::Stopped,
            Some('Z' | 'X') => return WorkerState::Dead,
            None if pid.is_some() => return WorkerState::Dead,
            _ => {}
        }
        if let Some(task) = task {
            let sleeps = status.is_some_and(|status| matches!(status.state, 'S' | 'D'));
            let is_idle = cpu.is_some_and(|cpu| cpu < NO_CPU);
            return if sleeps && is_idle && task.seconds >= self.before.stuck_after {
                WorkerState::Stuck
            } else {
                WorkerState::Running
            };
        }
        match seated.state {
            State::Starting => WorkerState::Starting,
            State::Leaving if seated.load == 0 => WorkerState::Leaving,
            // Where nothing can be seen of what it is at, what it was handed tells.
            _ if glance.is_none() && seated.load > 0 => WorkerState::Running,
            _ => WorkerState::Waiting,
        }
    }
}

/// What worker `pid`, which calls itself `own`, is at.
fn glance(pid: i32, own: i32) -> Option<Glance> {
    proc::memory(pid, MAILBOX)
        .iter()
        .filter_map(|path| mailbox::glance(open(path).ok()?).ok())
        .find(|glance| glance.pid == own)
}

fn mean(tally: &Tally) -> Option<f64> {
    (tally.answered > 0).then(|| tally.ran_ns as f64 * NANO / tally.answered as f64)
}

/// What another process wrote, fit for a terminal.
fn printable(text: String) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}
