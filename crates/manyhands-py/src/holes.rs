//! Pickles with holes: where long `bytes` and `bytearray`s belong, at whatever depth, the stream has only their length.
//!
//! CPython's pickler hands a long run of bytes to its file by itself, behind an opcode that says how long it is, and its
//! unpickler reads such a run straight into the object that it becomes. So neither is copied into the stream: they
//! travel as buffers do, copied once on their way in and once into the new object.
//! Always: a hole is left only behind an opcode that this file knows; whatever a later CPython does otherwise stays in
//! the stream. What is read of other processes is checked before it is used.
//! Not here: buffers that the pickler itself leaves out (`codec`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::Piece;

/// The first byte of a pickle with holes, in the place of a pickle's `PROTO`.
const HOLED: u8 = 0x81;
const PROTO: u8 = 0x80;

const BINBYTES: u8 = b'B';
const BINBYTES8: u8 = 0x8e;
const BYTEARRAY8: u8 = 0x96;

/// A place in the stream, and a buffer's number.
pub(crate) type Hole = (usize, usize);
/// As a hole is written: both as words of eight bytes, little-endian.
const WRITTEN: usize = 16;

/// Whether `stream` ends with an opcode that says: `len` bytes follow.
pub(crate) fn announces(stream: &[u8], len: usize) -> bool {
    if let Some((_, &[opcode, ref said @ ..])) = stream.split_last_chunk::<9>()
        && matches!(opcode, BINBYTES8 | BYTEARRAY8)
        && u64::from_le_bytes(*said) == len as u64
    {
        return true;
    }
    matches!(
        stream.split_last_chunk::<5>(),
        Some((_, &[BINBYTES, ref said @ ..])) if u64::from(u32::from_le_bytes(*said)) == len as u64
    )
}

/// Notes the holes of a pickle in it.
pub(crate) fn note(pickle: &mut Vec<u8>, holes: &[Hole]) {
    let (Some(first), false) = (pickle.first_mut(), holes.is_empty()) else {
        return;
    };
    *first = HOLED;
    for (at, buffer) in holes {
        pickle.extend_from_slice(&(*at as u64).to_le_bytes());
        pickle.extend_from_slice(&(*buffer as u64).to_le_bytes());
    }
    pickle.extend_from_slice(&(holes.len() as u64).to_le_bytes());
}

/// Whether these bytes are a pickle with holes.
pub(crate) fn has_holes(bytes: &[u8]) -> bool {
    bytes.first() == Some(&HOLED)
}

/// A pickle with holes, and what belongs there.
pub(crate) struct Holed {
    stream: Piece,
    /// Where the pickle ends and what was noted begins.
    end: usize,
    holes: Vec<(usize, Piece)>,
}

impl Holed {
    /// Takes what belongs into the holes from the buffers. `None`: it is garbled.
    pub(crate) fn new(stream: Piece, buffers: Vec<Piece>) -> Option<(Self, Vec<Piece>)> {
        // Copied first: another process may write there.
        let (rest, count) = stream.split_last_chunk::<8>()?;
        let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
        let end = rest.len().checked_sub(count.checked_mul(WRITTEN)?)?;
        let (words, _) = rest[end..].as_chunks::<8>();
        let words: Vec<usize> = words
            .iter()
            .map(|word| u64::from_le_bytes(*word) as usize)
            .collect();
        let mut buffers: Vec<Option<Piece>> = buffers.into_iter().map(Some).collect();
        let mut holes = Vec::with_capacity(words.len() / 2);
        let mut last = 1;
        for pair in words.chunks_exact(2) {
            let at = pair[0];
            if at < last || at > end {
                return None;
            }
            last = at;
            holes.push((at, buffers.get_mut(pair[1])?.take()?));
        }
        let others = buffers.into_iter().flatten().collect();
        Some((Self { stream, end, holes }, others))
    }
}

/// Where a reader is.
#[derive(Default)]
struct Place {
    at: usize,
    hole: usize,
    within: usize,
}

/// A pickle with holes as a file that is read once.
#[pyclass(frozen, module = "manyhands._engine")]
pub(crate) struct HoledFile {
    pickle: Arc<Holed>,
    place: Mutex<Place>,
}

impl HoledFile {
    pub(crate) fn new(pickle: Arc<Holed>) -> Self {
        Self {
            pickle,
            place: Mutex::default(),
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much is left.
    fn left(&self) -> usize {
        let place = self.place();
        let holes: usize = self.pickle.holes[place.hole..]
            .iter()
            .map(|(_, bytes)| bytes.len())
            .sum();
        self.pickle.end - place.at + holes - place.within
    }

    /// Goes `len` bytes ahead, as far as there are so many, and has `take` take them piece by piece.
    fn advance(&self, mut len: usize, mut take: impl FnMut(&[u8])) -> usize {
        let mut place = self.place();
        let mut taken = 0;
        while len > 0 {
            let (at, within) = (place.at, place.within);
            let next = self.pickle.holes.get(place.hole);
            let piece = match next {
                Some((hole, bytes)) if *hole == at => {
                    let piece = &bytes[within..bytes.len().min(within + len)];
                    place.within += piece.len();
                    if place.within == bytes.len() {
                        place.hole += 1;
                        place.within = 0;
                    }
                    take(piece);
                    piece.len()
                }
                _ => {
                    let end = next.map_or(self.pickle.end, |(hole, _)| *hole);
                    let piece = &self.pickle.stream[at..end.min(at + len)];
                    if piece.is_empty() {
                        break;
                    }
                    place.at += piece.len();
                    if at == 0 {
                        take(&[PROTO]);
                        take(&piece[1..]);
                    } else {
                        take(piece);
                    }
                    piece.len()
                }
            };
            taken += piece;
            len -= piece;
        }
        taken
    }
}

#[pymethods]
impl HoledFile {
    #[pyo3(signature = (len=-1))]
    fn read<'py>(&self, py: Python<'py>, len: isize) -> PyResult<Bound<'py, PyBytes>> {
        let left = self.left();
        let len = usize::try_from(len).map_or(left, |len| len.min(left));
        PyBytes::new_with(py, len, |bytes| {
            let mut filled = 0;
            self.advance(len, |piece| {
                bytes[filled..filled + piece.len()].copy_from_slice(piece);
                filled += piece.len();
            });
            Ok(())
        })
    }

    /// Fills a buffer as far as it goes; how far that is.
    fn readinto(&self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let buffer = PyBuffer::<u8>::get(buffer)?;
        if buffer.readonly() || !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err(
                "a buffer of contiguous bytes that can be written to is needed",
            ));
        }
        let start = buffer.buf_ptr().cast::<u8>();
        let mut filled = 0;
        Ok(self.advance(buffer.len_bytes(), |piece| {
            // SAFETY: `buffer` holds the exporter's bytes where they are, contiguous and writable as was just asked,
            // and `advance` gives no more than its length in all. They are no part of the pickle, which is memory that
            // is handed out to nobody; and the interpreter is held, so nobody looks at them meanwhile.
            unsafe {
                std::ptr::copy_nonoverlapping(piece.as_ptr(), start.add(filled), piece.len())
            };
            filled += piece.len();
        }))
    }

    /// What opcodes of the oldest protocol ask for, which our pickler does not write.
    fn readline<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n')
            && self.advance(1, |byte| line.extend_from_slice(byte)) > 0
        {}
        PyBytes::new(py, &line)
    }
}
