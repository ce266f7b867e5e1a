//! The stream of a connection through TLS: records on a socket, messages inside.
//!
//! Always: between what the socket or the session gives and where it is kept, no handler of a signal runs, so one that
//! raises costs neither a byte nor a record; a handler or a finalizer that comes back to the same stream in the midst of
//! a call is refused, not left waiting for itself. All ends by its deadline, whatever the other end sends meanwhile.
//! Not here: certificates and names, which are the `ssl` module's, and who may be talked to (`manyhands._tls`).

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use manyhands_os::clock::{Deadline, now_ns};
use manyhands_os::{poll, socket};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBlockingIOError, PyEOFError, PyMemoryError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::codec::Held as Bytes;
use crate::connection::{one, some};
use crate::fds::{duration, os_error};
use crate::once::name;

/// Bytes taken from the socket at once, and encrypted at once.
const SOME: usize = 1 << 18;
/// The session may have so much to say by itself that the other end does not hear.
const UNHEARD: usize = 1 << 20;
/// How often who waits for another thread's turn looks for signals.
const LOOK: Duration = Duration::from_millis(50);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lock that knows its holder.
#[derive(Default)]
struct Turn {
    holder: Mutex<Option<ThreadId>>,
    free: Condvar,
}

struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *locked(&self.0.holder) = None;
        self.0.free.notify_one();
    }
}

impl Turn {
    fn try_take(&self) -> Option<Taken<'_>> {
        let mut holder = locked(&self.holder);
        if holder.is_some() {
            return None;
        }
        *holder = Some(thread::current().id());
        Some(Taken(self))
    }

    /// `None` when the time is up. Raises OSError in the thread that has it, and what signal handlers raise.
    fn take(&self, py: Python<'_>, deadline: Deadline) -> PyResult<Option<Taken<'_>>> {
        loop {
            if let Some(taken) = self.try_take() {
                return Ok(Some(taken));
            }
            if *locked(&self.holder) == Some(thread::current().id()) {
                return Err(PyOSError::new_err(
                    "this thread is in the midst of another call of this connection, which a signal's handler or a \
                     finalizer interrupted: let those use another connection",
                ));
            }
            if deadline.passed() {
                return Ok(None);
            }
            py.detach(|| {
                let holder = locked(&self.holder);
                if holder.is_some() {
                    let wait = deadline.left().map_or(LOOK, |left| left.min(LOOK));
                    drop(self.free.wait_timeout(holder, wait));
                }
            });
            py.check_signals()?;
        }
    }

    /// For what is held for no wait. `None`: this very thread has it, and was interrupted where that does no harm.
    fn take_at_once(&self, py: Python<'_>) -> PyResult<Option<Taken<'_>>> {
        if *locked(&self.holder) == Some(thread::current().id()) {
            return Ok(None);
        }
        self.take(py, Deadline::after(None))
    }
}

/// Records that the socket has not taken yet.
#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
}

/// What the session gives when it is read.
enum Heard {
    Something,
    Nothing,
    End,
}

/// One end of a stream through TLS. For every call the caller says which descriptor, and how many seconds it may take.
#[pyclass(frozen, module = "manyhands._engine")]
struct TlsStream {
    /// The `ssl` module's session, and the memory on both sides of it.
    session: Py<PyAny>,
    incoming: Py<PyAny>,
    outgoing: Py<PyAny>,
    /// The `ssl` module runs signals' handlers when it has called OpenSSL, not while it does, so a handler may go on with
    /// the session.
    in_session: Turn,
    /// Records go out in the order in which they were made.
    sending: Turn,
    unsent: Mutex<Unsent>,
    /// A message was begun and not finished.
    cut: AtomicBool,
    receiving: Turn,
    /// What was decrypted and is not received yet: of whoever has the turn to receive.
    plain: Mutex<Vec<u8>>,
    /// What went wrong when somebody only looked, for the next one who receives.
    kept: Mutex<Option<PyErr>>,
    spoken: AtomicBool,
}

