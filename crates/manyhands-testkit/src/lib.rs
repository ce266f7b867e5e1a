//! What the tests of manyhands share: a watchdog, and children killed after any instruction.
//! Always: no process that was started here outlives its test.
//! Not here: the tests; what one crate's tests alone need stays with them.

mod killed;
mod traced;
mod watchdog;

pub use killed::{Ended, Scene, Swept, kill_sweep, snapshot};
pub use traced::{Step, Traced};
pub use watchdog::Watchdog;
