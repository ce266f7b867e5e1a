//! `Process`: values there and back, and every way in which a child can end.

mod common;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use common::{Scratch, children, open_fds, play, runs, scene, stage, until};
use manyhands::{Error, ExitStatus, Process};
use serde::{Deserialize, Serialize};

fn main() -> ExitCode {
    // A parent's start has to return whether its child gets to `init` or not.
    if std::env::var_os("MANYHANDS_TEST_NEVER_READS").is_some() {
        sleep_for_ever(());
    }
    manyhands::init();
    common::watchdog();
    if let Some(scene) = scene() {
        return scenes(&scene);
    }
    let trials = trials![
        a_function_runs_in_another_process,
        values_of_all_kinds_come_back,
        a_closure_that_captures_nothing_is_a_function,
        large_values_travel_both_ways,
        children_are_joined_in_any_order,
        many_threads_start_children_at_once,
        a_panic_comes_back_with_message_and_location,
        a_panic_in_a_thread_of_the_child_is_the_functions_affair,
        a_function_may_have_a_panic_hook_of_its_own,
        exit_codes_tell_how_it_ended,
        a_killed_child_is_a_value,
        an_aborted_child_is_a_value,
        a_child_that_exits_inside_the_function_is_a_value,
        a_child_killed_at_any_moment_gives_its_value_or_its_death,
        terminate_ends_a_child,
        signals_to_a_child_that_has_ended_do_nothing,
        a_child_that_never_reads_holds_up_nobody,
        try_join_gives_the_result_once,
        join_timeout_gives_up_in_time,
        a_child_starts_children,
        a_childs_child_ends_with_it,
        a_child_ends_when_its_parent_returns_from_main,
        a_dropped_process_runs_on,
        the_child_has_the_parents_arguments,
        the_child_sees_no_trace_of_how_it_was_started,
        the_environment_is_the_parents_with_changes,
        what_no_environment_can_hold_is_an_error,
        a_named_process_has_its_name,
        an_argument_that_cannot_be_decoded_is_an_error,
        a_result_that_cannot_be_encoded_is_an_error,
        a_result_that_cannot_be_decoded_is_an_error,
        what_the_function_prints_is_written_out,
        nothing_is_left_open_and_nobody_unburied,
        a_program_that_was_deleted_still_starts_children,
        closed_standard_streams_do_no_harm,
        a_marker_that_is_not_ours_is_ignored,
    ];
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
}

fn scenes(scene: &str) -> ExitCode {
    match scene {
        "print" => scene_print(),
        "leak" => scene_leak(),
        "deleted" => scene_deleted(),
        "closed streams" => scene_closed_streams(),
        "return" => scene_return(),
        other => panic!("no such scene: {other}"),
    }
    ExitCode::SUCCESS
}

fn square(x: u64) -> u64 {
    x * x
}

