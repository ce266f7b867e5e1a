//! Pickling, with a pickler that is kept.
//!
//! Plain values are written by hand (`plain`), all others by CPython's own C pickler, protocol 5, straight into a
//! buffer of ours; large buffers stay out of band, and so do long bytes (`holes`). What users registered, with `copyreg` or with
//! `reduction.ForkingPickler.register`, counts, however late it was registered. What it refuses, as it has no name to be
//! found by, cloudpickle may write (`manyhands._closures`).
//! Always: an encoder is used by one call at a time. A `__reduce__` that pickles again
//! (or uses the pool) takes another one, so there is no state to confuse.

use std::ops::Deref;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use manyhands::engine::{Needs, Payload, Received, Reply, SharedBuffer};
use pyo3::IntoPyObjectExt;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyAttributeError, PyMemoryError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyTuple};

use crate::buffer::{Buffer, Piece, Whole};
use crate::holes::{self, Hole, Holed, HoledFile};
use crate::once::{Once, name};
use crate::plain;

/// Buffers shorter than this are pickled in band: that is as fast, and leaves no view
/// that would pin a block of the arena.
pub(crate) const OUT_OF_BAND: usize = 128 << 10;
/// Modules for whose types `manyhands._out_of_band` has reducers.
const REDUCED: [&str; 5] = ["array", "numpy", "pyarrow", "polars", "torch"];
/// What a kept encoder may hold on to between two uses.
const KEEP: usize = 64 << 10;

/// Where the pickler writes: the `write` method of a file, and the buffer callback.
#[pyclass(frozen, module = "manyhands._engine")]
#[derive(Default)]
struct Sink {
    bytes: Mutex<Vec<u8>>,
    buffers: Mutex<Vec<SharedBuffer>>,
    /// Where long bytes were left out, in order.
    holes: Mutex<Vec<Hole>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink {
    fn append(&self, data: &[u8]) -> PyResult<usize> {
        let mut bytes = locked(&self.bytes);
        bytes
            .try_reserve(data.len())
            .or_else(|_| bytes.try_reserve_exact(data.len()))
            .map_err(|_| {
                PyMemoryError::new_err(format!(
                    "no memory for a pickle of {} bytes: free some, or raise the limit (`ulimit -v`, max_memory)",
                    data.len()
                ))
            })?;
        bytes.extend_from_slice(data);
        Ok(data.len())
    }

    /// Leaves bytes out that the pickler has just announced. `false`: it has not.
    fn leave_out(&self, bytes: Held) -> Result<usize, Held> {
        let stream = locked(&self.bytes);
        let len = bytes.len();
        if !holes::announces(&stream, len) {
            return Err(bytes);
        }
        let mut buffers = locked(&self.buffers);
        locked(&self.holes).push((stream.len(), buffers.len()));
        buffers.push(Arc::new(bytes));
        Ok(len)
    }

    /// What was written, which the sink has no more.
    fn take(&self) -> Payload {
        let mut bytes = std::mem::take(&mut *locked(&self.bytes));
        holes::note(&mut bytes, &std::mem::take(&mut *locked(&self.holes)));
        Payload {
            bytes,
            buffers: std::mem::take(&mut *locked(&self.buffers)),
            needs: Needs::default(),
        }
    }
}

#[pymethods]
impl Sink {
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if let Ok(bytes) = data.cast::<PyBytes>() {
            let bytes = bytes.as_bytes();
            if bytes.len() < OUT_OF_BAND {
                return self.append(bytes);
            }
        }
        let mut held = Held::raw(data)?;
        let is_ours =
            data.is_exact_instance_of::<PyBytes>() || data.is_exact_instance_of::<PyByteArray>();
        if is_ours && held.len() >= OUT_OF_BAND {
            held = match self.leave_out(held) {
                Ok(len) => return Ok(len),
                Err(held) => held,
            };
        }
        self.append(&held)
    }

    /// Takes a large contiguous buffer out of band; leaves any other in the pickle.
    fn keep(&self, buffer: &Bound<'_, PyAny>) -> bool {
        let raw = buffer.call_method0(name!(buffer.py(), "raw"));
        match raw.and_then(|raw| PyBuffer::<u8>::get(&raw)) {
            Ok(view) if view.len_bytes() >= OUT_OF_BAND => {
                locked(&self.buffers).push(Arc::new(Held(view)));
                false
            }
            _ => true,
        }
    }
}

/// A buffer of Python's, kept while its bytes are on their way.
pub(crate) struct Held(pub(crate) PyBuffer<u8>);

