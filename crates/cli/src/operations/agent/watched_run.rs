//! The health of one run, which one question at a time to its supervisor finds out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sameport_policy::model::name::RunName;
use sameport_policy::readiness::{RunHealth, RunSight, health_after, health_without_answer};
use sameport_supervisor::control::client::Client;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::operations::run_health::run_sight;

/// An answer of the supervisor this old needs no new question.
const FRESH: Duration = Duration::from_millis(200);

/// How long a client waits for the supervisor: HAProxy asks every two seconds, and waits no longer.
const WAIT: Duration = Duration::from_secs(1);

/// How long the supervisor is waited for.
const LIMIT: Duration = Duration::from_secs(5);

/// Gets each change of a run's health.
pub(crate) type HealthReport = Arc<dyn Fn(&RunName, &RunHealth) + Send + Sync>;

/// A run, and what is known of it.
pub(super) struct WatchedRun {
    runs: Client,
    name: RunName,
    report: HealthReport,
    known: Mutex<Known>,
    answered: Notify,
}

#[derive(Default)]
struct Known {
    /// The last health, and when it was found out.
    last: Option<(RunHealth, Instant)>,
    /// Whether a thread asks the supervisor.
    is_asked: bool,
}

impl WatchedRun {
    pub(super) fn new(runs: Client, name: RunName, report: HealthReport) -> Self {
        let runs = runs.limited_to(LIMIT);
        Self { runs, name, report, known: Mutex::default(), answered: Notify::new() }
    }

    pub(super) fn name(&self) -> &RunName {
        &self.name
    }

    /// The health, found out now unless it is fresh. A supervisor that does not answer in time leaves that of
    /// before, for a while.
    pub(super) async fn health(self: &Arc<Self>) -> RunHealth {
        // Before the look at the state: an answer in between is not missed.
        let answered = self.answered.notified();
        let must_ask = {
            let mut known = self.known();
            if let Some((health, at)) = &known.last
                && at.elapsed() < FRESH
            {
                return health.clone();
            }
            !std::mem::replace(&mut known.is_asked, true)
        };
        if must_ask {
            let run = Arc::clone(self);
            tokio::task::spawn_blocking(move || run.ask());
        }
        let is_answered = timeout(WAIT, answered).await.is_ok();
        let last = self.known().last.clone();
        match last {
            Some((health, _)) if is_answered => health,
            last => health_without_answer(last.map(|(health, at)| (health, at.elapsed()))),
        }
    }

    /// Asks the supervisor. Blocks.
    fn ask(&self) {
        let sight = run_sight(&self.runs, &self.name);
        let mut known = self.known();
        let last = known.last.clone();
        let before = last.as_ref().map(|(health, _)| health.clone());
        let health = health_after(&sight, last.map(|(health, at)| (health, at.elapsed())));
        let is_changed = before.as_ref() != Some(&health);
        // A health that is kept without an answer is not younger for it.
        if is_changed || !matches!(sight, RunSight::Silent) {
            known.last = Some((health.clone(), Instant::now()));
        }
        known.is_asked = false;
        drop(known);
        self.answered.notify_waiters();
        if is_changed {
            (self.report)(&self.name, &health);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // No code panics while it has the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
