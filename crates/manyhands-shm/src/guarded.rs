//! Numbers in shared memory that are plain memory to one thread of one process at a time: the one that holds their lock.
//!
//! The lock lies in the same memory as the numbers, in front of them. So there is no second lock for them and
//! no second way to them, whatever is made of the descriptor: it is [`Exclusive`], which nothing else takes for its own.
//! Always: a `Held` is made by the very exchange that took the lock, and gone before the lock is free; the lock is
//! freed without it only when no thread of its holder runs any more. A holder that is killed leaves numbers, of which any
//! bytes are one, perhaps half changed.
//! Not here: sleeping and waking, who is told of a dead holder.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};
use std::os::fd::{BorrowedFd, OwnedFd};

use manyhands_os::fork_state;
use manyhands_os::identity::{self, Life};
use manyhands_os::memory::Exclusive;

use crate::atomics::Ordering::{Acquire, Relaxed, Release};
use crate::atomics::{AtomicU32, AtomicU64};
use crate::scalars::Scalar;
use crate::sync::{Holder, Lock, LockWait, Step, View, Wait};

/// "mh-guard" in ASCII, read as a little-endian number.
const MAGIC: u64 = u64::from_le_bytes(*b"mh-guard");

/// What lies in front of the numbers.
#[repr(C, align(64))]
struct Header {
    magic: AtomicU64,
    view: AtomicU64,
    /// Bytes of a number.
    size: AtomicU32,
    word: AtomicU32,
    thread: AtomicU32,
    depth: AtomicU32,
}

/// A cache line, so that the numbers are aligned as any of them needs it.
const HEADER: usize = 64;
const _: () = assert!(size_of::<Header>() == HEADER && offset_of!(Header, depth) == 28);

/// Such numbers, mapped here.
pub struct Guarded<T> {
    memory: Exclusive,
    /// One more than the generation in which this process said what its number comes from.
    introduced: AtomicU64,
    scalar: PhantomData<fn() -> T>,
}

impl<T: Scalar> Guarded<T> {
    /// So many numbers, all zero, and the descriptor that they are passed on as.
    pub fn create(name: &str, len: usize) -> io::Result<(Self, OwnedFd)> {
        let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
        let (memory, fd) = Exclusive::create(name, bytes.saturating_add(HEADER as u64))?;
        let new = Self::over(memory);
        new.header().size.store(size_of::<T>() as u32, Relaxed);
        new.header().magic.store(MAGIC, Release); // pairs with the load in `attach`
        Ok((new, fd))
    }

    /// Those that another process made and passed on.
    pub fn attach(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let memory = Exclusive::of(fd)?;
        let refused = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let numbers = memory.len().checked_sub(HEADER);
        if numbers.is_none_or(|bytes| !bytes.is_multiple_of(size_of::<T>())) {
            return Err(refused("its length is not that of such numbers"));
        }
        let found = Self::over(memory);
        let header = found.header();
        // Acquire pairs with the store in `create`.
        if header.magic.load(Acquire) != MAGIC || header.size.load(Relaxed) != size_of::<T>() as u32
        {
            return Err(refused("its numbers are others than it says"));
        }
        Ok(found)
    }

    fn over(memory: Exclusive) -> Self {
        Self {
            memory,
            introduced: AtomicU64::new(0),
            scalar: PhantomData,
        }
    }

    fn header(&self) -> &Header {
        // SAFETY: `create` and `attach` see to it that the memory is as long as a header at least; it begins at a page,
        // is mapped as long as `self` is, and its first bytes are these atomics to everybody, of which any bytes are a value.
        unsafe { self.memory.base().cast::<Header>().as_ref() }
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        (self.memory.len() - HEADER) / size_of::<T>()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> Lock<'_> {
        let header = self.header();
        Lock::new(&header.word, &header.thread, &header.depth)
    }

    fn view(&self) -> View<'_> {
        View(&self.header().view)
    }

    /// The calling thread, as the lock knows it.
    fn me(&self) -> Holder {
        let now = fork_state::generation() + 1;
        if self.introduced.load(Relaxed) != now {
            match identity::view() {
                0 => {} // nobody tells anything of a process without one
                view => self.view().seen_from(view),
            }
            self.introduced.store(now, Relaxed);
        }
        let (process, thread) = identity::process_and_thread();
        Holder { process, thread }
    }

    /// Takes the lock if it is free.
    pub fn try_take(&self) -> Option<Held<'_, T>> {
        let me = self.me();
        self.lock().try_acquire(me).then(|| Held::new(self, me))
    }

    /// The wait for a lock that was not free.
    pub fn wait(&self) -> Attempt<'_, T> {
        let me = self.me();
        Attempt {
            wait: self.lock().wait(me),
            of: self,
            me,
            took: Cell::new(false),
        }
    }

    /// Whether the calling thread holds it.
    pub fn is_mine(&self) -> bool {
        self.lock().is_mine(self.me())
    }

    /// The identity of the process that holds it, 0 if it is free.
    pub fn holder(&self) -> u32 {
        self.lock().holder()
    }

    /// Frees the lock if the process that holds it has ended for certain; who that was. The caller wakes one.
    pub fn free_of_the_dead(&self) -> Option<u32> {
        let holder = self.holder();
        let is_dead = holder != 0 && self.view().is_one() && identity::life(holder) == Life::Dead;
        (is_dead && self.lock().free_of(holder)).then_some(holder)
    }

    /// The word that waiters sleep on: to be slept on and woken, nothing else.
    pub fn word(&self) -> &AtomicU32 {
        &self.header().word
    }
}

