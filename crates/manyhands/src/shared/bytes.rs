//! `Bytes`: bytes that nobody changes, which travel without being copied more than once.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::Arc;

use manyhands_os::frozen::{self, FrozenCopy};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

use crate::engine::{Received, SharedBuffer};
use crate::error::Error;
use crate::parcel::{self, Handle, Way};

const WHAT: &str = "Bytes";

/// Bytes from this length on go beside the value that they are part of.
const BESIDE: usize = 16 << 10;

/// Bytes that do not change, cheap to clone and to send.
///
/// A `Vec<u8>` is copied into the message and out of it again. `Bytes` of 16 KiB and more are not
/// part of the message: to and from a pool's task they are copied once, into memory that both have,
/// and read there; in an argument of a [`Process`](crate::Process) and in a channel they are sealed
/// memory, whose descriptor travels. Those that were [sealed](Bytes::sealed) before are not copied at all
/// there, however often they are sent.
///
/// ```
/// use manyhands::{Bytes, Error, Pool};
///
/// fn count((text, letter): (Bytes, u8)) -> usize {
///     text.iter().filter(|byte| **byte == letter).count()
/// }
///
/// fn main() -> Result<(), Error> {
///     manyhands::init();
///     let text = Bytes::from("many hands make light work ".repeat(10_000));
///     let inputs = b"aeiou".iter().map(|vowel| (text.clone(), *vowel));
///     let counts = Pool::new()?.map(count, inputs)?;
///     assert_eq!(counts, [30_000, 10_000, 10_000, 10_000, 0]);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Bytes(Content);

#[derive(Clone)]
enum Content {
    Empty,
    /// In this process, or a buffer that came with a task.
    Here(SharedBuffer),
    /// In sealed memory, mapped here.
    Sealed(Arc<Sealed>),
}

struct Sealed {
    memory: Handle,
    mapped: FrozenCopy,
}

/// What serde sees of it.
#[derive(Serialize, Deserialize)]
enum Note<'a> {
    Inline(#[serde(serialize_with = "as_bytes", deserialize_with = "from_bytes")] Text<'a>),
    Beside(u32),
    Sealed(u32, u64),
}

enum Text<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

fn as_bytes<S: Serializer>(text: &Text<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(match text {
        Text::Borrowed(text) => text,
        Text::Owned(text) => text,
    })
}

fn from_bytes<'de, 'a, D: Deserializer<'de>>(input: D) -> Result<Text<'a>, D::Error> {
    struct Reader;

    impl<'de> Visitor<'de> for Reader {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut bytes: A) -> Result<Vec<u8>, A::Error> {
            // Formats of text have bytes as numbers.
            let mut all = Vec::new();
            while let Some(byte) = bytes.next_element()? {
                all.push(byte);
            }
            Ok(all)
        }
    }

    input.deserialize_byte_buf(Reader).map(Text::Owned)
}

impl Bytes {
    /// No bytes.
    ///
    /// ```
    /// assert!(manyhands::Bytes::new().is_empty());
    /// ```
    pub const fn new() -> Self {
        Self(Content::Empty)
    }

    /// A copy of `bytes` in memory that is sealed against every change: what is sent to many processes,
    /// through channels or in their arguments, is this one copy, which all of them map.
    ///
    /// # Errors
    /// [`Error::System`] if there is no memory or no descriptor to be had.
    ///
    /// ```
    /// # use manyhands::{Bytes, Process};
    /// # fn main() -> Result<(), manyhands::Error> {
    /// # manyhands::init();
    /// let text = Bytes::sealed(&vec![7; 1 << 20])?;
    /// let child = Process::spawn(|text: Bytes| text.len(), text.clone())?;
    /// assert_eq!(child.join()?, text.len());
    /// # Ok(())
    /// # }
    /// ```
    pub fn sealed(bytes: &[u8]) -> Result<Self, Error> {
        let sealed = Sealed::of(bytes).map_err(Error::system("seal bytes"))?;
        Ok(Self(Content::Sealed(Arc::new(sealed))))
    }

