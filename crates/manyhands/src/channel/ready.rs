//! Receiving with tokio: the runtime waits for the socket, and no thread does.

use std::fmt;
use std::io;

use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::{Receiver, watched};
use crate::error::Error;

/// A [`Receiver`] for code that runs in tokio, made by [`Receiver::into_async`]. With the feature `tokio`.
///
/// ```
/// use manyhands::{Error, Process, Sender, channel};
///
/// fn count(to: Sender<u32>) {
///     (1..=3).for_each(|n| to.send(n).unwrap());
/// }
///
/// async fn sum() -> Result<u32, Error> {
///     let (sender, receiver) = channel(10)?;
///     let child = Process::spawn(count, sender)?;
///     let receiver = receiver.into_async()?;
///     let mut sum = 0;
///     while let Some(n) = receiver.next().await {
///         sum += n?;
///     }
///     child.join()?;
///     Ok(sum)
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init(); // before the runtime: a child must not start one
///     let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
///     assert_eq!(runtime.block_on(sum())?, 6);
///     Ok(())
/// }
/// ```
pub struct AsyncReceiver<T> {
    receiver: Receiver<T>,
    /// What the runtime watches, and nobody reads through.
    ready: UnixDatagram,
}

impl<T> Receiver<T> {
    /// The same end for code that runs in tokio. With the feature `tokio`.
    ///
    /// # Errors
    /// [`Error::System`] outside of a tokio runtime, and if there is no descriptor to be had.
    ///
    /// # Panics
    /// If the runtime was built without `enable_io`.
    ///
    /// ```
    /// # use manyhands::{Error, channel};
    /// # async fn example() -> Result<(), Error> {
    /// let (sender, receiver) = channel(10)?;
    /// let receiver = receiver.into_async()?;
    /// sender.send(7)?;
    /// assert_eq!(receiver.recv().await?, 7);
    /// # Ok(())
    /// # }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    /// # runtime.block_on(example())?;
    /// # Ok::<(), Error>(())
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub fn into_async(self) -> Result<AsyncReceiver<T>, Error> {
        let failed = Error::system("receive in a tokio runtime");
        let ready = watched(&self.socket).map_err(failed)?;
        Ok(AsyncReceiver {
            receiver: self,
            ready,
        })
    }
}

impl<T: DeserializeOwned> AsyncReceiver<T> {
    /// Takes the next value, as [`Receiver::recv`] does.
    ///
    /// It may be dropped at any await without losing a message.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    ///
    /// ```
    /// # use manyhands::{AsyncReceiver, Error};
    /// async fn first(receiver: &AsyncReceiver<u32>) -> Result<u32, Error> {
    ///     receiver.recv().await
    /// }
    /// ```
    pub async fn recv(&self) -> Result<T, Error> {
        loop {
            if let Some(value) = self.receiver.try_recv()? {
                return Ok(value);
            }
            let failed = Error::system("wait for a message");
            self.ready.readable().await.map_err(failed)?;
            // What says `WouldBlock` in here has the runtime wait for the next packet.
            let came = self
                .ready
                .try_io(Interest::READABLE, || match self.receiver.try_recv() {
                    Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
                    other => Ok(other),
                });
            if let Ok(came) = came
                && let Some(value) = came?
            {
                return Ok(value);
            }
        }
    }

    /// The next value; `None` once no sender is left.
    ///
    /// ```
    /// # use manyhands::{AsyncReceiver, Error};
    /// async fn sum(receiver: AsyncReceiver<u32>) -> Result<u32, Error> {
    ///     let mut sum = 0;
    ///     while let Some(n) = receiver.next().await {
    ///         sum += n?;
    ///     }
    ///     Ok(sum)
    /// }
    /// ```
    pub async fn next(&self) -> Option<Result<T, Error>> {
        match self.recv().await {
            Err(Error::Disconnected { .. }) => None,
            other => Some(other),
        }
    }
}

impl<T> AsyncReceiver<T> {
    /// The end for code that waits in threads, again.
    ///
    /// ```
    /// # use manyhands::{AsyncReceiver, Receiver};
    /// fn back(receiver: AsyncReceiver<u32>) -> Receiver<u32> {
    ///     receiver.into_sync()
    /// }
    /// ```
    pub fn into_sync(self) -> Receiver<T> {
        self.receiver
    }
}

impl<T> fmt::Debug for AsyncReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncReceiver")
            .field(&self.receiver)
            .finish()
    }
}
