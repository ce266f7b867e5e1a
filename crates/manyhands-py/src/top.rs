//! What the command `manyhands top` shows, and the memory that `manyhands trace` gathers in.
//!
//! Always: the interpreter's lock is let go meanwhile, and signal handlers run.
//! Not here: looking and drawing (`manyhands-top`), the command line (`manyhands/_top.py`, `manyhands/_trace.py`).

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use manyhands_os::memory::{Mapping, Memfd};
use manyhands_shm::log::{self, Log};
use manyhands_top::{Options, Sampler, plain, run};
use pyo3::prelude::*;

use crate::fds::os_error;

/// How often signal handlers get their turn.
const PULSE: Duration = Duration::from_millis(100);

enum Ended {
    Terminal(io::Error),
    Python(PyErr),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Terminal(error)
    }
}

/// Looks at pools twice, so many seconds apart, and returns what was seen: as text `width` columns wide, or as JSON.
#[pyfunction]
#[pyo3(signature = (pid, interval, stuck_after, width=None))]
fn top_look(
    py: Python<'_>,
    pid: Option<i32>,
    interval: f64,
    stuck_after: f64,
    width: Option<usize>,
) -> PyResult<String> {
    let mut sampler = Sampler::new(pid, stuck_after);
    py.detach(|| drop(sampler.look()));
    let until = Instant::now() + Duration::try_from_secs_f64(interval).unwrap_or(Duration::MAX);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        py.detach(|| std::thread::sleep(left.min(PULSE)));
        py.check_signals()?;
    }
    let report = py.detach(|| sampler.look());
    Ok(match width {
        Some(width) => plain(&report, width),
        None => report.json(),
    })
}

/// Shows what pools do in this terminal, until a key ends it.
#[pyfunction]
fn top_show(
    py: Python<'_>,
    pid: Option<i32>,
    interval: f64,
    stuck_after: f64,
    colour: bool,
) -> PyResult<()> {
    let options = Options {
        pid,
        interval,
        stuck_after,
        has_colour: colour,
    };
    let go_on = || Python::attach(|py| py.check_signals()).map_err(Ended::Python);
    py.detach(|| run(&options, go_on))
        .map_err(|ended| match ended {
            Ended::Terminal(error) => os_error(&error),
            Ended::Python(error) => error,
        })
}

/// Makes memory for a timeline of so many events; returns its descriptor.
#[pyfunction]
fn trace_memory(events: usize) -> PyResult<RawFd> {
    let made = || {
        let memory = Memfd::create("manyhands-trace", log::len_of(events) as u64)?;
        drop(Log::create(Arc::new(Mapping::shared(&memory)?)));
        io::Result::Ok(OwnedFd::from(memory))
    };
    made()
        .map(IntoRawFd::into_raw_fd)
        .map_err(|error| os_error(&error))
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(top_look, m)?)?;
    m.add_function(wrap_pyfunction!(top_show, m)?)?;
    m.add_function(wrap_pyfunction!(trace_memory, m)?)
}
