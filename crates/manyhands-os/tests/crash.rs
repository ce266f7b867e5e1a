//! A process that was told to die at a named point dies there, the time that it was told, and not without a ticket.
//! Only with the feature `crash-points`: `make test-rust` has it.
#![cfg(feature = "crash-points")]

use manyhands_os::frame::Sending;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

const SIGKILL: i32 = 9;

/// What the tests below run as a process of its own; by itself it does nothing.
#[test]
fn victim() {
    if std::env::var_os("MANYHANDS_CRASH_VICTIM").is_none() {
        return;
    }
    let (_reader, writer) = std::io::pipe().unwrap();
    for number in 1..=4 {
        Sending::new(b"message").advance(writer.as_fd()).unwrap();
        println!("sent {number}");
    }
}

fn run(words: &[(&str, &str)]) -> (Output, Vec<String>) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env("MANYHANDS_CRASH_VICTIM", "yes")
        .envs(words.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let sent = text.lines().filter(|line| line.starts_with("sent"));
    let sent = sent.map(str::to_owned).collect();
    (output, sent)
}

#[test]
fn a_process_dies_the_time_that_it_was_told() {
    let (output, sent) = run(&[("MANYHANDS_CRASH_AT", "connection.sent:3")]);
    assert_eq!(output.status.signal(), Some(SIGKILL));
    assert_eq!(sent, ["sent 1", "sent 2"]);
}

#[test]
fn a_process_that_is_told_of_another_point_lives() {
    let (output, sent) = run(&[("MANYHANDS_CRASH_AT", "ring.published")]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(sent.len(), 4);
}

#[test]
fn an_order_that_makes_no_sense_is_told_and_kills_nobody() {
    for order in [
        "connection.sent:0",
        "connection.sent:x",
        "no.such-point",
        "",
    ] {
        let (output, sent) = run(&[("MANYHANDS_CRASH_AT", order)]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(sent.len(), 4);
        assert!(String::from_utf8_lossy(&output.stderr).contains("MANYHANDS_CRASH_AT"));
    }
}

#[test]
fn a_death_takes_a_ticket_and_says_whose_and_where() {
    let folder = std::env::temp_dir().join(format!("crash-tickets-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("ticket-1"), "").unwrap();
    let words = [
        ("MANYHANDS_CRASH_AT", "connection.sent"),
        ("MANYHANDS_CRASH_TICKETS", folder.to_str().unwrap()),
    ];
    let (first, _) = run(&words);
    let (second, sent) = run(&words);
    let names: Vec<_> = folder.read_dir().unwrap().flatten().collect();
    let names: Vec<_> = names.iter().map(|entry| entry.file_name()).collect();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(first.status.signal(), Some(SIGKILL));
    assert!(
        second.status.success() && sent.len() == 4,
        "nobody dies without one"
    );
    let [name] = &names[..] else {
        panic!("{names:?}")
    };
    let name = name.to_string_lossy();
    assert!(
        name.starts_with("died-") && name.ends_with("-connection.sent"),
        "{name}"
    );
}