/// A wait for the lock. What it took and nobody fetched it gives back.
pub struct Attempt<'a, T: Scalar> {
    wait: LockWait<'a>,
    of: &'a Guarded<T>,
    me: Holder,
    took: Cell<bool>,
}

impl<'a, T: Scalar> Attempt<'a, T> {
    /// What it waited for, if a step said that it is there.
    pub fn held(&self) -> Option<Held<'a, T>> {
        self.took.take().then(|| Held::new(self.of, self.me))
    }
}

impl<T: Scalar> Wait for Attempt<'_, T> {
    fn word(&self) -> &AtomicU32 {
        self.wait.word()
    }

    fn is_near(&self) -> bool {
        self.wait.is_near()
    }

    fn step(&self) -> Step {
        let step = self.wait.step();
        if !matches!(step, Step::Sleep(_)) {
            self.took.set(true);
        }
        step
    }

    fn give_up(&self) -> bool {
        self.wait.give_up()
    }
}

impl<T: Scalar> Drop for Attempt<'_, T> {
    fn drop(&mut self) {
        drop(self.held());
    }
}

/// The numbers, while their lock is held: plain memory of the thread that took it.
pub struct Held<'a, T: Scalar> {
    of: &'a Guarded<T>,
    me: Holder,
    generation: u64,
    /// A lock knows the thread that holds it.
    thread: PhantomData<*const ()>,
}

impl<'a, T: Scalar> Held<'a, T> {
    /// Only with the lock just taken by `me`.
    fn new(of: &'a Guarded<T>, me: Holder) -> Self {
        Self {
            of,
            me,
            generation: fork_state::generation(),
            thread: PhantomData,
        }
    }

    /// Gives the lock back. True: the caller wakes one.
    pub fn give_back(self) -> bool {
        let wakes = self.free();
        std::mem::forget(self);
        wakes
    }

    fn free(&self) -> bool {
        let lock = self.of.lock();
        // A forked child has a copy of this, and nothing to give back.
        let is_ours = self.generation == fork_state::generation() && lock.is_mine(self.me);
        is_ours && lock.release() == Ok(true)
    }
}

impl<T: Scalar> Deref for Held<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let base = self.of.memory.base().as_ptr();
        // SAFETY: the numbers begin behind the header, aligned for each of them, and are as many as fit into the mapping,
        // which `self` keeps. Any bytes are one (the trait is sealed: integers and floats). Nobody writes to them: the lock is ours
        // until `self` is gone, it lies in the same memory, and that is `Exclusive`: whoever maps it does so as this.
        unsafe { core::slice::from_raw_parts(base.add(HEADER).cast::<T>(), self.of.len()) }
    }
}

impl<T: Scalar> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let base = self.of.memory.base().as_ptr();
        // SAFETY: as in `deref`; and nobody reads them either, `self` being borrowed for as long.
        unsafe { core::slice::from_raw_parts_mut(base.add(HEADER).cast::<T>(), self.of.len()) }
    }
}

impl<T: Scalar> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.free(); // who sleeps looks again after a while
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalars::Words;
    use manyhands_os::memory::Memfd;
    use std::os::fd::AsFd;

    #[test]
    fn two_mappings_of_one_memory_have_one_lock() {
        let (ours, fd) = Guarded::<u32>::create("test", 3).unwrap();
        let theirs = Guarded::<u32>::attach(fd.as_fd()).unwrap();
        let mut held = ours.try_take().unwrap();
        held.copy_from_slice(&[1, 2, 3]);
        assert!(theirs.is_mine() && theirs.try_take().is_none());
        std::thread::scope(|scope| {
            let other = scope.spawn(|| !theirs.is_mine() && theirs.try_take().is_none());
            assert!(other.join().unwrap());
        });
        assert_eq!(theirs.free_of_the_dead(), None);
        assert!(!held.give_back());
        assert_eq!(*theirs.try_take().unwrap(), [1, 2, 3]);
        assert_eq!(ours.holder(), 0);
    }

    #[test]
    fn a_wait_gives_back_what_nobody_fetched() {
        let (numbers, _fd) = Guarded::<f64>::create("test", 0).unwrap();
        let wait = numbers.wait();
        assert_eq!(wait.step(), Step::Done);
        assert!(numbers.is_mine());
        drop(wait);
        assert_eq!(numbers.holder(), 0);
        let wait = numbers.wait();
        assert_eq!(wait.step(), Step::Done);
        let held = wait.held().unwrap();
        assert!(wait.held().is_none());
        drop(wait);
        assert!(numbers.is_mine() && held.is_empty());
    }

    #[test]
    fn the_memory_is_nothing_else_to_anybody() {
        let (_numbers, fd) = Guarded::<u32>::create("test", 4).unwrap();
        assert!(Guarded::<u64>::attach(fd.as_fd()).is_err());
        assert!(Memfd::from_fd(fd).is_err());
        let plain = Memfd::create("test", 80).unwrap();
        let words = Words::<u64>::map(&plain).unwrap();
        u64::store(&words[0], MAGIC); // forged
        u64::store(&words[2], 4);
        assert!(Guarded::<u32>::attach(plain.as_fd()).is_err());
    }
}
