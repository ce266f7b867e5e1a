//! The program in the terminal: looks, draws, and does what keys say.
//!
//! Always: the terminal is given back as it was, whatever ends the loop but a kill.

use std::io;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::sampler::Sampler;
use crate::screen::{View, draw};

/// How often the caller is asked whether to go on.
const PULSE: Duration = Duration::from_millis(100);
/// The least and the most seconds between two looks.
const INTERVALS: (f64, f64) = (0.1, 60.0);

/// How to look, and how to show it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The pools of this process alone.
    pub pid: Option<i32>,
    /// Seconds between two looks.
    pub interval: f64,
    /// Seconds after which a task that uses no processor is called stuck.
    pub stuck_after: f64,
    /// With colours.
    pub has_colour: bool,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Quit,
    /// Draw again.
    Draw,
    /// Look again, and draw.
    Look,
    Nothing,
}

/// Shows what pools do until a key ends it, or `go_on` fails: it is called several times a second.
///
/// # Errors
/// If the terminal cannot be used, or goes away; what `go_on` said.
pub fn run<E: From<io::Error>>(
    options: &Options,
    mut go_on: impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    let mut terminal = ratatui::try_init().map_err(E::from)?;
    let shown = show(&mut terminal, options, &mut go_on);
    let restored = ratatui::try_restore().map_err(E::from);
    shown.and(restored)
}

fn show<E: From<io::Error>>(
    terminal: &mut ratatui::DefaultTerminal,
    options: &Options,
    go_on: &mut impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    let mut sampler = Sampler::new(options.pid, options.stuck_after);
    let mut view = View {
        has_colour: options.has_colour,
        interval: options.interval,
        ..View::default()
    };
    let mut report = sampler.look();
    // Rates come soon, however long the interval is.
    let mut due = Instant::now() + Duration::from_secs_f64(view.interval.min(0.3));
    loop {
        terminal
            .draw(|frame| draw(frame, &report, &mut view))
            .map_err(E::from)?;
        loop {
            go_on()?;
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() && !view.is_paused {
                report = sampler.look();
                due = Instant::now() + Duration::from_secs_f64(view.interval);
                break;
            }
            let limit = if view.is_paused {
                PULSE
            } else {
                left.min(PULSE)
            };
            if !event::poll(limit).map_err(E::from)? {
                continue;
            }
            let height = terminal.size().map_err(E::from)?.height;
            let wish = match event::read().map_err(E::from)? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    press(&mut view, key, height)
                }
                Event::Resize(..) => Wish::Draw,
                _ => Wish::Nothing,
            };
            match wish {
                Wish::Quit => return Ok(()),
                Wish::Draw => break,
                Wish::Look => due = Instant::now(),
                Wish::Nothing => {}
            }
        }
    }
}

/// What a key does to the view.
pub(crate) fn press(view: &mut View, key: KeyEvent, height: u16) -> Wish {
    let page = height.saturating_sub(4).max(1);
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'd') => Wish::Quit,
            _ => Wish::Nothing,
        };
    }
    match key.code {
        KeyCode::Char('q') => return Wish::Quit,
        KeyCode::Esc if view.has_help => view.has_help = false,
        KeyCode::Esc => return Wish::Quit,
        KeyCode::Char('?' | 'h') => view.has_help = !view.has_help,
        KeyCode::Char('s') => view.sort = view.sort.next(),
        KeyCode::Char('p' | ' ') => {
            view.is_paused = !view.is_paused;
            if !view.is_paused {
                return Wish::Look;
            }
        }
        KeyCode::Char('+') => view.interval = (view.interval * 2.0).min(INTERVALS.1),
        KeyCode::Char('-') => {
            view.interval = (view.interval / 2.0).max(INTERVALS.0);
            return Wish::Look;
        }
        KeyCode::Up | KeyCode::Char('k') => view.scroll = view.scroll.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => view.scroll = view.scroll.saturating_add(1),
        KeyCode::PageUp => view.scroll = view.scroll.saturating_sub(page),
        KeyCode::PageDown => view.scroll = view.scroll.saturating_add(page),
        KeyCode::Home => view.scroll = 0,
        KeyCode::End => view.scroll = u16::MAX,
        _ => return Wish::Nothing,
    }
    Wish::Draw
}
