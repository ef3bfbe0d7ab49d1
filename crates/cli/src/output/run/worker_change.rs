//! The sentence about a change of a worker, for `run` and for the verbs that change a run.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use sameport_supervisor::control::protocol::{WorkerPhase, WorkerUpdate};

use crate::output::text::{pid_remark, printable, seconds_rounded_up};

/// `worker 2 (pid 33) drains, 12 connections open, 3 in hand`.
pub(crate) fn sentence(change: &WorkerUpdate) -> String {
    phrase(change, Style::new())
}

/// The same, with the color of the phase.
pub(crate) fn colored_sentence(change: &WorkerUpdate) -> String {
    let color = match change.state {
        WorkerPhase::Starting | WorkerPhase::Gone => None,
        WorkerPhase::Ready => Some(AnsiColor::Green),
        WorkerPhase::Draining | WorkerPhase::Waiting => Some(AnsiColor::Yellow),
        WorkerPhase::GivenUp => Some(AnsiColor::Red),
    };
    phrase(change, color.map(AnsiColor::on_default).unwrap_or_default())
}

fn phrase(change: &WorkerUpdate, style: Style) -> String {
    let process = pid_remark(change.pid);
    let starts_again = match change.next_start {
        Some(_) => format!("starts again{}", pause(change.at, change.next_start)),
        None => "starts again later".to_owned(),
    };
    let action = match change.state {
        WorkerPhase::Starting if change.why.is_some() => "is starting",
        WorkerPhase::Starting => "starts",
        WorkerPhase::Ready => "is ready",
        WorkerPhase::Draining => "drains",
        WorkerPhase::Gone => "has ended",
        WorkerPhase::Waiting => &starts_again,
        WorkerPhase::GivenUp => "crashed repeatedly and is not started again",
    };
    let open = match change.connections {
        None | Some(0) => String::new(),
        Some(1) => ", 1 connection open".to_owned(),
        Some(count) => format!(", {count} connections open"),
    };
    let in_hand = change.in_hand.filter(|_| !open.is_empty());
    let in_hand = in_hand.map(|count| format!(", {count} in hand")).unwrap_or_default();
    let why = change.why.as_ref().map(|why| format!(": {}", printable(why))).unwrap_or_default();
    let kind = if change.canary { "canary" } else { "worker" };
    format!("{kind} {}{process} {style}{action}{style:#}{open}{in_hand}{why}", change.worker)
}

/// ` in 7 s`, or ` in 100 ms`; times in milliseconds since 1970.
pub(crate) fn pause(at: u64, next_start: Option<u64>) -> String {
    let pause = next_start.map(|next| Duration::from_millis(next.saturating_sub(at)));
    match pause {
        None => String::new(),
        Some(pause) if pause.as_millis() < 1000 => format!(" in {} ms", pause.as_millis()),
        Some(pause) => format!(" in {} s", seconds_rounded_up(pause)),
    }
}
