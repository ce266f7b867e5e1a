//! Plain values written by hand: numbers, strings, bytes, and tuples, lists and dicts of them. A fraction of what a
//! pickle of them costs, and what most tasks are made of.
//!
//! Always: only of exactly these types, so nothing that a user could have a say in; what is read back is equal to
//! what was written, of the same type. What is in there twice and can be changed is left to the pickler, which
//! writes it once. A pickle begins with 0x80, a plain value with a smaller byte.
//! Not here: everything else (`codec`). Nothing here runs code of the user, so no signal handler interrupts it,
//! and nothing changes what is being written.

use std::sync::Arc;

use manyhands::engine::{Needs, Payload, Received, SharedBuffer};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyUnicodeDecodeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::codec::{Held, OUT_OF_BAND};

const NONE: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
/// Eight bytes, little-endian.
const INT: u8 = 3;
/// Eight bytes, little-endian.
const FLOAT: u8 = 4;
/// All that follows; within a collection, as many bytes as the next byte says.
const STRING: u8 = 5;
const BYTES: u8 = 6;
/// The bytes are the one buffer.
const LARGE_BYTES: u8 = 7;
/// Members: all that follows; within a collection, as many as a count before them says.
const TUPLE: u8 = 8;
const LIST: u8 = 9;
/// Eight bytes each.
const LIST_OF_INTS: u8 = 10;
const LIST_OF_FLOATS: u8 = 11;
/// A count, then so many keys, each followed by its value.
const DICT: u8 = 12;
/// A string to be remembered under the number in the next byte; then as `STRING`.
const NOTED: u8 = 13;
/// The string that was last noted under the number in the next byte.
const AGAIN: u8 = 14;
/// No plain value begins with this or more: a pickle does.
const PICKLE: u8 = 0x80;

/// Strings up to this many bytes: longer ones that are not ASCII would keep an encoded copy of themselves.
const LONGEST_STRING: usize = 4096;
/// Strings and bytes within a collection, for the same reason; shorter than a byte can say.
const LONGEST_MEMBER: usize = 96;
/// Members of a collection that are not all numbers, and bytes of it and of what is in it.
const MOST_MEMBERS: usize = 16 << 10;
const MOST_BYTES: usize = 1 << 20;
/// Collections in collections.
const DEEPEST: usize = 8;
/// From this many members on, a count is this and four bytes.
const MANY: u8 = u8::MAX;
/// How many strings are remembered at once.
const NOTES: usize = 256;

/// Writes `value` if it is plain.
pub(crate) fn encode(value: &Bound<'_, PyAny>) -> Option<Payload> {
    let mut bytes = Vec::new();
    if let Ok(text) = value.cast_exact::<PyString>() {
        // Asked first: to encode a long one costs memory for as long as it lives.
        if text.len().ok()? > LONGEST_STRING {
            return None;
        }
        let text = text.to_str().ok()?;
        bytes.reserve_exact(1 + text.len());
        bytes.push(STRING);
        bytes.extend_from_slice(text.as_bytes());
    } else if let Ok(found) = value.cast_exact::<PyBytes>() {
        let found = found.as_bytes();
        if found.len() >= OUT_OF_BAND {
            let held: SharedBuffer = Arc::new(Held(PyBuffer::get(value).ok()?));
            return Some(Payload {
                bytes: vec![LARGE_BYTES],
                buffers: vec![held],
                needs: Needs::default(),
            });
        }
        bytes.try_reserve_exact(1 + found.len()).ok()?;
        bytes.push(BYTES);
        bytes.extend_from_slice(found);
    } else if let Ok(list) = value.cast_exact::<PyList>() {
        match list_of_numbers(list) {
            Some(numbers) => bytes = numbers,
            None => bytes = Writer::of(value)?,
        }
    } else if value.is_exact_instance_of::<PyTuple>() || value.is_exact_instance_of::<PyDict>() {
        bytes = Writer::of(value)?;
    } else {
        write_number(value, &mut bytes)?;
    }
    Some(Payload::new(bytes))
}

fn write_number(value: &Bound<'_, PyAny>, bytes: &mut Vec<u8>) -> Option<()> {
    if let Ok(number) = value.cast_exact::<PyInt>() {
        let number: i64 = number.extract().ok()?;
        write_word(INT, number.to_le_bytes(), bytes);
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        write_word(FLOAT, number.value().to_le_bytes(), bytes);
    } else if value.is_none() {
        bytes.push(NONE);
    } else if let Ok(truth) = value.cast_exact::<PyBool>() {
        bytes.push(if truth.is_true() { TRUE } else { FALSE });
    } else {
        return None;
    }
    Some(())
}

