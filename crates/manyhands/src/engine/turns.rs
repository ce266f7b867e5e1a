//! Waiting, and the work that waiting threads do for the pool meanwhile.
//!
//! A thread that waits takes turns: it hears what the workers said, tells the jobs, hands
//! out what is next, draws input, replaces the dead; when a turn finds nothing to do, it
//! rests. One thread rests on the workers' bell and sentinels; the others follow, parked. A
//! thread that leaves lets a follower take its place; a thread whose turn heard something
//! rings for the one that rests, which might wait for just that.
//! Always: the right to rest is held only while looking, spinning and sleeping, never
//! across a call into a face.

use std::io;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::crew::{BELL, Crew, DEATHS, Waited, Wish};
use super::floor::{Floor, settle};
use super::park::Parker;
use super::task::{Drawer, Job};
use super::worker::Span;

/// Answers that are due within this time are waited for together: a wake-up costs about as much.
const TOGETHER: Span = Span {
    ns: 150_000,
    owed: true,
};
/// Nobody waits for these: the worker goes on while more tasks come.
const UNHURRIED: Span = Span {
    ns: 1_000_000,
    owed: false,
};
/// Whatever was guessed, an answer is heard this long after it was given at the latest.
const LATEST: Duration = Duration::from_millis(1);
/// A follower looks for itself this often, so that a bug is slow and not a hang.
const FOLLOW: Duration = Duration::from_millis(50);
/// What is said in this time is heard at once: a fraction of what workers have ahead.
const NAP: Duration = Duration::from_micros(100);
/// When so many workers' answers are due at about the same time, those that follow the first are waited for too.
const CROWD: f64 = 4.0;

impl Crew {
    /// Waits until `goal` says yes, doing meanwhile whatever the pool needs to get there.
    ///
    /// `goal` is asked often and must be cheap. After `pulse`, or when a signal arrives,
    /// the wait ends with [`Waited::Pulse`], for the caller to run its signal handlers and
    /// come back.
    pub fn wait(
        &self,
        goal: &dyn Fn() -> bool,
        deadline: Option<Instant>,
        pulse: Option<Duration>,
        wish: Wish,
    ) -> Waited {
        self.wait_and(goal, deadline, pulse, wish, &|| false)
    }

    /// Waits as [`wait`](Self::wait) does, and has `meanwhile` do something whenever the pool has nothing for this
    /// thread to do; it says whether it did.
    pub fn wait_and(
        &self,
        goal: &dyn Fn() -> bool,
        deadline: Option<Instant>,
        pulse: Option<Duration>,
        wish: Wish,
        meanwhile: &dyn Fn() -> bool,
    ) -> Waited {
        if !self.is_ours() {
            return Waited::Forked;
        }
        let pulse_at = pulse.map(|pulse| Instant::now() + pulse);
        let waited = loop {
            if goal() {
                break Waited::Reached;
            }
            let busy = self.turn() || (self.is_ours() && meanwhile());
            if !self.is_ours() {
                // Code of the user forked meanwhile, and this is the child.
                return Waited::Forked;
            }
            let now = Instant::now();
            if goal() {
                break Waited::Reached;
            }
            if deadline.is_some_and(|at| now >= at) {
                break Waited::TimedOut;
            }
            if pulse_at.is_some_and(|at| now >= at) {
                break Waited::Pulse;
            }
            if busy {
                continue;
            }
            let due = self.floor().due_at();
            let until = [deadline, pulse_at, due].into_iter().flatten().min();
            let limit = until.map(|at| at.saturating_duration_since(now));
            if !self.rest(limit, wish, goal) {
                break Waited::Pulse;
            }
            if wish == Wish::Tend && !self.hasty.load(Ordering::Relaxed) {
                // Nobody waits for what was just said, and in a moment more will have been said.
                thread::sleep(NAP);
            }
        };
        self.promote();
        waited
    }

