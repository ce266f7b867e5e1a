//! Channels: values from any number of processes to any number of them.
//!
//! A channel is a pair of packet sockets. The kernel keeps what was sent until somebody takes it, hands it
//! over whole, and knows at any moment who has either end, however processes end: so whoever
//! is killed in the midst of sending or receiving leaves a message that is there or is not, and the others
//! learn that nobody is left. Values bring their descriptors along.
//!
//! Always: no more than `capacity` messages wait; a wait ends when nobody is left at the other end.
//! Not here: how many wait (`count`), the bytes of a message (`wire`), of a value (`typed`).

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::{packet, poll};
use manyhands_shm::sync::Kind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::Error;
use crate::parcel::{self, Handle, Way};
use crate::sync::{Lock, Place, PlaceNote};
use crate::typed;

mod count;
mod pipe;
#[cfg(feature = "tokio")]
mod ready;
#[cfg(feature = "tokio")]
mod room;
mod wire;

use count::Count;
pub use pipe::{Pipe, pipe};
#[cfg(feature = "tokio")]
pub use ready::AsyncReceiver;
#[cfg(feature = "tokio")]
pub use room::AsyncSender;
use wire::Message;

/// How long a sender that waits for room sleeps before it looks whether receivers are left.
const LOOK: Duration = Duration::from_millis(100);

/// The most messages that a channel can hold, by its own count.
const MOST: usize = (1 << 31) - 1;

/// Makes a channel on which `capacity` messages can wait.
///
/// Both ends may be cloned, and be sent to other processes: as part of an argument of
/// [`Process::spawn`](crate::Process::spawn) or of a pool's task, or through another channel. Any
/// number of threads and processes may send and receive; each message is received once.
///
/// The kernel holds the messages, so what a process has sent is there though it was killed a moment later.
/// It has its own bound on their bytes, some 200 KiB for short ones on most systems; messages of more
/// than 16 KiB lie in memory of their own and do not count there.
///
/// # Errors
/// [`Error::OutOfRange`] for a capacity of 0 or beyond 2³¹ - 1, [`Error::System`] if there is no
/// memory or no descriptor to be had.
///
/// ```
/// use manyhands::{Error, Process, Sender, channel};
///
/// fn count((to, name): (Sender<String>, String)) -> Result<(), String> {
///     for n in 1..=3 {
///         to.send(format!("{name} {n}")).map_err(|error| error.to_string())?;
///     }
///     Ok(())
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     let (sender, receiver) = channel(100)?;
///     let one = Process::spawn(count, (sender.clone(), "one".to_owned()))?;
///     let other = Process::spawn(count, (sender, "other".to_owned()))?;
///     let mut lines: Vec<String> = receiver.iter().collect::<Result<_, _>>()?;
///     lines.sort(); // they come as they are sent, by two processes at once
///     assert_eq!(lines, ["one 1", "one 2", "one 3", "other 1", "other 2", "other 3"]);
///     one.join()?.unwrap();
///     other.join()?.unwrap();
///     Ok(())
/// }
/// ```
pub fn channel<T>(capacity: usize) -> Result<(Sender<T>, Receiver<T>), Error>
where
    T: Serialize + DeserializeOwned,
{
    if capacity == 0 || capacity > MOST {
        return Err(Error::OutOfRange {
            what: "the capacity of a channel",
            value: capacity as u64,
            low: 1,
            high: MOST as u64,
        });
    }
    let (ours, theirs) = packet::pair().map_err(Error::system("make a channel"))?;
    let count = Count::new(capacity as u32)?;
    let sender = Sender {
        socket: Arc::new(ours),
        count: count.clone(),
        value: PhantomData,
    };
    let receiver = Receiver {
        socket: Arc::new(theirs),
        count,
        value: PhantomData,
    };
    Ok((sender, receiver))
}

/// The end of a [`channel`] where values go in.
///
/// When the last sender is dropped, in whatever process, receivers get what is left and then
/// [`Error::Disconnected`].
///
/// ```
/// let (sender, receiver) = manyhands::channel(10)?;
/// sender.send(7)?;
/// assert_eq!(receiver.recv()?, 7);
/// # Ok::<(), manyhands::Error>(())
/// ```
pub struct Sender<T> {
    socket: Handle,
    count: Count,
    value: PhantomData<fn(T)>,
}

