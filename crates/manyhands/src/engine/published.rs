//! What a pool keeps for its workers: functions, and objects that any number of calls refer to.
//!
//! Always: a worker is sent each of them once, ahead of the first task that needs it, and is told to forget it when the last
//! task and the last holder let go of it. An object is written once, into memory that never changes; workers on whose way
//! nothing lies map that memory.
//! Not here: how it reaches a worker (`worker/stream`), what it means (the face).

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError};

use manyhands_os::fork_state;
use manyhands_os::frozen::Frozen;

use super::crew::Crew;
use super::floor::Floor;
use super::task::{Payload, SharedBuffer};
use super::worker::Worker;

/// A function or an object that was published to the pool: sent once to each worker that needs it.
///
/// Made by [`Crew::publish`](super::Crew::publish) and [`Crew::publish_parts`](super::Crew::publish_parts); when the last
/// task and the last holder let go of it, the workers are told to forget it.
pub struct Function {
    pub(super) id: u32,
    pub(super) payload: Payload,
    /// Its buffers once more, for workers to have copies of without anybody copying them.
    pub(super) frozen: Option<Frozen>,
    pub(super) graveyard: Arc<Graveyard>,
    /// Workers are to forget it at once, for what it keeps is large.
    pub(super) is_large: bool,
    /// Of the process that published it.
    pub(super) generation: u64,
}

impl Function {
    /// Its number, which a worker knows it by.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What it says.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Which pool it belongs to: the same for all that one pool published.
    pub fn pool(&self) -> usize {
        Arc::as_ptr(&self.graveyard).addr()
    }

    /// Its first buffer once more; `None`: it has none that never changes.
    pub fn memory(&self) -> io::Result<Option<SharedBuffer>> {
        let Some(frozen) = &self.frozen else {
            return Ok(None);
        };
        Ok(Some(Arc::new(frozen.copy(0)?)))
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // In a forked child the lock may be held by a thread that is not there.
        if self.generation == fork_state::generation() {
            self.graveyard.add(self.id, self.is_large);
        }
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Function({}, {:?})", self.id, self.payload)
    }
}

/// What has to be there for whoever decodes a payload: for almost all of them nothing, which is small.
#[derive(Clone, Default)]
pub struct Needs(Option<Box<Needed>>);

#[derive(Clone, Default)]
struct Needed {
    published: Vec<Arc<Function>>,
    kept: Vec<Arc<dyn Any + Send + Sync>>,
}

impl Needs {
    /// A published object: whoever is sent the payload is sent it before.
    pub fn add(&mut self, function: Arc<Function>) {
        let published = &mut self.0.get_or_insert_default().published;
        if published.iter().all(|other| other.id != function.id) {
            published.push(function);
        }
    }

    /// Something that is only kept for that long. It is dropped on whichever thread works for the pool.
    pub fn keep(&mut self, thing: Arc<dyn Any + Send + Sync>) {
        self.0.get_or_insert_default().kept.push(thing);
    }

    pub(super) fn published(&self) -> &[Arc<Function>] {
        self.0.as_ref().map_or(&[], |needed| &needed.published)
    }
}

/// What workers are to be told to forget.
#[derive(Default)]
pub(super) struct Graveyard {
    ids: Mutex<Vec<u32>>,
    /// One of them is large: a worker that has nothing to do is woken for it.
    is_urgent: AtomicBool,
}

impl Graveyard {
    fn add(&self, id: u32, is_large: bool) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.push(id);
        if is_large {
            self.is_urgent.store(true, Release); // pairs with the swap in `forget_large`: the id is there
        }
    }

    fn take(&self) -> Vec<u32> {
        std::mem::take(&mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Crew {
    /// Publishes a function: it is sent once to every worker that runs it.
    pub fn publish(&self, mut payload: Payload) -> Arc<Function> {
        let frozen = payload.freeze();
        self.published(payload, frozen, false)
    }

    /// Publishes an object of several parts, of which memory that never changes gets a copy; `tag` is the face's own mark.
    ///
    /// A worker is given, as its bytes, the tag, and where in its one buffer a table of the parts lies and how long
    /// that is: in words of eight bytes, little-endian, as is the table of where each part begins and how long it is.
    pub fn publish_parts(&self, tag: u8, parts: &[&[u8]]) -> io::Result<Arc<Function>> {
        let (frozen, table) = Frozen::create_with_table("manyhands shared object", parts)?;
        let whole: SharedBuffer = Arc::new(frozen.copy(0)?);
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&table.start.to_le_bytes());
        bytes.extend_from_slice(&(table.end - table.start).to_le_bytes());
        let payload = Payload {
            buffers: vec![whole],
            ..Payload::new(bytes)
        };
        Ok(self.published(payload, Some(frozen), true))
    }

    fn published(&self, payload: Payload, frozen: Option<Frozen>, is_large: bool) -> Arc<Function> {
        Arc::new(Function {
            id: self.next_function.fetch_add(1, Relaxed),
            payload,
            frozen,
            graveyard: Arc::clone(&self.graveyard),
            is_large,
            generation: self.generation(),
        })
    }

    /// Which pool this is, as [`Function::pool`] says it.
    pub fn pool(&self) -> usize {
        Arc::as_ptr(&self.graveyard).addr()
    }

    /// Notes which functions workers are to forget: they are told with their next task.
    pub(super) fn bury_functions(&self, floor: &mut Floor) {
        for id in self.graveyard.take() {
            for worker in &mut floor.workers {
                worker.forget(id);
            }
        }
    }

    /// Has workers forget at once what is large and nobody needs any more, should there be such.
    pub fn forget_large(&self) {
        // Pairs with the store in `Graveyard::add`.
        let is_urgent = &self.graveyard.is_urgent;
        if !self.is_ours() || !is_urgent.load(Relaxed) || !is_urgent.swap(false, AcqRel) {
            return;
        }
        let mut floor = self.floor();
        self.bury_functions(&mut floor);
        floor.workers.iter_mut().for_each(Worker::forget_now);
        floor.publish();
    }
}
