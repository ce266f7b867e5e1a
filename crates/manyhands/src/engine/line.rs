//! The line of tasks that wait for a worker.
//!
//! Always: those of a higher priority stand before those of a lower one, and those of one priority in the order in
//! which they came; what comes back from a worker stands before its like.

use std::collections::VecDeque;

use super::task::Task;

/// What a task is worth against others: higher ones go first.
pub(super) fn rank(task: &Task) -> i32 {
    task.job.terms().map_or(0, |terms| terms.priority)
}

#[derive(Default)]
pub(super) struct Line {
    tasks: VecDeque<Task>,
    /// Some of these may differ in rank.
    mixed: bool,
}

impl Line {
    /// Puts a task behind its like.
    pub(super) fn push_back(&mut self, task: Task) {
        let rank_of_it = rank(&task);
        if self.note(rank_of_it) {
            let at = self
                .tasks
                .partition_point(|other| rank(other) >= rank_of_it);
            self.tasks.insert(at, task);
        } else {
            self.tasks.push_back(task);
        }
    }

    /// Puts a task before its like.
    pub(super) fn push_front(&mut self, task: Task) {
        let rank_of_it = rank(&task);
        if self.note(rank_of_it) {
            let at = self.tasks.partition_point(|other| rank(other) > rank_of_it);
            self.tasks.insert(at, task);
        } else {
            self.tasks.push_front(task);
        }
    }

    /// Whether a task of this rank has to look for its place.
    fn note(&mut self, rank_of_it: i32) -> bool {
        match self.tasks.front() {
            None => self.mixed = false,
            Some(first) => self.mixed |= rank(first) != rank_of_it,
        }
        self.mixed
    }

    pub(super) fn pop_front(&mut self) -> Option<Task> {
        self.tasks.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The rank of the first; `None`: nobody waits.
    pub(super) fn first_rank(&self) -> Option<i32> {
        self.tasks.front().map(rank)
    }

    /// Takes the first out that `is_meant` says yes to.
    pub(super) fn take_first(&mut self, is_meant: impl Fn(&Task) -> bool) -> Option<Task> {
        let at = self.tasks.iter().position(is_meant)?;
        self.tasks.remove(at)
    }

    /// Takes all out that `is_meant` says yes to.
    pub(super) fn take_all(&mut self, is_meant: impl Fn(&Task) -> bool) -> VecDeque<Task> {
        let (taken, left) = std::mem::take(&mut self.tasks)
            .into_iter()
            .partition(is_meant);
        self.tasks = left;
        taken
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Task> + '_ {
        self.tasks.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::task::{Job, News, Outcome, Payload};
    use super::super::terms::Terms;
    use super::*;

    struct Ranked(i32);

    impl Job for Ranked {
        fn settle(&self, _: u64, _: Outcome) -> News {
            News::None
        }

        fn terms(&self) -> Option<Terms> {
            Some(Terms {
                priority: self.0,
                ..Terms::default()
            })
        }
    }

    fn task(priority: i32, index: u64) -> Task {
        Task {
            job: Arc::new(Ranked(priority)),
            index,
            function: None,
            mode: 0,
            payload: Payload::default(),
            losses: 0,
        }
    }

    fn order(line: &mut Line) -> Vec<(i32, u64)> {
        line.drain().map(|task| (rank(&task), task.index)).collect()
    }

    #[test]
    fn higher_ones_stand_before_lower_ones_and_equals_in_their_order() {
        let mut line = Line::default();
        for (index, priority) in [0, 0, 5, -1, 5, 0].into_iter().enumerate() {
            line.push_back(task(priority, index as u64));
        }
        line.push_front(task(0, 6));
        line.push_front(task(5, 7));
        assert_eq!(line.first_rank(), Some(5));
        let expected = [
            (5, 7),
            (5, 2),
            (5, 4),
            (0, 6),
            (0, 0),
            (0, 1),
            (0, 5),
            (-1, 3),
        ];
        assert_eq!(order(&mut line), expected);
    }

    #[test]
    fn a_line_of_equals_is_first_in_first_out() {
        let mut line = Line::default();
        line.push_back(task(3, 1));
        line.push_back(task(3, 2));
        line.push_front(task(3, 0));
        assert_eq!(order(&mut line), [(3, 0), (3, 1), (3, 2)]);
        assert_eq!(line.first_rank(), None);
    }

    #[test]
    fn what_is_taken_out_leaves_the_order() {
        let mut line = Line::default();
        for (index, priority) in [1, 2, 1, 2, 1].into_iter().enumerate() {
            line.push_back(task(priority, index as u64));
        }
        assert!(line.take_first(|task| task.index == 0).is_some());
        assert!(line.take_first(|task| task.index == 9).is_none());
        assert_eq!(line.take_all(|task| task.index == 3).len(), 1);
        assert_eq!(order(&mut line), [(2, 1), (1, 2), (1, 4)]);
    }
}
