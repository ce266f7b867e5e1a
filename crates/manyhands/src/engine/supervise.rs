//! Noticing deaths, settling what the dead left behind, and replacing them.
//!
//! Always: a worker's rings are judged only after its death is certain (its sentinel says
//! so and it was reaped), when none of its threads writes any more. The task it was running is
//! settled with its death; tasks it had not begun go back to the front of the queue.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use manyhands_os::clock::now_ns;
use manyhands_os::death::{Child, ExitStatus};
use manyhands_os::fd::{AsFd, EventFd, OwnedFd, duplicate};
use manyhands_os::fork_state::{self, Registration};
use manyhands_os::memory::{self, Mapping, Memfd};
use manyhands_os::oom;
use manyhands_shm::arena::Borrower;
use manyhands_shm::mailbox::{self, Shape};

use super::crew::{Crew, Refused};
use super::dispatch;
use super::floor::{Floor, Phase, Settled};
use super::launch::{Seat, SeatFds};
use super::task::{Abandoned, Death, Outcome};
use super::terms::Cause;
use super::wire::Lending;
use super::worker::{Equipment, Heard, Span, Worker};

const SHAPE: Shape = Shape {
    task_bytes: 128 << 10,
    result_bytes: 128 << 10,
};
/// Address space of an arena; pages exist only where something was written. What does not
/// fit is streamed.
const ARENA_LEN: u64 = 16 << 30;
/// How often deaths are looked for while the workers keep the parent busy.
const LOOK_EVERY_NS: u64 = 10_000_000;
/// How many kills weigh as much as one worker that exited before it was ready.
const EARLY_EXIT: usize = 8;
/// How long nothing can be started in a pool that worked before until it gives up: what is short may be had again.
const BORNE_SHORTAGE: Duration = Duration::from_secs(10);
/// Launches that fail one after the other before a pool gives up that never worked.
const MOST_FAILED_LAUNCHES: u32 = 5;

/// SIGXCPU, by its number on every Linux.
const PROCESSOR_TIME: ExitStatus = ExitStatus::Signaled(24);

/// Why a worker died, as far as anything tells.
fn cause_of(floor: &mut Floor, worker: &Worker, status: ExitStatus) -> Cause {
    if !matches!(status, ExitStatus::Signaled(9)) {
        return Cause::Unknown;
    }
    // Looked at whatever killed it, so that an old count is no reason for a later death.
    let for_memory = floor.oom.as_mut().is_some_and(oom::Watch::any);
    if for_memory && !worker.is_condemned() {
        Cause::OutOfMemory
    } else if worker.due_ns().is_some_and(|due| now_ns() >= due) {
        Cause::TimeLimit
    } else {
        Cause::Unknown
    }
}

impl Crew {
    /// Takes in what the workers said.
    pub(super) fn hear(&self, floor: &mut Floor, settled: &mut Vec<Settled>) -> bool {
        let mut anything = false;
        if matches!(floor.phase, Phase::Over(_)) {
            return false;
        }
        for at in 0..floor.workers.len() {
            let worker = &mut floor.workers[at];
            if worker.ready && worker.load() == 0 {
                continue; // it has nothing to say
            }
            if !worker.has_news() {
                worker.advance_stream();
                continue;
            }
            let mut heard = Heard::default();
            if worker.listen(&mut heard).is_err() {
                // It does not keep to the protocol, so nothing it says can be used: end it,
                // and let its death settle its tasks.
                let _ = worker.child.signal(9);
            }
            if heard.has_grown && !floor.workers[at].is_leaving() {
                floor.send_away(at);
            }
            self.note(floor, heard, settled, &mut anything);
        }
        anything
    }

    fn note(
        &self,
        floor: &mut Floor,
        heard: Heard,
        settled: &mut Vec<Settled>,
        anything: &mut bool,
    ) {
        *anything |= heard.anything;
        floor.in_doubt &= !heard.anything;
        settled.extend(heard.settled);
        floor.spent.extend(heard.spent);
        if heard.ready {
            floor.early_deaths = 0;
            floor.is_proven = true;
        }
        if heard.last_words.is_some() {
            floor.last_words = heard.last_words;
        }
    }