impl Held {
    /// The bytes of what a pickler writes: bytes, or a contiguous buffer of whatever items.
    pub(crate) fn raw(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(view) = PyBuffer::get(data) {
            return Ok(Self(view));
        }
        let py = data.py();
        let buffer = py
            .import("_pickle")?
            .getattr("PickleBuffer")?
            .call1((data,))?;
        Ok(Self(PyBuffer::get(&buffer.call_method0("raw")?)?))
    }
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.0.len_bytes() == 0 {
            return &[];
        }
        // SAFETY: `self.0` holds the exporter's buffer, which stays where it is and as long as
        // it is for that time; `raw()` and `PyBuffer<u8>` guarantee contiguous bytes. The user may
        // write to it meanwhile, as with any buffer handed to C: the bytes are only copied.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast::<u8>(), self.0.len_bytes()) }
    }
}

struct Encoder {
    sink: Py<Sink>,
    pickler: Py<PyAny>,
    dump: Py<PyAny>,
    clear_memo: Py<PyAny>,
    /// How many reducers there were when the table was made, and how many modules.
    reducers: (usize, usize, usize),
    /// Length of the last pickle.
    last: usize,
}

struct Tables {
    copyreg: Py<PyDict>,
    extra: Py<PyDict>,
    modules: Py<PyDict>,
    pickler: Py<PyAny>,
    /// What a pickler raises for what it cannot write.
    refused: Py<PyAny>,
    loads: Py<PyAny>,
    load: Py<PyAny>,
}

static TABLES: Once<Tables> = Once::new();
static SPARE: Mutex<Vec<Encoder>> = Mutex::new(Vec::new());

fn tables(py: Python<'_>) -> PyResult<&Tables> {
    TABLES.get_or_try_init(py, || {
        let pickle = py.import("_pickle")?;
        let copyreg = py
            .import("copyreg")?
            .getattr("dispatch_table")?
            .cast_into::<PyDict>()?;
        let forking = py
            .import("manyhands.reduction")?
            .getattr("ForkingPickler")?;
        Ok(Tables {
            copyreg: copyreg.unbind(),
            extra: forking
                .getattr("_extra_reducers")?
                .cast_into::<PyDict>()?
                .unbind(),
            modules: py
                .import("sys")?
                .getattr("modules")?
                .cast_into::<PyDict>()?
                .unbind(),
            pickler: pickle.getattr("Pickler")?.unbind(),
            refused: pickle.getattr("PicklingError")?.unbind(),
            loads: pickle.getattr("loads")?.unbind(),
            load: pickle.getattr("load")?.unbind(),
        })
    })
}

impl Encoder {
    fn new(py: Python<'_>) -> PyResult<Self> {
        let tables = tables(py)?;
        let sink = Bound::new(py, Sink::default())?;
        let options = PyDict::new(py);
        options.set_item("buffer_callback", sink.getattr("keep")?)?;
        let pickler = tables.pickler.bind(py).call((&sink, 5), Some(&options))?;
        let mut encoder = Self {
            dump: pickler.getattr("dump")?.unbind(),
            clear_memo: pickler.getattr("clear_memo")?.unbind(),
            sink: sink.unbind(),
            pickler: pickler.unbind(),
            reducers: (usize::MAX, usize::MAX, usize::MAX),
            last: 0,
        };
        encoder.refresh(py, tables)?;
        Ok(encoder)
    }

    /// Looks whether reducers were registered, or modules loaded that have some of ours, since the table was made.
    fn refresh(&mut self, py: Python<'_>, tables: &Tables) -> PyResult<()> {
        let modules = tables.modules.bind(py);
        let now = (
            tables.copyreg.bind(py).len(),
            tables.extra.bind(py).len(),
            modules.len(),
        );
        if now != self.reducers {
            let table = PyDict::new(py);
            if REDUCED
                .iter()
                .any(|name| modules.contains(name).unwrap_or(false))
            {
                let ours = py
                    .import(name!(py, "manyhands._out_of_band"))?
                    .call_method0(name!(py, "reducers"))?;
                table.update(ours.cast::<PyDict>()?.as_mapping())?;
            }
            table.update(tables.copyreg.bind(py).as_mapping())?;
            table.update(tables.extra.bind(py).as_mapping())?;
            self.pickler.bind(py).setattr("dispatch_table", table)?;
            self.reducers = now;
        }
        Ok(())
    }
}

