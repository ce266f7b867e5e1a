//! Drawing tasks from their sources, as workers get room for them.
//!
//! Always: a source is drawn from by one thread at a time, outside the floor's lock, for it may run a user's code and
//! wait; what a source that may wait has given is handed out before it is asked for more.
//! Not here: when there is something to draw (`turns`), what sources are (`task`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::crew::Crew;
use super::dispatch;
use super::floor::{Phase, Room, settle};
use super::line::rank;
use super::park::Parker;
use super::task::{Drawer, Drawn, Need, Source, Task};

/// Payloads from this length on are drawn one by one, as workers have room for them.
const LARGE: usize = 8 << 10;
/// A feeder is called when there is something to draw; it looks for itself now and then all the same.
const LONG: Duration = Duration::from_secs(60);

impl Crew {
    /// Draws so many tasks as there is room for, and hands them out; tasks that go before others need no room.
    pub(super) fn draw(&self, mut source: Box<dyn Source>, room: Room) {
        let mut drawn = Vec::new();
        // An input that may wait for something, perhaps for what comes of its first item, has each
        // item handed out before the next is asked for: that may be the same buffer, filled anew.
        let at_once = source.drawer() != Drawer::Anyone;
        // Large ones too: one that finds no room has to be copied.
        let need = if at_once { Need::Sure } else { Need::IfCheap };
        let more = source.draw(room.tasks.min(64), &mut |task| {
            let large = task.payload.len() >= LARGE;
            drawn.push(task);
            !(at_once || large) || self.hand_out(&mut drawn, need) || room.is_urgent
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
            drawn
                .drain(..)
                .for_each(|task| floor.waiting.push_back(task));
            settled = floor.abandon(&why);
        } else {
            for task in drawn.drain(..) {
                if floor.waiting.first_rank() < Some(rank(&task)) {
                    if let Err(task) = floor.place(task) {
                        floor.put_off(task, need);
                    }
                } else {
                    floor.put_off(task, need);
                }
            }
            if floor.ranked {
                floor.fill(); // some may go before others
            }
            floor.publish();
        }
        let more = floor.waiting.is_empty() && dispatch::room(&floor.workers) > 0;
        let is_short = floor.call_for_more();
        let litter = floor.litter();
        drop(floor);
        drop(litter);
        if is_short {
            self.fetch();
        }
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
                let free = match floor.waiting.is_empty() {
                    true => dispatch::room(&floor.workers),
                    false => 0,
                };
                let room = floor.room_for_input(free, |drawer| drawer == Drawer::Feeder);
                let source = match room.tasks {
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
}
