//! The canary of a run, in the output of `status`.

use std::time::Duration;

use sameport_supervisor::control::canary::{CanaryState, CanaryStatus};
use serde::Serialize;

use super::json::object;
use super::shell::os_command;
use super::text::{age, elapsed, printable, seconds_rounded_up};

/// `canary: ./server-v2: 1 worker, 10% of new connections, since 2 min, promotes itself in 8 min`.
pub(super) fn line(canary: &CanaryStatus, now: u64) -> String {
    let command = os_command(&canary.command);
    let ago = |at: &u64| age(elapsed(*at, now));
    let text = match &canary.state {
        CanaryState::Active { share, workers, since, promotes_at, promotes_after } => {
            let s = if *workers == 1 { "" } else { "s" };
            let progress = match since {
                Some(since) => format!(", since {}", ago(since)),
                None => " when ready".to_owned(),
            };
            let until = match (promotes_at, promotes_after) {
                (Some(at), _) => format!(", promotes itself in {}", left(now, *at)),
                (None, Some(after)) => format!(", promotes itself {} later", left(0, *after)),
                (None, None) => String::new(),
            };
            format!("{workers} worker{s}, {share} of new connections{progress}{until}")
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

/// Times are in seconds since 1970, `share` in percent.
pub(super) fn view(canary: &CanaryStatus) -> impl Serialize + '_ {
    let command: Vec<_> = canary.command.iter().map(|word| word.to_string_lossy()).collect();
    let directory = canary.directory.to_string_lossy();
    let seconds = |at: &Option<u64>| at.map(|at| at / 1000);
    let (mut share, mut workers, mut since, mut promotes_at) = (None, None, None, None);
    let (mut ended, mut reason) = (None, None);
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
    object! {
        state: state,
        command: command,
        directory: directory,
        share: share,
        workers: workers,
        since: since,
        promotes_at: promotes_at,
        ended: ended,
        why: reason,
    }
}

#[cfg(test)]
mod tests {
    use sameport_policy::traffic::CanaryShare;

    use super::*;

    #[test]
    fn a_canary_is_one_line() {
        let active = |since, promotes_at, promotes_after, workers| CanaryState::Active {
            share: CanaryShare { per_10000: 50 },
            workers,
            since,
            promotes_at,
            promotes_after,
        };
        let rolled_back = |why: Option<&str>| CanaryState::RolledBack {
            at: 1_000_000,
            why: why.map(str::to_owned),
        };
        for (state, expected) in [
            (active(None, None, None, 1), "1 worker, 0.5% of new connections when ready"),
            (
                active(None, None, Some(600_000), 1),
                "1 worker, 0.5% of new connections when ready, promotes itself 10 min later",
            ),
            (
                active(Some(940_000), None, None, 2),
                "2 workers, 0.5% of new connections, since 2 min",
            ),
            (
                active(Some(1_059_999), Some(1_659_999), Some(600_000), 2),
                "2 workers, 0.5% of new connections, since 0 s, promotes itself in 10 min",
            ),
            (rolled_back(None), "rolled back 1 min ago"),
            (
                rolled_back(Some("canary 1: exited with 3\u{1b}")),
                "rolled back 1 min ago: canary 1: exited with 3\\u{1b}",
            ),
        ] {
            let (command, directory) = (vec!["./v2".into()], "/srv".into());
            let canary = CanaryStatus { command, directory, state };
            assert_eq!(line(&canary, 1_060_000), format!("canary: ./v2: {expected}\n"));
        }
    }
}
