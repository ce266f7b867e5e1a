//! Pickles of plain values, written and read by hand: numbers, strings, bytes, and tuples of them. A tenth of what the
//! pickler costs, and what most messages are made of.
//!
//! Always: what is written any unpickler reads, and of exactly these types, for which nobody can register a reducer; what
//! is read is what CPython's unpickler would have made of it. Of what can be changed there is one empty dict at most: so
//! nothing is the same object twice that could be told from two equal ones.
//! Not here: everything else, and what is wrong with a pickle (`message`, by CPython's own). Nothing here runs code of
//! the user.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString, PyTuple};

/// Strings and bytes up to this length: longer ones are worth the pickler, and those that are not ASCII would keep an
/// encoded copy of themselves.
const LONGEST: usize = 4096;
/// A message of this length at most: a pickle has the same string once, this one each time.
const MOST_BYTES: usize = 8192;
/// Tuples within tuples.
const DEEPEST: usize = 4;
/// A pickle of more steps is left to the unpickler.
const MOST_STEPS: usize = 48;

// What a pickle is made of: see `pickletools`.
const PROTO: u8 = 0x80;
const FRAME: u8 = 0x95;
const MEMOIZE: u8 = 0x94;
const STOP: u8 = b'.';
const NONE: u8 = b'N';
const TRUE: u8 = 0x88;
const FALSE: u8 = 0x89;
const BININT1: u8 = b'K';
const BININT2: u8 = b'M';
const BININT: u8 = b'J';
const LONG1: u8 = 0x8a;
const BINFLOAT: u8 = b'G';
const SHORT_BINUNICODE: u8 = 0x8c;
const BINUNICODE: u8 = b'X';
const SHORT_BINBYTES: u8 = b'C';
const BINBYTES: u8 = b'B';
const EMPTY_TUPLE: u8 = b')';
const TUPLE1: u8 = 0x85;
const TUPLE2: u8 = 0x86;
const TUPLE3: u8 = 0x87;
const MARK: u8 = b'(';
const TUPLE: u8 = b't';
const EMPTY_DICT: u8 = b'}';

// ---- writing ----

/// The pickle of `value`, if it is plain.
pub(crate) fn write(value: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    let mut draft = Draft {
        bytes: Vec::with_capacity(64),
        has_dict: false,
    };
    draft.bytes.extend_from_slice(&[PROTO, 4]);
    draft.write(value, 0)?;
    draft.bytes.push(STOP);
    Some(draft.bytes)
}

struct Draft {
    bytes: Vec<u8>,
    has_dict: bool,
}

