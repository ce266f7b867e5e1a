//! Which worker gets the next task, and how many tasks a worker holds in advance.
//!
//! A mailbox is kept just full enough to hide the round trip to the parent: deep for
//! tasks of microseconds, two (one running, one next) for long ones. What was handed out
//! too early is taken back and moved when a worker runs dry, so that skewed durations
//! do not strand work; and so is the only task of a worker that does not get to it, because it is
//! not ready yet or was stopped.

use super::worker::Worker;

/// How much work, in nanoseconds, a worker should have in its mailbox.
const AHEAD_NS: u64 = 400_000;
/// Tasks in a mailbox while nothing is known of their duration.
const UNKNOWN_DEPTH: usize = 2;
/// Tasks in a mailbox at most.
const MOST: usize = 512;
/// Bytes of large payloads in a mailbox beyond which only an idle worker gets more.
const MOST_BYTES: usize = 16 << 20;

/// How many tasks `worker` should hold.
fn depth(worker: &Worker) -> usize {
    if worker.bytes_held() > MOST_BYTES {
        return 1;
    }
    match worker.pace_ns() {
        0 => UNKNOWN_DEPTH,
        pace => ((AHEAD_NS / pace) as usize + 2).min(MOST),
    }
}

fn space(worker: &Worker) -> usize {
    if worker.takes_tasks() {
        depth(worker).saturating_sub(worker.load())
    } else {
        0
    }
}

/// The worker for the next task: an idle one, the longest-serving first (it is warm);
/// else the one that is relatively the least loaded.
pub(super) fn choose(workers: &[Worker]) -> Option<usize> {
    let mut best: Option<(usize, (u64, usize))> = None;
    for (at, worker) in workers.iter().enumerate() {
        if space(worker) == 0 {
            continue;
        }
        let load = worker.load();
        if load == 0 && worker.is_attentive() {
            return Some(at);
        }
        // Nanoseconds of work ahead; an inattentive worker counts as a little busier than another.
        let tasks = load as u64 + u64::from(!worker.is_attentive());
        let ahead = tasks.saturating_mul(worker.pace_ns().max(1)); // the pace is what the worker says
        // One that just starts before one that runs something, which may take any time.
        let ahead = (ahead, load);
        if best.is_none_or(|(_, least)| ahead < least) {
            best = Some((at, ahead));
        }
    }
    best.map(|(at, _)| at)
}

/// Whether the worker with this number is better for a task that comes alone than any that [`choose`] would
/// find: to wake another one takes longer than a small task.
pub(super) fn still_hot(workers: &[Worker], number: u64) -> Option<usize> {
    workers
        .iter()
        .position(|worker| worker.number == number)
        .filter(|&at| space(&workers[at]) > 0 && workers[at].is_hot())
}

/// How many more tasks the workers could take.
pub(super) fn room(workers: &[Worker]) -> usize {
    workers.iter().map(space).sum()
}

/// How many tasks the workers hold when they are well supplied.
pub(super) fn supply(workers: &[Worker]) -> usize {
    workers.iter().map(depth).sum()
}

/// A worker that has nothing to do.
pub(super) fn idle(workers: &[Worker]) -> Option<usize> {
    workers
        .iter()
        .position(|worker| worker.is_attentive() && worker.load() == 0 && worker.takes_tasks())
}

/// How many workers have nothing to do, after they did something: those that just start do not count.
pub(super) fn rested(workers: &[Worker]) -> usize {
    workers
        .iter()
        .filter(|worker| worker.load() == 0 && worker.pace_ns() > 0 && worker.takes_tasks())
        .count()
}

/// The worker with the most work that somebody else could do.
pub(super) fn loaded(workers: &[Worker]) -> Option<usize> {
    let ahead = |worker: &Worker| (worker.load() as u64).saturating_mul(worker.pace_ns().max(1));
    workers
        .iter()
        .enumerate()
        .filter(|(_, worker)| worker.has_spare())
        .max_by_key(|(_, worker)| ahead(worker))
        .map(|(at, _)| at)
}