#[pymethods]
impl TlsStream {
    /// session -- ssl.SSLObject._sslobj, over the two ssl.MemoryBIO
    #[new]
    fn new(session: Py<PyAny>, incoming: Py<PyAny>, outgoing: Py<PyAny>) -> Self {
        Self {
            session,
            incoming,
            outgoing,
            in_session: Turn::default(),
            sending: Turn::default(),
            unsent: Mutex::default(),
            cut: AtomicBool::new(false),
            receiving: Turn::default(),
            plain: Mutex::default(),
            kept: Mutex::default(),
            spoken: AtomicBool::new(false),
        }
    }

    /// Whether anything came of the other end.
    #[getter]
    fn spoken(&self) -> bool {
        self.spoken.load(Relaxed)
    }

    /// Agrees on keys. Raises ssl.SSLError when there is no agreement, EOFError when the other end goes away,
    /// BlockingIOError when the time is up.
    #[pyo3(signature = (fd, seconds=None))]
    fn shake_hands(&self, py: Python<'_>, fd: RawFd, seconds: Option<f64>) -> PyResult<()> {
        let fd = [fd];
        let fd = one(&fd)?;
        let deadline = Deadline::after(duration(seconds)?);
        loop {
            let answer = {
                let _turn = self.in_session.take_at_once(py)?;
                self.session
                    .bind(py)
                    .call_method0(name!(py, "do_handshake"))
            };
            let done = match answer {
                Ok(_) => true,
                Err(error) if is(py, &error, "SSLWantReadError")? => false,
                Err(error) if is(py, &error, "SSLEOFError")? => {
                    return Err(PyEOFError::new_err(
                        "the other end closed the connection in the TLS handshake",
                    ));
                }
                Err(error) => {
                    drop(self.answer(py, fd)); // the alert that says why, if it can be said
                    return Err(error);
                }
            };
            {
                let _turn = self.sending.take(py, deadline)?.ok_or_else(late)?;
                self.flush(py, fd, deadline)?;
            }
            if done {
                return Ok(());
            }
            if deadline.passed() || !self.take(py, fd, deadline)? {
                return Err(late());
            }
        }
    }

    /// Sends bytes as one message. Raises BlockingIOError when the time is up: nothing more can be sent then.
    #[pyo3(signature = (fd, data, seconds=None))]
    fn send(
        &self,
        py: Python<'_>,
        fd: RawFd,
        data: &Bound<'_, PyAny>,
        seconds: Option<f64>,
    ) -> PyResult<()> {
        let data = Bytes(PyBuffer::get(data)?);
        let fd = [fd];
        let fd = one(&fd)?;
        let deadline = Deadline::after(duration(seconds)?);
        let _turn = self.sending.take(py, deadline)?.ok_or_else(late)?;
        if self.cut.load(Relaxed) {
            return Err(PyOSError::new_err(
                "an earlier message was interrupted on its way: nothing more can be sent",
            ));
        }
        self.flush(py, fd, deadline)?;
        self.cut.store(true, Relaxed);
        let mut first = header(data.len());
        let (begin, rest) = data.split_at(data.len().min(SOME));
        first.extend_from_slice(begin);
        self.write(py, fd, &first, deadline)?;
        for piece in rest.chunks(SOME) {
            self.write(py, fd, piece, deadline)?;
        }
        self.cut.store(false, Relaxed);
        Ok(())
    }

