//! The two ends of a call through a manager: the proxy's round trip, the server's loop.
//!
//! Always: a message that names a class of this package goes through Python (`_manager_wire`), which
//! translates the name; all that is not an ordinary call of an exposed method is left to the server's Python.
//! Not here: who may call what (`_manager_server`), connections being made.

use manyhands_os::crash_point;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use manyhands_os::frame::{Failure, Inbox, Sending};
use manyhands_os::poll;
use memchr::memmem;
use pyo3::exceptions::{PyEOFError, PyException, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet, PyString, PyTuple};

use crate::awake::Awake;
use crate::connection::{one, through_signals};
use crate::fds::os_error;
use crate::message;
use crate::once::name;

/// A pickle with these bytes may hold a name that the other side has to know by another.
const OURS: &[u8] = b"manyhands.";
const STANDARD: &[u8] = b"multiprocessing.";

fn translator<'py>(py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    py.import(name!(py, "manyhands._manager_wire"))?
        .getattr(name)
}

/// Pickles a message, with the standard library's names.
fn dumps(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let bytes = message::dumps(py, value)?;
    if memmem::find(&bytes, OURS).is_none() {
        return Ok(bytes);
    }
    translator(py, name!(py, "_translated"))?
        .call1((value,))?
        .extract()
}

/// Unpickles a message, with this package's classes.
fn loads(py: Python<'_>, bytes: Vec<u8>) -> PyResult<Bound<'_, PyAny>> {
    if memmem::find(&bytes, STANDARD).is_none() {
        return message::loads(py, bytes);
    }
    let data = message::as_object(py, bytes)?;
    translator(py, name!(py, "_read"))?.call1((data,))
}

/// How long it is worth waiting awake for an answer, and for the next request.
static FOR_ANSWERS: Awake = Awake::new();
static FOR_REQUESTS: Awake = Awake::new();

/// Sends `out` as a message, if there is something, and receives the next one. One write and one read where messages
/// are short, and none of them sleeps where `awake` finds that it is not worth it.
fn converse(
    py: Python<'_>,
    fd: BorrowedFd<'_>,
    out: Option<&[u8]>,
    inbox: &mut Inbox,
    awake: &Awake,
) -> PyResult<Vec<u8>> {
    let mut sending = out.map(Sending::new);
    let mut fresh = true;
    let mut advance = || {
        if let Some(message) = &mut sending {
            message.advance(fd).map_err(Failure::System)?;
            sending = None;
        }
        if std::mem::take(&mut fresh) {
            let mut found = None;
            awake.wait(|| match inbox.advance(fd, false) {
                Err(Failure::System(e)) if goes_on(&e) => {
                    found = Some(Err(Failure::System(io::ErrorKind::Interrupted.into())));
                    false
                }
                answer => {
                    found = Some(answer);
                    true
                }
            });
            // In vain is as if interrupted: a signal that came meanwhile would not end the wait that begins now.
            if let Some(found) = found {
                return found;
            }
        }
        inbox.advance(fd, true)
    };
    through_signals(py, &mut advance)
}

/// Whether a transfer that has not come to its end goes on when it is tried again.
fn goes_on(error: &io::Error) -> bool {
    [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock].contains(&error.kind())
}

/// The descriptor of a connection. Raises OSError when it is closed.
pub(crate) fn descriptor(connection: &Bound<'_, PyAny>) -> PyResult<[RawFd; 1]> {
    let handle = connection.getattr(name!(connection.py(), "_handle"))?;
    match handle.extract::<Option<RawFd>>()? {
        Some(fd) => Ok([fd]),
        None => Err(PyOSError::new_err("handle is closed")),
    }
}

/// Sends a request over a connection, and returns the answer to it.
///
/// Whatever keeps the request or the answer from arriving closes the connection: a late answer would else be taken
/// for the next one's, and half of a request would spoil the next.
#[pyfunction]
fn exchange<'py>(
    py: Python<'py>,
    connection: &Bound<'py, PyAny>,
    request: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let bytes = dumps(py, request)?;
    let fd = descriptor(connection)?;
    let fd = one(&fd)?;
    let mut inbox = Inbox::new();
    crash_point!("proxy.before-request");
    let answer = converse(py, fd, Some(&bytes), &mut inbox, &FOR_ANSWERS).and_then(|answer| {
        if inbox.is_empty() {
            return Ok(answer);
        }
        Err(PyOSError::new_err(
            "the manager's server said more than it was asked for",
        ))
    });
    match answer {
        Ok(bytes) => {
            crash_point!("proxy.answered");
            loads(py, bytes)
        }
        Err(error) => {
            // What went wrong first is what the caller has to hear of.
            drop(connection.call_method0(name!(py, "close")));
            Err(error)
        }
    }
}

/// Sends a message over a connection. What cannot be pickled raises before anything is sent.
#[pyfunction]
fn send_translated(
    py: Python<'_>,
    connection: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let bytes = dumps(py, value)?;
    message::send(py, one(&descriptor(connection)?)?, &bytes)
}

/// Receives a message from a connection.
#[pyfunction]
fn recv_translated<'py>(
    py: Python<'py>,
    connection: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let bytes = message::receive(py, one(&descriptor(connection)?)?)?;
    loads(py, bytes)
}

/// The requests of the proxies at the other end of a connection.
#[pyclass(frozen, module = "manyhands._engine")]
struct Requests {
    connection: Py<PyAny>,
    objects: Py<PyDict>,
    stopped: Py<PyAny>,
    inbox: Mutex<Inbox>,
    /// A request could not be received: where the next one would begin is not known.
    broken: AtomicBool,
}

