//! The clerk: hands a pool's workers the descriptors that their tasks need.
//!
//! A task's bytes go through a worker's mailbox, which is memory and carries no descriptors. So what a
//! task has of them stays on a shelf of the parent's under a number that goes with the bytes, and the
//! worker that begins the task asks for it, with a socket of its own for the answer.
//! Always: a parcel is on the shelf until its task is settled, so that a task which is run again finds
//! it once more; a worker that is killed while it asks leaves a closed socket and nothing else; a
//! pool whose tasks have no descriptors has no thread for this.
//! Not here: what the descriptors are of (`parcel`), when a task is settled (`engine`).

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use manyhands_os::fd::EventFd;
use manyhands_os::signal::Blocked;
use manyhands_os::{packet, poll};

use super::lock;
use crate::error::Error;
use crate::parcel::{Handle, Parcel};

/// The first byte of an answer.
const HERE: u8 = 1;
const NOT_HERE: u8 = 0;

/// A pool's counter, with its shelf and, once it is needed, the thread behind it.
pub(super) struct Clerk {
    shelf: Arc<Shelf>,
    /// Where workers ask.
    counter: Arc<OwnedFd>,
    /// Where the clerk hears them, and what ends it; handed to its thread.
    post: Mutex<Post>,
}

enum Post {
    Vacant(OwnedFd),
    Taken {
        stop: Arc<EventFd>,
        thread: JoinHandle<()>,
    },
    /// Between the two, and after the end.
    Closed,
}

/// The parcels of tasks that are not settled.
#[derive(Default)]
struct Shelf {
    next: AtomicU64,
    parcels: Mutex<HashMap<u64, Vec<Handle>>>,
}

/// A place on the shelf, cleared when this is dropped.
pub(super) struct Kept {
    shelf: Arc<Shelf>,
    number: u64,
}

impl Kept {
    /// What the worker asks for it by.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let parcel = lock(&self.shelf.parcels).remove(&self.number);
        drop(parcel); // without the lock: perhaps it is the last that has a descriptor
    }
}

impl Clerk {
    pub(super) fn new() -> io::Result<Self> {
        let (counter, ear) = packet::pair()?;
        Ok(Self {
            shelf: Arc::default(),
            counter: Arc::new(counter),
            post: Mutex::new(Post::Vacant(ear)),
        })
    }

    /// The end that every worker has.
    pub(super) fn counter(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.counter)
    }

    /// Puts a task's descriptors on the shelf, if it has any.
    pub(super) fn keep(&self, parcel: &mut Parcel) -> Result<Option<Kept>, Error> {
        if parcel.fds.is_empty() {
            return Ok(None);
        }
        self.begin().map_err(Error::system(
            "start the thread that hands workers their descriptors",
        ))?;
        let number = self.shelf.next.fetch_add(1, Relaxed);
        lock(&self.shelf.parcels).insert(number, std::mem::take(&mut parcel.fds));
        Ok(Some(Kept {
            shelf: Arc::clone(&self.shelf),
            number,
        }))
    }

    /// Starts the thread, unless it runs.
    fn begin(&self) -> io::Result<()> {
        let mut post = lock(&self.post);
        let Post::Vacant(ear) = &*post else {
            return Ok(());
        };
        let ear = ear.try_clone()?;
        let stop = Arc::new(EventFd::new()?);
        let (shelf, stopped) = (Arc::clone(&self.shelf), Arc::clone(&stop));
        // Signals are for the program's own threads.
        let _blocked = Blocked::new();
        let thread = std::thread::Builder::new()
            .name("pool clerk".to_owned())
            .stack_size(128 << 10)
            .spawn(move || shelf.serve(ear.as_fd(), stopped.as_fd()))?;
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

impl Shelf {
    /// Answers workers until it is stopped.
    fn serve(&self, ear: BorrowedFd<'_>, stop: BorrowedFd<'_>) {
        loop {
            match poll::readable(&[ear, stop], None) {
                Ok(ready) if ready[1] => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            }
            let mut number = [0; 8];
            match packet::recv(ear, &mut number) {
                Ok(Some((8, fds))) => self.answer(u64::from_le_bytes(number), &fds),
                Ok(None) => return,
                // No question of ours, or descriptors ran out: the worker sees its socket closed.
                Ok(Some(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
            }
        }
    }

    fn answer(&self, number: u64, to: &[OwnedFd]) {
        let [to] = to else {
            return;
        };
        let parcel = lock(&self.parcels).get(&number).cloned();
        let fds = parcel.iter().flatten().map(|fd| fd.as_fd());
        let said = if parcel.is_some() { HERE } else { NOT_HERE };
        // The socket is new, so there is room; its worker may be gone.
        let _ = packet::send(to.as_fd(), &[&[said]], &fds.collect::<Vec<_>>());
    }
}

/// Asks for the descriptors of a task, in a worker.
pub(super) fn ask(counter: BorrowedFd<'_>, number: u64) -> io::Result<Vec<OwnedFd>> {
    let (ours, theirs) = packet::pair()?;
    loop {
        match packet::send(counter, &[&number.to_le_bytes()], &[theirs.as_fd()]) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                retried(|| poll::writable(counter, None))?;
            }
            Err(error) => return Err(error),
        }
    }
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