impl<T: Serialize> Sender<T> {
    /// Sends a value, waiting until there is room for it.
    ///
    /// # Errors
    /// With the value, [`Error::Disconnected`] if no receiver is left, in any process, and
    /// [`Error::Encode`] if serde cannot encode it.
    ///
    /// ```
    /// # use manyhands::{Error, channel};
    /// let (sender, receiver) = channel(10)?;
    /// sender.send("hands".to_owned())?;
    /// drop(receiver);
    /// let refused = sender.send("more".to_owned()).unwrap_err();
    /// assert!(matches!(refused.error, Error::Disconnected { .. }));
    /// assert_eq!(refused.value, "more");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        loop {
            match self.send_until(&value, Deadline::after(None)) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => return Err(SendError { value, error }),
            }
        }
    }

    /// Sends a value if there is room for it now.
    ///
    /// # Errors
    /// As [`send`](Sender::send), and [`Error::Full`] if there is no room.
    ///
    /// ```
    /// # use manyhands::{Error, channel};
    /// let (sender, receiver) = channel(1)?;
    /// sender.try_send(1)?;
    /// let refused = sender.try_send(2).unwrap_err();
    /// assert!(matches!(refused.error, Error::Full));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_timeout(value, Duration::ZERO)
    }

    /// Sends a value, waiting `timeout` at most for room.
    ///
    /// # Errors
    /// As [`try_send`](Sender::try_send).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let (sender, receiver) = manyhands::channel(1)?;
    /// sender.send_timeout(1, Duration::from_secs(1))?;
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        let error = match self.send_until(&value, Deadline::after(Some(timeout))) {
            Ok(true) => return Ok(()),
            Ok(false) => Error::Full,
            Err(error) => error,
        };
        Err(SendError { value, error })
    }

    fn send_until(&self, value: &T, deadline: Deadline) -> Result<bool, Error> {
        let (text, parcel) = typed::encode_value("the message", Way::Letter, &[], value)?;
        let message = Message::new(&text, &parcel)?;
        loop {
            match self.put(&message, deadline)? {
                Put::Sent => return Ok(true),
                _ if deadline.passed() => return Ok(false),
                Put::Late => {}
                Put::Full => self.count.wait_for_room(deadline.left_within(LOOK)),
                // An error would be a signal: look again.
                Put::Stuffed => drop(poll::writable(
                    self.socket.as_fd(),
                    Some(deadline.left_within(LOOK)),
                )),
            }
        }
    }
}

impl<T> Sender<T> {
    /// Sends it if there is room.
    fn put(&self, message: &Message<'_>, deadline: Deadline) -> Result<Put, Error> {
        let socket = self.socket.as_fd();
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::BrokenPipe => Error::Disconnected { other: "receiver" },
            _ => Error::system("send a message")(error),
        };
        // What a killed owner left is whole.
        let Some(_turn) = self.count.turn.take_anyway(deadline) else {
            return Ok(Put::Late);
        };
        let (sent, taken) = (self.count.sent(), self.count.taken());
        if self.count.is_full() {
            if packet::is_unread(socket).map_err(failed)? {
                return match poll::is_hung_up(socket).map_err(failed)? {
                    true => Err(Error::Disconnected { other: "receiver" }),
                    false => Ok(Put::Full),
                };
            }
            self.count.took_all(sent.load(Relaxed)); // nobody else sends now
        }
        let last = sent.load(Relaxed).max(taken.load(Relaxed));
        let number = last.saturating_add(1); // whatever a stranger has written there
        match message.send(socket, number) {
            Ok(()) => {
                sent.store(number, Release); // pairs with the load in `try_recv`: the message is there
                Ok(Put::Sent)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Put::Stuffed),
            Err(error) => Err(failed(error)),
        }
    }
}

/// What became of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Sent,
    /// As many messages wait as may.
    Full,
    /// The kernel has as many bytes as it takes.
    Stuffed,
    /// Others had the turn all the time.
    Late,
}

