//! Typed calls: a function and its argument as bytes, and what became of them as bytes.
//!
//! The caller's side makes a call ([`encode`]) and reads the answer ([`decode`]); the child's
//! side is [`execute`], which never unwinds. Always: what is executed was named by
//! `manyhands_os::callable`, which checks every name; what comes back is checked by serde.
//! Not here: how the bytes travel (`process`, `pool`), what goes beside them (`parcel`).

use std::any::{Any, type_name};
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use manyhands_os::callable::{self, Callable, Convention, Name};
use manyhands_os::fork_state;
use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Panicked};
use crate::parcel::{self, Arrived, Parcel, Way};

/// The first byte of an answer.
mod verdict {
    /// The result follows.
    pub(super) const RETURNED: u8 = 0;
    /// A [`super::Panic`] follows.
    pub(super) const PANICKED: u8 = 1;
    /// A [`super::Untranslated`] about the argument follows.
    pub(super) const ARGUMENT: u8 = 2;
    /// A [`super::Untranslated`] about the result follows.
    pub(super) const RESULT: u8 = 3;
    /// A process id and a text follow: who did not make the call, and why.
    pub(super) const REFUSED: u8 = 4;
}

#[derive(Serialize, Deserialize)]
struct Panic {
    message: String,
    location: Option<String>,
    pid: i32,
}

#[derive(Serialize, Deserialize)]
struct Untranslated {
    type_name: String,
    reason: String,
}

/// Calls functions from `A` to `R` with postcard on both sides.
struct Postcard<A, R>(PhantomData<fn(A) -> R>);

impl<A: DeserializeOwned, R: Serialize> Convention for Postcard<A, R> {
    type Argument = A;
    type Return = R;

    fn call(function: fn(A) -> R, input: &[u8]) -> Vec<u8> {
        let way = WAY.get();
        let argument = match parcel::unpack(parcel::take_pending(), || from_bytes::<A>(input)) {
            Ok(argument) => argument,
            Err(reason) => return untranslated::<A>(verdict::ARGUMENT, reason),
        };
        let result = function(argument);
        let (answer, parcel) = parcel::pack(way, || to_bytes(vec![verdict::RETURNED], &result));
        match answer {
            Ok(answer) => {
                parcel::leave_outgoing(parcel);
                answer
            }
            Err(reason) => untranslated::<R>(verdict::RESULT, reason),
        }
    }
}

fn untranslated<T>(verdict: u8, reason: String) -> Vec<u8> {
    say(
        verdict,
        &Untranslated {
            type_name: type_name::<T>().to_owned(),
            reason,
        },
    )
}

fn say(verdict: u8, what: &impl Serialize) -> Vec<u8> {
    // Strings and options of strings always encode; an empty answer reads as a broken one.
    to_bytes(vec![verdict], what).unwrap_or_default()
}

/// Bytes that postcard adds to: a string or a slice of bytes at once, which its own way of
/// extending a vector does one byte after the other.
struct Growing(Vec<u8>);

impl Flavor for Growing {
    type Output = Vec<u8>;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

fn to_bytes(beginning: Vec<u8>, value: &impl Serialize) -> Result<Vec<u8>, String> {
    postcard::serialize_with_flavor(value, Growing(beginning)).map_err(parcel::reason)
}

fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!(
            "{} bytes are left over after the value",
            rest.len()
        )),
        Err(error) => Err(parcel::reason(error)),
    }
}

/// The name of a function, in the bytes that begin a call.
pub(crate) fn name<A, R>(function: fn(A) -> R) -> Result<[u8; Name::LEN], Error>
where
    A: DeserializeOwned,
    R: Serialize,
{
    let name = Name::of::<Postcard<A, R>>(function).map_err(|error| Error::Function {
        function: type_name::<fn(A) -> R>(),
        reason: error.to_string(),
    })?;
    Ok(name.to_bytes())
}

/// A call as bytes: its `beginning`, which is the function's name or nothing, then the argument; and what goes along.
pub(crate) fn encode<A: Serialize>(
    way: Way,
    beginning: &[u8],
    argument: &A,
) -> Result<(Vec<u8>, Parcel), Error> {
    encode_value("the argument", way, beginning, argument)
}

/// A value that is `what` as bytes after `beginning`, and what goes along.
pub(crate) fn encode_value<T: Serialize>(
    what: &'static str,
    way: Way,
    beginning: &[u8],
    value: &T,
) -> Result<(Vec<u8>, Parcel), Error> {
    let (bytes, parcel) = parcel::pack(way, || to_bytes(beginning.to_vec(), value));
    let bytes = bytes.map_err(|reason| Error::Encode {
        what,
        type_name: type_name::<T>().to_owned(),
        reason,
    })?;
    Ok((bytes, parcel))
}