fn sleep_for_ever((): ()) {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn a_function_runs_in_another_process() {
    let child = Process::spawn(|x: u64| (x, std::process::id()), 42).unwrap();
    let pid = child.pid();
    let (x, inside) = child.join().unwrap();
    assert_eq!((x, inside), (42, pid as u32));
    assert_ne!(inside, std::process::id());
    assert_eq!(Process::spawn(square, 12).unwrap().join().unwrap(), 144);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle { radius: f64 },
    Named(String, Option<Box<Shape>>),
}

fn values_of_all_kinds_come_back() {
    fn same<T>(value: T) -> T {
        value
    }
    macro_rules! returns {
        ($($value:expr),* $(,)?) => {$(
            assert_eq!(Process::spawn(same, $value).unwrap().join().unwrap(), $value);
        )*};
    }
    returns![
        (),
        true,
        -1i8,
        u128::MAX,
        f64::INFINITY,
        'µ',
        String::from("many hands"),
        vec![Some(1u8), None],
        (1u8, "two".to_owned(), [3u16; 3]),
        BTreeMap::from([("a".to_owned(), vec![1, 2]), ("b".to_owned(), vec![])]),
        Ok::<u8, String>(3),
        Shape::Named("x".into(), Some(Box::new(Shape::Circle { radius: -0.5 }))),
        Shape::Point,
    ];
    let nan = Process::spawn(same, f64::from_bits(0x7ff8_dead_beef_0001)).unwrap();
    assert_eq!(nan.join().unwrap().to_bits(), 0x7ff8_dead_beef_0001);
}

fn a_closure_that_captures_nothing_is_a_function() {
    let child = Process::spawn(|(a, b): (i32, i32)| a - b, (3, 5)).unwrap();
    assert_eq!(child.join().unwrap(), -2);
}

fn large_values_travel_both_ways() {
    fn louder(text: String) -> String {
        text.to_uppercase()
    }
    let words = "many hands ";
    for len in [1 << 10, 16 << 10, 17 << 10, 1 << 20, 64 << 20] {
        let text = words.repeat(len / words.len());
        let back = Process::spawn(louder, text.clone())
            .unwrap()
            .join()
            .unwrap();
        assert!(back == text.to_uppercase(), "{len} bytes");
    }
    fn reverse(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.reverse();
        bytes
    }
    let bytes: Vec<u8> = (0..1 << 20).map(|at: u32| (at ^ (at >> 8)) as u8).collect();
    let back = Process::spawn(reverse, bytes.clone())
        .unwrap()
        .join()
        .unwrap();
    assert!(back.iter().eq(bytes.iter().rev()));
}

fn children_are_joined_in_any_order() {
    let start = |len| Process::spawn(|len: usize| "x".repeat(len), len).unwrap();
    let mut children: Vec<_> = (1..=8).map(|n| (n << 20, start(n << 20))).collect();
    while let Some((len, child)) = children.pop() {
        assert_eq!(child.join().unwrap().len(), len);
    }
}

fn many_threads_start_children_at_once() {
    std::thread::scope(|scope| {
        for n in 0..8 {
            scope.spawn(move || {
                for m in 0..5 {
                    let child = Process::spawn(square, n * m).unwrap();
                    assert_eq!(child.join().unwrap(), n * m * n * m);
                }
            });
        }
    });
}

fn a_panic_comes_back_with_message_and_location() {
    fn fail(n: u32) {
        assert!(n > 3, "{n} is too small");
    }
    let line = line!() - 2;
    let child = Process::spawn(fail, 2).unwrap();
    let pid = child.pid();
    let error = child.join().unwrap_err();
    let Error::Panicked(panic) = &error else {
        panic!("{error}")
    };
    assert_eq!((panic.message.as_str(), panic.pid), ("2 is too small", pid));
    let location = panic.location.as_deref().unwrap();
    assert!(
        location.contains(&format!("process.rs:{line}:")),
        "{location}"
    );
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("the function panicked in process {pid}, ")),
        "{text}"
    );
    assert!(text.ends_with(": 2 is too small"), "{text}");
}

fn a_panic_in_a_thread_of_the_child_is_the_functions_affair() {
    fn survive((): ()) -> bool {
        std::thread::spawn(|| panic!("in a thread")).join().is_err()
    }
    assert!(Process::spawn(survive, ()).unwrap().join().unwrap());
}

fn a_function_may_have_a_panic_hook_of_its_own() {
    fn quietly((): ()) {
        std::panic::set_hook(Box::new(|_| {}));
        panic!("heard all the same");
    }
    let error = Process::spawn(quietly, ()).unwrap().join().unwrap_err();
    let Error::Panicked(panic) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (panic.message.as_str(), panic.location),
        ("heard all the same", None)
    );
}

fn exit_codes_tell_how_it_ended() {
    fn fail((): ()) {
        panic!("on purpose");
    }
    fn exit((): ()) {
        std::process::exit(3);
    }
    fn fine((): ()) {}
    for (function, status) in [
        (fine as fn(()), ExitStatus::Exited(0)),
        (fail, ExitStatus::Exited(101)),
        (exit, ExitStatus::Exited(3)),
    ] {
        let child = Process::spawn(function, ()).unwrap();
        until("the child has ended", || !child.is_alive());
        assert_eq!(child.exit_status().unwrap(), Some(status));
        assert_eq!(child.join().is_ok(), status == ExitStatus::Exited(0));
    }
}

fn died(child: Process<()>) -> ExitStatus {
    let pid = child.pid();
    let Err(Error::Died(death)) = child.join() else {
        panic!("the child did not die")
    };
    assert_eq!(death.pid, pid);
    death.status
}

fn a_killed_child_is_a_value() {
    let child = Process::spawn(sleep_for_ever, ()).unwrap();
    assert!(child.is_alive());
    assert_eq!(child.exit_status().unwrap(), None);
    child.kill().unwrap();
    assert_eq!(died(child), ExitStatus::Signaled(9));
    let child = Process::spawn(sleep_for_ever, ()).unwrap();
    child.kill().unwrap();
    let text = child.join().unwrap_err().to_string();
    assert!(text.contains("signal 9 (SIGKILL)"), "{text}");
}