    /// Receives one message; None for one that is longer than `limit`, or no length. Raises EOFError at the end, OSError
    /// in the middle of a message, BlockingIOError when the time is up; what came so far stays.
    #[pyo3(signature = (fd, limit=None, seconds=None))]
    fn recv<'py>(
        &self,
        py: Python<'py>,
        fd: RawFd,
        limit: Option<u64>,
        seconds: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let fd = [fd];
        let fd = one(&fd)?;
        let deadline = Deadline::after(duration(seconds)?);
        let _turn = self.receiving.take(py, deadline)?.ok_or_else(late)?;
        self.gather(py, fd, SHORT, deadline)?;
        let short = i32::from_be_bytes(self.head::<SHORT>(0));
        let (begin, size) = if short == -1 {
            self.gather(py, fd, LONG, deadline)?;
            (LONG, u64::from_be_bytes(self.head::<8>(SHORT)))
        } else {
            match u64::try_from(short) {
                Ok(size) => (SHORT, size),
                Err(_) => return Ok(None),
            }
        };
        let end = usize::try_from(size)
            .ok()
            .and_then(|size| begin.checked_add(size));
        let Some(end) = end.filter(|_| limit.is_none_or(|limit| size <= limit)) else {
            return Ok(None);
        };
        self.gather(py, fd, end, deadline)?;
        let mut plain = locked(&self.plain);
        let message = PyBytes::new(py, &plain[begin..end]);
        if plain.len() == end {
            *plain = Vec::new(); // a long one's memory goes with it
        } else {
            plain.drain(..end);
        }
        Ok(Some(message))
    }

    /// Whether something can be received within so many seconds: a part of a message, the end, or an error.
    #[pyo3(signature = (fd, seconds=None))]
    fn poll(&self, py: Python<'_>, fd: RawFd, seconds: Option<f64>) -> PyResult<bool> {
        let fd = [fd];
        let fd = one(&fd)?;
        let deadline = Deadline::after(duration(seconds)?);
        // Another thread receives what comes: it is ready for us only if that one leaves something.
        let Some(_turn) = self.receiving.take(py, deadline)? else {
            return Ok(false);
        };
        if !locked(&self.plain).is_empty() || locked(&self.kept).is_some() {
            return Ok(true);
        }
        match self.more(py, fd, deadline) {
            Err(error) if error.is_instance_of::<PyEOFError>(py) => Ok(true),
            // With a number it is the system's or the session's; without, a signal's handler may have raised it.
            Err(error)
                if error.is_instance_of::<PyOSError>(py)
                    && !error.value(py).getattr(name!(py, "errno"))?.is_none() =>
            {
                *locked(&self.kept) = Some(error);
                Ok(true)
            }
            answer => answer,
        }
    }

    /// Whether the other end has closed its side and left nothing to be received.
    fn hung_up(&self, py: Python<'_>, fd: RawFd) -> PyResult<bool> {
        Ok(self.poll(py, fd, Some(0.0))? && locked(&self.plain).is_empty())
    }

    /// Says that nothing more will come, if it can be said now.
    fn say_goodbye(&self, py: Python<'_>, fd: RawFd) -> PyResult<()> {
        let fd = [fd];
        let fd = one(&fd)?;
        // Neither in the middle of a message, nor of a call that this very thread may be in.
        let (Some(_sending), false) = (self.sending.try_take(), self.cut.load(Relaxed)) else {
            return Ok(());
        };
        {
            let Some(_turn) = self.in_session.try_take() else {
                return Ok(());
            };
            drop(self.session.bind(py).call_method0(name!(py, "shutdown")));
        }
        self.flush_now(py, fd)
    }
}

/// The length of a message's announcement, and of a long one's: see `manyhands_os::frame`.
const SHORT: usize = 4;
const LONG: usize = 12;

fn header(size: usize) -> Vec<u8> {
    match i32::try_from(size) {
        Ok(size) => size.to_be_bytes().to_vec(),
        Err(_) => [&[0xff; SHORT][..], &(size as u64).to_be_bytes()].concat(),
    }
}

fn late() -> PyErr {
    PyBlockingIOError::new_err("the time is up")
}

/// Whether an error is one of the `ssl` module's.
fn is(py: Python<'_>, error: &PyErr, class: &str) -> PyResult<bool> {
    let class = py.import(name!(py, "ssl"))?.getattr(class)?;
    Ok(error.is_instance(py, &class))
}

/// Whether an error is of a signal's handler, not the `ssl` module's: that one ran when the bytes had been read.
fn is_stray(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    Ok(!is(py, error, "SSLError")? && !error.is_instance_of::<PyMemoryError>(py))
}

