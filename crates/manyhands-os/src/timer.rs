//! A timer of the kernel's own: after a time this process gets a signal, whatever it does by then.
//!
//! Always: a forked child has none of its parent's timers, and touches none.
//! Not here: what the signal does.

use std::io;
use std::mem::zeroed;
use std::ptr::null_mut;
use std::time::Duration;

use crate::error;
use crate::fork_state;

/// What a timer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Time, as it passes, a suspended machine left out.
    Monotonic,
    /// The processor time of this process, all threads together.
    Processor,
}

/// The signal of a real-time kind that asks a task to end: one that nobody else uses by convention.
pub fn request_signal() -> i32 {
    libc::SIGRTMAX() - 3
}

/// The signal that has a process say what it is doing.
pub fn stacks_signal() -> i32 {
    libc::SIGRTMAX() - 4
}

/// Sends this process a signal once the time that it was set to has passed.
#[derive(Debug)]
pub struct Timer {
    id: libc::timer_t,
    generation: u64,
}

// SAFETY: a timer is the process's, and the kernel's calls on it may come from any thread.
unsafe impl Send for Timer {}

impl Timer {
    /// A timer that is not set yet. Its signal comes to the calling thread, so that whatever that one waits for ends.
    ///
    /// # Errors
    /// When the kernel has no room for one more: it reserves a place for its signal (`RLIMIT_SIGPENDING`).
    pub fn new(clock: Clock, signal: i32) -> io::Result<Timer> {
        let clock = match clock {
            Clock::Monotonic => libc::CLOCK_MONOTONIC,
            Clock::Processor => libc::CLOCK_PROCESS_CPUTIME_ID,
        };
        // SAFETY: a struct of numbers and a union of a number and a pointer, for which zero is a value.
        let mut event: libc::sigevent = unsafe { zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
        event.sigev_signo = signal;
        let mut id: libc::timer_t = null_mut();
        // SAFETY: both structs are live; the kernel copies the first and writes the second.
        if unsafe { libc::timer_create(clock, &raw mut event, &raw mut id) } != 0 {
            return Err(error::advised(
                io::Error::last_os_error(),
                "could not make a timer for a time limit",
                "the user's queue of signals may be full (ulimit -i)",
            ));
        }
        Ok(Timer {
            id,
            generation: fork_state::generation(),
        })
    }

    /// Sets it: the signal comes once, after `time`. Zero stops it.
    pub fn set(&self, time: Duration) -> io::Result<()> {
        if self.generation != fork_state::generation() {
            return Ok(());
        }
        // SAFETY: a struct of numbers.
        let mut spec: libc::itimerspec = unsafe { zeroed() };
        // A time that the kernel cannot count is no limit.
        spec.it_value.tv_sec = time.as_secs().min(i64::MAX as u64 / 4) as libc::time_t;
        spec.it_value.tv_nsec = time.subsec_nanos() as libc::c_long;
        // SAFETY: the timer is ours until it is dropped, and the struct is live.
        match unsafe { libc::timer_settime(self.id, 0, &raw const spec, null_mut()) } {
            0 => Ok(()),
            _ => Err(error::context(
                io::Error::last_os_error(),
                "could not set the timer of a time limit",
            )),
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.generation == fork_state::generation() {
            // SAFETY: the timer is ours, and nobody uses it any more.
            unsafe { libc::timer_delete(self.id) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::thread::sleep;
    use std::time::Instant;

    static RUNG: [AtomicU32; 65] = [const { AtomicU32::new(0) }; 65];

    extern "C" fn note(signal: libc::c_int) {
        RUNG[signal as usize].fetch_add(1, SeqCst);
    }

    /// How often `signal` came; whichever thread it came to.
    fn counted(signal: i32) -> impl Fn() -> u32 {
        // SAFETY: the handler does nothing but add to a number.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
        move || RUNG[signal as usize].load(SeqCst)
    }

    fn until(goal: impl Fn() -> bool) -> Duration {
        let began = Instant::now();
        while !goal() {
            assert!(began.elapsed() < Duration::from_secs(30));
            std::hint::spin_loop();
        }
        began.elapsed()
    }

    #[test]
    fn a_timer_that_is_set_sends_its_signal_once_and_one_that_is_stopped_does_not() {
        let signal = request_signal();
        let came = counted(signal);
        let timer = Timer::new(Clock::Monotonic, signal).unwrap();
        sleep(Duration::from_millis(20));
        assert_eq!(came(), 0);
        timer.set(Duration::from_millis(30)).unwrap();
        let took = until(|| came() == 1);
        assert!(took >= Duration::from_millis(20), "{took:?}");
        timer.set(Duration::from_millis(30)).unwrap();
        timer.set(Duration::ZERO).unwrap();
        sleep(Duration::from_millis(100));
        assert_eq!(came(), 1);
        timer.set(Duration::from_millis(30)).unwrap();
        drop(timer);
        sleep(Duration::from_millis(100));
        assert_eq!(came(), 1);
    }

    #[test]
    fn processor_time_does_not_pass_while_the_process_sleeps() {
        let came = counted(libc::SIGXCPU);
        let timer = Timer::new(Clock::Processor, libc::SIGXCPU).unwrap();
        timer.set(Duration::from_secs(1)).unwrap();
        sleep(Duration::from_millis(100));
        assert_eq!(came(), 0);
        until(|| came() == 1);
    }
}
