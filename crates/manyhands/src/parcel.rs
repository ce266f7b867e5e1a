//! What goes beside the bytes of a value: descriptors and large buffers.
//!
//! A value is encoded by serde, which knows bytes alone. So a [`Sender`](crate::Sender), a lock or
//! shared memory that is met on the way puts its descriptors into the parcel that is being packed
//! in this thread, and writes down their numbers; where the bytes are decoded, the parcel that came
//! with them is open in the thread, and the numbers are looked up there.
//! Always: a value that cannot go by bytes alone refuses to be encoded where no parcel is packed; a
//! number that came from another process is checked; a parcel holds what is in it open until it
//! was sent, so the value itself may be dropped before.
//! Not here: how a parcel travels (`letter`, `channel`, `pool::clerk`).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::engine::{Received, SharedBuffer, Unopened};

/// A descriptor that a value in this process and parcels on their way have together.
pub(crate) type Handle = Arc<OwnedFd>;

/// The most descriptors that one value can bring along; what carries them adds a few of its own.
pub(crate) const MOST: usize = 240;

/// What can be taken along beside the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Descriptors.
    Letter,
    /// Descriptors and buffers: to a pool's task, and back.
    Task,
}

/// What goes with the bytes of one value.
#[derive(Clone, Default)]
pub(crate) struct Parcel {
    pub(crate) fds: Vec<Handle>,
    pub(crate) buffers: Vec<SharedBuffer>,
}

impl Parcel {
    pub(crate) fn borrowed(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(|fd| fd.as_fd()).collect()
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Parcel({} descriptors, {} buffers)",
            self.fds.len(),
            self.buffers.len()
        )
    }
}

/// What came with the bytes of one value.
#[derive(Default)]
pub(crate) struct Arrived {
    fds: Vec<Handle>,
    /// Each is taken once.
    buffers: Vec<Option<Received>>,
}

impl Arrived {
    pub(crate) fn of(fds: Vec<OwnedFd>, buffers: Vec<Received>) -> Self {
        Self {
            fds: fds.into_iter().map(Arc::new).collect(),
            buffers: buffers.into_iter().map(Some).collect(),
        }
    }
}

thread_local! {
    static PACKING: RefCell<Option<(Way, Parcel)>> = const { RefCell::new(None) };
    static UNPACKING: RefCell<Option<Arrived>> = const { RefCell::new(None) };
    /// What came with a call that is about to be decoded, and what goes with the answer to it.
    static PENDING: RefCell<Option<Arrived>> = const { RefCell::new(None) };
    static OUTGOING: RefCell<Parcel> = const { RefCell::new(Parcel { fds: Vec::new(), buffers: Vec::new() }) };
    /// Why a value refused: formats drop the words of such errors.
    static COMPLAINT: Cell<Option<String>> = const { Cell::new(None) };
}

/// Puts back what was there before, also when what ran in between panicked.
struct Restore<T: 'static>(
    &'static std::thread::LocalKey<RefCell<Option<T>>>,
    Option<T>,
);

impl<T> Drop for Restore<T> {
    fn drop(&mut self) {
        self.0.replace(self.1.take());
    }
}

/// Encodes something, and returns with it what goes along.
pub(crate) fn pack<T>(way: Way, encode: impl FnOnce() -> T) -> (T, Parcel) {
    COMPLAINT.take();
    let before = PACKING.replace(Some((way, Parcel::default())));
    let _restore = Restore(&PACKING, before);
    let value = encode();
    let parcel = PACKING.take().map(|(_, parcel)| parcel);
    (value, parcel.unwrap_or_default())
}

/// Decodes something with which `arrived` came.
pub(crate) fn unpack<T>(arrived: Arrived, decode: impl FnOnce() -> T) -> T {
    COMPLAINT.take();
    let before = UNPACKING.replace(Some(arrived));
    let _restore = Restore(&UNPACKING, before);
    decode()
}

/// Leaves what came with a call for whoever decodes its argument.
pub(crate) fn leave_pending(arrived: Arrived) {
    PENDING.set(Some(arrived));
}

/// What came with the call that is being decoded.
pub(crate) fn take_pending() -> Arrived {
    PENDING.take().unwrap_or_default()
}

/// Leaves what goes with an answer for whoever sends it.
pub(crate) fn leave_outgoing(parcel: Parcel) {
    OUTGOING.set(parcel);
}

/// What goes with the answer that was just made.
pub(crate) fn take_outgoing() -> Parcel {
    OUTGOING.take()
}

/// Why a value refused, in its own words if it had some.
pub(crate) fn reason(otherwise: impl fmt::Display) -> String {
    COMPLAINT.take().unwrap_or_else(|| otherwise.to_string())
}

/// Refuses, in words that are not lost.
pub(crate) fn refuse(why: impl Into<String>) -> String {
    let why = why.into();
    COMPLAINT.set(Some(why.clone()));
    why
}