fn write_word(kind: u8, word: [u8; 8], bytes: &mut Vec<u8>) {
    let mut nine = [kind; 9];
    nine[1..].copy_from_slice(&word);
    bytes.extend_from_slice(&nine);
}

/// A list of ints alone, or of floats alone.
fn list_of_numbers(list: &Bound<'_, PyList>) -> Option<Vec<u8>> {
    let first = list.get_item(0).ok()?;
    let is_int = first.is_exact_instance_of::<PyInt>();
    if !is_int && !first.is_exact_instance_of::<PyFloat>() {
        return None;
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(1 + 8 * list.len()).ok()?;
    let alike = if is_int {
        bytes.push(LIST_OF_INTS);
        list.iter().all(|member| {
            let number = member.cast_exact::<PyInt>().ok();
            let number: Option<i64> = number.and_then(|number| number.extract().ok());
            number.is_some_and(|number| {
                bytes.extend_from_slice(&number.to_le_bytes());
                true
            })
        })
    } else {
        bytes.push(LIST_OF_FLOATS);
        list.iter().all(|member| {
            member.cast_exact::<PyFloat>().is_ok_and(|number| {
                bytes.extend_from_slice(&number.value().to_le_bytes());
                true
            })
        })
    };
    alike.then_some(bytes)
}

/// Writes a collection.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    /// Addresses of the strings that are noted, each at its number.
    notes: Option<Box<[usize; NOTES]>>,
    /// Addresses of collections that may be in there twice, for all that their reference counts say.
    shared: Vec<usize>,
    /// How many collections that can be changed were written.
    changeable: usize,
    depth: usize,
}

impl Writer {
    fn of(value: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
        let mut writer = Self::default();
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            writer.open(TUPLE, tuple.len())?;
            tuple
                .iter_borrowed()
                .try_for_each(|member| writer.member(&member, 0))?;
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            writer.open(LIST, list.len())?;
            list.iter()
                .try_for_each(|member| writer.member(&member, 1))?;
        } else {
            writer.dict(value.cast_exact().ok()?)?;
        }
        if !writer.shared.is_empty() {
            writer.shared.push(value.as_ptr().addr());
            writer.shared.sort_unstable();
            let is_twice = |pair: &[usize]| pair[0] == pair[1];
            if writer.shared.windows(2).any(is_twice) {
                return None;
            }
        }
        Some(writer.bytes)
    }

    /// The collection that is all there is: it needs no count.
    fn open(&mut self, kind: u8, len: usize) -> Option<()> {
        if len > MOST_MEMBERS {
            return None;
        }
        self.bytes.reserve_exact(1 + 9 * len);
        self.bytes.push(kind);
        Some(())
    }

    /// `held`: how many references we have to `value`, beside the collection that it is in.
    #[inline]
    fn member(&mut self, value: &Bound<'_, PyAny>, held: isize) -> Option<()> {
        if let Ok(text) = value.cast_exact::<PyString>() {
            return self.string(text);
        }
        if write_number(value, &mut self.bytes).is_some() {
            return Some(());
        }
        if let Ok(found) = value.cast_exact::<PyBytes>() {
            return self.short(BYTES, found.as_bytes());
        }
        self.collection(value, held)
    }

    fn collection(&mut self, value: &Bound<'_, PyAny>, held: isize) -> Option<()> {
        if self.depth == DEEPEST {
            return None; // perhaps it is in itself
        }
        self.depth += 1;
        let before = self.changeable;
        if let Ok(list) = value.cast_exact::<PyList>() {
            self.changeable += 1;
            self.count(LIST, list.len())?;
            list.iter().try_for_each(|member| self.member(&member, 1))?;
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.count(TUPLE, tuple.len())?;
            tuple
                .iter_borrowed()
                .try_for_each(|member| self.member(&member, 0))?;
        } else {
            self.changeable += 1;
            self.dict(value.cast_exact().ok()?)?;
        }
        self.depth -= 1;
        // SAFETY: attached, as `value` proves.
        let references = unsafe { ffi::Py_REFCNT(value.as_ptr()) };
        if self.changeable > before && references > 1 + held {
            self.shared.push(value.as_ptr().addr());
        }
        (self.bytes.len() <= MOST_BYTES).then_some(())
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>) -> Option<()> {
        self.count(DICT, dict.len())?;
        dict.iter().try_for_each(|(key, value)| {
            self.noted(key.cast_exact().ok()?)?;
            self.member(&value, 1)
        })
    }

    fn count(&mut self, kind: u8, len: usize) -> Option<()> {
        // Before it is written: a pickle may be what there is memory for.
        if len > MOST_MEMBERS || self.bytes.len() > MOST_BYTES {
            return None;
        }
        self.bytes.push(kind);
        match u8::try_from(len) {
            Ok(len) if len < MANY => self.bytes.push(len),
            _ => {
                self.bytes.push(MANY);
                let len = u32::try_from(len).ok()?;
                self.bytes.extend_from_slice(&len.to_le_bytes());
            }
        }
        Some(())
    }

    #[inline]
    fn string(&mut self, text: &Bound<'_, PyString>) -> Option<()> {
        if self.depth > 0 {
            return self.noted(text);
        }
        if text.len().ok()? > LONGEST_MEMBER {
            return None;
        }
        self.short(STRING, text.to_str().ok()?.as_bytes())
    }

    /// A string that may well come again: a key, or one in a row of a table.
    fn noted(&mut self, text: &Bound<'_, PyString>) -> Option<()> {
        let address = text.as_ptr().addr();
        let number = (address >> 4) % NOTES;
        let notes = self.notes.get_or_insert_with(|| Box::new([0; NOTES]));
        if notes[number] == address {
            self.bytes.extend_from_slice(&[AGAIN, number as u8]);
            return Some(());
        }
        if text.len().ok()? > LONGEST_MEMBER {
            return None;
        }
        notes[number] = address;
        self.bytes.extend_from_slice(&[NOTED, number as u8]);
        self.short(STRING, text.to_str().ok()?.as_bytes())
    }

    #[inline]
    fn short(&mut self, kind: u8, found: &[u8]) -> Option<()> {
        let len = u8::try_from(found.len()).ok()?;
        self.bytes.extend_from_slice(&[kind, len]);
        self.bytes.extend_from_slice(found);
        Some(())
    }
}

