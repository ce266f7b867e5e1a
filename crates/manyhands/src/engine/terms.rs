//! What may be asked of the engine beyond an answer: another try, a time limit.
//!
//! Always: what nobody asked for costs nothing.
//! Not here: how a limit is kept (`stopwatch`), what a death costs (`supervise`).

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// What holds for each task of a pool, or of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How often a task is run again whose worker died.
    pub retries: u32,
    /// How long a call may take.
    pub limit: Limit,
    /// Tasks with a higher one are begun before those with a lower one; 0 is the usual.
    pub priority: i32,
}

/// How long one call may take, in milliseconds; 0 is without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// After this it is asked to end, if the face can do that.
    pub soft_ms: u32,
    /// After this its worker is killed.
    pub hard_ms: u32,
}

impl Limit {
    /// A limit in whole milliseconds, rounded up. More than 49 days is no limit.
    pub fn new(soft: Option<Duration>, hard: Option<Duration>) -> Self {
        let ms = |time: Option<Duration>| match time {
            Some(time) => u32::try_from(time.as_nanos().div_ceil(1_000_000).max(1)).unwrap_or(0),
            None => 0,
        };
        Self {
            soft_ms: ms(soft),
            hard_ms: ms(hard),
        }
    }

    /// Whether there is any.
    pub fn is_some(self) -> bool {
        self != Self::default()
    }

    pub(super) fn packed(self) -> u64 {
        u64::from(self.soft_ms) << 32 | u64::from(self.hard_ms)
    }

    pub(super) fn unpacked(word: u64) -> Self {
        Self {
            soft_ms: (word >> 32) as u32,
            hard_ms: word as u32,
        }
    }
}

/// Why a worker died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// Whatever its exit status says.
    #[default]
    Unknown,
    /// Its call took longer than it was allowed.
    TimeLimit,
    /// The kernel ended it because memory ran out.
    OutOfMemory,
}

/// How many workers may die in how short a time before the pool gives up, as supervisors in Erlang do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxRestarts {
    /// So many are replaced; with the next death the pool gives up.
    pub restarts: usize,
    /// Within this time.
    pub within: Duration,
}

impl fmt::Display for MaxRestarts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.within.as_secs_f64();
        write!(f, "{} in {seconds} s", self.restarts)
    }
}

/// The deaths of late.
#[derive(Debug, Default)]
pub(super) struct Deaths(VecDeque<Instant>);

impl Deaths {
    /// Notes one. `true`: that was one too many.
    pub(super) fn note(&mut self, most: MaxRestarts) -> bool {
        let now = Instant::now();
        self.0.push_back(now);
        while let Some(first) = self.0.front()
            && now.duration_since(*first) > most.within
        {
            self.0.pop_front();
        }
        self.0.len() > most.restarts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_survives_its_word() {
        for (soft, hard) in [(0, 0), (1, 2), (u32::MAX, 0), (0, u32::MAX), (1500, 2500)] {
            let limit = Limit {
                soft_ms: soft,
                hard_ms: hard,
            };
            assert_eq!(Limit::unpacked(limit.packed()), limit);
            assert_eq!(limit.is_some(), (soft, hard) != (0, 0));
        }
    }

    #[test]
    fn a_limit_is_a_millisecond_at_least_and_none_beyond_what_a_number_can_say() {
        let tiny = Some(Duration::from_nanos(1));
        let huge = Some(Duration::MAX);
        let limit = Limit::new(tiny, huge);
        assert_eq!((limit.soft_ms, limit.hard_ms), (1, 0));
        assert!(!Limit::new(None, None).is_some());
    }

    #[test]
    fn deaths_count_only_for_a_while() {
        let most = MaxRestarts {
            restarts: 2,
            within: Duration::from_millis(200),
        };
        let mut deaths = Deaths::default();
        assert!(!deaths.note(most));
        assert!(!deaths.note(most));
        std::thread::sleep(Duration::from_millis(250));
        assert!(!deaths.note(most));
        assert!(!deaths.note(most));
        assert!(deaths.note(most));
    }
}
