//! The parts of a job: what came of each of its tasks, until somebody takes or decodes it.
//!
//! Always: a part is there once, in the order of the input or as it came, and never in both.
//! Not here: when a job is done (`job`), what its parts make of a value (`value`).

use std::collections::VecDeque;

use manyhands::engine::Outcome;
use pyo3::prelude::*;

use super::Kind;
use crate::answer::Pickled;

/// One part of a job, with its outcome.
pub(super) enum Part {
    Outcome(Outcome),
    /// It failed before it reached a worker.
    Raised(Py<PyAny>),
    /// An answer whose decoding failed, perhaps for no fault of its own.
    Pickled(Pickled),
    /// Values that were decoded before something else was in the way.
    List(Py<PyAny>),
}

impl Part {
    /// The bytes of the worker's answer; none of what is decoded.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Outcome(Outcome::Replied(reply)) => reply.size(),
            _ => 0,
        }
    }
}

/// What is known of a job so far.
#[derive(Default)]
pub(super) struct State {
    /// From part `base` on, until they are taken.
    pub(super) parts: VecDeque<Option<Part>>,
    pub(super) base: usize,
    /// Unordered values that were not taken yet.
    pub(super) arrivals: VecDeque<(u64, Part)>,
    pub(super) arrived: usize,
    /// How many parts there are, once that is known.
    pub(super) expected: Option<usize>,
    /// Index of the part that failed first.
    pub(super) failed: Option<u64>,
    /// Parts that were taken by a stream's reader.
    pub(super) taken: usize,
    /// Parts whose decoding was interrupted after they were taken.
    pub(super) returned: VecDeque<(u64, Part)>,
    /// Values of a part with several, not yet given out.
    pub(super) opened: VecDeque<Py<PyAny>>,
    /// The value, or the exception.
    pub(super) value: Option<Result<Py<PyAny>, Py<PyAny>>>,
    /// A thread is decoding the value, in the process of this generation.
    pub(super) decoding: Option<u64>,
    /// Parts of a list before this one were read ahead, or cannot be.
    pub(super) ahead: usize,
}

impl State {
    /// Whether the reader of a stream has something to take.
    pub(super) fn has_next(&self, kind: Kind) -> bool {
        !self.opened.is_empty()
            || !self.returned.is_empty()
            || self.expected == Some(self.taken)
            || match kind {
                Kind::Unordered => !self.arrivals.is_empty(),
                _ => self.parts.front().is_some_and(Option::is_some),
            }
    }
}
