//! What the demo shows: a progress line while it works, aligned tables, readable numbers.

use crate::measure::{Measured, Way};
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

/// One line that says how far the work is: rewritten in place on a terminal, sparse lines elsewhere.
pub(crate) struct Progress {
    terminal: bool,
    began: Instant,
    told: Option<Instant>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            terminal: stdout().is_terminal(),
            began: Instant::now(),
            told: None,
        }
    }

    /// Shows `text`; where there is no terminal, no more than once in five seconds.
    pub(crate) fn show(&mut self, text: &str) {
        let seconds = self.began.elapsed().as_secs();
        if self.terminal {
            print!("\r\x1b[K  {text} · {seconds} s");
            // A progress line that cannot be shown is no reason to stop.
            let _ = stdout().flush();
        } else if self
            .told
            .is_none_or(|told| told.elapsed() > Duration::from_secs(5))
        {
            self.told = Some(Instant::now());
            println!("  {text} · {seconds} s");
        }
    }

    /// Removes the line, so that something lasting can be printed.
    pub(crate) fn clear(&self) {
        if self.terminal {
            print!("\r\x1b[K");
        }
    }
}

/// Prints the table of one job.
pub(crate) fn report(found: &[Vec<Measured>], workers: usize) {
    let plain = middle(&found[0], |one| one.took);
    let headings = [
        "way",
        "median",
        "fastest..slowest",
        "speed-up",
        "cores busy",
        "start",
        "one call",
        "memory",
    ];
    let mut rows = vec![headings.map(str::to_owned)];
    for (way, measured) in Way::ALL.into_iter().zip(found) {
        let took = middle(measured, |one| one.took);
        let times = measured.iter().map(|one| one.took);
        rows.push([
            way.label(workers),
            duration(took),
            format!(
                "{}..{}",
                times.clone().min().map_or_else(String::new, duration),
                times.max().map_or_else(String::new, duration)
            ),
            format!("{:.2} x", plain.as_secs_f64() / took.as_secs_f64()),
            format!("{:.2}", middle(measured, |one| one.busy) as f64 / 100.0),
            if matches!(way, Way::Plain) {
                "-".into()
            } else {
                duration(middle(measured, |one| one.start))
            },
            duration(middle(measured, |one| one.call)),
            size(middle(measured, |one| one.memory)),
        ]);
    }
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    rows.insert(1, std::array::from_fn(|column| "-".repeat(widths[column])));
    for row in rows {
        let numbers = row[1..]
            .iter()
            .zip(&widths[1..])
            .map(|(cell, &width)| format!("   {cell:>width$}"));
        println!(
            "  {:<first$}{}",
            row[0],
            numbers.collect::<String>(),
            first = widths[0]
        );
    }
}

fn middle<T: Ord>(measured: &[Measured], what: impl Fn(&Measured) -> T) -> T {
    let mut values: Vec<T> = measured.iter().map(what).collect();
    values.sort();
    values.swap_remove(values.len() / 2)
}

/// A duration with three digits and its unit.
fn duration(value: Duration) -> String {
    let seconds = value.as_secs_f64();
    let (number, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    format!("{} {unit}", three(number))
}

/// A number of bytes with its unit (powers of 1024).
pub(crate) fn size(bytes: u64) -> String {
    match bytes as f64 / 1024.0 {
        kib if kib < 1024.0 => format!("{} KiB", three(kib)),
        kib if kib < 1024.0 * 1024.0 => format!("{} MiB", three(kib / 1024.0)),
        kib => format!("{} GiB", three(kib / 1024.0 / 1024.0)),
    }
}

fn three(number: f64) -> String {
    match number {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

/// 1234567 as 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
