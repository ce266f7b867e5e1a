//! A small scanner for Python source: lines, definitions, tokens, and a check sum over all names.
//!
//! Always: it looks at every byte once and never fails; what it does not understand is one token.

use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// What the scanner counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) lines: u64,
    pub(crate) definitions: u64,
    pub(crate) tokens: u64,
    /// The names' FNV-1a hashes, added up: two ways that agree here have read the same text.
    pub(crate) names: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.definitions += other.definitions;
        self.tokens += other.tokens;
        self.names = self.names.wrapping_add(other.names);
    }
}

/// Scans one file's text.
pub(crate) fn scan(text: &[u8]) -> Counts {
    let mut counts = Counts::default();
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = match first {
            b'\n' => {
                counts.lines += 1;
                after
            }
            b' ' | b'\t' | b'\r' | b'\x0c' => after,
            b'#' => &rest[until(rest, |byte| byte == b'\n')..],
            b'"' | b'\'' => {
                counts.tokens += 1;
                let (string, after) = rest.split_at(string_len(rest));
                counts.lines += string.iter().filter(|&&byte| byte == b'\n').count() as u64;
                after
            }
            byte if is_name(*byte) => {
                let (name, after) = rest.split_at(until(rest, |byte| !is_name(byte)));
                counts.tokens += 1;
                counts.definitions += u64::from(matches!(name, b"def" | b"class"));
                counts.names = counts.names.wrapping_add(fnv(name));
                after
            }
            _ => {
                counts.tokens += 1;
                after
            }
        };
    }
    counts
}

/// The length of the string literal that `text` begins with, its quotes included.
fn string_len(text: &[u8]) -> usize {
    let quote = &text[..1];
    let triple = text.len() >= 3 && text[1] == quote[0] && text[2] == quote[0];
    let close = if triple { &text[..3] } else { quote };
    let mut at = close.len();
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'\n' if !triple => return at,
            _ if text[at..].starts_with(close) => return at + close.len(),
            _ => at += 1,
        }
    }
    text.len()
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn until(text: &[u8], stop: impl Fn(u8) -> bool) -> usize {
    text.iter()
        .position(|&byte| stop(byte))
        .unwrap_or(text.len())
}

fn fnv(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> (u64, u64, u64) {
        let counts = scan(text.as_bytes());
        (counts.lines, counts.definitions, counts.tokens)
    }

    #[test]
    fn definitions_are_counted_and_comments_are_not_tokens() {
        assert_eq!(counted("def f(x):  # def\n    return x\n"), (2, 1, 8));
    }

    #[test]
    fn what_stands_in_strings_is_one_token() {
        assert_eq!(counted("'''def\nclass'''\n\"a\\\"def\"\n"), (3, 0, 2));
    }

    #[test]
    fn text_that_ends_in_the_middle_is_scanned_to_its_end() {
        for text in ["'abc", "'abc\\", "'''abc", "\\", "''"] {
            counted(text);
        }
    }
}
