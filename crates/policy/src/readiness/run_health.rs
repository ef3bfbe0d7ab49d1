//! Whether a run takes new connections, for load balancers: `sameport agent` and `/readyz`.

use std::fmt;
use std::time::Duration;

/// What a supervisor says about its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFacts {
    /// The configured number of workers.
    pub wanted: u16,
    /// The workers of the run that are ready, without those of a canary.
    pub ready: u16,
    /// Whether the run is announced as leaving, or stops.
    pub leaving: bool,
}

/// What is known about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunSight {
    /// Its supervisor answers.
    Answers(RunFacts),
    /// Its supervisor does not answer in time.
    Silent,
    /// Its supervisor was killed; this number of its workers still run, and nothing checks them.
    SupervisorDead(usize),
    /// It has ended.
    Ended,
    /// There is no run of this name.
    Unknown,
    /// It cannot be asked, for this reason.
    Unreachable(String),
}

/// Whether a run takes new connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunHealth {
    /// It does, with `ready` of its `wanted` workers. 1 <= `ready` <= `wanted`.
    Up {
        /// Workers that serve.
        ready: u16,
        /// The configured number of workers.
        wanted: u16,
    },
    /// It finishes the connections that it has, and wants no new ones.
    Leaving,
    /// It takes none, for this reason.
    Down(DownReason),
}

/// Why a run takes no connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownReason {
    /// None of this number of workers is ready.
    NotReady(u16),
    /// The supervisor does not answer in time.
    Silent,
    /// The supervisor was killed; this number of its workers still run.
    SupervisorDead(usize),
    /// The run has ended.
    Ended,
    /// There is no run of this name.
    Unknown,
    /// The run cannot be asked, for this reason.
    Unreachable(String),
}

/// Decides whether a run takes new connections.
///
/// Workers without a supervisor may serve, but nothing checks, restarts or drains them: other machines are
/// the better choice.
#[must_use]
pub fn run_health(sight: &RunSight) -> RunHealth {
    let reason = match sight {
        RunSight::Answers(RunFacts { leaving: true, .. }) => return RunHealth::Leaving,
        RunSight::Answers(RunFacts { wanted, ready: 0, .. }) => DownReason::NotReady(*wanted),
        RunSight::Answers(RunFacts { wanted, ready, .. }) => {
            // Between a `scale` to fewer workers and the end of the others, more are ready than wanted.
            return RunHealth::Up {
                ready: (*ready).min((*wanted).max(1)),
                wanted: (*wanted).max(1),
            };
        }
        RunSight::Silent => DownReason::Silent,
        RunSight::SupervisorDead(workers) => DownReason::SupervisorDead(*workers),
        RunSight::Ended => DownReason::Ended,
        RunSight::Unknown => DownReason::Unknown,
        RunSight::Unreachable(why) => DownReason::Unreachable(why.clone()),
    };
    RunHealth::Down(reason)
}

/// How long the last health of a run holds while its supervisor does not answer: a busy machine is not down.
const HEALTH_KEPT: Duration = Duration::from_secs(10);

/// The health of a run whose supervisor does not answer in time. `last`: what it said last, and how long ago.
#[must_use]
pub fn health_without_answer(last: Option<(RunHealth, Duration)>) -> RunHealth {
    match last {
        Some((health, age)) if age <= HEALTH_KEPT => health,
        _ => RunHealth::Down(DownReason::Silent),
    }
}

/// The health after a question to the supervisor. `last`: the health before, and how long ago the supervisor said it.
#[must_use]
pub fn health_after(sight: &RunSight, last: Option<(RunHealth, Duration)>) -> RunHealth {
    match sight {
        RunSight::Silent => health_without_answer(last),
        sight => run_health(sight),
    }
}

impl RunHealth {
    /// The part of its workers that is ready, in percent, rounded down, at least 1; `None` if it takes no new
    /// connections.
    #[must_use]
    pub fn percent(&self) -> Option<u8> {
        let Self::Up { ready, wanted } = self else { return None };
        let percent = u32::from(*ready) * 100 / u32::from((*wanted).max(1));
        Some(u8::try_from(percent.clamp(1, 100)).unwrap_or(100))
    }

    /// The health of a machine whose runs are all needed: the worst of them. Without a run: down.
    #[must_use]
    pub fn worst(all: impl IntoIterator<Item = Self>) -> Self {
        // A run that is down explains more than one that leaves.
        let key = |health: &Self| match health {
            Self::Down(_) => (0, 0),
            Self::Leaving => (1, 0),
            Self::Up { .. } => (2, health.percent().unwrap_or(0)),
        };
        all.into_iter().min_by_key(key).unwrap_or(Self::Down(DownReason::Unknown))
    }