impl<T> Sender<T> {
    /// How many messages wait to be received.
    ///
    /// ```
    /// # let (sender, receiver) = manyhands::channel(10)?;
    /// sender.send(7)?;
    /// assert_eq!(sender.len(), 1);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.count.waiting() as usize
    }

    /// Whether none does.
    ///
    /// ```
    /// # let (sender, receiver) = manyhands::channel::<u8>(10)?;
    /// assert!(sender.is_empty());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many can wait.
    ///
    /// ```
    /// # let (sender, receiver) = manyhands::channel::<u8>(10)?;
    /// assert_eq!(sender.capacity(), 10);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.count.capacity()
    }
}

/// Why a value was not sent, and the value.
///
/// It turns into the [`Error`] alone by `?` in a function that returns that.
///
/// ```
/// # use manyhands::{Error, Sender};
/// fn greet(to: &Sender<String>) -> Result<(), Error> {
///     to.send("hello".to_owned())?;
///     Ok(())
/// }
/// # let (sender, receiver) = manyhands::channel(1)?;
/// # greet(&sender)?;
/// # Ok::<(), Error>(())
/// ```
pub struct SendError<T> {
    /// What was to be sent.
    pub value: T,
    /// Why it was not.
    pub error: Error,
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> std::error::Error for SendError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl<T> From<SendError<T>> for Error {
    fn from(refused: SendError<T>) -> Self {
        refused.error
    }
}

/// The end of a [`channel`] where values come out.
///
/// ```
/// # use manyhands::Error;
/// let (sender, receiver) = manyhands::channel(10)?;
/// sender.send(7)?;
/// drop(sender);
/// assert_eq!(receiver.recv()?, 7);
/// assert!(matches!(receiver.recv(), Err(Error::Disconnected { .. })));
/// # Ok::<(), Error>(())
/// ```
pub struct Receiver<T> {
    socket: Handle,
    count: Count,
    value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Takes the next value, waiting until there is one.
    ///
    /// # Errors
    /// [`Error::Disconnected`] if nothing is left and no sender is, in any process;
    /// [`Error::Decode`] if what came is no value of this type: it is gone then.
    ///
    /// ```
    /// # let (sender, receiver) = manyhands::channel(10)?;
    /// sender.send(7)?;
    /// assert_eq!(receiver.recv()?, 7);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn recv(&self) -> Result<T, Error> {
        loop {
            if let Some(value) = self.recv_until(Deadline::after(None))? {
                return Ok(value);
            }
        }
    }

    /// Takes the next value if there is one.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv).
    ///
    /// ```
    /// # let (sender, receiver) = manyhands::channel::<u32>(10)?;
    /// assert_eq!(receiver.try_recv()?, None);
    /// sender.send(7)?;
    /// assert_eq!(receiver.try_recv()?, Some(7));
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn try_recv(&self) -> Result<Option<T>, Error> {
        let sent = self.count.sent().load(Acquire); // pairs with the store in `put`
        let came = wire::receive(self.socket.as_fd());
        match came.map_err(Error::system("receive a message"))? {
            wire::Came::Nothing => {
                self.count.took_all(sent);
                Ok(None)
            }
            wire::Came::End => Err(Error::Disconnected { other: "sender" }),
            wire::Came::Message(message) => {
                self.count.took(message.number);
                let (text, arrived) = message.open()?;
                typed::decode_value("the message", &text, arrived).map(Some)
            }
        }
    }

