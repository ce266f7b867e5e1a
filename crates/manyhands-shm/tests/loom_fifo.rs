//! Models of the ring that many share: locks, a pipe for the notes, and who waits for it. A lost note leaves the reader
//! blocked, which loom reports as a deadlock.
#![cfg(loom)]

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use manyhands_shm::fifo::{Fifo, Next, Past};
use manyhands_shm::model;
use std::collections::VecDeque;

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// What is in the pipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sent {
    Note,
    Frame(u8),
}

struct Queue {
    fifo: Fifo,
    writers: Mutex<()>,
    pipe: Mutex<VecDeque<Sent>>,
    sent: Condvar,
}

impl Queue {
    fn new() -> Arc<Queue> {
        Arc::new(Queue {
            fifo: model::fifo(256),
            writers: Mutex::new(()),
            pipe: Mutex::new(VecDeque::new()),
            sent: Condvar::new(),
        })
    }

    fn send(&self, what: Sent) {
        self.pipe.lock().unwrap().push_back(what);
        self.sent.notify_one();
    }

    fn put(&self, item: u8) {
        let _turn = self.writers.lock().unwrap();
        // SAFETY: the lock is held.
        let mut writer = unsafe { self.fifo.writer() }.unwrap();
        assert!(writer.push(&[&[item]]), "there is room");
        let told = writer.publish(
            || Ok::<_, ()>(Past::Something),
            || {
                self.send(Sent::Note);
                Ok(())
            },
        );
        told.unwrap();
    }

    fn put_past(&self, item: u8) {
        let _turn = self.writers.lock().unwrap();
        self.send(Sent::Frame(item));
        // SAFETY: the lock is held.
        assert!(unsafe { self.fifo.writer() }.unwrap().mark());
    }

    fn take_from_pipe(&self) -> Option<Sent> {
        self.pipe.lock().unwrap().pop_front()
    }

    /// Takes what is there, by the rules of a reader; there is one.
    fn get_now(&self) -> Option<u8> {
        loop {
            let front = self.pipe.lock().unwrap().front().copied();
            match front {
                None => return None,
                Some(Sent::Frame(item)) => {
                    assert_eq!(self.take_from_pipe(), front);
                    return Some(item);
                }
                Some(Sent::Note) => {}
            }
            // SAFETY: nobody else reads.
            let mut reader = unsafe { self.fifo.reader() }.unwrap();
            match reader.look().unwrap() {
                Next::Item(item) => {
                    let value = reader.payload(&item)[0];
                    if reader.is_last(&item) {
                        // Not only if it is free: who has put this one may not have given it back yet.
                        let _turn = self.writers.lock().unwrap();
                        // SAFETY: both ends are ours.
                        if unsafe { reader.is_drained(Some(&item)) } {
                            assert_eq!(self.take_from_pipe(), Some(Sent::Note));
                        }
                    }
                    let _ = reader.pass(item);
                    return Some(value);
                }
                Next::Mark => assert_eq!(self.take_from_pipe(), Some(Sent::Note)),
                Next::Nothing => {
                    let stray = reader.is_stray();
                    assert!(!stray, "nobody was killed");
                    let _turn = self.writers.lock().unwrap();
                    // SAFETY: both ends are ours.
                    if unsafe { reader.is_drained(None) } {
                        assert_eq!(self.take_from_pipe(), Some(Sent::Note));
                    }
                }
            }
        }
    }

    fn get(&self) -> u8 {
        loop {
            if let Some(item) = self.get_now() {
                return item;
            }
            let mut pipe = self.pipe.lock().unwrap();
            while pipe.is_empty() {
                pipe = self.sent.wait(pipe).unwrap();
            }
        }
    }
}

#[test]
fn every_item_is_told_of_and_no_note_stays() {
    explore(3, || {
        let queue = Queue::new();
        let writers: Vec<_> = [1, 2]
            .map(|item| {
                let queue = queue.clone();
                thread::spawn(move || queue.put(item))
            })
            .into();
        let mut got = [queue.get(), queue.get()];
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        assert_eq!(
            queue.take_from_pipe(),
            None,
            "whoever waits for the pipe waits"
        );
        for writer in writers {
            writer.join().unwrap();
        }
    });
}

#[test]
fn what_is_sent_past_the_ring_comes_in_its_turn() {
    explore(3, || {
        let queue = Queue::new();
        let writer = {
            let queue = queue.clone();
            thread::spawn(move || {
                queue.put(1);
                queue.put_past(2);
                queue.put(3);
            })
        };
        assert_eq!([queue.get(), queue.get(), queue.get()], [1, 2, 3]);
        assert_eq!(queue.take_from_pipe(), None);
        writer.join().unwrap();
    });
}

/// A word of loom's, so that a sleeper on it can be modelled by looking again: a wake that never comes is a test that
/// never ends, which loom reports.
#[test]
fn who_waits_for_room_is_woken_or_sees_it() {
    explore(3, || {
        let queue = Queue::new();
        for item in 0..3 {
            queue.put(item);
        }
        let woken = Arc::new((Mutex::new(false), Condvar::new()));
        let reader = {
            let (queue, woken) = (queue.clone(), woken.clone());
            thread::spawn(move || {
                // SAFETY: nobody else reads.
                let mut reader = unsafe { queue.fifo.reader() }.unwrap();
                while let Next::Item(item) = reader.look().unwrap() {
                    if reader.pass(item) {
                        *woken.0.lock().unwrap() = true;
                        woken.1.notify_one();
                    }
                }
            })
        };
        queue.fifo.await_room(1);
        // SAFETY: nobody else writes.
        let found = unsafe { queue.fifo.writer() }.unwrap().push(&[&[9]]);
        if !found {
            let mut rung = woken.0.lock().unwrap();
            while !*rung {
                rung = woken.1.wait(rung).unwrap();
            }
        }
        reader.join().unwrap();
    });
}