/// Puts a descriptor of a `what` in; the number that stands for it.
pub(crate) fn put(what: &str, fd: &Handle) -> Result<u32, String> {
    PACKING.with_borrow_mut(|packing| {
        let Some((_, parcel)) = packing else {
            return Err(refuse(format!(
                "a {what} goes to another process as the argument or the result of a function, or through a channel \
                 or a pipe: serde alone cannot carry it"
            )));
        };
        if let Some(at) = parcel.fds.iter().position(|other| Arc::ptr_eq(other, fd)) {
            return Ok(at as u32);
        }
        if parcel.fds.len() == MOST {
            return Err(refuse(format!(
                "it holds more than {MOST} descriptors (of channels, locks and shared memory): send it in parts"
            )));
        }
        parcel.fds.push(Arc::clone(fd));
        Ok(parcel.fds.len() as u32 - 1)
    })
}

/// How the value that is being encoded travels; `None` if it does so without us.
pub(crate) fn way() -> Option<Way> {
    PACKING.with_borrow(|packing| packing.as_ref().map(|(way, _)| *way))
}

/// Puts a buffer in, if buffers can be taken along.
pub(crate) fn put_buffer(buffer: impl FnOnce() -> SharedBuffer) -> Option<u32> {
    PACKING.with_borrow_mut(|packing| match packing {
        Some((Way::Task, parcel)) => {
            parcel.buffers.push(buffer());
            Some(parcel.buffers.len() as u32 - 1)
        }
        _ => None,
    })
}

/// The descriptor of a `what` with that number.
pub(crate) fn get(what: &str, number: u32) -> Result<Handle, String> {
    UNPACKING.with_borrow(|unpacking| {
        let Some(arrived) = unpacking else {
            return Err(refuse(format!(
                "a {what} comes as the argument or the result of a function, or through a channel or a pipe: serde alone \
                 cannot bring it"
            )));
        };
        let fd = arrived.fds.get(number as usize).map(Arc::clone);
        fd.ok_or_else(|| {
            refuse(format!(
                "the descriptor {number} of a {what} did not come, {} came",
                arrived.fds.len()
            ))
        })
    })
}

/// The buffer with that number.
pub(crate) fn take_buffer(number: u32) -> Result<Received, String> {
    UNPACKING.with_borrow_mut(|unpacking| {
        let buffers = unpacking.as_mut().map(|arrived| &mut arrived.buffers);
        let buffer = buffers
            .and_then(|buffers| buffers.get_mut(number as usize))
            .and_then(Option::take);
        match buffer {
            Some(Received::Missing(len)) => Err(refuse(format!(
                "there is no memory for its buffer of {len} bytes"
            ))),
            Some(Received::Unopened(len, Unopened { why, .. })) => Err(refuse(format!(
                "its buffer of {len} bytes could not be opened: {why}"
            ))),
            Some(buffer) => Ok(buffer),
            None => Err(refuse(format!("its buffer {number} did not come"))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands_os::fd::pipe;

    #[test]
    fn a_descriptor_is_packed_once_however_often_it_is_met() {
        let (read, write) = pipe().unwrap();
        let (read, write) = (Arc::new(read), Arc::new(write));
        let (numbers, parcel) = pack(Way::Letter, || {
            [&read, &write, &read].map(|fd| put("thing", fd).unwrap())
        });
        assert_eq!(numbers, [0, 1, 0]);
        assert_eq!(parcel.fds.len(), 2);
    }

    #[test]
    fn nothing_is_put_into_no_parcel_or_one_that_is_full() {
        let (read, _write) = pipe().unwrap();
        let read = Arc::new(read);
        let error = put("Sender", &read).unwrap_err();
        assert!(
            error.starts_with("a Sender goes to another process as"),
            "{error}"
        );
        let fds: Vec<_> = (0..=MOST)
            .map(|_| Arc::new(read.try_clone().unwrap()))
            .collect();
        let (answers, parcel) = pack(Way::Letter, || {
            fds.iter().map(|fd| put("Sender", fd)).collect::<Vec<_>>()
        });
        assert_eq!(parcel.fds.len(), MOST);
        assert!(
            answers[MOST]
                .as_ref()
                .unwrap_err()
                .contains("more than 240")
        );
        assert!(reason("lost").contains("more than 240"));
    }

    #[test]
    fn parcels_within_each_other_do_not_mix() {
        let (read, write) = pipe().unwrap();
        let (read, write) = (Arc::new(read), Arc::new(write));
        let (inner, outer) = pack(Way::Letter, || {
            put("thing", &read).unwrap();
            let ((), inner) = pack(Way::Task, || {
                put("thing", &write).unwrap();
            });
            put("thing", &write).unwrap();
            inner
        });
        assert_eq!((inner.fds.len(), outer.fds.len()), (1, 2));
        assert!(way().is_none());
    }

    #[test]
    fn a_number_that_stands_for_nothing_is_refused() {
        let (read, _write) = pipe().unwrap();
        let arrived = Arrived::of(vec![read], Vec::new());
        unpack(arrived, || {
            get("thing", 0).unwrap();
            get("thing", 0).unwrap();
            let error = get("thing", 1).unwrap_err();
            assert!(error.contains("did not come, 1 came"), "{error}");
            assert!(take_buffer(0).unwrap_err().contains("did not come"));
        });
        assert!(get("thing", 0).is_err());
    }
}
