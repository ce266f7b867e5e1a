//! A program that forgot `init` is told so, and told what to do.

use manyhands::{Error, Process};

fn main() {
    let error = Process::spawn(|x: u8| x, 1).unwrap_err();
    assert!(matches!(error, Error::NotPrepared), "{error}");
    let text = error.to_string();
    assert!(text.contains("call it first in main"), "{text}");
}
