//! The page of figures that `manyhands top` reads, and what each worker adds to it.
//!
//! Always: what is noted here is at hand anyway and is noted by a store, under the floor's lock; a pool that gets no page,
//! for want of descriptors or of memory, works without.
//! Not here: the page's layout (`manyhands-shm`), what a worker is at (its mailbox says), the timeline (`trace`).

use std::sync::Arc;

use manyhands_os::clock::now_ns;
use manyhands_os::death::ExitStatus;
use manyhands_os::fork_state::{self, ParentFd};
use manyhands_os::memory::{Mapping, Memfd};
use manyhands_shm::stats::{self, Face, Page, Slot, State, Tally, Why};

use super::floor::{Floor, Phase};
use super::task::Death;
use super::terms::Cause;
use super::trace::{Lane, Trace};

/// A pool's page.
pub(super) struct Stats {
    page: Option<Page>,
    /// Who looks for pages finds it by its descriptor.
    _fd: Option<ParentFd>,
    pub(super) trace: Option<Trace>,
}

impl Stats {
    /// Makes a page, if there is room for one.
    pub(super) fn new(size: usize) -> Self {
        let made = Memfd::create(stats::NAME, stats::LEN as u64).and_then(|memory| {
            let mapping = Arc::new(Mapping::shared(&memory)?);
            Ok((mapping, ParentFd::new(memory.into())))
        });
        let (page, fd) = match made {
            Ok((mapping, fd)) => {
                let page = Page::create(mapping, fork_state::pid(), now_ns(), Face::Rust);
                page.set_pool(stats::Phase::Open, size, 0, 0, 0);
                (Some(page), Some(fd))
            }
            Err(_) => (None, None),
        };
        Self {
            page,
            _fd: fd,
            trace: Trace::of_environment(size),
        }
    }

    /// Figures that nobody sees.
    #[cfg(feature = "fuzzing")]
    pub(super) fn none() -> Self {
        Self {
            page: None,
            _fd: None,
            trace: None,
        }
    }

    /// Says through which face the pool is used.
    pub(super) fn set_face(&self, face: Face) {
        if let Some(page) = &self.page {
            page.set_face(face);
        }
        if let Some(trace) = &self.trace {
            trace.face(face);
        }
    }

    /// Says what tasks with this id call.
    pub(super) fn name(&self, id: u32, name: &str) {
        if let Some(page) = &self.page {
            page.name(id, name);
        }
        if let Some(trace) = &self.trace {
            trace.name(id, name);
        }
    }

    /// What `floor` has at the end of a step.
    #[inline]
    pub(super) fn note(&self, floor: &Floor) {
        let Some(page) = &self.page else { return };
        let phase = match floor.phase {
            Phase::Open => stats::Phase::Open,
            Phase::Closing => stats::Phase::Closing,
            Phase::Over(_) => stats::Phase::Over,
        };
        let sources = floor.sources.len() + floor.paused.len() + floor.drawing;
        page.set_pool(
            phase,
            floor.size,
            floor.waiting.len(),
            sources,
            floor.launching,
        );
    }

    /// A worker that was just started.
    pub(super) fn seat(&self, number: u64, pid: i32) -> Gauge {
        let slot = self
            .page
            .as_ref()
            .and_then(|page| page.seat(number, pid, now_ns()));
        Gauge {
            crowded: slot.is_none().then(|| self.page.clone()).flatten(),
            slot,
            tally: Tally::default(),
            lane: self.trace.as_ref().map(|trace| trace.lane(number, pid)),
        }
    }

    /// A worker that ended, and how many tasks with it; `meant`: it was told to.
    pub(super) fn buried(&self, number: u64, death: &Death, lost: usize, meant: bool) {
        let cause = match death.cause {
            Cause::Unknown => Why::Unknown,
            Cause::TimeLimit => Why::TimeLimit,
            Cause::OutOfMemory => Why::OutOfMemory,
        };
        let exitcode = match death.status {
            ExitStatus::Signaled(signal) => -signal,
            ref status => status.exitcode(),
        };
        if let Some(page) = self.page.as_ref().filter(|_| !meant) {
            page.note_lost(lost);
            page.note_death(death.pid, exitcode, cause, now_ns());
        }
        if let Some(trace) = &self.trace {
            trace.buried(number, death.pid, exitcode, cause, meant);
        }
    }
}

/// What one worker's tasks come to.
pub(super) struct Gauge {
    slot: Option<Slot>,
    /// There are too many workers for the page.
    crowded: Option<Page>,
    tally: Tally,
    pub(super) lane: Option<Lane>,
}

impl Gauge {
    /// Its worker was handed a task.
    #[inline]
    pub(super) fn handed(&mut self, bytes: usize) {
        self.tally.handed += 1;
        self.tally.bytes_out += bytes as u64;
    }

    /// Its worker answered.
    #[inline]
    pub(super) fn answered(&mut self, serial: u64, bytes: u64, raised: bool, ran_ns: u64) {
        self.tally.answered += 1;
        self.tally.raised += u64::from(raised);
        self.tally.bytes_in = self.tally.bytes_in.saturating_add(bytes);
        self.tally.ran_ns = self.tally.ran_ns.saturating_add(ran_ns); // as the worker says
        if let Some(lane) = &mut self.lane {
            lane.answered(serial);
        }
    }

    /// What was noted, for all to see; once for all tasks of a step.
    #[inline]
    pub(super) fn show(&self, load: usize) {
        if let Some(slot) = &self.slot {
            slot.set(&self.tally, load);
        }
    }

    /// What its worker is up to.
    pub(super) fn set_state(&self, state: State) {
        if let Some(slot) = &self.slot {
            slot.set_state(state);
        }
        if let (Some(lane), State::Ready) = (&self.lane, state) {
            lane.ready();
        }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        if let Some(page) = &self.crowded {
            page.leave_crowd();
        }
    }
}