    /// Looks for workers that ended, and settles their affairs.
    pub(super) fn notice_deaths(&self, floor: &mut Floor, settled: &mut Vec<Settled>) -> bool {
        let now = now_ns();
        if now.saturating_sub(floor.deaths_seen_ns) < LOOK_EVERY_NS {
            return false;
        }
        floor.deaths_seen_ns = now;
        let mut ready = Vec::new();
        if self.deaths.wait(&mut ready, Some(Duration::ZERO)).is_err() || ready.is_empty() {
            return false;
        }
        let mut anything = false;
        for number in ready {
            let Some(at) = floor
                .workers
                .iter()
                .position(|worker| worker.number == number)
            else {
                continue;
            };
            let Ok(Some(status)) = floor.workers[at].child.try_wait() else {
                // Its sentinel spoke, its status is still on the way.
                floor.deaths_seen_ns = 0;
                continue;
            };
            anything = true;
            let mut worker = floor.workers.remove(at);
            if let Ok(sentinel) = worker.child.sentinel() {
                let _ = self.deaths.remove(sentinel);
            }
            let mut heard = Heard::default();
            if !matches!(floor.phase, Phase::Over(_)) {
                // What it said before it died counts; garbage at the end of it does not.
                let _ = worker.listen(&mut heard);
            }
            let was_ready = worker.ready;
            let was_told = worker.stopped || matches!(floor.phase, Phase::Over(_));
            self.note(floor, heard, settled, &mut anything);
            let death = Death {
                pid: worker.child.pid(),
                status,
                cause: cause_of(floor, &worker, status),
            };
            self.launcher.buried(death.pid);
            let is_asked = worker.is_condemned();
            // What took too long once would take too long again.
            let is_limit = death.cause == Cause::TimeLimit || status == PROCESSOR_TIME;
            let may_retry = !is_limit && !self.config.breaks;
            let number = worker.number;
            let remains = worker.bury(may_retry);
            let is_meant = was_told || is_asked;
            let lost = remains.running.len();
            self.stats.buried(number, &death, lost, is_meant);
            floor.spent.extend(remains.spent);
            let cancelled = Arc::new(Abandoned::Cancelled);
            let lost = |(job, index)| (job, index, Outcome::Abandoned(Arc::clone(&cancelled)));
            settled.extend(remains.cancelled.into_iter().map(lost));
            if self.config.breaks && !was_told {
                let label = remains.running.first().map(|(job, _)| job.label());
                let why = Arc::new(Abandoned::Died {
                    death,
                    running: label.map(Option::unwrap_or_default),
                    last_words: floor.last_words.take(),
                });
                let lost = |(job, index)| (job, index, Outcome::Abandoned(Arc::clone(&why)));
                settled.extend(remains.running.into_iter().map(lost));
                for task in remains.queued.into_iter().rev() {
                    floor.waiting.push_front(task);
                }
                settled.extend(self.end(floor, Arc::clone(&why)));
                continue;
            }
            settled.extend(
                remains
                    .running
                    .into_iter()
                    .map(|(job, index)| (job, index, Outcome::Died(death.clone()))),
            );
            // One that is run again was begun before those that were not.
            for task in remains.again.into_iter().chain(remains.queued).rev() {
                floor.waiting.push_front(task);
            }
            if let Some(most) = self.config.max_restarts
                && !was_told
                && !is_asked
                && floor.deaths.note(most)
            {
                let reason = format!(
                    "the pool is broken: more workers died than it may replace ({most}), the last one (pid {}) \
                     with {}; look for what kills them, or raise max_restarts",
                    death.pid, death.status
                );
                let last_words = floor.last_words.take();
                let why = Arc::new(Abandoned::Broken { reason, last_words });
                settled.extend(self.end(floor, why));
                continue;
            }
            if !was_ready && !matches!(floor.phase, Phase::Over(_)) {
                // A worker that was killed says less about its successor than one that exited.
                floor.early_deaths += if matches!(status, ExitStatus::Signaled(_)) {
                    1
                } else {
                    EARLY_EXIT
                };
                if floor.early_deaths > floor.size.max(3) * EARLY_EXIT {
                    self.break_up(floor, &death, settled);
                }
            }
        }
        anything
    }

    /// Gives up a pool whose workers do not even get ready.
    fn break_up(&self, floor: &mut Floor, death: &Death, settled: &mut Vec<Settled>) {
        let reason = format!(
            "the pool is broken: {} workers or more in a row ended before they could take a task, \
             the last one (pid {}) with {}; look at what they printed",
            floor.size.max(3) + 1,
            death.pid,
            death.status
        );
        let why = Arc::new(Abandoned::Broken {
            reason,
            last_words: floor.last_words.take(),
        });
        settled.extend(self.end(floor, why));
    }

