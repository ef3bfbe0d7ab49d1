//! The canary of a run, in the output of `status`.

use std::time::Duration;

use sameport_supervisor::control::canary::{CanaryState, CanaryStatus};
use serde::Serialize;

use super::json::object;
use super::shell::os_command;
use super::text::{age, elapsed, printable, seconds_rounded_up};

/// `canary: ./server-v2: 1 worker gets 10% of new connections, since 2 min, promotes itself in 8 min`.
pub(super) fn line(canary: &CanaryStatus, now: u64) -> String {
    let command = os_command(&canary.command);
    let ago = |at: &u64| age(elapsed(*at, now));
    let text = match &canary.state {
        CanaryState::Active { share, workers, since, promotes_at, promotes_after, chosen } => {
            let (s, gets) = if *workers == 1 { ("", "gets") } else { ("s", "get") };
            let progress = match since {
                Some(since) => format!("since {}", ago(since)),
                None => "when ready".to_owned(),
            };
            let seen = match chosen {
                Some((canary, all @ 1..)) => format!(" ({})", seen(*canary, *all)),
                _ => String::new(),
            };
            let until = match (promotes_at, promotes_after) {
                (Some(at), _) => format!(", promotes itself in {}", left(now, *at)),
                (None, Some(after)) => {
                    format!(", promotes itself {} later", left(0, *after))
                }
                (None, None) => String::new(),
            };
            format!(
                "{workers} worker{s} {gets} {share} of new connections{seen}, {progress}{until}"
            )
        }
        CanaryState::RolledBack { at, why } => {
            let why = why.as_ref().map(|why| format!(": {}", printable(why))).unwrap_or_default();
            format!("rolled back {} ago{why}", ago(at))
        }
    };
    format!("canary: {command}: {text}\n")
}

/// The time that is left, rounded up to a whole second.
fn left(now: u64, at: u64) -> String {
    age(Duration::from_secs(seconds_rounded_up(elapsed(now, at))))
}

/// `9.8% of 1200 seen`.
fn seen(canary: u64, all: u64) -> String {
    // Exact below 2^53 connections.
    #[allow(clippy::cast_precision_loss)]
    let percent = canary as f64 * 100.0 / all as f64;
    format!("{percent:.1}% of {all} seen")
}

/// Times are in seconds since 1970, `share` in percent.
pub(super) fn view(canary: &CanaryStatus) -> impl Serialize + '_ {
    let command: Vec<_> = canary.command.iter().map(|word| word.to_string_lossy()).collect();
    let directory = canary.directory.to_string_lossy();
    let seconds = |at: &Option<u64>| at.map(|at| at / 1000);
    let (mut share, mut workers, mut since, mut promotes_at) = (None, None, None, None);
    let (mut chosen, mut chosen_of, mut ended, mut reason) = (None, None, None, None);
    let state = match &canary.state {
        CanaryState::Active {
            share: wanted,
            workers: count,
            since: begun,
            promotes_at: at,
            ..
        } => {
            share = Some(f64::from(wanted.per_10000) / 100.0);
            workers = Some(*count);
            (since, promotes_at) = (seconds(begun), seconds(at));
            if begun.is_some() { "active" } else { "starting" }
        }
        CanaryState::RolledBack { at, why } => {
            ended = Some(at / 1000);
            reason = why.as_ref();
            "rolled-back"
        }
    };
    if let CanaryState::Active { chosen: Some((canary, all)), .. } = &canary.state {
        (chosen, chosen_of) = (Some(*canary), Some(*all));
    }
    object! {
        state: state,
        command: command,
        directory: directory,
        share: share,
        workers: workers,
        since: since,
        promotes_at: promotes_at,
        chosen: chosen,
        chosen_of: chosen_of,
        ended: ended,
        why: reason,
    }
}
