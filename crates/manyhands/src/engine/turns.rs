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

use super::crew::{BELL, Crew, DEATHS, TENDER, Waited, Wish};
use super::dispatch;
use super::floor::{Floor, Phase, settle};
use super::park::Parker;
use super::task::{Drawer, Drawn, Job, Need, Source, Task};
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
/// A feeder is called when there is something to draw; it looks for itself now and then all the same.
const LONG: Duration = Duration::from_secs(60);
/// While somebody else collects, the tending thread looks this seldom.
const LINGER_MOST: Duration = Duration::from_millis(50);
/// What is said in this time is heard at once: a fraction of what workers have ahead.
const NAP: Duration = Duration::from_micros(100);
/// When so many workers' answers are due at about the same time, those that follow the first are waited for too.
const CROWD: f64 = 4.0;
/// Payloads from this length on are drawn one by one, as workers have room for them.
const LARGE: usize = 8 << 10;
/// The tending thread leaves the collecting to a waiting thread that comes within this time.
const LINGER: Duration = Duration::from_millis(1);

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
            room = floor.fill();
            source = if room > 0 && !floor.sources.is_empty() {
                let me = Drawer::Owner(thread::current().id());
                floor.take_source(|drawer| drawer == Drawer::Anyone || drawer == me)
            } else {
                None
            };
            // What this thread may not draw, another one should.
            others = room > 0 && source.is_none() && !floor.sources.is_empty();
            self.dismiss(&mut floor);
            floor.publish();
            owed = !floor.unfinished.is_empty();
            litter = floor.litter();
        }
        drop(litter);
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
    fn call_sleeper(&self) {
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
    fn run_callbacks(&self) -> bool {
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
            job.finish();
            self.let_go(vec![job]);
            self.call_followers();
            done = true;
        }
        done
    }

    /// Whether callbacks are to be run.
    fn owes_callbacks(&self) -> bool {
        !self.floor().unfinished.is_empty()
    }

    fn draw(&self, mut source: Box<dyn Source>, room: usize) {
        let mut drawn = Vec::new();
        // An input that may wait for something, perhaps for what comes of its first item, has each
        // item handed out before the next is asked for: that may be the same buffer, filled anew.
        let at_once = source.drawer() != Drawer::Anyone;
        // Large ones too: one that finds no room has to be copied.
        let need = if at_once { Need::Sure } else { Need::IfCheap };
        let more = source.draw(room.min(64), &mut |task| {
            let large = task.payload.len() >= LARGE;
            drawn.push(task);
            !(at_once || large) || self.hand_out(&mut drawn, need)
        });
        self.hand_out(&mut drawn, need);
        if !self.is_ours() {
            return; // the input forked, and this is the child
        }
        let mut floor = self.floor();
        floor.drawing -= 1;
        match more {
            // Its job learns that no more tasks come when the source is dropped.
            _ if source.is_over() || floor.cancelled || matches!(floor.phase, Phase::Over(_)) => {
                floor.ended.push_back(source)
            }
            Drawn::More => floor.sources.push_front(source),
            // Its consumer may have come since it paused; if not, it will call `resume`.
            Drawn::Paused if source.is_ready(self.is_joining()) => floor.sources.push_front(source),
            Drawn::Paused => {
                floor.paused.push(source);
                floor.paused_at = Some(Instant::now());
            }
            Drawn::Done => floor.ended.push_back(source),
        }
        let litter = floor.litter();
        drop(floor);
        drop(litter);
        // Whoever waits may wait for just this input to end, so that the pool may.
        self.call_sleeper();
    }

    /// Hands out tasks that were drawn. `false`: the workers have no room for more.
    fn hand_out(&self, drawn: &mut Vec<Task>, need: Need) -> bool {
        if drawn.is_empty() || !self.is_ours() {
            return true;
        }
        let mut floor = self.floor();
        let mut settled = Vec::new();
        if let Phase::Over(why) = &floor.phase {
            let why = Arc::clone(why);
            floor.waiting.extend(drawn.drain(..));
            settled = floor.abandon(&why);
        } else {
            for task in drawn.drain(..) {
                if floor.waiting.is_empty() {
                    if let Err(task) = floor.place(task) {
                        floor.put_off(task, need);
                    }
                } else {
                    floor.put_off(task, need);
                }
            }
            floor.publish();
        }
        let more = floor.waiting.is_empty() && dispatch::room(&floor.workers) > 0;
        let litter = floor.litter();
        drop(floor);
        drop(litter);
        let told = settle(settled);
        self.let_go(told.orphans);
        if told.look {
            self.call_followers();
        }
        self.finish(told.finished);
        more
    }

    /// Draws again from paused sources that are ready now.
    pub fn resume(&self) {
        if !self.is_ours() {
            return;
        }
        let hurry = self.is_joining();
        let mut floor = self.floor();
        let (ready, paused): (Vec<_>, _) = std::mem::take(&mut floor.paused)
            .into_iter()
            .partition(|source| source.is_ready(hurry));
        floor.paused = paused;
        if ready.is_empty() {
            return;
        }
        floor.sources.extend(ready);
        drop(floor);
        self.call_sleeper();
        self.call_feeders();
        self.call_tender();
    }

    /// Draws from the sources that only a feeder may draw from, as the workers get ready for
    /// more. Returns after `stop_tending`.
    pub fn feed(&self) {
        self.floor().feeding.0 += 1;
        self.feed_until_over();
        if self.is_ours() {
            self.floor().feeding.0 -= 1;
        }
    }

    fn feed_until_over(&self) {
        while self.is_ours() && !self.over.load(Ordering::Acquire) {
            let parker = Arc::new(Parker::default());
            let (source, room) = {
                let mut floor = self.floor();
                let room = match floor.waiting.is_empty() {
                    true => dispatch::room(&floor.workers),
                    false => 0,
                };
                let source = match room {
                    0 => None,
                    _ => floor.take_source(|drawer| drawer == Drawer::Feeder),
                };
                match source {
                    Some(_) => floor.feeding.1 += 1,
                    None => floor.feeders.push(Arc::clone(&parker)),
                }
                (source, room)
            };
            if let Some(source) = source {
                self.draw(source, room);
                if self.is_ours() {
                    self.floor().feeding.1 -= 1;
                }
            } else if !self.over.load(Ordering::Acquire) {
                parker.park(LONG);
                self.floor()
                    .feeders
                    .retain(|other| !Arc::ptr_eq(other, &parker));
            }
        }
    }

    /// Makes feeders look for something to draw.
    pub(super) fn call_feeders(&self) {
        let (feeders, wanted) = {
            let mut floor = self.floor();
            (std::mem::take(&mut floor.feeders), floor.wants_feeder())
        };
        feeders.iter().for_each(|parker| parker.call());
        if wanted {
            self.call_tender(); // who sees to it that there is another one
        }
    }

    /// Whether another thread is to call [`feed`](Crew::feed) beside the `known` ones that do.
    pub fn wants_feeder(&self, known: usize) -> bool {
        let floor = self.floor();
        floor.feeding.0 == known && floor.wants_feeder()
    }

    /// Whether any source is being drawn from at this moment.
    pub fn is_drawing(&self) -> bool {
        self.is_ours() && self.floor().drawing > 0
    }

    fn bury_functions(&self, floor: &mut Floor) {
        let Ok(mut graveyard) = self.graveyard.lock() else {
            return;
        };
        for id in graveyard.drain(..) {
            floor
                .workers
                .iter_mut()
                .for_each(|worker| worker.forget(id));
        }
    }

    /// Calls the tending thread, if it sleeps, because something was left to do.
    pub fn attend(&self) {
        if self.is_ours() && self.tender_idle.load(Ordering::Acquire) {
            let _ = self.tender_bell.ring();
        }
    }

    /// Has the tending thread, wherever it is, look at a source that was just put on the floor.
    pub(super) fn call_tender(&self) {
        self.attend();
        // Unlike a task, a source waits for no answer that would wake the one who sleeps.
        if self.tender_leads.load(Ordering::Acquire) {
            let _ = self.parent_bell.ring();
        }
    }

    /// Ends [`Crew::tend`] wherever it is.
    pub fn stop_tending(&self) {
        self.over.store(true, Ordering::Release);
        if self.is_ours() {
            let _ = self.tender_bell.ring();
            let _ = self.parent_bell.ring();
            self.call_feeders();
        }
    }

    /// Does what the pool needs while nobody waits for it: collects answers, runs
    /// callbacks, hands out tasks, replaces dead workers. Returns `false` after `stop_tending`,
    /// and `true` to be called again after [`Crew::bury`], and once there is another feeder if one is
    /// [wanted](Crew::wants_feeder).
    pub fn tend(&self) -> bool {
        if !self.is_ours() {
            return false;
        }
        let me = thread::current().id();
        self.floor().tenders.push(me);
        if self.tend_until_over() {
            self.floor().tenders.retain(|other| *other != me);
            return true;
        }
        // What is still owed, or comes between, is done before this thread counts as gone.
        while self.is_ours() {
            self.run_callbacks();
            let mut floor = self.floor();
            if floor.unfinished.is_empty() {
                floor.tenders.retain(|other| *other != me);
                break;
            }
        }
        false
    }

    /// `true`: there is something to bury first.
    fn tend_until_over(&self) -> bool {
        let mut nap = LINGER;
        while self.is_ours() && !self.over.load(Ordering::Acquire) {
            if self.run_callbacks() {
                continue;
            }
            let has_work = self.has_work();
            if self.floor().wants_feeder() {
                return true;
            }
            if self.has_many_orphans() || (!has_work && self.has_orphans()) {
                return true;
            }
            if !has_work {
                self.tender_idle.store(true, Ordering::SeqCst);
                // Work that was submitted before the flag was up is seen here; later work rings.
                if !self.has_work() && !self.owes_callbacks() && !self.over.load(Ordering::Acquire)
                {
                    self.doze(None);
                }
                self.tender_idle.store(false, Ordering::SeqCst);
                self.turn();
                nap = LINGER;
                continue;
            }
            let is_watched = self.watched.load(Ordering::Acquire) > 0;
            let collected = self.asleep.load(Ordering::Acquire);
            if !is_watched || collected {
                self.doze(Some(nap));
            }
            if self.asleep.load(Ordering::Acquire) {
                // Somebody waits, and collects.
                nap = (nap * 2).min(LINGER_MOST);
                continue;
            }
            nap = LINGER;
            self.tender_leads.store(true, Ordering::Release);
            let enough = || {
                self.over.load(Ordering::Acquire)
                    || !self.floor().followers.is_empty()
                    || self.owes_callbacks()
                    || !self.has_work()
                    || self.has_many_orphans()
                    || self.floor().wants_feeder()
            };
            self.wait(&enough, None, None, Wish::Tend);
            self.tender_leads.store(false, Ordering::Release);
        }
        false
    }

    fn doze(&self, limit: Option<Duration>) {
        let mut ready = Vec::new();
        let _ = self.tender.wait(&mut ready, limit);
        if ready.contains(&TENDER) {
            let _ = self.tender_bell.drain();
            if self.over.load(Ordering::Acquire) {
                // The last ring is for every thread that dozes here, should there be several.
                let _ = self.tender_bell.ring();
            }
        }
        if ready.contains(&DEATHS) {
            self.floor().deaths_seen_ns = 0;
        }
    }
}
