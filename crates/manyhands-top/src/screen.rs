//! The picture: a report as lines of text, for a terminal of any width and for a file.
//!
//! Always: what tells most is drawn first; columns that find no room are left out, never wrapped. Colour says nothing that
//! a word does not say too.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use crate::format::{bytes, count, rate, share, time};
use crate::report::{Cause, Pool, Report, Running, Worker, WorkerState};

/// In which order workers are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By number.
    #[default]
    Number,
    /// What runs longest first.
    Longest,
    /// What uses the processor most first.
    Cpu,
    /// What has most memory first.
    Memory,
    /// What has done most first.
    Tasks,
}

impl Sort {
    /// What comes after it when the key is pressed.
    #[must_use]
    pub fn next(self) -> Sort {
        match self {
            Sort::Number => Sort::Longest,
            Sort::Longest => Sort::Cpu,
            Sort::Cpu => Sort::Memory,
            Sort::Memory => Sort::Tasks,
            Sort::Tasks => Sort::Number,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Sort::Number => "number",
            Sort::Longest => "longest running",
            Sort::Cpu => "processor",
            Sort::Memory => "memory",
            Sort::Tasks => "tasks",
        }
    }

    fn apply(self, workers: &mut [&Worker]) {
        let cpu = |worker: &Worker| worker.cpu.unwrap_or(-1.0);
        let runs = |worker: &Worker| worker.task.as_ref().map_or(-1.0, |task| task.seconds);
        match self {
            Sort::Number => {}
            Sort::Longest => workers.sort_by(|a, b| runs(b).total_cmp(&runs(a))),
            Sort::Cpu => workers.sort_by(|a, b| cpu(b).total_cmp(&cpu(a))),
            Sort::Memory => workers.sort_by_key(|worker| std::cmp::Reverse(worker.memory)),
            Sort::Tasks => workers.sort_by_key(|worker| std::cmp::Reverse(worker.done)),
        }
    }
}

/// How a report is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// The order of workers.
    pub sort: Sort,
    /// The first line of the body.
    pub scroll: u16,
    /// Nothing is looked at for now.
    pub is_paused: bool,
    /// The keys are explained.
    pub has_help: bool,
    /// With colours.
    pub has_colour: bool,
    /// Seconds between two looks.
    pub interval: f64,
}

impl View {
    fn style(&self, colour: Color, modifier: Modifier) -> Style {
        let style = Style::new().add_modifier(modifier);
        if self.has_colour {
            style.fg(colour)
        } else {
            style
        }
    }

    fn of_state(&self, state: WorkerState) -> Style {
        match state {
            WorkerState::Stuck | WorkerState::Dead => self.style(Color::Red, Modifier::BOLD),
            WorkerState::Stopped => self.style(Color::Magenta, Modifier::BOLD),
            WorkerState::Running => self.style(Color::Green, Modifier::empty()),
            WorkerState::Starting => self.style(Color::Yellow, Modifier::empty()),
            WorkerState::Waiting | WorkerState::Leaving => Style::new().add_modifier(Modifier::DIM),
        }
    }