    /// The answer to HAProxy's agent-check, with its line feed: `agent-check` in the manual of the
    /// configuration, section 5.2.
    ///
    /// `ready` ends the `drain` of before.
    #[must_use]
    pub fn agent_line(&self) -> String {
        match (self, self.percent()) {
            (Self::Up { .. }, percent) => format!("up ready {}%\n", percent.unwrap_or(1)),
            (Self::Leaving, _) => "drain\n".to_owned(),
            (Self::Down(reason), _) => format!("down #{}\n", one_ascii_line(&reason.to_string())),
        }
    }
}

/// `up, 3 of 4 workers ready`, `leaving`, `down: 0 of 4 workers ready`.
impl fmt::Display for RunHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { ready, wanted } => write!(f, "up, {ready} of {wanted} workers ready"),
            Self::Leaving => f.write_str("leaving"),
            Self::Down(reason) => write!(f, "down: {reason}"),
        }
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady(wanted) => write!(f, "0 of {wanted} workers ready"),
            Self::Silent => f.write_str("the supervisor does not answer"),
            Self::SupervisorDead(workers) => {
                write!(f, "the supervisor was killed, {workers} of its workers run")
            }
            Self::Ended => f.write_str("the run has ended"),
            Self::Unknown => f.write_str("no such run"),
            Self::Unreachable(why) => write!(f, "the run cannot be asked: {why}"),
        }
    }
}

/// Text for the log and the statistics of HAProxy, which end it at a control character.
fn one_ascii_line(text: &str) -> String {
    const LONGEST: usize = 120;
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(LONGEST).map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(wanted: u16, ready: u16, leaving: bool) -> RunSight {
        RunSight::Answers(RunFacts { wanted, ready, leaving })
    }

    #[test]
    fn the_answer_of_each_sight() {
        let unreachable = RunSight::Unreachable("connect: Zugriff\nverweigert \u{e4}".to_owned());
        let table = [
            (answers(4, 4, false), "up ready 100%\n"),
            (answers(4, 3, false), "up ready 75%\n"),
            (answers(3, 1, false), "up ready 33%\n"),
            (answers(1000, 1, false), "up ready 1%\n"),
            (answers(2, 4, false), "up ready 100%\n"),
            (answers(0, 1, false), "up ready 100%\n"),
            (answers(4, 0, false), "down #0 of 4 workers ready\n"),
            (answers(4, 4, true), "drain\n"),
            (answers(4, 0, true), "drain\n"),
            (RunSight::Silent, "down #the supervisor does not answer\n"),
            (
                RunSight::SupervisorDead(2),
                "down #the supervisor was killed, 2 of its workers run\n",
            ),
            (RunSight::Ended, "down #the run has ended\n"),
            (RunSight::Unknown, "down #no such run\n"),
            (unreachable, "down #the run cannot be asked: connect: Zugriff?verweigert ?\n"),
        ];
        for (sight, line) in table {
            assert_eq!(run_health(&sight).agent_line(), line, "{sight:?}");
        }
    }

    #[test]
    fn the_last_health_holds_for_a_while() {
        let up = RunHealth::Up { ready: 1, wanted: 1 };
        let silent = RunHealth::Down(DownReason::Silent);
        let later = HEALTH_KEPT + Duration::from_millis(1);
        assert_eq!(health_without_answer(None), silent);
        assert_eq!(health_without_answer(Some((up.clone(), HEALTH_KEPT))), up);
        assert_eq!(health_without_answer(Some((up.clone(), later))), silent);
        // A question that ends without an answer sooner is none.
        assert_eq!(health_after(&RunSight::Silent, Some((up.clone(), HEALTH_KEPT))), up);
        assert_eq!(health_after(&RunSight::Silent, Some((up.clone(), later))), silent);
        let ended = RunHealth::Down(DownReason::Ended);
        assert_eq!(health_after(&RunSight::Ended, Some((up, Duration::ZERO))), ended);
    }

    #[test]
    fn every_answer_is_one_short_ascii_line() {
        let long = RunSight::Unreachable("\r\n\0".repeat(1000));
        let line = run_health(&long).agent_line();
        assert!(line.is_ascii() && line.len() < 200, "{line:?}");
        assert_eq!(line.find(|c: char| c.is_control()), Some(line.len() - 1), "{line:?}");
    }

    #[test]
    fn the_worst_run_is_the_health_of_the_machine() {
        let up = |ready, wanted| RunHealth::Up { ready, wanted };
        let down = RunHealth::Down(DownReason::Ended);
        let table = [
            (vec![up(4, 4), up(1, 2)], up(1, 2)),
            (vec![up(1, 2), up(4, 4)], up(1, 2)),
            (vec![up(4, 4), RunHealth::Leaving], RunHealth::Leaving),
            (vec![RunHealth::Leaving, down.clone(), up(1, 1)], down.clone()),
            (vec![], RunHealth::Down(DownReason::Unknown)),
        ];
        for (all, worst) in table {
            assert_eq!(RunHealth::worst(all.clone()), worst, "{all:?}");
        }
    }
}
