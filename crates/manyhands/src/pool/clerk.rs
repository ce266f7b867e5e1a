//! The clerk: hands a pool's workers the descriptors that their tasks need, and takes those that their answers bring.
//!
//! A task's bytes go through a worker's mailbox, which is memory and carries no descriptors. So what a
//! task has of them stays on a shelf of the parent's under a number that goes with the bytes, and the
//! worker that begins the task asks for it, with a socket of its own for the answer. What an answer has of them the worker
//! hands in before it gives the answer.
//! Always: a parcel is on the shelf until its task is settled, so that a task which is run again finds
//! it once more; a worker that is killed while it asks leaves a closed socket and nothing else; a
//! pool whose tasks have no descriptors has no thread for this, and needs none for answers.
//! Not here: what lies on the shelf, for how long (`shelf`), what the descriptors are of (`parcel`), when a task is
//! settled (`engine`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use manyhands_os::fd::EventFd;
use manyhands_os::signal::Blocked;
use manyhands_os::{packet, poll};

use super::lock;
use super::shelf::{HERE, Kept, Mark, NOT_HERE, Shelf};
use crate::error::Error;
use crate::parcel::Parcel;

/// How long to leave the kernel alone when it has too much of something.
const PAUSE: Duration = Duration::from_millis(1);

/// A pool's counter, with its shelf and, once it is needed, the thread behind it.
pub(super) struct Clerk {
    shelf: Arc<Shelf>,
    /// Where workers ask and hand in.
    counter: Arc<OwnedFd>,
    post: Mutex<Post>,
}

/// Who stands behind the counter.
enum Post {
    Vacant,
    Taken {
        stop: Arc<EventFd>,
        thread: JoinHandle<()>,
    },
    /// Between the two, and after the end.
    Closed,
}

impl Clerk {
    pub(super) fn new() -> io::Result<Self> {
        let (counter, ear) = packet::pair()?;
        Ok(Self {
            shelf: Arc::new(Shelf::new(ear)),
            counter: Arc::new(counter),
            post: Mutex::new(Post::Vacant),
        })
    }

    /// The end that every worker has.
    pub(super) fn counter(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.counter)
    }

    /// The shelf, for as long as there is a pool.
    pub(super) fn shelf(&self) -> Weak<Shelf> {
        Arc::downgrade(&self.shelf)
    }

    /// Puts a task's descriptors on the shelf, if it has any.
    pub(super) fn keep(&self, parcel: &mut Parcel) -> Result<Option<Kept>, Error> {
        if parcel.fds.is_empty() {
            return Ok(None);
        }
        self.begin().map_err(Error::system(
            "start the thread that hands workers their descriptors",
        ))?;
        Ok(Some(self.shelf.keep(parcel)))
    }

    /// Starts the thread, unless it runs.
    fn begin(&self) -> io::Result<()> {
        let mut post = lock(&self.post);
        if !matches!(*post, Post::Vacant) {
            return Ok(());
        }
        let stop = Arc::new(EventFd::new()?);
        let (shelf, stopped) = (Arc::clone(&self.shelf), Arc::clone(&stop));
        // Signals are for the program's own threads.
        let _blocked = Blocked::new();
        let thread = std::thread::Builder::new()
            .name("pool clerk".to_owned())
            .stack_size(128 << 10)
            .spawn(move || serve(&shelf, stopped.as_fd()))?;
        *post = Post::Taken { stop, thread };
        Ok(())
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        let post = std::mem::replace(&mut *lock(&self.post), Post::Closed);
        if let Post::Taken { stop, thread } = post
            && stop.ring().is_ok()
        {
            let _ = thread.join();
        }
    }
}

/// Answers workers until it is stopped.
fn serve(shelf: &Shelf, stop: BorrowedFd<'_>) {
    loop {
        match poll::readable(&[shelf.ear(), stop], None) {
            Ok(ready) if ready[1] => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        }
        match shelf.hear() {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => std::thread::sleep(10 * PAUSE),
        }
    }
}