/// Whether this process sends functions that nobody else has: 0 before that is known, then 1 for no, 2 for yes.
static INTERACTIVE: AtomicU8 = AtomicU8::new(0);

/// This process works for another, which has the functions.
pub(crate) fn never_interactive() {
    INTERACTIVE.store(1, Relaxed);
}

fn is_interactive(py: Python<'_>) -> PyResult<bool> {
    match INTERACTIVE.load(Relaxed) {
        0 => {
            let main = py
                .import(name!(py, "sys"))?
                .getattr(name!(py, "modules"))?
                .get_item(name!(py, "__main__"));
            let file = main.and_then(|main| main.getattr(name!(py, "__file__")));
            // "<stdin>" is no file.
            if file.is_ok_and(|file| !file.to_string().starts_with('<')) {
                never_interactive();
                return Ok(false);
            }
            let found = py
                .import(name!(py, "manyhands._closures"))?
                .call_method0(name!(py, "is_interactive"))?
                .is_truthy()?;
            INTERACTIVE.store(1 + u8::from(found), Relaxed); // whoever asks finds out the same
            Ok(found)
        }
        known => Ok(known == 2),
    }
}

/// Pickles by value what has no name to be found by, if that can be done; `error` is what the pickler said.
#[cold]
fn by_value(py: Python<'_>, value: &Bound<'_, PyAny>, error: Option<PyErr>) -> PyResult<Payload> {
    let sink = Bound::new(py, Sink::default())?;
    let error = error.map(|error| error.into_value(py));
    py.import(name!(py, "manyhands._closures"))?.call_method1(
        name!(py, "dump"),
        (value, &sink, sink.getattr("keep")?, error),
    )?;
    Ok(sink.get().take())
}

/// Whether a pickler's error may be about something that has no name to be found by.
fn is_nameless(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyAttributeError>(py)
        || error.is_instance_of::<PyTypeError>(py)
        || tables(py).is_ok_and(|tables| error.is_instance(py, tables.refused.bind(py)))
}

/// Pickles `value`. The error is the pickler's own.
pub(crate) fn encode(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Payload> {
    match plain::encode(value) {
        Some(payload) => Ok(payload),
        None => pickled(py, value),
    }
}

/// Pickles `value`, plain or not: for what is kept as a pickle.
pub(crate) fn pickled(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Payload> {
    if is_interactive(py)? {
        return by_value(py, value, None);
    }
    let spare = locked(&SPARE).pop();
    let mut encoder = match spare {
        Some(mut encoder) => {
            encoder.refresh(py, tables(py)?)?;
            encoder
        }
        None => Encoder::new(py)?,
    };
    if encoder.last > KEEP {
        // Probably as long as the one before: room for it at once, and no copy at each doubling.
        let _ = locked(&encoder.sink.get().bytes).try_reserve_exact(encoder.last);
    }
    // An encoder whose dump failed is thrown away with whatever it has memoised.
    match crate::fast::call1(encoder.dump.bind(py), value) {
        Err(error) if is_nameless(py, &error) => return by_value(py, value, Some(error)),
        outcome => outcome?,
    };
    crate::fast::call0(encoder.clear_memo.bind(py))?;
    let sink = encoder.sink.get();
    let mut bytes = locked(&sink.bytes);
    let keeps =
        bytes.len() <= KEEP && bytes.capacity() <= 2 * KEEP && locked(&sink.holes).is_empty();
    let copy = keeps.then(|| {
        let copy = bytes.to_vec();
        bytes.clear();
        copy
    });
    drop(bytes);
    let payload = match copy {
        Some(bytes) => Payload {
            bytes,
            buffers: std::mem::take(&mut *locked(&sink.buffers)),
            needs: Needs::default(),
        },
        None => sink.take(),
    };
    encoder.last = payload.bytes.len();
    let mut spare = locked(&SPARE);
    if spare.len() < 8 {
        spare.push(encoder);
    }
    Ok(payload)
}

/// Unpickles what `encode` made on the other side.
pub(crate) fn decode<'py>(
    py: Python<'py>,
    bytes: Received,
    buffers: Vec<Received>,
) -> PyResult<Bound<'py, PyAny>> {
    Pickle::new(py, bytes, buffers)?.load(py)
}

/// Whether an answer is a plain value that came as a whole, with no buffers.
pub(crate) fn is_plain(reply: &Reply) -> bool {
    let is_whole = !matches!(reply.bytes, Received::Missing(_) | Received::Unopened(..));
    !reply.raised && reply.buffers.is_empty() && is_whole && plain::is_plain(&reply.bytes)
}