fn an_aborted_child_is_a_value() {
    let child = Process::spawn(|()| std::process::abort(), ()).unwrap();
    let _: &Process<()> = &child;
    assert_eq!(died(child), ExitStatus::Signaled(6));
}

fn a_child_that_exits_inside_the_function_is_a_value() {
    fn exit(code: i32) {
        std::process::exit(code);
    }
    assert_eq!(
        died(Process::spawn(exit, 3).unwrap()),
        ExitStatus::Exited(3)
    );
    let text = Process::spawn(exit, 0)
        .unwrap()
        .join()
        .unwrap_err()
        .to_string();
    assert!(text.contains("std::process::exit"), "{text}");
}

fn a_child_killed_at_any_moment_gives_its_value_or_its_death() {
    fn repeat(len: usize) -> String {
        "x".repeat(len)
    }
    // From before the child enters `main` to after it has exited, large answers and small ones.
    let whole = {
        let began = std::time::Instant::now();
        Process::spawn(repeat, 1 << 20).unwrap().join().unwrap();
        began.elapsed()
    };
    for moment in 0..100 {
        let len = if moment % 2 == 0 { 1 << 20 } else { 100 };
        let child = Process::spawn(repeat, len).unwrap();
        std::thread::sleep(whole * moment / 80);
        child.kill().unwrap();
        match child.join() {
            Ok(text) => assert_eq!(text.len(), len),
            Err(Error::Died(death)) => assert_eq!(death.status, ExitStatus::Signaled(9)),
            Err(other) => panic!("{other}"),
        }
    }
}

fn terminate_ends_a_child() {
    let child = Process::spawn(sleep_for_ever, ()).unwrap();
    child.terminate().unwrap();
    assert_eq!(died(child), ExitStatus::Signaled(15));
}

fn signals_to_a_child_that_has_ended_do_nothing() {
    let child = Process::spawn(square, 3).unwrap();
    until("the child has ended", || !child.is_alive());
    child.terminate().unwrap();
    child.kill().unwrap();
    assert_eq!(child.join().unwrap(), 9);
}

fn a_child_that_never_reads_holds_up_nobody() {
    fn length(text: String) -> usize {
        text.len()
    }
    let child = Process::builder()
        .env("MANYHANDS_TEST_NEVER_READS", "1")
        .spawn(length, "x".repeat(64 << 20))
        .unwrap();
    assert!(child.is_alive());
    child.kill().unwrap();
    assert!(matches!(child.join(), Err(Error::Died(_))));
}

fn try_join_gives_the_result_once() {
    let mut child = Process::spawn(square, 3).unwrap();
    let mut result = None;
    until("the child has ended", || {
        result = child.try_join().unwrap();
        result.is_some()
    });
    assert_eq!(result, Some(9));
    assert!(matches!(child.try_join(), Err(Error::Taken)));
    assert_eq!(child.exit_status().unwrap(), Some(ExitStatus::Exited(0)));
    assert!(matches!(child.join(), Err(Error::Taken)));
}

fn join_timeout_gives_up_in_time() {
    let mut child = Process::spawn(sleep_for_ever, ()).unwrap();
    assert!(
        child
            .join_timeout(Duration::from_millis(10))
            .unwrap()
            .is_none()
    );
    assert!(child.join_timeout(Duration::ZERO).unwrap().is_none());
    child.kill().unwrap();
    assert!(matches!(
        child.join_timeout(Duration::MAX),
        Err(Error::Died(_))
    ));
}

fn a_child_starts_children() {
    fn depth(left: u32) -> Vec<u32> {
        let mut pids = match left {
            0 => Vec::new(),
            _ => Process::spawn(depth, left - 1).unwrap().join().unwrap(),
        };
        pids.push(std::process::id());
        pids
    }
    let mut pids = Process::spawn(depth, 3).unwrap().join().unwrap();
    pids.push(std::process::id());
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 5);
}

/// Starts a child that sleeps, and says its pid in a file.
fn parent_of_a_sleeper(file: String) {
    let child = Process::spawn(sleep_for_ever, ()).unwrap();
    std::fs::write(file.clone() + ".new", child.pid().to_string()).unwrap();
    std::fs::rename(file.clone() + ".new", file).unwrap();
    sleep_for_ever(());
}

