//! The screen: a summary, the titles of the columns, the list, a message, the keys.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};
use sameport_policy::top::{TopRow, TopState};

use super::cells::{self, Column};
use super::lines::{self, Columns, TopLine};
use super::screen_state::{Overlay, ScreenState};
use crate::output::text::printable;

/// The least terminal on which the list has a row, in columns and rows.
const LEAST: (u16, u16) = (30, 6);
/// The terminal on which every column fits.
const WHOLE: (u16, u16) = (80, 24);
/// The rows around the list: summary, titles, message, keys.
const AROUND: u16 = 4;

const KEYS: &str = "q quit  d drain  r restart  + - weight  s order  a all  Enter unfold  ? help";

const HELP: &[&str] = &[
    "up, down, j, k     select a row; page up, page down, g, G",
    "d                  drain the selected member or undo that, after a question",
    "r                  restart the run of the selected member, after a question",
    "+, -               its weight, or with the policy standby its rank",
    "s                  order of members: name, new, open, queue",
    "a                  also ports with one member that belongs to no run",
    "Enter              show all members of a large group, or fewer",
    "q, Escape, Ctrl-C  quit",
    "",
    "MEMBER    run and worker, else the pid; PID+N: N more processes have the socket",
    "NEW/S     new connections a second. Where the kernel does not count choices,",
    "          connections that came and went between two looks are missing",
    "OPEN      established connections that a process has accepted",
    "QUEUE     connections that wait for accept, and the limit; UDP: bytes",
    "DROPS     of the sockets since they exist",
    "STATE     serving, held-back (not ready), draining, hung (the queue stays),",
    "          kept (a supervisor has the socket, no worker), foreign (no part of",
    "          the policy)",
];

/// Draws the state.
pub(super) fn draw(state: &mut ScreenState, area: Rect, buffer: &mut Buffer) {
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("{}x{}: top needs {}x{}", area.width, area.height, LEAST.0, LEAST.1);
        put(buffer, area, 0, &text, Style::new());
        return;
    }
    state.height = usize::from(area.height - AROUND);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let last = area.height - 1;
    if state.overlay == Overlay::Help {
        put(buffer, area, 0, "sameport top: keys and columns", bold);
        for (y, line) in (2..last).zip(HELP) {
            put(buffer, area, y, line, Style::new());
        }
        put(buffer, area, last, "any key closes this", bold);
        return;
    }
    let summary = match &state.sample {
        Some(sample) => cells::summary(&sample.frame, &state.view.groups(&sample.frame)),
        None => "sameport top".into(),
    };
    let order = format!("  every {}  by {}", seconds(state), state.view.order.name());
    put(buffer, area, 0, &(summary + &order), bold);
    let missing = list(state, area, buffer);
    let (text, style) = message(state, area, missing);
    put(buffer, area, last - 1, &text, style);
    put(buffer, area, last, KEYS, Style::new().add_modifier(Modifier::DIM));
}

fn seconds(state: &ScreenState) -> String {
    match state.interval.subsec_millis() {
        0 => format!("{} s", state.interval.as_secs()),
        _ => format!("{} ms", state.interval.as_millis()),
    }
}

/// Draws the list. Returns whether columns are left out.
fn list(state: &mut ScreenState, area: Rect, buffer: &mut Buffer) -> bool {
    let rows = state.rows();
    if rows.is_empty() {
        let text = match (&state.sample, &state.on) {
            (None, _) => "looking".into(),
            (Some(_), Some(on)) => format!("no socket is on port {on}"),
            (Some(_), None) => "no socket is on any port".into(),
        };
        put(buffer, area, 2, &text, Style::new());
        return false;
    }
    let selected = state.selected_index(&rows);
    // Columns as wide as all members need: they do not move while the list scrolls.
    let columns = Columns::new(lines::members(&rows), Some(area.width.into()));
    let missing = Column::OPTIONAL.iter().any(|it| !columns.has(*it)) && area.width < WHOLE.0;
    let scroll = scroll(state.scroll, selected, state.height, rows.len());
    let shown = &rows[scroll..rows.len().min(scroll + state.height)];
    put(buffer, area, 1, &columns.header(), Style::new().add_modifier(Modifier::UNDERLINED));
    for ((y, at), line) in (2..).zip(scroll..).zip(lines::lines(shown, &columns)) {
        put(buffer, area, y, &line.text, style(&line));
        if at == selected {
            let row = Rect::new(area.x, area.y + y, area.width, 1);
            buffer.set_style(row, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
    state.scroll = scroll;
    missing
}

/// The first row of the list: the selected row is visible, and the list fills the screen.
fn scroll(before: usize, selected: usize, height: usize, rows: usize) -> usize {
    let least = (selected + 1).saturating_sub(height);
    let most = rows.saturating_sub(height);
    before.clamp(least, selected.max(least)).min(most)
}

fn style(line: &TopLine<'_>) -> Style {
    match line.row {
        TopRow::Group(_) => Style::new().add_modifier(Modifier::BOLD),
        TopRow::More(..) => Style::new().add_modifier(Modifier::DIM),
        TopRow::Member(_, member) => match member.state {
            TopState::Serving => Style::new(),
            TopState::Hung => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            TopState::Draining => Style::new().fg(Color::Cyan),
            TopState::HeldBack | TopState::Kept | TopState::Foreign | TopState::Gone => {
                Style::new().fg(Color::Yellow)
            }
        },
    }
}

/// The most important of what there is to say.
fn message(state: &ScreenState, area: Rect, missing: bool) -> (String, Style) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    if let Overlay::Confirm(action) = &state.overlay {
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        return (format!("{}? y: yes, any other key: no", printable(&action.name())), reversed);
    }
    if let Some(message) = &state.message {
        return (printable(message), bold);
    }
    if let Some(error) = &state.error {
        return (format!("the last look failed: {}", printable(error)), bold.fg(Color::Red));
    }
    let sample = state.sample.as_ref();
    if let Some((first, others)) = sample.and_then(|sample| sample.notes.split_first()) {
        let more = if others.is_empty() { String::new() } else { format!(" (+{})", others.len()) };
        return (format!("{}{more}", printable(first)), bold.fg(Color::Yellow));
    }
    let plain = Style::new();
    if missing {
        let (columns, rows) = (area.width, area.height);
        return (format!("{columns}x{rows}: {}x{} shows every column", WHOLE.0, WHOLE.1), plain);
    }
    let hidden = sample.is_some_and(|sample| !sample.frame.complete);
    let text = if hidden { "`-`: a program of another user; root sees it" } else { "" };
    (text.into(), plain)
}

fn put(buffer: &mut Buffer, area: Rect, y: u16, text: &str, style: Style) {
    if y < area.height {
        buffer.set_stringn(area.x, area.y + y, text, area.width.into(), style);
    }
}
