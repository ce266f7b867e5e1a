//! The extension module `manyhands._engine`: Python at the rim, the engine below.

use pyo3::prelude::*;

mod answer;
mod awake;
mod buffer;
mod codec;
mod connection;
#[cfg(feature = "crash-points")]
mod crash;
mod crew;
mod fast;
mod fds;
mod handle;
mod holes;
mod items;
mod job;
mod manager;
mod message;
mod naming;
mod once;
mod plain;
mod process;
mod progress;
mod queue;
mod seat;
mod segment;
mod shared;
mod shorthand;
mod stray;
mod sync;
mod tls;
mod top;
mod watchers;
mod window;
mod worker;

/// The engine of manyhands.
#[pymodule]
fn _engine(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    // For tests: whether PyO3 was built as .cargo/config.toml says.
    m.add("_has_no_reference_pool", cfg!(pyo3_disable_reference_pool))?;
    awake::register();
    fds::register(m)?;
    process::register(m)?;
    queue::register(m)?;
    buffer::register(m)?;
    codec::register(m)?;
    connection::register(m)?;
    #[cfg(feature = "crash-points")]
    crash::register(m)?;
    crew::register(m)?;
    manager::register(m)?;
    seat::register(m)?;
    segment::register(m)?;
    shared::register(m)?;
    sync::register(m)?;
    tls::register(m)?;
    top::register(m)?;
    worker::register(m)?;
    Ok(())
}