fn a_childs_child_ends_with_it() {
    let scratch = Scratch::new("orphan");
    let file = scratch.file("pid");
    let child = Process::spawn(parent_of_a_sleeper, file.clone()).unwrap();
    until("the grandchild is there", || {
        std::path::Path::new(&file).exists()
    });
    let grandchild = std::fs::read_to_string(file).unwrap().parse().unwrap();
    assert!(runs(grandchild));
    child.kill().unwrap();
    assert_eq!(died(child), ExitStatus::Signaled(9));
    until("the grandchild is gone", || !runs(grandchild));
}

fn scene_return() {
    println!("{}", Process::spawn(sleep_for_ever, ()).unwrap().pid());
}

fn a_child_ends_when_its_parent_returns_from_main() {
    // The scene is over when nobody holds its standard output any more, the child included.
    let printed = play("return").stdout;
    let pid = String::from_utf8(printed).unwrap().trim().parse().unwrap();
    until("the child is gone", || !runs(pid));
}

fn a_dropped_process_runs_on() {
    fn write(file: String) {
        std::fs::write(file, "done").unwrap();
    }
    let scratch = Scratch::new("dropped");
    let file = scratch.file("done");
    drop(Process::spawn(write, file.clone()).unwrap());
    until("the child has done its work", || {
        std::fs::read(&file).is_ok_and(|text| text == b"done")
    });
}

fn the_child_has_the_parents_arguments() {
    let arguments = Process::spawn(|()| std::env::args().collect::<Vec<_>>(), ()).unwrap();
    assert_eq!(
        arguments.join().unwrap(),
        std::env::args().collect::<Vec<_>>()
    );
}

fn the_child_sees_no_trace_of_how_it_was_started() {
    fn environment((): ()) -> Vec<String> {
        std::env::vars().map(|(name, _)| name).collect()
    }
    let names = Process::spawn(environment, ()).unwrap().join().unwrap();
    assert!(
        !names.iter().any(|name| name == "MANYHANDS_CHILD"),
        "{names:?}"
    );
    fn inherited_by_a_program((): ()) -> String {
        let list = std::process::Command::new("ls")
            .arg("/proc/self/fd")
            .output()
            .unwrap();
        String::from_utf8(list.stdout)
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }
    // The three standard streams, and the directory that ls reads.
    assert_eq!(
        Process::spawn(inherited_by_a_program, ())
            .unwrap()
            .join()
            .unwrap(),
        "0 1 2 3"
    );
}

fn the_environment_is_the_parents_with_changes() {
    fn get(name: String) -> Option<String> {
        std::env::var(name).ok()
    }
    let get = |name: &str| {
        let builder = Process::builder()
            .env("HANDS", "two")
            .env("HANDS", "many")
            .env("EMPTY", "");
        builder.spawn(get, name.to_owned()).unwrap().join().unwrap()
    };
    assert_eq!(get("HANDS").as_deref(), Some("many"));
    assert_eq!(get("EMPTY").as_deref(), Some(""));
    assert_eq!(get("PATH"), std::env::var("PATH").ok());
    assert_eq!(std::env::var_os("HANDS"), None);
}

fn what_no_environment_can_hold_is_an_error() {
    for (name, value) in [("", "x"), ("A=B", "x"), ("NUL\0", "x"), ("NUL", "x\0y")] {
        let error = Process::builder()
            .env(name, value)
            .spawn(square, 1)
            .unwrap_err();
        let Error::System { source, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(source.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    }
}

fn a_named_process_has_its_name() {
    fn comm((): ()) -> String {
        std::fs::read_to_string("/proc/self/comm")
            .unwrap()
            .trim()
            .to_owned()
    }
    let child = Process::builder()
        .name("a name that is longer than 15")
        .spawn(comm, ())
        .unwrap();
    assert_eq!(child.name(), Some("a name that is longer than 15"));
    assert_eq!(child.join().unwrap(), "a name that is");
    let unnamed = Process::spawn(comm, ()).unwrap();
    assert_eq!(unnamed.name(), None);
    assert_ne!(unnamed.join().unwrap(), "exe");
}

/// Encodes, but wants to be told its type when it is decoded, which postcard does not do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u32),
    Text(String),
}

fn an_argument_that_cannot_be_decoded_is_an_error() {
    fn take(value: Untagged) -> bool {
        matches!(value, Untagged::Text(_) | Untagged::Number(_))
    }
    let error = Process::spawn(take, Untagged::Number(1))
        .unwrap()
        .join()
        .unwrap_err();
    let Error::Decode {
        what: "the argument",
        type_name,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert!(type_name.contains("Untagged"), "{error}");
}

fn a_result_that_cannot_be_decoded_is_an_error() {
    fn give((): ()) -> Untagged {
        Untagged::Text("x".into())
    }
    let error = Process::spawn(give, ()).unwrap().join().unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Decode {
                what: "the result",
                ..
            }
        ),
        "{error}"
    );
}