#[pymethods]
impl Requests {
    /// objects -- the server's id_to_obj; stopped() is asked before each request, and true is as the end of the stream
    #[new]
    fn new(connection: Py<PyAny>, objects: Py<PyDict>, stopped: Py<PyAny>) -> Self {
        Self {
            connection,
            objects,
            stopped,
            inbox: Mutex::default(),
            broken: AtomicBool::new(false),
        }
    }

    /// Serves the requests, until one asks for something out of the ordinary: returns that one, in a tuple of one, or
    /// None at the end of the stream. A pair is a request and the answer to it that nobody heard, though something was
    /// taken for it: the connection has hung up. For one thread at a time.
    ///
    /// Raises what receiving and unpickling a request raise, and what ends threads. After an error in receiving the stream
    /// is at its end.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        // Not locked while we wait. What is there of further requests is kept for the next call.
        let mut inbox =
            std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        let next = self.serve(py, &mut inbox);
        *self.inbox.lock().unwrap_or_else(PoisonError::into_inner) = inbox;
        next
    }
}

impl Requests {
    fn serve<'py>(
        &self,
        py: Python<'py>,
        inbox: &mut Inbox,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let objects = self.objects.bind(py);
        loop {
            if self.broken.load(Relaxed)
                || crate::fast::call0(self.stopped.bind(py))?.is_truthy()?
            {
                return Ok(None);
            }
            let fd = descriptor(self.connection.bind(py))?;
            let fd = one(&fd)?;
            let bytes = match converse(py, fd, None, inbox, &FOR_REQUESTS) {
                Err(error) if error.is_instance_of::<PyEOFError>(py) => return Ok(None),
                Err(error) => {
                    self.broken.store(true, Relaxed); // for this thread, or the next one to call
                    return Err(error);
                }
                Ok(bytes) => bytes,
            };
            crash_point!("manager.request-taken");
            let request = loads(py, bytes)?;
            let Some(outcome) = called(objects, &request)? else {
                return Ok(Some((request,).into_pyobject(py)?));
            };
            crash_point!("manager.called");
            let taken = outcome.is_ok() && takes(&request)?;
            let answer = match outcome {
                Ok(result) => (name!(py, "#RETURN"), result).into_pyobject(py)?,
                Err(error) if error.is_instance_of::<PyException>(py) => {
                    (name!(py, "#ERROR"), error.into_value(py)).into_pyobject(py)?
                }
                Err(error) => return Err(error),
            };
            let bytes = match dumps(py, &answer) {
                Err(error) if error.is_instance_of::<PyException>(py) => {
                    let text = described(py, &error)?;
                    dumps(
                        py,
                        (name!(py, "#UNSERIALIZABLE"), text)
                            .into_pyobject(py)?
                            .as_any(),
                    )?
                }
                bytes => bytes?,
            };
            if taken {
                // Over TCP the first message to an end that is closed is no error.
                let heard = !poll::is_hung_up(fd).map_err(|e| os_error(&e))?
                    && message::send(py, fd, &bytes).is_ok();
                if !heard {
                    return Ok(Some((request, answer).into_pyobject(py)?));
                }
                continue;
            }
            // Nothing of this call may live on until the next one comes.
            drop((request, answer));
            message::send(py, fd, &bytes)?;
            crash_point!("manager.answered");
        }
    }
}

/// Whether a request may be for something that its object then no longer has.
fn takes(request: &Bound<'_, PyAny>) -> PyResult<bool> {
    let name = request.get_item(1)?;
    let name = name.cast::<PyString>()?.to_cow()?;
    Ok(matches!(&*name, "get" | "get_nowait" | "acquire"))
}

/// Calls what a request asks for, if that is an exposed method whose result travels as a copy. The inner
/// error is the method's own.
fn called<'py>(
    objects: &Bound<'py, PyDict>,
    request: &Bound<'py, PyAny>,
) -> PyResult<Option<PyResult<Bound<'py, PyAny>>>> {
    let Ok((ident, name, args, kwds)) = request.extract::<(
        Bound<'py, PyAny>,
        Bound<'py, PyString>,
        Bound<'py, PyTuple>,
        Bound<'py, PyDict>,
    )>() else {
        return Ok(None);
    };
    let Ok(Some(entry)) = objects.get_item(ident) else {
        return Ok(None);
    };
    let Ok((object, exposed, typeids)) = entry.extract::<(
        Bound<'py, PyAny>,
        Bound<'py, PySet>,
        Option<Bound<'py, PyDict>>,
    )>() else {
        return Ok(None);
    };
    if !exposed.contains(&name)? {
        return Ok(None);
    }
    if let Some(typeids) = typeids
        && typeids.contains(&name)?
    {
        return Ok(None);
    }
    let Ok(method) = object.getattr(&name) else {
        return Ok(None);
    };
    drop((object, entry));
    Ok(Some(crate::fast::call_with(
        &method,
        &args,
        (!kwds.is_empty()).then_some(&kwds),
    )))
}

/// The traceback of an error, as text.
fn described<'py>(py: Python<'py>, error: &PyErr) -> PyResult<Bound<'py, PyAny>> {
    let lines = py
        .import(name!(py, "traceback"))?
        .call_method1(name!(py, "format_exception"), (error.value(py),))?;
    name!(py, "").call_method1(name!(py, "join"), (lines,))
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(exchange, m)?)?;
    m.add_function(wrap_pyfunction!(send_translated, m)?)?;
    m.add_function(wrap_pyfunction!(recv_translated, m)?)?;
    m.add_class::<Requests>()
}
