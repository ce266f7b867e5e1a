//! `Event`: set or not; who waits is woken when it is set.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_os::futex::{self, Scope};
use manyhands_shm::sync::Kind;

use super::block;
use super::place::{Place, travels};
use crate::error::Error;

/// A flag that processes share and wait for.
///
/// ```
/// use manyhands::{Error, Event, Process};
///
/// fn wait(start: Event) {
///     start.wait();
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     let start = Event::new()?;
///     let child = Process::spawn(wait, start.clone())?;
///     start.set();
///     child.join()
/// }
/// ```
#[derive(Clone)]
pub struct Event {
    place: Arc<Place>,
}

travels!(Event, "Event", Kind::Event);

impl Event {
    /// An event that is not set.
    ///
    /// # Errors
    /// [`Error::System`] if there is no memory or no descriptor to be had.
    ///
    /// ```
    /// assert!(!manyhands::Event::new()?.is_set());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn new() -> Result<Self, Error> {
        let place = Place::make("event", Kind::Event, 0, 0)?;
        Ok(Self { place })
    }

    /// Whether it is set.
    ///
    /// ```
    /// # let event = manyhands::Event::new()?;
    /// event.set();
    /// assert!(event.is_set());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn is_set(&self) -> bool {
        self.place.board().event(self.place.cell).is_set()
    }

    /// Sets it, and wakes all who wait for that. What was written before is seen by them.
    ///
    /// ```
    /// # let event = manyhands::Event::new()?;
    /// event.set();
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn set(&self) {
        set_event(&self.place);
    }

    /// Takes that back.
    ///
    /// ```
    /// # let event = manyhands::Event::new()?;
    /// event.set();
    /// event.clear();
    /// assert!(!event.is_set());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn clear(&self) {
        self.place.board().event(self.place.cell).clear();
    }

    /// Waits until it is set. One that is set and cleared while somebody waits was set for him too.
    ///
    /// ```
    /// # let event = manyhands::Event::new()?;
    /// event.set();
    /// event.wait();
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn wait(&self) {
        while !self.wait_until(Deadline::after(None)) {}
    }

    /// Waits until it is set, `timeout` at most; whether it was.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let event = manyhands::Event::new()?;
    /// assert!(!event.wait_timeout(Duration::from_millis(10)));
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(Deadline::after(Some(timeout)))
    }

    fn wait_until(&self, deadline: Deadline) -> bool {
        match self.place.board().event(self.place.cell).wait() {
            None => true,
            Some(wait) => block(&wait, deadline),
        }
    }
}

/// Sets the event in a place.
pub(crate) fn set_event(place: &Place) {
    let board = place.board();
    if board.event(place.cell).set() {
        futex::wake(board.word(place.cell), usize::MAX, Scope::Shared);
    }
}

/// Sleeps until the event in a place is set again, at most `limit`, unless `enough` says that there is no need; that
/// is looked at after the event was, so no setting that follows it is missed.
pub(crate) fn await_event(place: &Place, enough: impl Fn() -> bool, limit: Duration) {
    let event = place.board().event(place.cell);
    event.clear();
    if let Some(wait) = event.wait()
        && !enough()
    {
        block(&wait, Deadline::after(Some(limit)));
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("is_set", &self.is_set())
            .finish()
    }
}
