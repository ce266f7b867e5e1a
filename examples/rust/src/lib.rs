//! The code of the guide to the Rust face, which `cargo test --doc` runs.
#![doc = include_str!("../../../docs/rust.md")]
