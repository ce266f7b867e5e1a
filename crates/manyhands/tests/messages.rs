//! What the compiler says to a program that asks for the impossible.
//!
//! Compared are the words that help, not whole messages, which change from compiler to compiler.

use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

/// The libraries that this test was linked with, and perhaps older ones: the newest first.
fn libraries(deps: &std::path::Path) -> Vec<PathBuf> {
    let mut found: Vec<(SystemTime, PathBuf)> = std::fs::read_dir(deps)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with("libmanyhands-") && name.ends_with(".rlib")
        })
        .map(|entry| (entry.metadata().unwrap().modified().unwrap(), entry.path()))
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

/// What the compiler says to a program of `tests/refused`.
fn refusal(program: &str) -> String {
    let deps = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned();
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/refused")
        .join(program);
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    for library in libraries(&deps) {
        let output = Command::new(&compiler)
            .args([
                "--edition",
                "2024",
                "--crate-type",
                "bin",
                "--emit",
                "metadata",
            ])
            .arg("--out-dir")
            .arg(env!("CARGO_TARGET_TMPDIR"))
            .arg("-L")
            .arg(format!("dependency={}", deps.display()))
            .arg("--extern")
            .arg(format!("manyhands={}", library.display()))
            .arg(source.as_os_str())
            .output()
            .expect("the compiler runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // E0460 and its like: this library was built against others than those that are there.
        let stale = ["E0460", "E0461", "E0462", "E0463", "E0464", "E0514"];
        if stale.iter().any(|code| said.contains(code)) {
            continue;
        }
        assert!(!output.status.success(), "{program} was compiled");
        return said;
    }
    panic!("no library of manyhands in {} can be used", deps.display());
}

fn says(program: &str, words: &[&str]) {
    let said = refusal(program);
    for words in words {
        assert!(
            said.contains(words),
            "{program}: {words:?} is missing in\n{said}"
        );
    }
}

#[test]
fn a_closure_that_captures_is_refused_with_the_reason() {
    says(
        "a_closure_that_captures.rs",
        &[
            "error[E0308]",
            "closures can only be coerced to `fn` types if they do not capture any variables",
            "`factor` captured here",
        ],
    );
    says(
        "a_closure_that_captures_for_a_pool.rs",
        &["closures can only be coerced to `fn` types if they do not capture any variables"],
    );
}

#[test]
fn an_argument_that_borrows_is_refused() {
    says(
        "an_argument_that_borrows.rs",
        &["error", "Deserialize", "not general enough"],
    );
}

#[test]
fn what_serde_does_not_know_is_refused_by_name() {
    says(
        "what_serde_does_not_know.rs",
        &[
            "error[E0277]",
            "the trait bound `Handle: serde::Serialize` is not satisfied",
            "required by a bound in `Process::<R>::spawn`",
        ],
    );
}

#[test]
fn a_guard_stays_in_its_thread_and_its_process() {
    says(
        "a_guard_in_another_thread.rs",
        &[
            "error[E0277]",
            "cannot be sent between threads safely",
            "LockGuard",
        ],
    );
    says(
        "a_guard_as_an_argument.rs",
        &["LockGuard", "serde::Serialize` is not satisfied"],
    );
}

#[test]
fn a_channel_has_one_type_at_both_ends() {
    says(
        "another_type_through_a_channel.rs",
        &[
            "error[E0308]",
            "expected `Receiver<String>`, found `Receiver<u64>`",
        ],
    );
    says("a_channel_of_what_borrows.rs", &["error", "Deserialize"]);
}

#[test]
fn shared_memory_holds_numbers_alone() {
    says(
        "a_slice_of_pointers.rs",
        &[
            "`*const u8` is no number that shared memory can hold",
            "an integer or a float",
        ],
    );
}

#[test]
fn locked_numbers_are_reached_through_their_guard_alone() {
    says(
        "a_locked_slice_without_its_lock.rs",
        &[
            "error[E0608]",
            "cannot index into a value of type `LockedSlice<u32>`",
        ],
    );
    says(
        "a_slice_that_outlives_its_guard.rs",
        &[
            "error[E0505]",
            "cannot move out of `guard` because it is borrowed",
        ],
    );
    says(
        "a_slice_guard_in_another_thread.rs",
        &[
            "error[E0277]",
            "cannot be sent between threads safely",
            "SliceGuard",
        ],
    );
    says(
        "a_slice_guard_as_an_argument.rs",
        &["SliceGuard", "serde::Serialize` is not satisfied"],
    );
    says(
        "a_locked_slice_of_pointers.rs",
        &["is no number that shared memory can hold"],
    );
}

#[test]
fn results_are_taken_while_their_pool_is_there() {
    says(
        "results_that_outlive_their_pool.rs",
        &["error[E0597]", "`pool` does not live long enough"],
    );
}
