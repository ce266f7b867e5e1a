//! The one clock that durations are measured with: `CLOCK_MONOTONIC`, the same in every process of a boot.
//!
//! Always: it never goes back, and two processes' readings may be compared, which `std::time::Instant`
//! cannot express.

use std::time::Duration;

use rustix::fs::Timespec;

/// Nanoseconds on the monotonic clock.
pub fn now_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // libc's, not rustix's, which looks for the kernel's page itself and crashes under valgrind, where there is none.
    // SAFETY: a place for the answer, which outlives the call; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A wait longer than this is a wait without end: beyond it some system calls refuse the number.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The time-out as system calls take it: `None` is without end.
pub(crate) fn timespec(timeout: Option<Duration>) -> Option<Timespec> {
    let timeout = timeout.filter(|timeout| *timeout < FOREVER)?;
    Some(Timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: timeout.subsec_nanos().into(),
    })
}

/// A point in time to wait for, so that a wait that is resumed does not begin anew.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<u64>);

impl Deadline {
    /// `timeout` from now; without a time-out it never comes.
    pub fn after(timeout: Option<Duration>) -> Deadline {
        let timeout = timeout.filter(|timeout| *timeout < FOREVER);
        Deadline(timeout.map(|timeout| now_ns() + timeout.as_nanos() as u64))
    }

    /// What is left of it: `None` without a time-out, zero when it has passed.
    pub fn left(self) -> Option<Duration> {
        self.0
            .map(|at| Duration::from_nanos(at.saturating_sub(now_ns())))
    }

    /// What is left of it, `limit` at most: for one who looks around now and then while he waits.
    pub fn left_within(self, limit: Duration) -> Duration {
        self.left().map_or(limit, |left| left.min(limit))
    }

    /// Whether it has passed.
    pub fn passed(self) -> bool {
        self.0.is_some_and(|at| now_ns() >= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let mut last = now_ns();
        for _ in 0..10_000 {
            let now = now_ns();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn a_time_out_too_long_for_the_kernel_is_none() {
        assert!(timespec(Some(Duration::MAX)).is_none());
        assert!(Deadline::after(Some(Duration::MAX)).left().is_none());
        let short = timespec(Some(Duration::from_micros(1_500_001))).unwrap();
        assert_eq!((short.tv_sec, short.tv_nsec), (1, 500_001_000));
    }

    #[test]
    fn a_deadline_of_nothing_has_passed() {
        let deadline = Deadline::after(Some(Duration::ZERO));
        assert!(deadline.passed());
        assert_eq!(deadline.left(), Some(Duration::ZERO));
        assert!(!Deadline::after(None).passed());
        let second = Duration::from_secs(1);
        assert_eq!(deadline.left_within(second), Duration::ZERO);
        assert_eq!(Deadline::after(None).left_within(second), second);
    }
}
