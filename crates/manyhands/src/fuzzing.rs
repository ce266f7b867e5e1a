//! What this crate reads of other processes, for the fuzz targets: only with the feature `fuzzing`, and no part of the API.
//!
//! Always: nothing here does what a process would do that believes what it reads: start, exit, take over a key.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use manyhands_os::callable::Name;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::engine::fuzzing::Parent;
use crate::entry::Greeting;
use crate::error::Error;
use crate::parcel::{Arrived, Way};
use crate::{letter, pool, typed};

/// What came in a letter.
#[derive(Debug)]
pub struct Letter {
    /// What kind of letter.
    pub kind: u32,
    /// Its text.
    pub text: Vec<u8>,
    /// The descriptors that came along.
    pub fds: Vec<OwnedFd>,
}

/// Reads the letter that a socket has, if a whole one is there.
pub fn letter(socket: BorrowedFd<'_>) -> io::Result<Option<Letter>> {
    let letter = letter::receive(socket)?;
    Ok(letter.map(|letter::Letter { kind, text, fds }| Letter { kind, text, fds }))
}

/// Reads what a child answered to a call.
pub fn answer<R: DeserializeOwned>(answer: &[u8]) -> Result<R, Error> {
    typed::decode(answer, Arrived::default())
}

/// The answer of a child whose function returned `value`.
pub fn returned(value: &impl Serialize) -> Vec<u8> {
    typed::encode(Way::Letter, &[0], value)
        .map(|(bytes, _)| bytes)
        .unwrap_or_default()
}

/// A call of `function`, on an argument that may be none.
pub fn call<A: DeserializeOwned, R: Serialize>(function: fn(A) -> R, argument: &[u8]) -> Vec<u8> {
    let name = typed::name(function).unwrap_or([0; Name::LEN]);
    [&name[..], argument].concat()
}

/// What a child does with a call.
pub fn execute(call: &[u8]) -> Vec<u8> {
    typed::execute(call, Arrived::default()).0
}

/// Whether a child could read its parent's greeting, and after that a worker its orders.
pub fn orders(text: &[u8]) -> (bool, bool) {
    match postcard::take_from_bytes::<Greeting>(text) {
        Ok((_, rest)) => (true, pool::is_post(rest)),
        Err(_) => (false, pool::is_post(text)),
    }
}

/// Reads a value that came with descriptors.
pub fn value<T: DeserializeOwned>(text: &[u8], fds: Vec<OwnedFd>) -> Result<T, Error> {
    typed::decode_value("the message", text, Arrived::of(fds, Vec::new()))
}

/// What a value is written as, and how many descriptors go along.
pub fn written<T: Serialize>(value: &T) -> Result<(Vec<u8>, Vec<OwnedFd>), Error> {
    let (text, parcel) = typed::encode_value("the message", Way::Letter, &[], value)?;
    let copies = parcel.fds.iter().map(|fd| fd.try_clone());
    let copies = copies.collect::<io::Result<_>>();
    Ok((text, copies.map_err(Error::system("copy descriptors"))?))
}

/// The text of a channel's message that a socket has.
pub fn message(socket: BorrowedFd<'_>) -> Option<Vec<u8>> {
    crate::channel::message(socket)
}
