//! What the tests and benchmarks of manyhands share: a watchdog, children killed after any instruction, and the
//! floor that figures stand on.
//! Always: no process that was started here outlives its test.
//! Not here: the tests; what one crate's tests alone need stays with them.

pub mod floor;
mod killed;
mod peer;
mod processor;
mod traced;
mod watchdog;

pub use killed::{Ended, Scene, Swept, kill_sweep, snapshot};
pub use peer::Peer;
pub use traced::{Step, Traced};
pub use watchdog::Watchdog;
