//! The watchdog: ends a test program that hangs, and says which test it was.
//! Always: no test measures time; it only must not take for ever.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// Ends this process if it lives longer than it was given.
pub struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    /// Watches over `what`. Generous limits: a loaded machine is slow, a hang is for ever.
    pub fn new(what: &'static str, limit: Duration) -> Watchdog {
        let (alive, watched) = mpsc::channel::<()>();
        thread::spawn(move || {
            if watched.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{what} hangs: not done after {limit:?}");
                std::process::abort();
            }
        });
        Watchdog { _alive: alive }
    }
}