/// Reads such an answer, without running code of the user. `None`: not now.
pub(crate) fn read_plain(py: Python<'_>, reply: &Reply) -> Option<Py<PyAny>> {
    plain::decode(py, &reply.bytes, &[]).ok().map(Bound::unbind)
}

/// What came from the other side, to be decoded until that succeeds.
pub(crate) enum Pickle {
    Plain(Py<PyAny>),
    Pickled {
        data: Data,
        buffers: Option<Py<PyList>>,
    },
}

/// A pickle's own bytes.
pub(crate) enum Data {
    /// An object that `loads` reads.
    Whole(Py<PyAny>),
    Holed(Arc<Holed>),
}

impl Data {
    /// Takes what belongs into the bytes from the buffers; the others are left.
    fn new(py: Python<'_>, bytes: Piece, buffers: Vec<Piece>) -> PyResult<(Self, Vec<Piece>)> {
        if holes::has_holes(&bytes) {
            let (pickle, buffers) = Holed::new(bytes, buffers).ok_or_else(garbled)?;
            return Ok((Self::Holed(Arc::new(pickle)), buffers));
        }
        Ok((Self::Whole(readable(py, bytes)?.unbind()), buffers))
    }

    fn load<'py>(
        &self,
        py: Python<'py>,
        buffers: Option<&Bound<'py, PyList>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let tables = tables(py)?;
        let (load, data) = match self {
            Self::Whole(data) => (tables.loads.bind(py), data.bind(py).clone()),
            Self::Holed(pickle) => {
                let file = HoledFile::new(Arc::clone(pickle)).into_bound_py_any(py)?;
                (tables.load.bind(py), file)
            }
        };
        let Some(buffers) = buffers else {
            return crate::fast::call1(load, &data);
        };
        let options = PyDict::new(py);
        options.set_item("buffers", buffers)?;
        crate::fast::call_with(load, &PyTuple::new(py, [data])?, Some(&options))
    }
}

impl Pickle {
    pub(crate) fn new(py: Python<'_>, bytes: Received, buffers: Vec<Received>) -> PyResult<Self> {
        complete(&bytes, &buffers)?;
        if plain::is_plain(&bytes) {
            return Ok(Self::Plain(plain::decode(py, &bytes, &buffers)?.unbind()));
        }
        let (data, buffers) = Data::new(py, Piece::Own(bytes), owned(buffers))?;
        let buffers = match buffers.is_empty() {
            true => None,
            false => Some(views(py, buffers)?.unbind()),
        };
        Ok(Self::Pickled { data, buffers })
    }

    /// Unpickles it. The error may be anything that ran meanwhile, a signal handler included.
    pub(crate) fn load<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Plain(value) => Ok(value.bind(py).clone()),
            Self::Pickled { data, buffers } => {
                let buffers = buffers.as_ref().map(|buffers| buffers.bind(py));
                data.load(py, buffers)
            }
        }
    }
}

/// A pickle to be unpickled again and again, into values that have nothing in common.
pub(crate) struct Kept {
    data: Data,
    buffers: Vec<Piece>,
}

impl Kept {
    pub(crate) fn new(py: Python<'_>, bytes: Received, buffers: Vec<Received>) -> PyResult<Self> {
        complete(&bytes, &buffers)?;
        let (data, buffers) = Data::new(py, Piece::Own(bytes), owned(buffers))?;
        Ok(Self { data, buffers })
    }

    /// Unpickles it once more. A value may write to its buffers, so each gets copies of them.
    pub(crate) fn decode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.buffers.is_empty() {
            return self.data.load(py, None);
        }
        let own = self.buffers.iter().filter_map(|piece| match piece {
            Piece::Own(bytes) => Some(bytes.copied()),
            Piece::Shared(..) => None,
        });
        let copies: Vec<_> = own.collect();
        complete(&Received::Copied(Vec::new()), &copies)?;
        self.data.load(py, Some(&views(py, owned(copies))?))
    }
}

fn owned(buffers: Vec<Received>) -> Vec<Piece> {
    buffers.into_iter().map(Piece::Own).collect()
}

#[cold]
fn garbled() -> PyErr {
    PyValueError::new_err("a pickle that came from another process is garbled")
}

/// The first byte of what a worker is told of an object that its pool shares.
pub(crate) const SHARED: u8 = 0x82;