    /// Sleeps until there is something to do. `false`: a signal arrived.
    fn rest(&self, limit: Option<Duration>, wish: Wish, goal: &dyn Fn() -> bool) -> bool {
        if self.asleep.swap(true, Ordering::AcqRel) {
            return self.follow(limit, goal);
        }
        // Pairs with the fence in `call_sleeper`: what another thread did before it looked for a
        // sleeper, and found none, is seen here.
        fence(Ordering::SeqCst);
        let woken = goal() || self.rest_first(limit, wish);
        self.asleep.store(false, Ordering::Release); // pairs with the swap above
        woken
    }

    fn rest_first(&self, mut limit: Option<Duration>, wish: Wish) -> bool {
        let free = {
            let floor = self.floor();
            if floor.has_news() {
                return true;
            }
            wish != Wish::Tend && floor.busy() > 0 && floor.has_free_core()
        };
        if free {
            let mut patience = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
            if patience.is_worth_it() && patience.spin(|| self.floor().has_news()) {
                return true;
            }
        }
        let mut is_late = false;
        let is_crowd;
        {
            let mut floor = self.floor();
            let span = match wish {
                Wish::Each => Span::EACH,
                _ if floor.in_doubt || !floor.followers.is_empty() => Span::EACH,
                Wish::Tend if !self.hasty.load(Ordering::Relaxed) => UNHURRIED,
                Wish::Bulk | Wish::Tend => TOGETHER,
            };
            let mut due = 0.0;
            for worker in &floor.workers {
                if worker.load() > 0 || !worker.ready {
                    is_late |= worker.arm(span);
                    due += TOGETHER.ns as f64 / worker.pace_ns().max(TOGETHER.ns) as f64;
                }
            }
            // They all have a next task, and more is to be handed out.
            is_crowd = wish == Wish::Bulk
                && due >= CROWD
                && (!floor.waiting.is_empty() || floor.has_prompt_source());
            if is_late {
                // A worker may need much longer for what comes after its first answer than it did so far.
                limit = Some(limit.map_or(LATEST, |limit| limit.min(LATEST)));
            }
            floor.armed = Some(if is_late { span } else { Span::EACH });
            if floor.has_news() {
                self.disarm(&mut floor);
                return true;
            }
        }
        let mut ready = Vec::new();
        let polled = self.sleep.wait(&mut ready, limit);
        {
            let mut floor = self.floor();
            self.disarm(&mut floor);
            floor.in_doubt |= is_late && ready.is_empty();
            if ready.contains(&DEATHS) {
                floor.deaths_seen_ns = 0;
            }
        }
        if ready.contains(&BELL) {
            if is_crowd {
                thread::sleep(NAP);
            }
            let _ = self.parent_bell.drain();
        }
        !matches!(polled, Err(error) if error.kind() == io::ErrorKind::Interrupted)
    }

    fn disarm(&self, floor: &mut Floor) {
        floor.armed = None;
        floor.workers.iter().for_each(super::worker::Worker::disarm);
    }

    /// Parks until the thread that collects has news or leaves. `false`: a signal arrived.
    fn follow(&self, limit: Option<Duration>, goal: &dyn Fn() -> bool) -> bool {
        let parker = Arc::new(Parker::default());
        self.floor().followers.push(Arc::clone(&parker));
        if self.tender_leads.load(Ordering::Acquire) {
            // The tending thread sleeps in this one's place: call it away, now that it will see why.
            let _ = self.parent_bell.ring();
        }
        // Whoever sleeps might have gone, and the goal been reached, before the parker was there to call.
        let woken = !self.asleep.load(Ordering::Acquire)
            || goal()
            || parker.park(limit.map_or(FOLLOW, |limit| limit.min(FOLLOW)));
        self.floor()
            .followers
            .retain(|other| !Arc::ptr_eq(other, &parker));
        woken
    }

    /// Lets one follower take the place of the thread that leaves.
    fn promote(&self) {
        if let Some(parker) = self.floor().followers.first().cloned() {
            parker.call();
        }
    }

    /// Makes whoever sleeps look again.
    pub(super) fn look_again(&self) {
        if !self.is_ours() {
            return;
        }
        let _ = self.parent_bell.ring();
        self.attend();
    }

