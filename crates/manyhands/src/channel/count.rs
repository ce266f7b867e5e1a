//! How many messages of a channel are on their way.
//!
//! Each message has a number. Senders take turns, under a lock that knows its owner, and note the last
//! number that was sent; receivers note the last that was taken; as messages are taken in order, the
//! difference is how many wait. Who is killed before its note was made
//! leaves a difference that the next message which is taken sets right, and so does whoever finds that
//! nothing is there: what was sent before he looked has been taken. Until then there may be room for one less.
//!
//! Always: no count is believed when the kernel says that nothing is unread.
//! Not here: sending and receiving (`channel`).

use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Duration;

use manyhands_shm::sync::Kind;

use crate::error::Error;
use crate::sync::{self, Lock, Place};

/// How many messages are on their way: see the module.
#[derive(Clone)]
pub(super) struct Count {
    /// The senders' turn; its memo is the last number that was sent.
    pub(super) turn: Lock,
    /// Changes when there is room; its memo is the last number that was taken, its bound the capacity.
    pub(super) room: Arc<Place>,
}

impl Count {
    /// Of a channel on which nothing is.
    pub(super) fn new(capacity: u32) -> Result<Self, Error> {
        Ok(Self {
            turn: Lock::new()?,
            room: Place::make("channel", Kind::Event, 0, capacity)?,
        })
    }

    pub(super) fn capacity(&self) -> usize {
        self.room.bound as usize
    }

    pub(super) fn sent(&self) -> &AtomicU64 {
        self.turn.memo()
    }

    pub(super) fn taken(&self) -> &AtomicU64 {
        self.room.board().memo(self.room.cell)
    }

    pub(super) fn waiting(&self) -> u64 {
        let taken = self.taken().load(Acquire); // pairs with `took`
        self.sent().load(Relaxed).saturating_sub(taken)
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting() >= u64::from(self.room.bound)
    }

    /// A message was taken.
    pub(super) fn took(&self, number: u64) {
        self.taken().fetch_max(number, Release); // pairs with the load in `waiting`
        sync::set_event(&self.room);
    }

    /// Nothing was there, though so many had been sent before: all of them were taken.
    pub(super) fn took_all(&self, sent: u64) {
        if self.taken().load(Relaxed) < sent {
            self.took(sent);
        }
    }

    /// Sleeps until something was taken, while it is full.
    pub(super) fn wait_for_room(&self, limit: Duration) {
        sync::await_event(&self.room, || !self.is_full(), limit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Receiver, Sender, channel, wire};
    use super::*;
    use std::os::fd::AsFd;

    /// Takes a message as one does who is killed before it has said so.
    fn take_uncounted(receiver: &Receiver<u64>) {
        let came = wire::receive(receiver.socket.as_fd()).unwrap();
        assert!(matches!(came, wire::Came::Message(_)));
    }

    fn fill(sender: &Sender<u64>) {
        for n in 0..sender.capacity() as u64 {
            sender.try_send(n).unwrap();
        }
        assert!(matches!(sender.try_send(7).unwrap_err().error, Error::Full));
    }

    #[test]
    fn a_receiver_that_finds_nothing_sets_the_count_right() {
        let (sender, receiver) = channel(4).unwrap();
        fill(&sender);
        (0..4).for_each(|_| take_uncounted(&receiver));
        assert_eq!(receiver.len(), 4);
        assert_eq!(receiver.try_recv().unwrap(), None);
        assert_eq!(receiver.len(), 0);
        fill(&sender);
    }

    #[test]
    fn a_sender_that_finds_nothing_unread_sets_the_count_right() {
        let (sender, receiver) = channel(4).unwrap();
        fill(&sender);
        (0..4).for_each(|_| take_uncounted(&receiver));
        fill(&sender);
    }

    #[test]
    fn the_next_message_that_is_taken_sets_the_count_right() {
        let (sender, receiver) = channel(4).unwrap();
        fill(&sender);
        (0..2).for_each(|_| take_uncounted(&receiver));
        assert_eq!(receiver.recv().unwrap(), 2);
        assert_eq!(receiver.len(), 1);
        // And so does one that was sent by somebody who was killed before he had counted it.
        sender.count.sent().fetch_sub(1, Relaxed);
        assert_eq!(receiver.recv().unwrap(), 3);
        fill(&sender);
    }
}