    /// Takes the next value, waiting `timeout` at most; `None` if none came.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let (sender, receiver) = manyhands::channel::<u32>(10)?;
    /// assert_eq!(receiver.recv_timeout(Duration::from_millis(10))?, None);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<T>, Error> {
        self.recv_until(Deadline::after(Some(timeout)))
    }

    /// The values as they come, until no sender is left.
    ///
    /// ```
    /// # let (sender, receiver) = manyhands::channel(10)?;
    /// (1..=3).try_for_each(|n| sender.send(n))?;
    /// drop(sender);
    /// let sum: u32 = receiver.iter().sum::<Result<_, _>>()?;
    /// assert_eq!(sum, 6);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Result<T, Error>> + '_ {
        std::iter::from_fn(|| match self.recv() {
            Err(Error::Disconnected { .. }) => None,
            other => Some(other),
        })
    }

    fn recv_until(&self, deadline: Deadline) -> Result<Option<T>, Error> {
        loop {
            if let Some(value) = self.try_recv()? {
                return Ok(Some(value));
            }
            if deadline.passed() {
                return Ok(None);
            }
            match poll::readable(&[self.socket.as_fd()], deadline.left()) {
                // A signal that this process handles is no reason to stop waiting.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => drop(other.map_err(Error::system("wait for a message"))?),
            }
        }
    }
}

impl<T> Receiver<T> {
    /// How many messages wait to be received.
    ///
    /// ```
    /// # let (sender, receiver) = manyhands::channel(10)?;
    /// sender.send(7)?;
    /// assert_eq!(receiver.len(), 1);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.count.waiting() as usize
    }

    /// Whether none does.
    ///
    /// ```
    /// # let (sender, receiver) = manyhands::channel::<u8>(10)?;
    /// assert!(receiver.is_empty());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many can wait.
    ///
    /// ```
    /// # let (sender, receiver) = manyhands::channel::<u8>(10)?;
    /// assert_eq!(receiver.capacity(), 10);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        self.count.capacity()
    }
}

/// An end's socket once more, for a runtime to watch while nobody uses it; with a descriptor of its own, because a
/// runtime takes each once.
#[cfg(feature = "tokio")]
fn watched(socket: &Handle) -> io::Result<tokio::net::UnixDatagram> {
    tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
    let socket = std::os::unix::net::UnixDatagram::from(socket.try_clone()?);
    socket.set_nonblocking(true)?; // nobody who has it waits in a call (`packet`)
    tokio::net::UnixDatagram::from_std(socket)
}

/// The text of a message that a socket has.
#[cfg(feature = "fuzzing")]
pub(crate) fn message(socket: std::os::fd::BorrowedFd<'_>) -> Option<Vec<u8>> {
    match wire::receive(socket) {
        Ok(wire::Came::Message(message)) => message.open().ok().map(|(text, _)| text.to_vec()),
        _ => None,
    }
}

/// An end on its way: its socket, the senders' lock, and the cell that says how much room there is.
#[derive(Serialize, Deserialize)]
struct Note {
    socket: u32,
    turn: Lock,
    room: PlaceNote,
}

impl Note {
    fn of(what: &str, socket: &Handle, count: &Count) -> Result<Self, String> {
        Ok(Self {
            socket: parcel::put(what, socket)?,
            turn: count.turn.clone(),
            room: count.room.pack(what)?,
        })
    }

    fn open(self, what: &str) -> Result<(Handle, Count), String> {
        let socket = parcel::get(what, self.socket)?;
        if !packet::is_one(socket.as_fd()) {
            return Err(parcel::refuse(format!(
                "what came as a {what} is no socket of packets"
            )));
        }
        let room = Place::unpack(what, Kind::Event, self.room)?;
        let turn = self.turn;
        Ok((socket, Count { turn, room }))
    }
}

macro_rules! ends {
    ($($end:ident: $what:literal),*) => {$(
        impl<T> Clone for $end<T> {
            fn clone(&self) -> Self {
                Self {
                    socket: Arc::clone(&self.socket),
                    count: self.count.clone(),
                    value: PhantomData,
                }
            }
        }

        impl<T> fmt::Debug for $end<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($what)
                    .field("waiting", &self.len())
                    .field("capacity", &self.capacity())
                    .finish()
            }
        }

        impl<T> Serialize for $end<T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let note = Note::of($what, &self.socket, &self.count);
                note.map_err(ser::Error::custom)?.serialize(serializer)
            }
        }

        impl<'de, T> Deserialize<'de> for $end<T> {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                let note = Note::deserialize(input)?;
                let (socket, count) = note.open($what).map_err(de::Error::custom)?;
                Ok(Self { socket, count, value: PhantomData })
            }
        }
    )*};
}

ends!(Sender: "Sender", Receiver: "Receiver");
