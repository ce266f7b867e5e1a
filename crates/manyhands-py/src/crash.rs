//! Telling this process to die at a named point, for `benches/stress_points.py`: only with the feature `crash-points`.

use manyhands_os::crash;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The names of all points, and what a death there must leave.
#[pyfunction]
fn crash_points() -> Vec<(&'static str, &'static str)> {
    crash::POINTS.to_vec()
}

/// Has this process kill itself at a point, "NAME" or "NAME:NTH"; None: not any more. Children are not told.
#[pyfunction]
#[pyo3(signature = (order))]
fn crash_at(order: Option<&str>) -> PyResult<()> {
    match order {
        Some(order) => crash::arm(order).map_err(PyValueError::new_err),
        None => {
            crash::disarm();
            Ok(())
        }
    }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(crash_points, m)?)?;
    m.add_function(wrap_pyfunction!(crash_at, m)?)
}