/// An object that a pool shares with its workers: unpickled when it is first asked for, then the same for all calls.
pub(crate) enum SharedObject {
    /// Its memory, and where in it each part begins and how long it is: the pickle, then its buffers.
    Pickled(Arc<Whole>, Vec<u64>),
    Made(Py<PyAny>),
    /// Its memory could not be had, and why.
    Lost(PyErr),
}

impl SharedObject {
    /// `bytes`: as [`Crew::publish_parts`](manyhands::engine::Crew::publish_parts) says.
    pub(crate) fn new(bytes: &[u8], whole: Whole) -> PyResult<Self> {
        let read = || {
            let (words, rest) = bytes.get(1..)?.as_chunks::<8>();
            let &[start, len] = words else { return None };
            let whole = Arc::new(whole);
            let table = whole.piece(u64::from_le_bytes(start), u64::from_le_bytes(len))?;
            let (words, odd) = table.as_chunks::<8>();
            let is_whole =
                rest.is_empty() && odd.is_empty() && words.len() >= 2 && words.len() % 2 == 0;
            let words = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
            is_whole.then_some(Self::Pickled(Arc::clone(&whole), words))
        };
        read().ok_or_else(garbled)
    }

    /// The object, of which all large buffers can only be read.
    pub(crate) fn load<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (whole, places) = match self {
            Self::Made(object) => return Ok(object.bind(py).clone()),
            Self::Lost(why) => return Err(why.clone_ref(py)),
            Self::Pickled(whole, places) => (whole, places),
        };
        let pieces = places.chunks_exact(2);
        let pieces = pieces.map(|place| whole.piece(place[0], place[1]));
        let mut pieces: Vec<Piece> = pieces.collect::<Option<_>>().ok_or_else(garbled)?;
        let bytes = pieces.remove(0);
        let (data, buffers) = Data::new(py, bytes, pieces)?;
        data.load(py, Some(&views(py, buffers)?))
    }
}

/// An error if there was no memory for a part of what came.
pub(crate) fn complete(bytes: &Received, buffers: &[Received]) -> PyResult<()> {
    let unopened = |piece: &Received| match piece {
        Received::Unopened(len, unopened) if unopened.wants_memory => {
            Some(PyMemoryError::new_err(format!(
                "{len} bytes that the function has are kept by the pool, and this worker {}",
                unopened.why
            )))
        }
        Received::Unopened(len, unopened) => Some(PyOSError::new_err(format!(
            "{len} bytes that the function has are kept by the pool, and this worker {}; a task that changes its \
             user or root folder, or leaves no descriptor free, cuts it off",
            unopened.why
        ))),
        _ => None,
    };
    if let Some(error) = buffers.iter().find_map(unopened) {
        return Err(error);
    }
    let missing = |piece: &Received| match piece {
        Received::Missing(len) => Some(*len),
        _ => None,
    };
    if let Some(len) = std::iter::once(bytes).chain(buffers).find_map(missing) {
        return Err(PyMemoryError::new_err(format!(
            "no memory for {len} bytes that came from another process"
        )));
    }
    Ok(())
}

/// A pickle as an object that `loads` reads.
fn readable(py: Python<'_>, bytes: Piece) -> PyResult<Bound<'_, PyAny>> {
    match bytes {
        Piece::Own(Received::Copied(bytes)) if bytes.len() <= KEEP => {
            Ok(PyBytes::new(py, &bytes).into_any())
        }
        large => Buffer::new(large).into_bound_py_any(py),
    }
}

fn views(py: Python<'_>, buffers: Vec<Piece>) -> PyResult<Bound<'_, PyList>> {
    let views = PyList::empty(py);
    for buffer in buffers {
        views.append(Buffer::new(buffer))?;
    }
    Ok(views)
}

/// Pickles `value` as a task's argument is pickled (for tests and tools).
#[pyfunction]
fn dumps<'py>(
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyBytes>, usize)> {
    let payload = encode(py, value)?;
    Ok((PyBytes::new(py, &payload.bytes), payload.buffers.len()))
}

/// Reads what [`dumps`] made, or whatever another process may say that it made (for tests and tools).
#[pyfunction]
fn loads_payload<'py>(
    py: Python<'py>,
    payload: Vec<u8>,
    buffers: Vec<Vec<u8>>,
) -> PyResult<Bound<'py, PyAny>> {
    let buffers = buffers.into_iter().map(Received::Copied).collect();
    decode(py, Received::Copied(payload), buffers)
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(dumps, m)?)?;
    m.add_function(wrap_pyfunction!(loads_payload, m)?)
}
