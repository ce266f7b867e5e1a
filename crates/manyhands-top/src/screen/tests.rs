//! Pictures of reports, letter by letter, and what keys do.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::app::{Wish, press};
use crate::report::{Death, Task, Unreadable};

fn worker(number: u64, state: WorkerState, task: Option<(&str, f64)>) -> Worker {
    Worker {
        number,
        pid: 4712 + number as i32,
        state,
        age: 123.0,
        task: task.map(|(name, seconds)| Task {
            name: Some(name.to_owned()),
            serial: 7,
            seconds,
        }),
        load: 2,
        done: 12_003 - number,
        raised: 0,
        rate: Some(210.4),
        mean: Some(0.0047),
        busy: Some(0.97),
        bytes_out: 0,
        bytes_in: 0,
        cpu: Some(0.98 - number as f64 / 10.0),
        memory: Some(64 << 20),
    }
}

fn report() -> Report {
    let pool = Pool {
        pid: 4711,
        program: "python train.py --epochs 3".to_owned(),
        face: "Pool",
        state: "open",
        age: 123.0,
        size: 4,
        launching: 1,
        unlisted: 0,
        waiting: 9,
        queued: 3,
        inputs: 1,
        handed: 41_240,
        done: 41_223,
        raised: 3,
        lost: 1,
        rate: Some(834.0),
        mean: Some(0.0047),
        bytes_out: 1 << 20,
        bytes_in: 3 << 20,
        bytes_out_rate: Some(1200.0),
        bytes_in_rate: Some(0.0),
        started: 5,
        deaths: 1,
        last_death: Some(Death {
            pid: 4710,
            exitcode: -9,
            cause: Cause::OutOfMemory,
            ago: 12.0,
        }),
        workers: vec![
            worker(0, WorkerState::Running, Some(("train_batch", 1.2))),
            worker(1, WorkerState::Stuck, Some(("Client.fetch", 42.0))),
            worker(2, WorkerState::Waiting, None),
        ],
    };
    Report {
        version: 1,
        manyhands: "0.1.0",
        time: 0.0,
        interval: 1.0,
        pid: None,
        pools: vec![pool],
        unreadable: Vec::new(),
    }
}

fn picture(report: &Report, view: &mut View, width: u16, height: u16) -> Vec<String> {
    let mut terminal =
        Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
    terminal
        .draw(|frame| draw(frame, report, view))
        .expect("it draws");
    let buffer = terminal.backend().buffer().clone();
    let rows = (0..height).map(|y| {
        let row: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        row.trim_end().to_owned()
    });
    rows.collect()
}