impl TlsStream {
    /// The next `N` bytes from `at` on, which are there.
    fn head<const N: usize>(&self, at: usize) -> [u8; N] {
        locked(&self.plain)[at..at + N]
            .try_into()
            .expect("so many bytes were gathered")
    }

    /// Encrypts and sends some bytes of a message.
    fn write(
        &self,
        py: Python<'_>,
        fd: BorrowedFd<'_>,
        mut piece: &[u8],
        deadline: Deadline,
    ) -> PyResult<()> {
        while !piece.is_empty() {
            let written: usize = {
                let _turn = self.in_session.take_at_once(py)?;
                self.session
                    .bind(py)
                    .call_method1(name!(py, "write"), (PyBytes::new(py, piece),))?
                    .extract()?
            };
            piece = piece.get(written..).unwrap_or_default();
            self.flush(py, fd, deadline)?;
        }
        Ok(())
    }

    /// Sends all records that were made; for who has the turn to send.
    fn flush(&self, py: Python<'_>, fd: BorrowedFd<'_>, deadline: Deadline) -> PyResult<()> {
        let mut unsent = locked(&self.unsent);
        while self.is_left(py, &mut unsent)? {
            let rest = &unsent.bytes[unsent.sent..];
            let sent = some(
                py,
                deadline,
                |left| poll::writable(fd, left),
                || socket::send_now(fd, rest),
            )?;
            unsent.sent += sent.ok_or_else(late)?;
        }
        Ok(())
    }

    /// Sends records as far as the socket takes them now; for who has the turn to send. No handler of a signal runs, as
    /// nobody asked this thread to send.
    fn flush_now(&self, py: Python<'_>, fd: BorrowedFd<'_>) -> PyResult<()> {
        let mut unsent = locked(&self.unsent);
        while self.is_left(py, &mut unsent)? {
            let rest = &unsent.bytes[unsent.sent..];
            match socket::send_now(fd, rest) {
                Ok(sent) => unsent.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(os_error(&error)),
            }
        }
        Ok(())
    }

    /// Whether records are left to be sent, those included that the session has made meanwhile.
    fn is_left(&self, py: Python<'_>, unsent: &mut Unsent) -> PyResult<bool> {
        if unsent.sent == unsent.bytes.len() {
            let _turn = self.in_session.take_at_once(py)?;
            let made = self.outgoing.bind(py).call_method0(name!(py, "read"))?;
            unsent.bytes = made.cast::<PyBytes>()?.as_bytes().to_vec();
            unsent.sent = 0;
        }
        Ok(unsent.sent < unsent.bytes.len())
    }

    /// Sends what the session has to say by itself, if nobody sends and as far as the socket takes it: who receives must
    /// not wait for the other end to do so. Whoever sends next sends the rest first.
    fn answer(&self, py: Python<'_>, fd: BorrowedFd<'_>) -> PyResult<()> {
        let Some(_turn) = self.sending.try_take() else {
            return Ok(());
        };
        // That the other end hears nothing any more is no reason not to hear what it said.
        drop(self.flush_now(py, fd));
        let made: usize = self
            .outgoing
            .bind(py)
            .getattr(name!(py, "pending"))?
            .extract()?;
        if made + locked(&self.unsent).bytes.len() > UNHEARD {
            return Err(PyOSError::new_err(
                "the other end asks for answers that it does not hear",
            ));
        }
        Ok(())
    }

    /// Takes what has come from the socket; false when nothing does in time.
    fn take(&self, py: Python<'_>, fd: BorrowedFd<'_>, deadline: Deadline) -> PyResult<bool> {
        let mut room = vec![0; SOME];
        let came = some(
            py,
            deadline,
            |left| poll::readable(&[fd], left).map(|ready| ready[0]),
            || socket::recv_now(fd, &mut room),
        )?;
        let Some(came) = came else {
            return Ok(false);
        };
        self.spoken.store(true, Relaxed);
        let _turn = self.in_session.take_at_once(py)?;
        let incoming = self.incoming.bind(py);
        if came == 0 {
            incoming.call_method0(name!(py, "write_eof"))?;
        } else {
            incoming.call_method1(name!(py, "write"), (PyBytes::new(py, &room[..came]),))?;
        }
        Ok(true)
    }