/// Whether this is a plain value and no pickle.
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first < PICKLE)
}

/// Reads back what `encode` wrote in another process.
pub(crate) fn decode<'py>(
    py: Python<'py>,
    bytes: &[u8],
    buffers: &[Received],
) -> PyResult<Bound<'py, PyAny>> {
    let (kind, rest) = bytes.split_first().ok_or_else(garbled)?;
    match *kind {
        STRING => Ok(text(py, rest)?.into_any()),
        BYTES => copied(py, rest),
        LARGE_BYTES => copied(py, buffers.first().ok_or_else(garbled)?),
        TUPLE => Ok(PyTuple::new(py, Reader::new(py, rest).all()?)?.into_any()),
        LIST => Ok(PyList::new(py, Reader::new(py, rest).all()?)?.into_any()),
        LIST_OF_INTS => {
            let numbers = words(rest)?.iter().map(|word| i64::from_le_bytes(*word));
            Ok(PyList::new(py, numbers)?.into_any())
        }
        LIST_OF_FLOATS => {
            let numbers = words(rest)?.iter().map(|word| f64::from_le_bytes(*word));
            Ok(PyList::new(py, numbers)?.into_any())
        }
        _ => {
            let mut reader = Reader::new(py, bytes);
            let value = reader.member()?;
            match reader.bytes {
                [] => Ok(value),
                _ => Err(garbled()),
            }
        }
    }
}

fn garbled() -> PyErr {
    PyValueError::new_err("what another process sent is no value that manyhands writes")
}

fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // Checked as it is copied, not before: another process may write to what lies in a block.
    // SAFETY: attached, as `py` proves; CPython copies the bytes, or says what is wrong with them.
    let made = unsafe {
        let len = bytes.len() as ffi::Py_ssize_t;
        let made = ffi::PyUnicode_FromStringAndSize(bytes.as_ptr().cast(), len);
        Bound::from_owned_ptr_or_err(py, made)
    };
    match made {
        Ok(text) => Ok(text.cast_into()?),
        Err(error) if error.is_instance_of::<PyUnicodeDecodeError>(py) => Err(garbled()),
        Err(error) => Err(error),
    }
}

fn copied<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached, as `py` proves; CPython copies the bytes, or says that it has no memory for them.
    unsafe {
        let made =
            ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as ffi::Py_ssize_t);
        Bound::from_owned_ptr_or_err(py, made)
    }
}