    fn dim(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn bold(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }
}

/// A column of the table of workers.
struct Column {
    title: &'static str,
    width: usize,
    is_left: bool,
    /// Those with the highest number go first when there is no room.
    rank: u8,
    text: fn(&Worker) -> String,
}

fn maybe(value: Option<f64>, show: fn(f64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

/// All columns but the one that takes the rest of the line.
const COLUMNS: [Column; 12] = [
    Column {
        title: "#",
        width: 4,
        is_left: false,
        rank: 3,
        text: |worker| worker.number.to_string(),
    },
    Column {
        title: "PID",
        width: 7,
        is_left: false,
        rank: 0,
        text: |worker| worker.pid.to_string(),
    },
    Column {
        title: "STATE",
        width: 8,
        is_left: true,
        rank: 0,
        text: |worker| worker.state.name().to_owned(),
    },
    Column {
        title: "FOR",
        width: 7,
        is_left: false,
        rank: 1,
        text: |worker| maybe(worker.task.as_ref().map(|task| task.seconds), time),
    },
    RUNS,
    Column {
        title: "TASKS",
        width: 9,
        is_left: false,
        rank: 4,
        text: |worker| count(worker.done),
    },
    Column {
        title: "RATE",
        width: 8,
        is_left: false,
        rank: 6,
        text: |worker| maybe(worker.rate, rate),
    },
    Column {
        title: "MEAN",
        width: 7,
        is_left: false,
        rank: 7,
        text: |worker| maybe(worker.mean, time),
    },
    Column {
        title: "QUEUED",
        width: 6,
        is_left: false,
        rank: 9,
        text: |worker| count(worker.load.saturating_sub(worker.task.is_some().into())),
    },
    Column {
        title: "BUSY",
        width: 5,
        is_left: false,
        rank: 8,
        text: |worker| maybe(worker.busy, share),
    },
    Column {
        title: "CPU",
        width: 5,
        is_left: false,
        rank: 2,
        text: |worker| maybe(worker.cpu, share),
    },
    Column {
        title: "MEM",
        width: 8,
        is_left: false,
        rank: 5,
        text: |worker| {
            worker
                .memory
                .map_or_else(|| "-".to_owned(), |memory| bytes(memory as f64))
        },
    },
];

/// The least that the column of what a worker runs wants.
const RUNS_LEAST: usize = 12;
const RUNS_MOST: usize = 40;
/// What a worker runs: as wide as there is room.
const RUNS: Column = Column {
    title: "RUNS",
    width: 0,
    is_left: true,
    rank: 0,
    text: |worker| match (&worker.task, worker.state) {
        (Some(task), _) => task.name.clone().unwrap_or_else(|| "?".to_owned()),
        (None, WorkerState::Running) => "?".to_owned(),
        _ => String::new(),
    },
};

/// The columns that fit, and how wide the one is that takes the rest.
fn fitting(width: usize) -> (Vec<&'static Column>, usize) {
    let mut columns: Vec<&Column> = COLUMNS.iter().collect();
    loop {
        let taken: usize = columns.iter().map(|column| column.width + 1).sum::<usize>() + 1;
        let rest = width.saturating_sub(taken);
        let last = columns.iter().map(|column| column.rank).max().unwrap_or(0);
        if rest >= RUNS_LEAST || last == 0 {
            return (columns, rest.clamp(1, RUNS_MOST));
        }
        columns.retain(|column| column.rank != last);
    }
}

/// `text` in so many columns of the terminal.
fn cell(text: &str, width: usize, is_left: bool) -> String {
    let mut shown: String = text.to_owned();
    if Span::raw(text).width() > width {
        shown = String::new();
        for letter in text.chars() {
            shown.push(letter);
            if Span::raw(shown.as_str()).width() + 1 > width {
                shown.pop();
                break;
            }
        }
        shown.push('…');
    }
    let pad = " ".repeat(width.saturating_sub(Span::raw(shown.as_str()).width()));
    if is_left { shown + &pad } else { pad + &shown }
}

fn clip(text: String, width: usize) -> String {
    cell(&text, width, true).trim_end().to_owned()
}

fn heading(report: &Report) -> String {
    let counted = Running::of(report.pools.iter().flat_map(|pool| &pool.workers));
    let rates: Vec<f64> = report.pools.iter().filter_map(|pool| pool.rate).collect();
    let s = |number: usize| if number == 1 { "" } else { "s" };
    let mut text = format!(
        "{} pool{}, {} worker{}: {} running, {} waiting",
        report.pools.len(),
        s(report.pools.len()),
        counted.workers,
        s(counted.workers),
        counted.running,
        counted.waiting,
    );
    if counted.troubled > 0 {
        text += &format!(", {} in trouble", counted.troubled);
    }
    if !rates.is_empty() {
        text += &format!("; {} tasks", rate(rates.iter().sum()));
    }
    text
}

fn facts(pool: &Pool) -> String {
    let counted = Running::of(&pool.workers);
    let mut facts = vec![format!("{} of {} workers", counted.workers, pool.size)];
    if pool.launching > 0 {
        facts.push(format!("{} being started", pool.launching));
    }
    facts.push(format!(
        "{} queued",
        count(pool.waiting.saturating_add(pool.queued))
    ));
    if pool.inputs > 0 {
        facts.push(format!(
            "{} input{} being read",
            pool.inputs,
            if pool.inputs == 1 { "" } else { "s" }
        ));
    }
    facts.push(format!("{} done", count(pool.done)));
    facts.extend(pool.rate.map(rate));
    facts.extend(pool.mean.map(|mean| format!("{} each", time(mean))));
    if pool.raised > 0 {
        facts.push(format!("{} raised", count(pool.raised)));
    }
    if pool.lost > 0 {
        facts.push(format!("{} lost", count(pool.lost)));
    }
    let flow = |total: u64, rate: Option<f64>| match rate {
        Some(rate) => format!("{} ({}/s)", bytes(total as f64), bytes(rate)),
        None => bytes(total as f64),
    };
    facts.push(format!("out {}", flow(pool.bytes_out, pool.bytes_out_rate)));
    facts.push(format!("in {}", flow(pool.bytes_in, pool.bytes_in_rate)));
    facts.join(" · ")
}

/// How a process ended, in words.
fn ending(exitcode: i32) -> String {
    match exitcode {
        -9 => "SIGKILL".to_owned(),
        -11 => "SIGSEGV".to_owned(),
        -15 => "SIGTERM".to_owned(),
        -6 => "SIGABRT".to_owned(),
        -7 => "SIGBUS".to_owned(),
        -24 => "SIGXCPU".to_owned(),
        signal if signal < 0 => format!("signal {}", signal.unsigned_abs()),
        code => format!("exit code {code}"),
    }
}

fn deaths(pool: &Pool) -> Option<String> {
    let last = pool.last_death.as_ref()?;
    let why = match last.cause {
        Cause::Unknown => "",
        Cause::TimeLimit => ", overdue",
        Cause::OutOfMemory => ", out of memory",
    };
    Some(format!(
        "{} worker{} died; the last one {} ago: pid {}, {}{why}",
        count(pool.deaths),
        if pool.deaths == 1 { "" } else { "s" },
        time(last.ago),
        last.pid,
        ending(last.exitcode),
    ))
}

/// The body: every pool with its workers.
fn body(report: &Report, view: &View, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if report.pools.is_empty() {
        let none = match report.pid {
            Some(pid) => format!("Process {pid} has no pool now."),
            None => "No pool of yours is running.".to_owned(),
        };
        lines.push(Line::raw(none));
        lines.push(Line::raw(""));
        let hint =
            "Start a program that makes one (manyhands.Pool, manyhands.ProcessPoolExecutor, or";
        lines.push(Line::styled(clip(hint.to_owned(), width), view.dim()));
        let hint =
            "manyhands run program.py), and it appears here. Pools of other users are not shown.";
        lines.push(Line::styled(clip(hint.to_owned(), width), view.dim()));
    }
    for pool in &report.pools {
        let mut tail = format!("  pid {} · up {}", pool.pid, time(pool.age));
        if pool.state != "open" {
            tail += &format!(" · {}", pool.state);
        }
        let program = if pool.program.is_empty() {
            "?"
        } else {
            &pool.program
        };
        let room = width.saturating_sub(pool.face.len() + 1 + Span::raw(tail.as_str()).width());
        lines.push(Line::from(vec![
            Span::styled(pool.face, view.style(Color::Cyan, Modifier::BOLD)),
            Span::raw(" "),
            Span::styled(clip(program.to_owned(), room.max(8)), view.bold()),
            Span::styled(tail, view.dim()),
        ]));
        lines.extend(
            wrapped(&facts(pool), width.saturating_sub(2))
                .into_iter()
                .map(|text| Line::raw(format!("  {text}"))),
        );
        if let Some(text) = deaths(pool) {
            let style = view.style(Color::Red, Modifier::empty());
            lines.push(Line::styled(clip(format!("  {text}"), width), style));
        }
        let (columns, rest) = fitting(width);
        let row = |text: &dyn Fn(&Column) -> String| -> String {
            let mut line = String::from(" ");
            for column in &columns {
                let wide = if column.width == 0 {
                    rest
                } else {
                    column.width
                };
                line.push(' ');
                line += &cell(&text(column), wide, column.is_left);
            }
            line
        };
        if !pool.workers.is_empty() {
            let titles = row(&|column| column.title.to_owned());
            lines.push(Line::styled(clip(titles, width), view.dim()));
        }
        let mut workers: Vec<&Worker> = pool.workers.iter().collect();
        view.sort.apply(&mut workers);
        for worker in workers {
            let text = clip(row(&|column| (column.text)(worker)), width);
            // The state alone is coloured, so that the rest stays legible.
            let name = worker.state.name();
            let style = view.of_state(worker.state);
            let line = match (worker.state, text.find(name)) {
                (WorkerState::Waiting | WorkerState::Leaving, _) | (_, None) => {
                    Line::styled(text, style)
                }
                (_, Some(at)) => Line::from(vec![
                    Span::raw(text[..at].to_owned()),
                    Span::styled(name, style),
                    Span::raw(text[at + name.len()..].to_owned()),
                ]),
            };
            lines.push(line);
        }
        if pool.unlisted > 0 {
            lines.push(Line::styled(
                format!("  and {} more workers", pool.unlisted),
                view.dim(),
            ));
        }
        lines.push(Line::raw(""));
    }
    for other in &report.unreadable {
        let text = format!(
            "The pool of process {} cannot be looked at: {}",
            other.pid, other.why
        );
        lines.push(Line::styled(
            clip(text, width),
            view.style(Color::Yellow, Modifier::empty()),
        ));
    }
    lines
}

/// Facts, as many on a line as there is room for.
fn wrapped(facts: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for fact in facts.split(" · ") {
        let last = lines.last_mut().expect("there is one line or more");
        if last.is_empty() {
            last.push_str(fact);
        } else if Span::raw(last.as_str()).width() + 3 + Span::raw(fact).width() <= width {
            last.push_str(" · ");
            last.push_str(fact);
        } else {
            lines.push(fact.to_owned());
        }
    }
    lines.into_iter().map(|line| clip(line, width)).collect()
}

/// The report as plain text, for a file or a pipe.
pub fn plain(report: &Report, width: usize) -> String {
    let mut text = heading(report);
    text.push_str("\n\n");
    for line in body(report, &View::default(), width) {
        text.extend(line.spans.iter().map(|span| span.content.as_ref()));
        text.push('\n');
    }
    while text.ends_with("\n\n") {
        text.pop();
    }
    text
}

/// Draws the report.
pub(crate) fn draw(frame: &mut Frame<'_>, report: &Report, view: &mut View) {
    let [head, main, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let width = usize::from(head.width);
    let title = " manyhands top ";
    let title_style = view.style(Color::Cyan, Modifier::BOLD | Modifier::REVERSED);
    let room = width.saturating_sub(title.len() + 1);
    let line = Line::from(vec![
        Span::styled(title, title_style),
        Span::raw(" "),
        Span::raw(clip(heading(report), room)),
    ]);
    frame.render_widget(Paragraph::new(line), head);

    let lines = body(report, view, width);
    let most = (lines.len() as u16).saturating_sub(main.height);
    view.scroll = view.scroll.min(most);
    let more = most > 0;
    frame.render_widget(Paragraph::new(lines).scroll((view.scroll, 0)), main);

    let mut keys = format!(
        " q quit  s sort: {}  p {}  ? help",
        view.sort.name(),
        if view.is_paused { "go on" } else { "pause" },
    );
    if more {
        keys += "  ↑↓ scroll";
    }
    if view.is_paused {
        keys += "  PAUSED";
    }
    let style = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Paragraph::new(cell(&keys, width, true)).style(style), foot);
    if view.has_help {
        help(frame, view);
    }
}

const HELP: [&str; 17] = [
    "q, Esc, Ctrl-C  quit",
    "s               sort workers by the next column",
    "p, space        pause, or go on",
    "↑ ↓ PgUp PgDn   scroll",
    "+ -             look more seldom, more often",
    "?, h            this",
    "",
    "running   it runs a task: RUNS says what, FOR how long",
    "waiting   it has nothing to do",
    "stuck     it runs one task for long and uses no processor:",
    "          it waits for something (a lock, a socket, a sleep);",
    "          manyhands stacks PID says where",
    "stopped   a signal or a debugger stopped it",
    "starting  it was started and takes no tasks yet",
    "",
    "A task is one call, or one chunk of a map.",
    "BUSY is the share of time in tasks, CPU what they used.",
];

fn help(frame: &mut Frame<'_>, view: &View) {
    let area = frame.area();
    let (width, height) = (64.min(area.width), (HELP.len() as u16 + 2).min(area.height));
    let place = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    let border = view.style(Color::Cyan, Modifier::empty());
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|line| Line::raw(format!(" {line}")))
        .collect();
    frame.render_widget(Clear, place);
    let block = Block::bordered().title(" Help ").border_style(border);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

#[cfg(test)]
mod tests;