    /// Has so many bytes at hand; for who has the turn to receive.
    fn gather(
        &self,
        py: Python<'_>,
        fd: BorrowedFd<'_>,
        size: usize,
        deadline: Deadline,
    ) -> PyResult<()> {
        loop {
            let have = locked(&self.plain).len();
            if have >= size {
                return Ok(());
            }
            if let Some(error) = locked(&self.kept).take() {
                return Err(error);
            }
            match self.more(py, fd, deadline) {
                Ok(true) => {}
                Ok(false) => return Err(late()),
                Err(error) if have > 0 && error.is_instance_of::<PyEOFError>(py) => {
                    return Err(PyOSError::new_err("got end of file during message"));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Decrypts some more bytes; false when none come in time. Raises EOFError at the end.
    fn more(&self, py: Python<'_>, fd: BorrowedFd<'_>, deadline: Deadline) -> PyResult<bool> {
        let mut tried = false;
        loop {
            let heard = self.read(py)?;
            self.answer(py, fd)?;
            match heard {
                Heard::Something => return Ok(true),
                Heard::End => return Err(PyEOFError::new_err(())),
                // What is no message may come without end.
                Heard::Nothing if tried && deadline.passed() => return Ok(false),
                Heard::Nothing => {}
            }
            if !self.take(py, fd, deadline)? {
                return Ok(false);
            }
            tried = true;
            py.check_signals()?;
        }
    }

    /// Decrypts what is left of a record, or the next one.
    ///
    /// When the handler of a signal raises, the `ssl` module says so instead of how many bytes it has read. So only one is
    /// read, where it is not known how many there are, and it is seen whether that came.
    fn read(&self, py: Python<'_>) -> PyResult<Heard> {
        let _turn = self.in_session.take_at_once(py)?;
        if self.pending(py)? == 0 {
            let before = now_ns() as u8;
            let one = PyByteArray::new(py, &[before]);
            match self.read_into(py, &one) {
                Ok(0) => return Ok(Heard::End),
                Ok(_) => self.keep(&one.to_vec())?,
                Err(error) if is(py, &error, "SSLWantReadError")? => return Ok(Heard::Nothing),
                Err(error)
                    if is(py, &error, "SSLZeroReturnError")? || is(py, &error, "SSLEOFError")? =>
                {
                    return Ok(Heard::End);
                }
                Err(error) => {
                    let came = self.pending(py)? > 0 || one.to_vec() != [before];
                    if came && is_stray(py, &error)? {
                        self.keep(&one.to_vec())?;
                    }
                    return Err(error);
                }
            }
        }
        let rest = self.pending(py)?;
        if rest > 0 {
            let room = PyByteArray::new(py, &vec![0; rest]);
            match self.read_into(py, &room) {
                Ok(came) => self.keep(room.to_vec().get(..came).unwrap_or_default())?,
                Err(error) => {
                    if is_stray(py, &error)? {
                        self.keep(&room.to_vec())?;
                    }
                    return Err(error);
                }
            }
        }
        Ok(Heard::Something)
    }

    /// How many bytes of a record are decrypted and not read yet.
    fn pending(&self, py: Python<'_>) -> PyResult<usize> {
        self.session
            .bind(py)
            .call_method0(name!(py, "pending"))?
            .extract()
    }

    fn read_into(&self, py: Python<'_>, room: &Bound<'_, PyByteArray>) -> PyResult<usize> {
        self.session
            .bind(py)
            .call_method1(name!(py, "read"), (room.len(), room))?
            .extract()
    }

    fn keep(&self, bytes: &[u8]) -> PyResult<()> {
        let mut plain = locked(&self.plain);
        plain
            .try_reserve(bytes.len())
            .map_err(|_| PyMemoryError::new_err("no memory for the message that is arriving"))?;
        plain.extend_from_slice(bytes);
        Ok(())
    }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<TlsStream>()
}