#[derive(Debug, Deserialize)]
struct Shy;

impl Serialize for Shy {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not before people"))
    }
}

fn a_result_that_cannot_be_encoded_is_an_error() {
    let error = Process::spawn(|()| Shy, ()).unwrap().join().unwrap_err();
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
    let error = Process::spawn(|_: Shy| (), Shy).unwrap_err();
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
    assert!(error.to_string().contains("Shy"), "{error}");
}

fn scene_print() {
    fn print((): ()) {
        print!("said without an end of line");
    }
    fn fail((): ()) {
        print!(", and before a panic");
        panic!("seen by all");
    }
    Process::spawn(print, ()).unwrap().join().unwrap();
    Process::spawn(fail, ()).unwrap().join().unwrap_err();
}

fn what_the_function_prints_is_written_out() {
    let output = play("print");
    let (out, err) = (
        String::from_utf8(output.stdout),
        String::from_utf8(output.stderr),
    );
    assert_eq!(
        out.unwrap(),
        "said without an end of line, and before a panic"
    );
    assert!(err.unwrap().contains("seen by all"));
}

fn scene_leak() {
    fn end(how: u32) -> u32 {
        match how {
            0 => std::process::abort(),
            1 => panic!("{how}"),
            2 => std::process::exit(2),
            _ => how,
        }
    }
    let round = || {
        let children: Vec<_> = (0..6)
            .map(|how| Process::spawn(end, how).unwrap())
            .collect();
        let ended = children
            .into_iter()
            .map(Process::join)
            .filter(Result::is_ok)
            .count();
        assert_eq!(ended, 3);
        drop(Process::spawn(end, 5).unwrap());
    };
    round();
    let before = open_fds();
    (0..20).for_each(|_| round());
    // Those that were dropped are buried when the next one is started.
    until("the dropped children are buried", || {
        Process::spawn(end, 5).unwrap().join().unwrap();
        children() == 0
    });
    assert!(
        open_fds() <= before,
        "{before} descriptors before, {} after",
        open_fds()
    );
}

fn nothing_is_left_open_and_nobody_unburied() {
    play("leak");
}

fn scene_deleted() {
    std::fs::remove_file(std::env::current_exe().unwrap()).unwrap();
    println!("{}", Process::spawn(square, 5).unwrap().join().unwrap());
}

fn a_program_that_was_deleted_still_starts_children() {
    let scratch = Scratch::new("deleted");
    let copy = scratch.file("program");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let stage = stage("deleted");
    let output = std::process::Command::new(copy)
        .envs(own_env(&stage))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "25\n");
}

fn own_env(command: &std::process::Command) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let set = command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    set.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn scene_closed_streams() {
    let result = Process::spawn(square, 5).unwrap().join();
    std::fs::write(std::env::var("RESULT").unwrap(), format!("{result:?}")).unwrap();
}

fn closed_standard_streams_do_no_harm() {
    let scratch = Scratch::new("streams");
    let result = scratch.file("result");
    let program = std::env::current_exe().unwrap();
    let status = std::process::Command::new("sh")
        .args(["-c", "exec \"$0\" <&- >&- 2>&-"])
        .arg(program)
        .envs(own_env(&stage("closed streams")))
        .env("RESULT", &result)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(std::fs::read_to_string(result).unwrap(), "Ok(25)");
}

fn a_marker_that_is_not_ours_is_ignored() {
    for marker in ["", "9:1", "1:1", "what", "1000000:4"] {
        let output = stage("print")
            .env("MANYHANDS_CHILD", marker)
            .output()
            .unwrap();
        assert!(output.status.success(), "{marker:?}: {output:?}");
        assert!(output.stdout.starts_with(b"said"), "{marker:?}: {output:?}");
    }
}
