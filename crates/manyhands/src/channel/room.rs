//! Sending with tokio: the runtime waits for room, and no thread does.
//!
//! The kernel tells a socket's watchers of each packet of its that somebody takes. It does so a moment before the receiver
//! has counted it, and not at all while a quarter of the bytes is there that it holds at most. So who waits looks again a
//! few times at once, and every 100 ms as senders in threads do.
//! Always: a message is there as a whole or not at all, wherever its future is dropped.
//! Not here: what one try to send does (`channel`).

use std::fmt;
use std::io;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::{task, time};

use super::{LOOK, Message, Put, SendError, Sender, watched};
use crate::error::Error;
use crate::parcel::Way;
use crate::typed;

/// How often other tasks may run before one that was woken in vain goes to sleep.
const YIELDS: u32 = 16;
/// How long a sender sleeps whose turn does not come, because another one that has it was stopped, say.
const NAP: Duration = Duration::from_millis(1);

/// A [`Sender`] for code that runs in tokio, made by [`Sender::into_async`]. With the feature `tokio`.
///
/// ```
/// use manyhands::{Error, Process, Receiver, channel};
///
/// fn sum(from: Receiver<u64>) -> Result<u64, String> {
///     from.iter().sum::<Result<_, _>>().map_err(|error| error.to_string())
/// }
///
/// async fn send(to: manyhands::Sender<u64>) -> Result<(), Error> {
///     let to = to.into_async()?;
///     for n in 1..=100 {
///         to.send(n).await?; // other tasks run while there is no room
///     }
///     Ok(())
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init(); // before the runtime: a child must not start one
///     let (sender, receiver) = channel(3)?;
///     let child = Process::spawn(sum, receiver)?;
///     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
///     runtime.block_on(send(sender))?;
///     assert_eq!(child.join()?.unwrap(), 5050);
///     Ok(())
/// }
/// ```
pub struct AsyncSender<T> {
    sender: Sender<T>,
    /// What the runtime watches, and nobody sends through.
    room: UnixDatagram,
}

impl<T> Sender<T> {
    /// The same end for code that runs in tokio. With the feature `tokio`.
    ///
    /// # Errors
    /// [`Error::System`] outside of a tokio runtime, and if there is no descriptor to be had.
    ///
    /// # Panics
    /// If the runtime was built without `enable_io` or without `enable_time`.
    ///
    /// ```
    /// # use manyhands::{Error, channel};
    /// # async fn example() -> Result<(), Error> {
    /// let (sender, receiver) = channel(10)?;
    /// let sender = sender.into_async()?;
    /// sender.send(7).await?;
    /// assert_eq!(receiver.recv()?, 7);
    /// # Ok(())
    /// # }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(example())?;
    /// # Ok::<(), Error>(())
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub fn into_async(self) -> Result<AsyncSender<T>, Error> {
        let room = watched(&self.socket).map_err(Error::system("send in a tokio runtime"))?;
        drop(time::sleep(Duration::ZERO)); // panics here and now, not at the first wait, where there is no timer
        Ok(AsyncSender { sender: self, room })
    }
}

impl<T: Serialize> AsyncSender<T> {
    /// Sends a value, waiting until there is room for it, as [`Sender::send`] does.
    ///
    /// It may be dropped at any await: then nothing was sent, and the value is dropped with it.
    ///
    /// # Errors
    /// As [`Sender::send`].
    ///
    /// ```
    /// # use manyhands::{AsyncSender, Error};
    /// async fn count(to: &AsyncSender<u32>) -> Result<(), Error> {
    ///     for n in 1..=3 {
    ///         to.send(n).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub async fn send(&self, value: T) -> Result<(), SendError<T>> {
        // Encoded here and now, so that nothing of the value is borrowed while we wait.
        let encoded = typed::encode_value("the message", Way::Letter, &[], &value);
        let sent = match encoded {
            Ok((text, parcel)) => match Message::new(&text, &parcel) {
                Ok(message) => self.send_message(message).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        sent.map_err(|error| SendError { value, error })
    }

    /// Sends a value if there is room for it now, as [`Sender::try_send`] does.
    ///
    /// # Errors
    /// As [`Sender::try_send`].
    ///
    /// ```
    /// # use manyhands::{AsyncSender, Error};
    /// fn offer(to: &AsyncSender<u32>) -> bool {
    ///     to.try_send(7).is_ok()
    /// }
    /// ```
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        self.sender.try_send(value)
    }
}

impl<T> AsyncSender<T> {
    async fn send_message(&self, message: Message<'_>) -> Result<(), Error> {
        let now = Deadline::after(Some(Duration::ZERO));
        let mut in_vain = 0;
        loop {
            let tried = self.sender.put(&message, now)?;
            match tried {
                Put::Sent => return Ok(()),
                // Who took a packet is about to count it, or who has the turn to give it back.
                _ if in_vain < YIELDS => {
                    in_vain += 1;
                    task::yield_now().await;
                    continue;
                }
                Put::Late => {
                    time::sleep(NAP).await;
                    continue;
                }
                Put::Full | Put::Stuffed => {}
            }
            // What says `WouldBlock` in here has the runtime wait for the next packet that is taken.
            let tried = self.room.try_io(Interest::WRITABLE, || {
                match self.sender.put(&message, now) {
                    Ok(Put::Full | Put::Stuffed) => Err(io::ErrorKind::WouldBlock.into()),
                    other => Ok(other),
                }
            });
            match tried {
                Ok(Ok(Put::Sent)) => return Ok(()),
                Ok(other) => drop(other?),
                // Whether it was room or time that came, the next try finds out.
                Err(_) => drop(time::timeout(LOOK, self.room.writable()).await),
            }
            in_vain = 0;
        }
    }

    /// The end for code that waits in threads, again.
    ///
    /// ```
    /// # use manyhands::{AsyncSender, Sender};
    /// fn back(sender: AsyncSender<u32>) -> Sender<u32> {
    ///     sender.into_sync()
    /// }
    /// ```
    pub fn into_sync(self) -> Sender<T> {
        self.sender
    }
}

impl<T> fmt::Debug for AsyncSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncSender").field(&self.sender).finish()
    }
}
