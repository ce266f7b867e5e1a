//! A worker's stopwatch: how long its call may take.
//!
//! Always: the limit is kept by the kernel, in the worker, so it holds for a call that listens to nothing, for a worker
//! that is stopped, and while the parent is busy with something else. The parent learns from the mailbox why the worker
//! was killed.
//! Not here: what a call does when it is asked to end (the face).

use std::io;
use std::time::Duration;

use manyhands_os::clock::now_ns;
use manyhands_os::fork_state;
use manyhands_os::timer::{Clock, Timer, request_signal};
use manyhands_shm::mailbox::Due;

use super::terms::Limit;

/// SIGKILL, by its number on every Linux.
const KILL: i32 = 9;
/// SIGXCPU: the processor time is used up. It ends a program that does not expect it.
const PROCESSOR_TIME: i32 = 24;

/// Limits calls in time, one after the other.
pub struct Stopwatch {
    due: Due,
    /// Made when they are first needed.
    request: Option<Timer>,
    kill: Option<Timer>,
    processor: Option<Timer>,
    processor_time: Option<Duration>,
    is_running: bool,
    generation: u64,
}

impl std::fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stopwatch")
            .field("is_running", &self.is_running)
            .finish_non_exhaustive()
    }
}

impl Stopwatch {
    pub(super) fn new(due: Due) -> Self {
        Self {
            due,
            request: None,
            kill: None,
            processor: None,
            processor_time: None,
            is_running: false,
            generation: fork_state::generation(),
        }
    }

    /// From now on no call may use more processor time than this.
    pub fn limit_processor_time(&mut self, time: Duration) {
        self.processor_time = Some(time);
    }

    /// Whether a call with this limit is to be timed at all.
    pub fn is_needed(&self, limit: Limit) -> bool {
        limit.is_some() || self.processor_time.is_some()
    }

    /// Begins to time a call: it gets [`request_signal`] after `soft_ms`, and this process is killed after `hard_ms`.
    ///
    /// # Errors
    /// When the kernel has no room for a timer. Then nothing is timed.
    pub fn start(&mut self, limit: Limit) -> io::Result<()> {
        self.is_running = true;
        let started = self.start_all(limit);
        if started.is_err() {
            self.stop();
        }
        started
    }

    fn start_all(&mut self, limit: Limit) -> io::Result<()> {
        let soft = Duration::from_millis(limit.soft_ms.into());
        let hard = Duration::from_millis(limit.hard_ms.into());
        if let Some(time) = self.processor_time {
            made(&mut self.processor, Clock::Processor, PROCESSOR_TIME)?.set(time)?;
        }
        if limit.hard_ms > 0 {
            let kill = made(&mut self.kill, Clock::Monotonic, KILL)?;
            self.due.set(now_ns() + hard.as_nanos() as u64);
            kill.set(hard)?;
        }
        if limit.soft_ms > 0 {
            made(&mut self.request, Clock::Monotonic, request_signal())?.set(soft)?;
        }
        Ok(())
    }

    /// The call has ended.
    pub fn stop(&mut self) {
        // A child that the call forked, and that came back from it, has neither the timers nor the mailbox.
        if !std::mem::take(&mut self.is_running) || self.generation != fork_state::generation() {
            return;
        }
        for timer in [&self.request, &self.kill, &self.processor]
            .into_iter()
            .flatten()
        {
            // It cannot fail: the timer is there, and zero is a time.
            let _ = timer.set(Duration::ZERO);
        }
        self.due.set(0);
    }
}

/// The timer in `place`, made if there is none yet.
fn made(place: &mut Option<Timer>, clock: Clock, signal: i32) -> io::Result<&Timer> {
    if place.is_none() {
        *place = Some(Timer::new(clock, signal)?);
    }
    place
        .as_ref()
        .ok_or_else(|| io::Error::other("the timer that was just made is gone"))
}
