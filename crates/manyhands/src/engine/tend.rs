//! What a pool needs while nobody waits for it: a thread that collects, calls back and replaces, when no other does.
//!
//! Always: it leaves the collecting to a thread that waits, and runs callbacks alone; with nothing to do it sleeps
//! until it is called.
//! Not here: the turn that every thread takes (`turns`).

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::crew::{Crew, DEATHS, TENDER, Wish};
use super::idle::Looks;

/// While somebody else collects, the tending thread looks this seldom.
const LINGER_MOST: Duration = Duration::from_millis(50);
/// The tending thread leaves the collecting to a waiting thread that comes within this time.
const LINGER: Duration = Duration::from_millis(1);

impl Crew {
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
        let mut looks = self.config.idle_timeout.map(Looks::new);
        while self.is_ours() && !self.over.load(Ordering::Acquire) {
            if self.run_callbacks() {
                continue;
            }
            let look_at = looks.as_mut().and_then(|looks| self.see_off_idle(looks));
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
                    self.doze(look_at.map(|at| at.saturating_duration_since(Instant::now())));
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
            self.wait(&enough, look_at, None, Wish::Tend);
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