fn words(bytes: &[u8]) -> PyResult<&[[u8; 8]]> {
    match bytes.as_chunks() {
        (words, []) => Ok(words),
        _ => Err(garbled()),
    }
}

/// Reads a collection.
struct Reader<'py, 'a> {
    py: Python<'py>,
    bytes: &'a [u8],
    /// The strings that are noted, each at its number.
    notes: Vec<Option<Bound<'py, PyString>>>,
    /// Members of the collections that are being read, the innermost one's last.
    open: Vec<Bound<'py, PyAny>>,
    depth: usize,
}

impl<'py, 'a> Reader<'py, 'a> {
    fn new(py: Python<'py>, bytes: &'a [u8]) -> Self {
        Self {
            py,
            bytes,
            notes: Vec::new(),
            open: Vec::new(),
            depth: 0,
        }
    }

    /// Members up to the end.
    fn all(mut self) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let mut found = Vec::with_capacity(self.bytes.len().div_ceil(9));
        while !self.bytes.is_empty() {
            found.push(self.member()?);
        }
        Ok(found)
    }

    fn byte(&mut self) -> PyResult<u8> {
        let (byte, rest) = self.bytes.split_first().ok_or_else(garbled)?;
        self.bytes = rest;
        Ok(*byte)
    }

    fn chunk<const N: usize>(&mut self) -> PyResult<[u8; N]> {
        let (chunk, rest) = self.bytes.split_first_chunk().ok_or_else(garbled)?;
        self.bytes = rest;
        Ok(*chunk)
    }

    fn short(&mut self) -> PyResult<&'a [u8]> {
        let len = usize::from(self.byte()?);
        let (found, rest) = self.bytes.split_at_checked(len).ok_or_else(garbled)?;
        self.bytes = rest;
        Ok(found)
    }

    /// How many members follow; each is a byte at least.
    fn count(&mut self) -> PyResult<usize> {
        let count = match self.byte()? {
            MANY => u32::from_le_bytes(self.chunk()?) as usize,
            count => usize::from(count),
        };
        if count > self.bytes.len() {
            return Err(garbled());
        }
        Ok(count)
    }

    fn member(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        Ok(match self.byte()? {
            INT => PyInt::new(py, i64::from_le_bytes(self.chunk()?)).into_any(),
            FLOAT => PyFloat::new(py, f64::from_le_bytes(self.chunk()?)).into_any(),
            NONE => py.None().into_bound(py),
            kind @ (FALSE | TRUE) => PyBool::new(py, kind == TRUE).to_owned().into_any(),
            STRING => text(py, self.short()?)?.into_any(),
            NOTED => self.noted()?.into_any(),
            AGAIN => self.again()?.into_any(),
            BYTES => copied(py, self.short()?)?,
            kind @ (TUPLE | LIST | DICT) => self.collection(kind)?,
            _ => return Err(garbled()),
        })
    }

    fn noted(&mut self) -> PyResult<Bound<'py, PyString>> {
        let number = usize::from(self.byte()?);
        if self.byte()? != STRING {
            return Err(garbled());
        }
        let text = text(self.py, self.short()?)?;
        if self.notes.is_empty() {
            self.notes.resize(NOTES, None);
        }
        self.notes[number] = Some(text.clone());
        Ok(text)
    }

    fn again(&mut self) -> PyResult<Bound<'py, PyString>> {
        let number = usize::from(self.byte()?);
        let noted = self.notes.get(number).and_then(Option::as_ref);
        noted.cloned().ok_or_else(garbled)
    }

    fn collection(&mut self, kind: u8) -> PyResult<Bound<'py, PyAny>> {
        if self.depth > DEEPEST {
            return Err(garbled()); // none is that deep
        }
        self.depth += 1;
        let count = self.count()?;
        let read = if kind == DICT {
            self.dict(count)?.into_any()
        } else {
            let begin = self.open.len();
            for _ in 0..count {
                let member = self.member()?;
                self.open.push(member);
            }
            let members = self.open.drain(begin..);
            match kind {
                LIST => PyList::new(self.py, members)?.into_any(),
                _ => PyTuple::new(self.py, members)?.into_any(),
            }
        };
        self.depth -= 1;
        Ok(read)
    }

    fn dict(&mut self, count: usize) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(self.py);
        for _ in 0..count {
            let key = match self.byte()? {
                NOTED => self.noted()?,
                AGAIN => self.again()?,
                _ => return Err(garbled()),
            };
            dict.set_item(key, self.member()?)?;
        }
        Ok(dict)
    }
}