#[test]
fn a_pool_is_drawn_with_its_facts_its_death_and_its_workers() {
    let lines = picture(&report(), &mut View::default(), 120, 11);
    let expected = [
        " manyhands top  1 pool, 3 workers: 1 running, 1 waiting, 1 in trouble; 834/s tasks",
        "",
        "Pool python train.py --epochs 3  pid 4711 · up 2m03s",
        "  3 of 4 workers · 1 being started · 12 queued · 1 input being read · 41,223 done · 834/s · 4.7ms each · 3 raised",
        "  1 lost · out 1.0 MiB (1.2 KiB/s) · in 3.0 MiB (0 B/s)",
        "  1 worker died; the last one 12.0s ago: pid 4710, SIGKILL, out of memory",
        "     #     PID STATE        FOR RUNS                                  TASKS     RATE    MEAN QUEUED  BUSY   CPU      MEM",
        "     0    4712 running     1.2s train_batch                          12,003    210/s   4.7ms      1   97%   98%   64 MiB",
        "     1    4713 stuck      42.0s Client.fetch                         12,002    210/s   4.7ms      1   97%   88%   64 MiB",
        "     2    4714 waiting        -                                      12,001    210/s   4.7ms      2   97%   78%   64 MiB",
        " q quit  s sort: number  p pause  ? help  ↑↓ scroll",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_narrow_terminal_keeps_the_columns_that_tell_most_and_wraps_nothing() {
    for width in [1, 5, 20, 40, 60, 80] {
        let lines = picture(&report(), &mut View::default(), width, 14);
        assert_eq!(lines.len(), 14, "{width}");
    }
    let lines = picture(&report(), &mut View::default(), 40, 16).join("\n");
    assert!(
        lines.contains("stuck") && lines.contains("Client.fet"),
        "{lines}"
    );
    assert!(!lines.contains("MEAN"), "{lines}");
    let lines = picture(&report(), &mut View::default(), 80, 16).join("\n");
    assert!(
        lines.contains("CPU") && lines.contains("train_batch"),
        "{lines}"
    );
}

#[test]
fn no_pool_is_explained() {
    let empty = Report {
        pools: Vec::new(),
        ..report()
    };
    let lines = picture(&empty, &mut View::default(), 100, 8).join("\n");
    assert!(lines.contains("No pool of yours is running"), "{lines}");
    assert!(lines.contains("manyhands run program.py"), "{lines}");
}

#[test]
fn a_page_of_another_release_is_named() {
    let mut other = report();
    other.unreadable.push(Unreadable {
        pid: 99,
        why: "version 7".to_owned(),
    });
    let text = plain(&other, 100);
    assert!(text.contains("The pool of process 99 cannot be looked at: version 7"));
}

#[test]
fn without_colour_there_is_none_and_with_it_trouble_is_red() {
    for has_colour in [false, true] {
        let mut terminal = Terminal::new(TestBackend::new(120, 12)).expect("a terminal");
        let mut view = View {
            has_colour,
            ..View::default()
        };
        let report = report();
        terminal
            .draw(|frame| draw(frame, &report, &mut view))
            .expect("it draws");
        let buffer = terminal.backend().buffer();
        let colours: Vec<Color> = buffer.content().iter().map(|cell| cell.fg).collect();
        assert_eq!(colours.contains(&Color::Red), has_colour);
        assert_eq!(
            colours.iter().any(|colour| *colour != Color::Reset),
            has_colour
        );
    }
}

#[test]
fn the_order_of_workers_follows_the_key() {
    let mut view = View::default();
    let key = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE);
    assert_eq!(press(&mut view, key('s'), 24), Wish::Draw);
    assert_eq!(view.sort, Sort::Longest);
    let text = picture(&report(), &mut view, 120, 12).join("\n");
    let (stuck, running) = (text.find("4713").unwrap(), text.find("4712").unwrap());
    assert!(stuck < running, "{text}");
    for _ in 0..4 {
        press(&mut view, key('s'), 24);
    }
    assert_eq!(view.sort, Sort::Number);
}

#[test]
fn keys_quit_pause_help_and_scroll_no_further_than_there_is() {
    let mut view = View::default();
    let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
    assert_eq!(press(&mut view, key(KeyCode::Char('q')), 24), Wish::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(press(&mut view, interrupt, 24), Wish::Quit);
    assert_eq!(press(&mut view, key(KeyCode::Char('p')), 24), Wish::Draw);
    assert!(view.is_paused);
    assert_eq!(press(&mut view, key(KeyCode::Char('p')), 24), Wish::Look);
    press(&mut view, key(KeyCode::Char('?')), 24);
    let text = picture(&report(), &mut view, 100, 30).join("\n");
    assert!(text.contains("manyhands stacks PID"), "{text}");
    assert_eq!(press(&mut view, key(KeyCode::Esc), 24), Wish::Draw);
    assert!(!view.has_help);
    press(&mut view, key(KeyCode::End), 24);
    let text = picture(&report(), &mut view, 120, 6);
    assert!(
        text[4].contains("4714") || text[3].contains("4714"),
        "{text:?}"
    );
    assert!(view.scroll < 10, "{}", view.scroll);
}

#[test]
fn what_is_too_long_is_cut_and_says_so() {
    assert_eq!(cell("abcdef", 4, true), "abc…");
    assert_eq!(cell("äöü", 5, false), "  äöü");
    assert_eq!(cell("日本語", 5, true), "日本…");
}
