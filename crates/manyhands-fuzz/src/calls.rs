//! What says which function is called with what, and what became of it: calls, answers, and the orders of a child.

use std::collections::BTreeMap;

use manyhands::fuzzing;

use crate::script::Script;

type Mixed = (
    u8,
    Option<i64>,
    String,
    Vec<(u32, f64)>,
    BTreeMap<String, Vec<u8>>,
);

fn total(numbers: Vec<u64>) -> u64 {
    numbers.iter().fold(0, |sum, number| sum ^ number)
}

fn shout(text: String) -> String {
    text.to_uppercase()
}

fn mixed(value: Mixed) -> Mixed {
    value
}

pub(crate) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let Some(sort) = script.byte() else { return };
    let bytes = script.rest();
    match sort % 8 {
        0 => drop(fuzzing::answer::<u64>(bytes)),
        1 => drop(fuzzing::answer::<String>(bytes)),
        2 => {
            // What was read is what would be written, but for numbers in more bytes than they need.
            if let Ok(value) = fuzzing::answer::<Mixed>(bytes) {
                let again = fuzzing::returned(&value);
                let same = fuzzing::answer::<Mixed>(&again).expect("what was written is read");
                assert_eq!(format!("{value:?}"), format!("{same:?}"));
            }
        }
        3 => {
            let call = fuzzing::call(total, bytes);
            let answer = fuzzing::execute(&call);
            // An answer of ours is always one that can be read, whether it is good news or not.
            let _ = fuzzing::answer::<u64>(&answer).map(drop);
            assert!(!answer.is_empty());
        }
        4 => drop(fuzzing::execute(&fuzzing::call(shout, bytes))),
        5 => drop(fuzzing::execute(&fuzzing::call(mixed, bytes))),
        6 => drop(fuzzing::execute(bytes)),
        _ => drop(fuzzing::orders(bytes)),
    }
}
