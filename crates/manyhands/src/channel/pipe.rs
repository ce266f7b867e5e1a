//! Pipes: two channels, there and back.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Receiver, SendError, Sender, channel};
use crate::error::Error;

/// Makes a pipe: two ends, each of which sends what the other one receives. `capacity` messages
/// can wait in each direction.
///
/// # Errors
/// As [`channel`].
///
/// ```
/// use manyhands::{Error, Pipe, Process, pipe};
///
/// fn answer(with: Pipe<u64, String>) {
///     while let Ok(question) = with.recv() {
///         with.send(question.len() as u64).unwrap();
///     }
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     let (here, there) = pipe(10)?;
///     let child = Process::spawn(answer, there)?;
///     here.send("how long is this?".to_owned())?;
///     assert_eq!(here.recv()?, 17);
///     drop(here); // the child's recv says that nobody is left
///     child.join()
/// }
/// ```
#[allow(clippy::type_complexity, reason = "two ends that fit each other")]
pub fn pipe<S, R>(capacity: usize) -> Result<(Pipe<S, R>, Pipe<R, S>), Error>
where
    S: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    let (there, theirs) = channel(capacity)?;
    let (back, ours) = channel(capacity)?;
    let here = Pipe {
        sender: there,
        receiver: ours,
    };
    let there = Pipe {
        sender: back,
        receiver: theirs,
    };
    Ok((here, there))
}

/// One end of a [`pipe`]: sends values of `S`, receives those of `R`.
///
/// ```
/// let (here, there) = manyhands::pipe::<u32, String>(1)?;
/// here.send(7)?;
/// there.send(format!("{} it is", there.recv()?))?;
/// assert_eq!(here.recv()?, "7 it is");
/// # Ok::<(), manyhands::Error>(())
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Pipe<S, R> {
    sender: Sender<S>,
    receiver: Receiver<R>,
}

impl<S: Serialize, R: DeserializeOwned> Pipe<S, R> {
    /// Sends a value, as [`Sender::send`] does.
    ///
    /// # Errors
    /// As [`Sender::send`].
    ///
    /// ```
    /// # let (here, there) = manyhands::pipe::<u32, u32>(1)?;
    /// here.send(7)?;
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn send(&self, value: S) -> Result<(), SendError<S>> {
        self.sender.send(value)
    }

    /// Takes the next value, as [`Receiver::recv`] does.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    ///
    /// ```
    /// # let (here, there) = manyhands::pipe::<u32, u32>(1)?;
    /// # there.send(7)?;
    /// assert_eq!(here.recv()?, 7);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn recv(&self) -> Result<R, Error> {
        self.receiver.recv()
    }

    /// Takes the next value if there is one, as [`Receiver::try_recv`] does.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    ///
    /// ```
    /// # let (here, there) = manyhands::pipe::<u32, u32>(1)?;
    /// assert_eq!(here.try_recv()?, None);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn try_recv(&self) -> Result<Option<R>, Error> {
        self.receiver.try_recv()
    }

    /// Takes the next value, waiting `timeout` at most, as [`Receiver::recv_timeout`] does.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let (here, there) = manyhands::pipe::<u32, u32>(1)?;
    /// assert_eq!(here.recv_timeout(Duration::from_millis(10))?, None);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<R>, Error> {
        self.receiver.recv_timeout(timeout)
    }
}

impl<S, R> Pipe<S, R> {
    /// The two channels' ends, for threads of their own.
    ///
    /// ```
    /// # let (here, there) = manyhands::pipe::<u32, u32>(1)?;
    /// let (sender, receiver) = here.split();
    /// std::thread::spawn(move || sender.send(1));
    /// # assert_eq!(there.recv()?, 1);
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn split(self) -> (Sender<S>, Receiver<R>) {
        (self.sender, self.receiver)
    }
}

impl<S, R> fmt::Debug for Pipe<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("sender", &self.sender)
            .field("receiver", &self.receiver)
            .finish()
    }
}