    /// Whether they are in sealed memory.
    ///
    /// ```
    /// # use manyhands::Bytes;
    /// assert!(!Bytes::from("here").is_sealed());
    /// assert!(Bytes::sealed(b"there")?.is_sealed());
    /// # Ok::<(), manyhands::Error>(())
    /// ```
    pub fn is_sealed(&self) -> bool {
        matches!(self.0, Content::Sealed(_))
    }
}

impl Sealed {
    fn of(bytes: &[u8]) -> std::io::Result<Self> {
        let memory = frozen::seal("manyhands bytes", bytes)?;
        let mapped = frozen::open_sealed(memory.as_fd(), bytes.len())?;
        let memory = Arc::new(memory);
        Ok(Self { memory, mapped })
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Content::Empty => &[],
            Content::Here(bytes) => bytes,
            Content::Sealed(sealed) => &sealed.mapped,
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Content::Here(Arc::new(bytes)))
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl std::hash::Hash for Bytes {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.len())
    }
}

/// A buffer that came with a task or an answer.
struct Came(Received);

impl Deref for Came {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let note = match parcel::way() {
            Some(_) if self.len() < BESIDE => None,
            Some(Way::Task) => {
                let bytes = self.clone();
                parcel::put_buffer(|| Arc::new(bytes)).map(Note::Beside)
            }
            Some(Way::Letter) => {
                let fresh;
                let memory = match &self.0 {
                    Content::Sealed(sealed) => &sealed.memory,
                    _ => {
                        let sealed = frozen::seal("manyhands bytes", self);
                        fresh = Arc::new(sealed.map_err(|error| {
                            ser::Error::custom(parcel::refuse(error.to_string()))
                        })?);
                        &fresh
                    }
                };
                let number = parcel::put(WHAT, memory).map_err(ser::Error::custom)?;
                Some(Note::Sealed(number, self.len() as u64))
            }
            None => None,
        };
        note.unwrap_or(Note::Inline(Text::Borrowed(self)))
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let came = match Note::deserialize(input)? {
            Note::Inline(Text::Owned(bytes)) => Ok(Self::from(bytes)),
            Note::Inline(Text::Borrowed(bytes)) => Ok(Self::from(bytes)),
            Note::Beside(number) => parcel::take_buffer(number)
                .map(|buffer| Self(Content::Here(Arc::new(Came(buffer))))),
            Note::Sealed(number, len) => parcel::get(WHAT, number).and_then(|memory| {
                let mapped = frozen::open_sealed(memory.as_fd(), len as usize)
                    .map_err(|error| parcel::refuse(format!("no {WHAT} came: {error}")))?;
                Ok(Self(Content::Sealed(Arc::new(Sealed { memory, mapped }))))
            }),
        };
        came.map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parcel::Arrived;

    fn encoded(way: Way, bytes: &Bytes) -> (Vec<u8>, parcel::Parcel) {
        let (text, parcel) = parcel::pack(way, || postcard::to_allocvec(bytes).unwrap());
        (text, parcel)
    }

    #[test]
    fn short_ones_are_part_of_the_value_and_long_ones_are_not() {
        let (short, long) = (Bytes::from("short"), Bytes::from(vec![7; BESIDE]));
        let (text, parcel) = encoded(Way::Task, &short);
        assert!(parcel.buffers.is_empty());
        assert_eq!(postcard::from_bytes::<Bytes>(&text).unwrap(), short);
        let (text, parcel) = encoded(Way::Task, &long);
        assert_eq!((text.len(), parcel.buffers.len()), (2, 1));
        let (text, parcel) = encoded(Way::Letter, &long);
        assert_eq!((parcel.fds.len(), parcel.buffers.len()), (1, 0));
        let fds = vec![parcel.fds[0].try_clone().unwrap()];
        let back = parcel::unpack(Arrived::of(fds, Vec::new()), || {
            postcard::from_bytes::<Bytes>(&text).unwrap()
        });
        assert!(back.is_sealed() && back == long);
        assert!(postcard::from_bytes::<Bytes>(&text).is_err());
    }

    #[test]
    fn sealed_ones_are_not_copied_again() {
        let sealed = Bytes::sealed(&vec![7; BESIDE]).unwrap();
        let (_, first) = encoded(Way::Letter, &sealed);
        let (_, second) = encoded(Way::Letter, &sealed);
        assert!(Arc::ptr_eq(&first.fds[0], &second.fds[0]));
    }
}
