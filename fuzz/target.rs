//! One fuzz target: the one that this program is called after.
#![no_main]

use std::sync::LazyLock;

use manyhands_fuzz::{Target, target};

static TARGET: LazyLock<Target> = LazyLock::new(|| target(env!("CARGO_BIN_NAME")));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
