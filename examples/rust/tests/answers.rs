//! The examples run, and those that answer questions 3, 5 and 6 print what the seeds' programs print.

use std::process::Command;

/// What a program prints; lines, with process ids as PID. It has to end well, and silently.
fn printed(program: &str, arguments: &[&str]) -> Vec<String> {
    let done = Command::new(program)
        .args(arguments)
        .output()
        .expect("the example was built");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program}: {}, {said}", done.status);
    let text = String::from_utf8(done.stdout).expect("examples print UTF-8");
    text.lines().map(masked).collect()
}

/// `Process ID: 4711, Number: 1` as `Process ID: PID, Number: 1`.
fn masked(line: &str) -> String {
    match line
        .strip_prefix("Process ID: ")
        .and_then(|rest| rest.split_once(','))
    {
        Some((_, rest)) => format!("Process ID: PID,{rest}"),
        None => line.to_owned(),
    }
}

fn numbered(numbers: std::ops::Range<u32>, line: impl Fn(u32) -> String) -> Vec<String> {
    numbers.map(line).collect()
}

#[test]
fn q1_finds_the_same_in_processes_as_alone() {
    let lines = printed(env!("CARGO_BIN_EXE_q1_what_and_why"), &[]);
    assert!(
        lines.contains(&"a worker is a process of its own: true".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn q2_shows_that_processes_share_nothing_and_survive_each_other() {
    let lines = printed(env!("CARGO_BIN_EXE_q2_threads_or_processes"), &[]);
    assert_eq!(lines[0], "after a thread added 1, the counter here is 1");
    assert_eq!(
        lines[1],
        "after a process added 1, the counter there is 1, and here it still is 1"
    );
    assert!(
        lines[3].starts_with("a process crashed, and this one goes on: "),
        "{lines:?}"
    );
    assert!(lines[3].contains("SIGABRT"), "{lines:?}");
}

#[test]
fn q3_prints_what_the_seeds_print() {
    let lines = printed(env!("CARGO_BIN_EXE_q3_process"), &[]);
    // Each child is waited for before the next line, so here even the order is known.
    assert_eq!(
        lines,
        [
            "Process 1",
            "This is a child process running.",
            "Main process finished.",
            "Process ID: PID, Number: 42",
            "Worker process is running.",
        ]
    );
}

#[test]
fn q4_does_every_task_in_two_workers() {
    let lines = printed(env!("CARGO_BIN_EXE_q4_what_a_pool_is"), &[]);
    assert!(
        lines[2].starts_with("tasks done by each worker: ["),
        "{lines:?}"
    );
}

#[test]
fn q5_prints_what_the_seeds_print() {
    let squares = "[1, 4, 9, 16, 25]";
    let lines = printed(env!("CARGO_BIN_EXE_q5_pool"), &[]);
    let expected = [
        format!("Squares: {squares}"),
        format!("Result: {squares}"),
        squares.to_owned(),
        squares.to_owned(),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn q6_prints_what_the_seeds_print_group_by_group() {
    let lines = printed(env!("CARGO_BIN_EXE_q6_four_processes"), &[]);
    let mut groups = [
        numbered(0..4, |n| format!("Process {n} says: {n}")),
        numbered(1..5, |n| format!("Process printing number: {n}")),
        vec!["All processes finished.".to_owned()],
        numbered(1..5, |n| format!("Process ID: PID, Number: {n}")),
        numbered(1..5, |n| format!("Process {n}: Printing number {n}")),
        vec!["All processes have finished.".to_owned()],
        numbered(0..4, |n| n.to_string()),
    ];
    let mut rest = lines.as_slice();
    for group in &mut groups {
        let (these, after) = rest
            .split_at_checked(group.len())
            .unwrap_or_else(|| panic!("too few lines: {lines:?}"));
        let mut these = these.to_vec();
        // Within a group the processes run side by side, in any order.
        these.sort();
        group.sort();
        assert_eq!(&these, group);
        rest = after;
    }
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn pipeline_ends_when_nobody_is_left_and_counts_right() {
    let lines = printed(env!("CARGO_BIN_EXE_pipeline"), &[]);
    let words: usize = (0..1000).map(|n| 5 * (n % 7)).sum();
    assert_eq!(lines, [format!("{words} words")]);
}

#[test]
fn histogram_counts_in_one_table() {
    let lines = printed(env!("CARGO_BIN_EXE_histogram"), &[]);
    assert_eq!(lines, ["a: 300000", "k: 200000", "z: 0"]);
}

#[test]
fn deadline_cancels_what_takes_too_long_and_goes_on() {
    let lines = printed(env!("CARGO_BIN_EXE_deadline"), &[]);
    assert_eq!(
        lines,
        [
            "slept 20 ms and 10 ms",
            "an hour is too long: cancelled",
            "the pool goes on: 1 ms",
        ]
    );
}

#[test]
fn demo_runs_and_its_ways_agree() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python");
    let arguments = [
        "--rounds",
        "1",
        "--workers",
        "2",
        "--waiters",
        "4",
        "--questions",
        "12",
        folder,
    ];
    let lines = printed(env!("CARGO_BIN_EXE_demo"), &arguments);
    for text in [
        "   All three ways agree: ",
        "   All three ways got the same answers.",
        "  4 processes, manyhands ",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(text)),
            "{text:?} is not in {lines:#?}"
        );
    }
}