    /// Ends the pool: abandons its tasks and asks its workers to end.
    fn end(&self, floor: &mut Floor, why: Arc<Abandoned>) -> Vec<Settled> {
        if matches!(floor.phase, Phase::Over(_)) {
            return Vec::new();
        }
        let settled = floor.abandon(&why);
        let sources = std::mem::take(&mut floor.sources);
        floor.ended.extend(sources);
        let paused = std::mem::take(&mut floor.paused);
        floor.ended.extend(paused);
        floor.phase = Phase::Over(why);
        for worker in &mut floor.workers {
            tell_to_end(worker);
        }
        if self.config.breaks {
            // Its tending thread goes on to see the workers off.
            self.over.store(true, Ordering::Release);
            let _ = self.tender_bell.ring();
            let _ = self.parent_bell.ring();
        }
        settled
    }

    /// Ends the pool from outside the floor.
    pub(super) fn give_up(&self, why: Arc<Abandoned>) {
        let (settled, litter) = {
            let mut floor = self.floor();
            (self.end(&mut floor, why), floor.litter())
        };
        drop(litter);
        self.tell(settled);
        self.look_again();
    }

    /// Tells workers to leave: those that did their share, and all when a closed pool is done or
    /// any pool is over (whose workers may have had no room for the word before).
    pub(super) fn dismiss(&self, floor: &mut Floor) {
        let done = match floor.phase {
            Phase::Open => false,
            Phase::Closing => !floor.has_work(),
            Phase::Over(_) => true,
        };
        for worker in &mut floor.workers {
            if done || worker.is_spent() {
                worker.stop();
            }
        }
    }

    /// Claims the right to start one worker, if one is missing; gives its number.
    pub(super) fn claim_vacancy(&self) -> Option<u64> {
        if !self.is_ours() {
            return None;
        }
        let mut floor = self.floor();
        if !floor.is_short() {
            if floor.launching == 0 {
                // Nobody wants one any more: what failed before says nothing of the next time.
                floor.failing_since = None;
                floor.failed_launches = 0;
            }
            return None;
        }
        if floor.retry_at.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        floor.launching += 1;
        floor.next_number += 1;
        Some(floor.next_number - 1)
    }

    /// Prepares a place for one more worker, if one is missing. The caller starts a
    /// process that sits down at the seat and then calls [`Crew::enroll`].
    pub fn offer(&self) -> io::Result<Option<(Seat, Offer)>> {
        let Some(number) = self.claim_vacancy() else {
            return Ok(None);
        };
        self.offered(number)
    }

    /// Prepares a place for one more worker of a pool that starts them on demand, if it may have more and
    /// has fewer idle ones than `tasks`.
    pub fn grow(&self, tasks: usize) -> io::Result<Option<(Seat, Offer)>> {
        if !self.is_ours() {
            return Ok(None);
        }
        let mut floor = self.floor();
        let may = floor.size < self.size() && matches!(floor.phase, Phase::Open);
        if !may || dispatch::rested(&floor.workers) >= tasks {
            return Ok(None);
        }
        floor.size += 1;
        floor.launching += 1;
        floor.next_number += 1;
        let number = floor.next_number - 1;
        drop(floor);
        self.offered(number)
    }

    fn offered(&self, number: u64) -> io::Result<Option<(Seat, Offer)>> {
        match self.prepare(number) {
            Ok(offered) => Ok(Some(offered)),
            Err(error) => {
                self.launch_failed(&error);
                Err(error)
            }
        }
    }

    /// Takes in the worker that was started for `offer`.
    pub fn enroll(&self, offer: Offer, child: Arc<Child>) -> io::Result<()> {
        if !self.is_ours() {
            return Err(io::Error::other(Refused::Forked));
        }
        let mut worker = Worker::new(
            offer.number,
            child,
            offer.equipment,
            self.config.max_tasks_per_worker,
            self.config.terms,
            &self.stats,
        );
        let mut floor = self.floor();
        let watched = worker
            .child
            .sentinel()
            .and_then(|sentinel| self.deaths.add(sentinel, offer.number));
        if let Err(error) = watched {
            // Its death would go unnoticed: better now than with a task.
            let _ = worker.child.signal(9);
            drop(floor);
            self.launch_failed(&error);
            return Err(error);
        }
        floor.launching -= 1;
        floor.failed_launches = 0;
        floor.failing_since = None;
        floor.retry_at = None;
        if matches!(floor.phase, Phase::Over(_)) {
            tell_to_end(&mut worker);
        }
        if floor.armed.is_some() {
            worker.arm(Span::EACH);
        }
        floor.workers.push(worker);
        if self.config.idle_timeout.is_some() {
            self.attend(); // who looks for idle workers may have had none to look at
        }
        // Its workers begin to live meanwhile, so that nobody waits for this.
        floor.oom.get_or_insert_with(oom::Watch::new);
        drop(floor);
        // It may have said that it is ready before it was armed; and tasks may wait for it.
        self.call_sleeper();
        Ok(())
    }