/// Reads a value that is `what`.
pub(crate) fn decode_value<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
    arrived: Arrived,
) -> Result<T, Error> {
    parcel::unpack(arrived, || from_bytes(bytes)).map_err(|reason| Error::Decode {
        what,
        type_name: type_name::<T>().to_owned(),
        reason,
    })
}

/// Runs a call that begins with a name, in the process that received it. The answer is for
/// [`decode`].
pub(crate) fn execute(call: &[u8], arrived: Arrived) -> (Vec<u8>, Parcel) {
    match call.split_first_chunk() {
        Some((name, input)) => match find(name) {
            Ok(callable) => run(callable, input, arrived, Way::Letter),
            Err(answer) => (answer, Parcel::default()),
        },
        None => {
            let why = format!(
                "a call of {} bytes is too short to name a function",
                call.len()
            );
            (refuse(&why), Parcel::default())
        }
    }
}

/// Finds the function of a name, or gives the answer to every call of it.
pub(crate) fn find(name: &[u8; Name::LEN]) -> Result<Callable, Vec<u8>> {
    callable::find(Name::from_bytes(name)).map_err(|stranger| refuse(&stranger.to_string()))
}

/// Calls a function that was found on an encoded argument. `way` is what the answer can take along.
pub(crate) fn run(
    callable: Callable,
    input: &[u8],
    arrived: Arrived,
    way: Way,
) -> (Vec<u8>, Parcel) {
    LOCATION.take();
    WAY.set(way);
    parcel::leave_pending(arrived);
    let answer = run_caught(callable, input);
    // What a call that was refused left unread; and what was packed for an answer that was not given.
    drop(parcel::take_pending());
    let parcel = parcel::take_outgoing();
    match returned(&answer) {
        true => (answer, parcel),
        false => (answer, Parcel::default()),
    }
}

fn run_caught(callable: Callable, input: &[u8]) -> Vec<u8> {
    // What the function was doing when it panicked is gone with it: the caller gets a fresh
    // value from the next call, and statics are the function's own affair, as in a thread.
    match catch_unwind(AssertUnwindSafe(|| callable.call(input))) {
        Ok(answer) => answer,
        Err(payload) => {
            let answer = panic_answer(&*payload, LOCATION.take());
            // Dropping somebody's payload may panic again, outside of any catch.
            std::mem::forget(payload);
            answer
        }
    }
}

/// The answer that says that a call was not made.
pub(crate) fn refuse(reason: &str) -> Vec<u8> {
    say(verdict::REFUSED, &(fork_state::pid(), reason))
}

/// Whether an answer brings a result; otherwise the call failed.
pub(crate) fn returned(answer: &[u8]) -> bool {
    answer.first() == Some(&verdict::RETURNED)
}

/// Whether an answer tells of a panic.
pub(crate) fn panicked(answer: &[u8]) -> bool {
    answer.first() == Some(&verdict::PANICKED)
}

/// Reads the answer that came from a child.
pub(crate) fn decode<R: DeserializeOwned>(answer: &[u8], arrived: Arrived) -> Result<R, Error> {
    let broken = |reason: String| Error::Decode {
        what: "the result",
        type_name: type_name::<R>().to_owned(),
        reason,
    };
    let (&verdict, rest) = answer
        .split_first()
        .ok_or_else(|| broken("the answer is empty".to_owned()))?;
    Err(match verdict {
        verdict::RETURNED => return parcel::unpack(arrived, || from_bytes(rest)).map_err(broken),
        verdict::PANICKED => {
            let Panic {
                message,
                location,
                pid,
            } = from_bytes(rest).map_err(broken)?;
            Error::Panicked(Panicked {
                message,
                location,
                pid,
            })
        }
        verdict::ARGUMENT => {
            let Untranslated { type_name, reason } = from_bytes(rest).map_err(broken)?;
            Error::Decode {
                what: "the argument",
                type_name,
                reason,
            }
        }
        verdict::RESULT => {
            let Untranslated { type_name, reason } = from_bytes(rest).map_err(broken)?;
            Error::Encode {
                what: "the result",
                type_name,
                reason,
            }
        }
        verdict::REFUSED => {
            let (pid, reason) = from_bytes(rest).map_err(broken)?;
            Error::Refused { pid, reason }
        }
        other => broken(format!(
            "the answer begins with {other}, which means nothing"
        )),
    })
}