/// Asks for the descriptors of a task, in a worker.
pub(super) fn ask(counter: BorrowedFd<'_>, number: u64) -> io::Result<Vec<OwnedFd>> {
    let (ours, theirs) = packet::pair()?;
    say(counter, &number.to_le_bytes(), &[theirs.as_fd()])?;
    drop(theirs);
    let mut said = [NOT_HERE];
    loop {
        match packet::recv(ours.as_fd(), &mut said) {
            Ok(Some((_, fds))) if said[0] == HERE => return Ok(fds),
            Ok(_) => return Err(io::Error::other("the parent does not have them any more")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                retried(|| poll::readable(&[ours.as_fd()], None))?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Hands in the descriptors of an answer, in a worker that is about to give it.
pub(super) fn hand_in(
    counter: BorrowedFd<'_>,
    mark: Mark,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    say(counter, &mark.to_bytes(), fds)
}

fn say(counter: BorrowedFd<'_>, what: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut pause = Duration::ZERO;
    loop {
        match packet::send(counter, &[what], fds) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                retried(|| poll::writable(counter, None))?;
                // There is room, but too many descriptors are on their way already.
                std::thread::sleep(pause);
                pause = PAUSE;
            }
            Err(error) => return Err(error),
        }
    }
}

fn retried<T>(mut wait: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match wait() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Outcome, Received, Reply};
    use manyhands_os::fd::pipe;
    use std::io::{Read, Write};

    fn parcel() -> (std::fs::File, Parcel) {
        let (read, write) = pipe().unwrap();
        let fds = vec![Arc::new(write)];
        let buffers = Vec::new();
        (read.into(), Parcel { fds, buffers })
    }

    #[test]
    fn what_is_kept_is_handed_out_until_it_is_settled() {
        let clerk = Clerk::new().unwrap();
        let (mut read, mut parcel) = parcel();
        let kept = clerk.keep(&mut parcel).unwrap().unwrap();
        drop(parcel);
        for byte in [b"a", b"b"] {
            let fds = ask(clerk.counter().as_fd(), kept.number()).unwrap();
            let mut file = std::fs::File::from(fds.into_iter().next().unwrap());
            file.write_all(byte).unwrap();
        }
        let number = kept.number();
        drop(kept);
        let error = ask(clerk.counter().as_fd(), number).unwrap_err();
        assert!(error.to_string().contains("does not have them"), "{error}");
        let mut all = String::new();
        read.read_to_string(&mut all).unwrap(); // ends: nobody has the other end
        assert_eq!(all, "ab");
        clerk.close();
    }

    fn answered(mark: Mark) -> Outcome {
        Outcome::Replied(Reply {
            raised: false,
            mode: super::super::mode::PARCEL,
            bytes: Received::Copied([&b"value"[..], &mark.to_bytes()].concat()),
            buffers: Vec::new(),
            ran_ns: 0,
        })
    }

    #[test]
    fn what_was_handed_in_is_there_once_and_without_a_thread() {
        let clerk = Clerk::new().unwrap();
        let shelf = clerk.shelf().upgrade().unwrap();
        let (read, write) = pipe().unwrap();
        let marks = [7, 8].map(|number| Mark { pid: 42, number });
        for mark in marks {
            hand_in(clerk.counter().as_fd(), mark, &[write.as_fd(); 2]).unwrap();
        }
        drop(write);
        assert_eq!(shelf.fetch(&answered(marks[1])).len(), 2);
        assert!(shelf.fetch(&answered(marks[1])).is_empty());
        assert_eq!(shelf.fetch(&answered(marks[0])).len(), 2);
        // A dead worker's may still be fetched by a thread that has heard its answer.
        hand_in(clerk.counter().as_fd(), marks[0], &[read.as_fd()]).unwrap();
        shelf.bury(42);
        shelf.bury(43);
        assert_eq!(shelf.fetch(&answered(marks[0])).len(), 1);
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap(); // ends: nobody has the other end
    }

    #[test]
    fn a_question_that_makes_no_sense_ends_nothing() {
        let clerk = Clerk::new().unwrap();
        let (_read, mut parcel) = parcel();
        let kept = clerk.keep(&mut parcel).unwrap().unwrap();
        for nonsense in [&b"what"[..], b"is this all about"] {
            packet::send(clerk.counter.as_fd(), &[nonsense], &[]).unwrap();
        }
        packet::send(clerk.counter.as_fd(), &[&kept.number().to_le_bytes()], &[]).unwrap();
        assert_eq!(ask(clerk.counter.as_fd(), kept.number()).unwrap().len(), 1);
        clerk.close();
        clerk.close();
    }
}