    /// One round: hears the workers, settles, hands out. `true`: something was done.
    pub(super) fn turn(&self) -> bool {
        let mut settled = Vec::new();
        let (source, room, litter, others, owed, mut busy);
        {
            let mut floor = self.floor();
            busy = self.hear(&mut floor, &mut settled);
            busy |= self.notice_deaths(&mut floor, &mut settled);
            self.bury_functions(&mut floor);
            floor.look_at_paused();
            let me = Drawer::Owner(thread::current().id());
            let is_for_me = |drawer| drawer == Drawer::Anyone || drawer == me;
            let free = floor.fill();
            floor.call_for_more();
            room = floor.room_for_input(free, is_for_me);
            source = if room.tasks > 0 && !floor.sources.is_empty() {
                floor.take_source(is_for_me)
            } else {
                None
            };
            // What this thread may not draw, another one should.
            others = source.is_none()
                && (room.tasks > 0 && !floor.sources.is_empty()
                    || floor.has_urgent_source(|drawer| drawer == Drawer::Feeder));
            self.dismiss(&mut floor);
            floor.publish();
            owed = !floor.unfinished.is_empty();
            litter = floor.litter();
        }
        drop(litter);
        self.forget_large();
        let any = !settled.is_empty();
        busy |= any;
        let told = settle(settled);
        if any {
            self.hasty
                .store(!told.finished.is_empty(), Ordering::Relaxed);
        }
        self.let_go(told.orphans);
        if told.look || others {
            self.call_parked();
        }
        if others {
            self.call_feeders();
        }
        if busy || others {
            // What another thread sleeps for may just have been heard here: an answer that it
            // will not be told again, a death that its poller no longer shows.
            self.call_sleeper();
        }
        self.finish(told.finished);
        if owed {
            busy |= self.run_callbacks();
        }
        if let Some(source) = source {
            self.draw(source, room);
            busy = true;
        }
        while let Ok(true) = self.launch_one() {
            busy = true;
        }
        busy
    }

    /// Makes threads that wait look again, after a job was settled from outside a turn.
    pub fn call_followers(&self) {
        if self.is_ours() {
            self.call_parked();
            self.call_sleeper();
        }
    }

    fn call_parked(&self) {
        let followers = self.floor().followers.clone();
        followers.iter().for_each(|parker| parker.call());
    }

    /// Wakes the thread that sleeps for all, if one does: it may wait for what was just done.
    pub(super) fn call_sleeper(&self) {
        fence(Ordering::SeqCst); // pairs with the fence in `rest`
        if self.asleep.load(Ordering::Relaxed) {
            let _ = self.parent_bell.ring();
        }
    }

    /// Sees to it that settled jobs are finished: by the tending thread, so that no other wait is held
    /// up by a callback.
    pub fn finish(&self, finished: Vec<Arc<dyn Job>>) {
        if finished.is_empty() || !self.is_ours() {
            return;
        }
        self.floor().unfinished.extend(finished);
        if self.run_callbacks() {
            return;
        }
        // Wherever it is: dozing, parked or asleep in a wait.
        let _ = self.tender_bell.ring();
        self.call_followers();
    }

    /// Finishes what is owed, if that is for this thread to do: because it tends, be it in the
    /// midst of a callback, or because the last thread that did so has left. `true`: something was done.
    pub(super) fn run_callbacks(&self) -> bool {
        let me = thread::current().id();
        let mut done = false;
        while self.is_ours() {
            let job = {
                let mut floor = self.floor();
                let mine = floor.tenders.contains(&me)
                    || (floor.tenders.is_empty() && self.over.load(Ordering::Acquire));
                mine.then(|| floor.unfinished.pop_front()).flatten()
            };
            let Some(job) = job else {
                break;
            };
            // A callback that waits may be what runs this one.
            let before = self.calling_back.swap(true, Ordering::AcqRel);
            job.finish();
            self.calling_back.store(before, Ordering::Release);
            self.let_go(vec![job]);
            self.call_followers();
            done = true;
        }
        done
    }

    /// Whether callbacks are to be run.
    pub(super) fn owes_callbacks(&self) -> bool {
        !self.floor().unfinished.is_empty()
    }
}