thread_local! {
    /// What the answer to the call that is about to be made can take along.
    static WAY: Cell<Way> = const { Cell::new(Way::Letter) };
    /// Where this thread last panicked.
    static LOCATION: Cell<Option<String>> = const { Cell::new(None) };
}

/// Remembers where a panic happens, for the answer; the panic is printed as ever.
///
/// A program that aborts on panic does not come back to [`execute`]: there `last_words` is
/// called with the answer, in the hook.
pub(crate) fn watch_panics(last_words: impl Fn(Vec<u8>) + Send + Sync + 'static) {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let location = info.location().map(ToString::to_string);
        previous(info);
        if cfg!(panic = "abort") {
            last_words(panic_answer(info.payload(), location));
        } else {
            LOCATION.set(location);
        }
    }));
}

fn panic_answer(payload: &(dyn Any + Send), location: Option<String>) -> Vec<u8> {
    let message = match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => String::new(),
    };
    say(
        verdict::PANICKED,
        &Panic {
            message,
            location,
            pid: fork_state::pid(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(text: String) -> usize {
        text.len()
    }

    fn refuse_odd(x: u32) -> u32 {
        assert!(x.is_multiple_of(2), "{x} is odd");
        x
    }

    fn call<A, R>(function: fn(A) -> R, argument: A) -> Result<R, Error>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let (call, parcel) = encode(Way::Letter, &name(function)?, &argument)?;
        assert!(parcel.fds.is_empty());
        decoded(&call)
    }

    fn decoded<R: DeserializeOwned>(call: &[u8]) -> Result<R, Error> {
        let (answer, _) = execute(call, Arrived::default());
        decode(&answer, Arrived::default())
    }

    #[test]
    fn a_call_comes_back_with_the_result() {
        assert_eq!(call(length, "manyhands".to_owned()).unwrap(), 9);
    }

    #[test]
    fn a_panic_is_a_value_with_its_message() {
        let Err(Error::Panicked(panic)) = call(refuse_odd, 3) else {
            panic!("no panic")
        };
        assert_eq!(
            (panic.message.as_str(), panic.pid),
            ("3 is odd", fork_state::pid())
        );
        assert_eq!(call(refuse_odd, 4).unwrap(), 4);
    }

    #[test]
    fn a_panic_without_text_is_a_value_too() {
        fn odd_payload((): ()) {
            std::panic::panic_any(17);
        }
        let error = call(odd_payload, ()).unwrap_err().to_string();
        assert!(error.ends_with("(a panic without a message)"), "{error}");
    }

    #[test]
    fn broken_calls_are_refused() {
        for broken in [&[][..], &[1; 8], &[0; 32], &[0xff; 64]] {
            let error = decoded::<()>(broken).unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{error}");
        }
    }

    #[test]
    fn an_argument_of_another_shape_is_an_error_of_decoding() {
        let (mut call, _) = encode(Way::Letter, &name(length).unwrap(), &"abc".to_owned()).unwrap();
        call.truncate(call.len() - 1);
        let error = decoded::<usize>(&call).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Decode {
                    what: "the argument",
                    ..
                }
            ),
            "{error}"
        );
        call.extend_from_slice(b"cd");
        let error = decoded::<usize>(&call).unwrap_err();
        assert!(
            error.to_string().contains("1 bytes are left over"),
            "{error}"
        );
    }

    #[test]
    fn an_answer_that_means_nothing_is_an_error_of_decoding() {
        for broken in [
            &[][..],
            &[9, 9],
            &[verdict::PANICKED],
            &[verdict::RETURNED, 2],
        ] {
            let error = decode::<bool>(broken, Arrived::default()).unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Decode {
                        what: "the result",
                        ..
                    }
                ),
                "{error}"
            );
        }
    }

    #[test]
    fn a_result_that_cannot_be_encoded_is_an_error_of_encoding() {
        struct Endless;
        impl Serialize for Endless {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeSeq;
                serializer.serialize_seq(None)?.end()
            }
        }
        impl<'de> Deserialize<'de> for Endless {
            fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                Ok(Self)
            }
        }
        fn endless((): ()) -> Endless {
            Endless
        }
        let Err(error) = call(endless, ()) else {
            panic!("encoded")
        };
        assert!(
            matches!(
                &error,
                Error::Encode {
                    what: "the result",
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("Endless"), "{error}");
        let Err(error) = encode(Way::Letter, &name(length).unwrap(), &Endless) else {
            panic!("encoded")
        };
        assert!(
            matches!(
                &error,
                Error::Encode {
                    what: "the argument",
                    ..
                }
            ),
            "{error}"
        );
    }
}
