//! The named runs, asked again and again in a thread of its own.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sameport_policy::top::TopPhase;
use sameport_policy::traffic::TrafficStatus;
use sameport_supervisor::control::client::{Client, ClientError, RunEntry};
use sameport_supervisor::control::protocol::{WorkerPhase, WorkerStatus};

use crate::operations::runtime_dir::runtime_dir;

/// Pause between two rounds at least: a question costs the supervisor about a millisecond.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// A named run as it answered last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SeenRun {
    pub(crate) name: String,
    /// Its user, if that is not the caller.
    pub(crate) user: Option<String>,
    /// The supervisor; 0 if it has ended.
    pub(crate) pid: i32,
    pub(crate) workers: Vec<SeenWorker>,
    /// The traffic of its ports, as its supervisor reports it.
    pub(crate) traffic: Vec<TrafficStatus>,
    /// The time of the answer.
    pub(crate) at: Instant,
    /// That it does not answer.
    pub(crate) silent: Option<String>,
}

/// A worker of a named run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenWorker {
    pub(crate) number: u16,
    /// Its first process.
    pub(crate) pid: i32,
    pub(crate) phase: TopPhase,
    pub(crate) restarts: u32,
}

/// The answers, and how many rounds there were.
#[derive(Debug, Default)]
struct Answers {
    runs: Vec<SeenRun>,
    rounds: u64,
}

/// Shared with the thread that asks.
#[derive(Debug, Default)]
struct Shared {
    answers: Mutex<Answers>,
    round: Condvar,
    /// Whether a round is wanted before its time.
    soon: Mutex<bool>,
    wake: Condvar,
}

impl Shared {
    /// Waits, for at most this long, until a round is wanted.
    fn pause(&self, limit: Duration) {
        let soon = self.soon.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.wake.wait_timeout_while(soon, limit, |soon| !*soon);
        let (mut soon, _) = wait.unwrap_or_else(PoisonError::into_inner);
        *soon = false;
    }
}

/// Asks the supervisors. The thread ends after the round in which its reader is dropped.
#[derive(Debug)]
pub(super) struct RunsWatch {
    shared: Arc<Shared>,
}

impl Drop for RunsWatch {
    fn drop(&mut self) {
        self.ask_soon();
    }
}

impl RunsWatch {
    /// `limit`: for one supervisor.
    pub(super) fn start(interval: Duration, limit: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::downgrade(&shared);
        let client = Client::new(runtime_dir()).limited_to(limit);
        let ask = move || {
            let own = client.user();
            let mut before: Vec<SeenRun> = Vec::new();
            while theirs.strong_count() > 0 {
                let runs = client.list_all().into_iter().map(|run| seen(run, &own, &before));
                before = runs.collect();
                let Some(shared) = theirs.upgrade() else { return };
                let mut answers = lock(&shared.answers);
                answers.runs = before.clone();
                answers.rounds += 1;
                drop(answers);
                shared.round.notify_all();
                shared.pause(interval.max(LEAST_PAUSE));
            }
        };
        // Without the thread no run is known, and everything else is shown.
        let _ = std::thread::Builder::new().name("runs".into()).spawn(ask);
        Self { shared }
    }

    /// The last answers.
    pub(super) fn seen(&self) -> Vec<SeenRun> {
        lock(&self.shared.answers).runs.clone()
    }

    /// Asks again, before it is time.
    pub(super) fn ask_soon(&self) {
        *self.shared.soon.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.wake.notify_all();
    }

    /// Waits for the first answers, for at most this long.
    pub(super) fn wait(&self, limit: Duration) {
        let answers = lock(&self.shared.answers);
        let wait = self.shared.round.wait_timeout_while(answers, limit, |it| it.rounds == 0);
        drop(wait);
    }
}

/// A panic in the other thread leaves whole answers.
fn lock(answers: &Mutex<Answers>) -> MutexGuard<'_, Answers> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer of a run. A supervisor that does not answer has its workers from before.
fn seen(entry: RunEntry, own: &str, before: &[SeenRun]) -> SeenRun {
    let name = entry.name.to_string();
    let user = (entry.user != own).then_some(entry.user);
    match entry.answer {
        Ok(status) => SeenRun {
            pid: status.pid,
            workers: status.workers.iter().filter_map(worker).collect(),
            traffic: status.treatment.traffic,
            at: Instant::now(),
            name,
            user,
            silent: None,
        },
        Err(error) => {
            let last = before.iter().find(|it| (&it.name, &it.user) == (&name, &user));
            let (pid, silent) = match error.cause() {
                ClientError::SupervisorDead(dead) => {
                    let pid = dead.record.as_ref().map_or(0, |record| record.pid);
                    (0, format!("the supervisor of {name} (pid {pid}) was killed"))
                }
                ClientError::NoAnswer(pid)
                | ClientError::SupervisorEnded(pid)
                | ClientError::Frame(pid, _) => {
                    (*pid, format!("the supervisor of {name} (pid {pid}) does not answer"))
                }
                _ => (0, format!("the supervisor of {name} does not answer")),
            };
            let workers = last.map(|it| it.workers.clone()).unwrap_or_default();
            let (traffic, at) = (vec![], Instant::now());
            SeenRun { name, user, pid, workers, traffic, at, silent: Some(silent) }
        }
    }
}

fn worker(status: &WorkerStatus) -> Option<SeenWorker> {
    let phase = match status.state {
        WorkerPhase::Ready => TopPhase::Ready,
        WorkerPhase::Draining => TopPhase::Draining,
        WorkerPhase::Starting | WorkerPhase::Gone | WorkerPhase::Waiting | WorkerPhase::GivenUp => {
            TopPhase::Starting
        }
    };
    let (number, restarts) = (status.ordinal, status.restarts);
    Some(SeenWorker { number, pid: status.pid?, phase, restarts })
}