    /// Says that no worker could be started for an offer.
    pub fn decline(&self, offer: Offer, error: &io::Error) {
        drop(offer);
        self.launch_failed(error);
    }

    /// Tries again after a pause, longer each time, or gives the pool up if nothing helps.
    fn launch_failed(&self, error: &io::Error) {
        if !self.is_ours() {
            return;
        }
        let mut floor = self.floor();
        floor.launching -= 1;
        floor.failed_launches += 1;
        let backoff = Duration::from_millis(20 << floor.failed_launches.min(6));
        floor.retry_at = Some(Instant::now() + backoff);
        let since = *floor.failing_since.get_or_insert_with(Instant::now);
        let is_long = if floor.is_proven {
            since.elapsed() >= BORNE_SHORTAGE
        } else {
            floor.failed_launches >= MOST_FAILED_LAUNCHES
        };
        let hopeless = floor.workers.is_empty() && is_long;
        drop(floor);
        if hopeless {
            let reason = format!("the pool is broken: no worker process could be started: {error}");
            self.give_up(Arc::new(Abandoned::Broken {
                reason,
                last_words: None,
            }));
        }
    }

    /// Starts one worker, if one is missing. `false`: none is.
    pub(super) fn launch_one(&self) -> io::Result<bool> {
        let Some((seat, offer)) = self.offer()? else {
            return Ok(false);
        };
        match self.launcher.launch(seat) {
            Ok(child) => self.enroll(offer, child).map(|()| true),
            Err(error) => {
                self.decline(offer, &error);
                Err(error)
            }
        }
    }

    fn prepare(&self, number: u64) -> io::Result<(Seat, Offer)> {
        let mailbox = Memfd::create("manyhands-mailbox", SHAPE.region_len() as u64)?;
        let rings = Arc::new(Mapping::shared(&mailbox)?);
        let arena = memory::at_most(ARENA_LEN);
        let arguments = Memfd::create("manyhands-arguments", arena)?;
        let results = Memfd::create("manyhands-results", arena)?;
        let (bell, not_for_children) = private_bell()?;
        let (lifeline, hold) = self.hold.line()?;
        let end = mailbox::create(rings, SHAPE);
        // Where address space is scarce there is no arena: payloads are streamed instead.
        let lender = Lending::from(&arguments).ok();
        // Arrays of the user will lie there, and a child that the user forks has them too.
        let borrower = Mapping::parted_by_fork(&results)
            .ok()
            .map(|memory| Borrower::new(Arc::new(memory)));
        let seat = Seat {
            number,
            parent: fork_state::pid(),
            fds: SeatFds {
                mailbox: mailbox.into(),
                arguments: arguments.into(),
                results: results.into(),
                worker_bell: duplicate(bell.as_fd())?,
                parent_bell: duplicate(self.parent_bell.as_fd())?,
                lifeline,
            },
        };
        let result_bytes = SHAPE.result_bytes as usize;
        Ok((
            seat,
            Offer {
                number,
                equipment: Equipment {
                    mailbox: end,
                    result_bytes,
                    lender,
                    borrower,
                    not_for_children,
                    bell,
                    hold,
                },
            },
        ))
    }
}

/// Asks a worker of a pool that is over to end: by SIGTERM, which ends it in the midst of a task, and
/// by the word that it waits for when it is idle, whatever it does with SIGTERM (a handler that
/// the caller's fork left it, a mask, `SIG_IGN`).
fn tell_to_end(worker: &mut Worker) {
    let _ = worker.child.signal(15);
    worker.stop();
    worker.publish(false);
}

/// A bell whose descriptor forked children do not keep.
pub(super) fn private_bell() -> io::Result<(EventFd, Registration)> {
    let fd = OwnedFd::from(EventFd::new()?);
    let registration = fork_state::close_in_child(&fd);
    Ok((EventFd::from_fd(fd), registration))
}

/// The parent's half of a seat, while its worker is being started.
pub struct Offer {
    number: u64,
    equipment: Equipment,
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Offer({})", self.number)
    }
}