impl Draft {
    fn write(&mut self, value: &Bound<'_, PyAny>, depth: usize) -> Option<()> {
        let bytes = &mut self.bytes;
        if let Ok(number) = value.cast_exact::<PyInt>() {
            let number: i64 = number.extract().ok()?;
            if let Ok(byte) = u8::try_from(number) {
                bytes.extend_from_slice(&[BININT1, byte]);
            } else if let Ok(short) = u16::try_from(number) {
                bytes.push(BININT2);
                bytes.extend_from_slice(&short.to_le_bytes());
            } else if let Ok(int) = i32::try_from(number) {
                bytes.push(BININT);
                bytes.extend_from_slice(&int.to_le_bytes());
            } else {
                bytes.extend_from_slice(&[LONG1, 8]);
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        } else if let Ok(text) = value.cast_exact::<PyString>() {
            // Asked first: to encode a long one costs memory for as long as it lives.
            if text.len().ok()? > LONGEST {
                return None;
            }
            self.write_long(SHORT_BINUNICODE, BINUNICODE, text.to_str().ok()?.as_bytes())?;
        } else if let Ok(found) = value.cast_exact::<PyBytes>() {
            self.write_long(SHORT_BINBYTES, BINBYTES, found.as_bytes())?;
        } else if value.is_none() {
            bytes.push(NONE);
        } else if let Ok(truth) = value.cast_exact::<PyBool>() {
            bytes.push(if truth.is_true() { TRUE } else { FALSE });
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            bytes.push(BINFLOAT);
            bytes.extend_from_slice(&number.value().to_be_bytes());
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.write_tuple(tuple, depth)?;
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            if self.has_dict || !dict.is_empty() {
                return None;
            }
            self.has_dict = true;
            self.bytes.push(EMPTY_DICT);
        } else {
            return None;
        }
        Some(())
    }

    fn write_long(&mut self, short: u8, long: u8, found: &[u8]) -> Option<()> {
        if found.len() > LONGEST || self.bytes.len() + found.len() > MOST_BYTES {
            return None;
        }
        match u8::try_from(found.len()) {
            Ok(len) => self.bytes.extend_from_slice(&[short, len]),
            Err(_) => {
                self.bytes.push(long);
                self.bytes
                    .extend_from_slice(&(found.len() as u32).to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(found);
        Some(())
    }

    fn write_tuple(&mut self, tuple: &Bound<'_, PyTuple>, depth: usize) -> Option<()> {
        if depth == DEEPEST || tuple.len() > MOST_STEPS {
            return None;
        }
        if tuple.len() > 3 {
            self.bytes.push(MARK);
        }
        for member in tuple.iter_borrowed() {
            self.write(&member, depth + 1)?;
        }
        if self.bytes.len() > MOST_BYTES {
            return None;
        }
        self.bytes
            .push([EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE][tuple.len().min(4)]);
        Some(())
    }
}

/// What the pickle of long bytes has before them and after them, if `value` is such.
pub(crate) fn around<'a>(value: &'a Bound<'_, PyAny>) -> Option<([u8; 7], &'a [u8], [u8; 1])> {
    let bytes = value.cast_exact::<PyBytes>().ok()?.as_bytes();
    let len = u32::try_from(bytes.len()).ok()?;
    let mut before = [PROTO, 4, BINBYTES, 0, 0, 0, 0];
    before[3..].copy_from_slice(&len.to_le_bytes());
    (bytes.len() > LONGEST).then_some((before, bytes, [STOP]))
}

// ---- reading ----

/// The bytes that a pickle is, if it is one of long bytes as [`around`] makes them.
pub(crate) fn long_bytes(pickle: &[u8]) -> Option<&[u8]> {
    let (before, rest) = pickle.split_first_chunk::<7>()?;
    let (&last, bytes) = rest.split_last()?;
    // Copied: another process may write there.
    let [PROTO, 4, BINBYTES, len @ ..] = *before else {
        return None;
    };
    let whole = u32::from_le_bytes(len) as usize == bytes.len() && last == STOP;
    (whole && bytes.len() > LONGEST).then_some(bytes)
}

/// What a pickle says, if that is plain and nothing is wrong with it.
pub(crate) fn read<'py>(py: Python<'py>, pickle: &[u8]) -> Option<Bound<'py, PyAny>> {
    let mut rest = Rest(pickle);
    if rest.byte()? != PROTO || !(2..=5).contains(&rest.byte()?) {
        return None;
    }
    let mut stack: Vec<Bound<'py, PyAny>> = Vec::with_capacity(8);
    let mut marks: Vec<usize> = Vec::new();
    for _ in 0..MOST_STEPS {
        let value = match rest.byte()? {
            FRAME => {
                let len = u64::from_le_bytes(rest.array()?);
                if len > rest.0.len() as u64 {
                    return None;
                }
                continue;
            }
            // Whoever refers to what is remembered here is left to the unpickler.
            MEMOIZE if !stack.is_empty() => continue,
            MARK => {
                marks.push(stack.len());
                continue;
            }
            STOP if stack.len() == 1 && marks.is_empty() => return stack.pop(),
            NONE => py.None().into_bound(py),
            TRUE => PyBool::new(py, true).to_owned().into_any(),
            FALSE => PyBool::new(py, false).to_owned().into_any(),
            BININT1 => int(py, i64::from(rest.byte()?))?,
            BININT2 => int(py, i64::from(u16::from_le_bytes(rest.array()?)))?,
            BININT => int(py, i64::from(i32::from_le_bytes(rest.array()?)))?,
            LONG1 if rest.byte()? == 8 => int(py, i64::from_le_bytes(rest.array()?))?,
            BINFLOAT => PyFloat::new(py, f64::from_be_bytes(rest.array()?)).into_any(),
            SHORT_BINUNICODE => text(py, rest.short()?)?,
            BINUNICODE => text(py, rest.long()?)?,
            SHORT_BINBYTES => PyBytes::new(py, rest.short()?).into_any(),
            BINBYTES => PyBytes::new(py, rest.long()?).into_any(),
            EMPTY_DICT => PyDict::new(py).into_any(),
            EMPTY_TUPLE => PyTuple::empty(py).into_any(),
            TUPLE1 => collect(py, &mut stack, &marks, 1)?,
            TUPLE2 => collect(py, &mut stack, &marks, 2)?,
            TUPLE3 => collect(py, &mut stack, &marks, 3)?,
            TUPLE => {
                let len = stack.len().checked_sub(marks.pop()?)?;
                collect(py, &mut stack, &marks, len)?
            }
            _ => return None,
        };
        stack.push(value);
    }
    None
}

/// The last `len` of the stack as a tuple, if none of them lies below a mark.
fn collect<'py>(
    py: Python<'py>,
    stack: &mut Vec<Bound<'py, PyAny>>,
    marks: &[usize],
    len: usize,
) -> Option<Bound<'py, PyAny>> {
    let at = stack.len().checked_sub(len)?;
    if marks.last().is_some_and(|mark| at < *mark) {
        return None;
    }
    let tuple = PyTuple::new(py, &stack[at..]).ok()?;
    stack.truncate(at);
    Some(tuple.into_any())
}

fn int(py: Python<'_>, number: i64) -> Option<Bound<'_, PyAny>> {
    number.into_pyobject(py).ok().map(Bound::into_any)
}

/// `None` for surrogates, which UTF-8 has not.
fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Option<Bound<'py, PyAny>> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(PyString::new(py, text).into_any())
}

/// What is left of a pickle.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// As many bytes as the next one says, or the next four.
    fn short(&mut self) -> Option<&'a [u8]> {
        let len = self.byte()?;
        self.bytes(len.into())
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.array()?);
        self.bytes(len as usize)
    }
}
