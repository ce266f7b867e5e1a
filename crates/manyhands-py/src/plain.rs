//! Plain values written by hand: numbers, strings, bytes, and short tuples and lists of them. A tenth of what a
//! pickle of them costs, and what most small tasks are made of.
//!
//! Always: only of exactly these types, so nothing that a user could have a say in; what is read back is equal to
//! what was written, of the same type. A pickle begins with 0x80, a plain value with a smaller byte.
//! Not here: everything else (`codec`). Nothing here runs code of the user, so no signal handler interrupts it.

use std::sync::Arc;

use manyhands::engine::{Payload, Received, SharedBuffer};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString, PyTuple};

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
/// Members; within a collection, as many as the next byte says.
const TUPLE: u8 = 8;
const LIST: u8 = 9;
/// Eight bytes each.
const LIST_OF_INTS: u8 = 10;
const LIST_OF_FLOATS: u8 = 11;
/// No plain value begins with this or more: a pickle does.
const PICKLE: u8 = 0x80;

/// Strings up to this many bytes: longer ones that are not ASCII would keep an encoded copy of themselves.
const LONGEST_STRING: usize = 4096;
/// Strings within a collection. Pickled, the same one is written once; here it is written each time.
const LONGEST_MEMBER: usize = 96;
/// Members of a collection, and bytes of it and of what is in it, for the same reason.
const MOST_MEMBERS: usize = 4096;
const MOST_BYTES: usize = 128 << 10;

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
            });
        }
        bytes.try_reserve_exact(1 + found.len()).ok()?;
        bytes.push(BYTES);
        bytes.extend_from_slice(found);
    } else if let Ok(list) = value.cast_exact::<PyList>() {
        write_list(list, &mut bytes)?;
    } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        if tuple.len() > MOST_MEMBERS {
            return None;
        }
        bytes.reserve_exact(1 + 9 * tuple.len());
        bytes.push(TUPLE);
        tuple
            .iter_borrowed()
            .try_for_each(|member| write_member(&member, &mut bytes))?;
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

fn write_member(value: &Bound<'_, PyAny>, bytes: &mut Vec<u8>) -> Option<()> {
    let Ok(tuple) = value.cast_exact::<PyTuple>() else {
        return write_simple(value, bytes);
    };
    bytes.push(TUPLE);
    bytes.push(u8::try_from(tuple.len()).ok()?);
    tuple
        .iter_borrowed()
        .try_for_each(|member| write_simple(&member, bytes))?;
    (bytes.len() <= MOST_BYTES).then_some(())
}

fn write_simple(value: &Bound<'_, PyAny>, bytes: &mut Vec<u8>) -> Option<()> {
    let Ok(text) = value.cast_exact::<PyString>() else {
        return write_number(value, bytes);
    };
    if text.len().ok()? > LONGEST_MEMBER {
        return None;
    }
    let text = text.to_str().ok()?.as_bytes();
    bytes.push(STRING);
    bytes.push(u8::try_from(text.len()).ok()?);
    bytes.extend_from_slice(text);
    Some(())
}

fn write_list(list: &Bound<'_, PyList>, bytes: &mut Vec<u8>) -> Option<()> {
    let len = list.len();
    if len > MOST_MEMBERS {
        return None;
    }
    bytes.reserve_exact(1 + 9 * len);
    let first = match len {
        0 => None,
        _ => list.get_item(0).ok(),
    };
    let alike = match &first {
        Some(first) if first.is_exact_instance_of::<PyInt>() => {
            bytes.push(LIST_OF_INTS);
            list.iter().all(|member| {
                let number = member.cast_exact::<PyInt>().ok();
                let number: Option<i64> = number.and_then(|number| number.extract().ok());
                number.is_some_and(|number| {
                    bytes.extend_from_slice(&number.to_le_bytes());
                    true
                })
            })
        }
        Some(first) if first.is_exact_instance_of::<PyFloat>() => {
            bytes.push(LIST_OF_FLOATS);
            list.iter().all(|member| {
                member.cast_exact::<PyFloat>().is_ok_and(|number| {
                    bytes.extend_from_slice(&number.value().to_le_bytes());
                    true
                })
            })
        }
        _ => false,
    };
    if !alike {
        bytes.clear();
        bytes.push(LIST);
        list.iter()
            .try_for_each(|member| write_member(&member, bytes))?;
    }
    Some(())
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
        STRING => text(py, rest),
        BYTES => copied(py, rest),
        LARGE_BYTES => copied(py, buffers.first().ok_or_else(garbled)?),
        TUPLE => Ok(PyTuple::new(py, members(py, rest)?)?.into_any()),
        LIST => Ok(PyList::new(py, members(py, rest)?)?.into_any()),
        LIST_OF_INTS => {
            let numbers = words(rest)?.iter().map(|word| i64::from_le_bytes(*word));
            Ok(PyList::new(py, numbers)?.into_any())
        }
        LIST_OF_FLOATS => {
            let numbers = words(rest)?.iter().map(|word| f64::from_le_bytes(*word));
            Ok(PyList::new(py, numbers)?.into_any())
        }
        _ => match member(py, bytes)? {
            (value, []) => Ok(value),
            _ => Err(garbled()),
        },
    }
}

fn garbled() -> PyErr {
    PyValueError::new_err("what another process sent is no value that manyhands writes")
}

fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let text = std::str::from_utf8(bytes).map_err(|_| garbled())?;
    Ok(PyString::new(py, text).into_any())
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

fn members<'py>(py: Python<'py>, mut bytes: &[u8]) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let mut found = Vec::with_capacity(bytes.len().div_ceil(9));
    while !bytes.is_empty() {
        let (value, rest) = member(py, bytes)?;
        found.push(value);
        bytes = rest;
    }
    Ok(found)
}

/// A member of a collection, and what follows it.
fn member<'py, 'a>(py: Python<'py>, bytes: &'a [u8]) -> PyResult<(Bound<'py, PyAny>, &'a [u8])> {
    let (kind, rest) = bytes.split_first().ok_or_else(garbled)?;
    let word = || rest.split_first_chunk::<8>().ok_or_else(garbled);
    Ok(match *kind {
        INT => {
            let (word, rest) = word()?;
            (PyInt::new(py, i64::from_le_bytes(*word)).into_any(), rest)
        }
        FLOAT => {
            let (word, rest) = word()?;
            (PyFloat::new(py, f64::from_le_bytes(*word)).into_any(), rest)
        }
        NONE => (py.None().into_bound(py), rest),
        FALSE | TRUE => (PyBool::new(py, *kind == TRUE).to_owned().into_any(), rest),
        TUPLE => {
            let (len, mut rest) = rest.split_first().ok_or_else(garbled)?;
            let mut found = Vec::with_capacity(usize::from(*len));
            for _ in 0..*len {
                if rest.first() == Some(&TUPLE) {
                    return Err(garbled()); // none is that deep
                }
                let (value, left) = member(py, rest)?;
                found.push(value);
                rest = left;
            }
            (PyTuple::new(py, found)?.into_any(), rest)
        }
        STRING => {
            let (len, rest) = rest.split_first().ok_or_else(garbled)?;
            let (bytes, rest) = rest
                .split_at_checked(usize::from(*len))
                .ok_or_else(garbled)?;
            (text(py, bytes)?, rest)
        }
        _ => return Err(garbled()),
    })
}
