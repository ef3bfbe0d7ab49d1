//! The named runs, asked in a thread: a supervisor that does not answer delays a scrape by a limited time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sameport_policy::metrics::RunReadiness;
use sameport_policy::model::name::RunName;
use sameport_supervisor::control::client::{Client, ClientError, RunEntry};

use crate::operations::run_health::run_facts;
use crate::operations::runtime_dir::runtime_dir;

/// How long one supervisor is waited for.
const SUPERVISOR_LIMIT: Duration = Duration::from_secs(1);

/// How long a scrape waits for all of them. Supervisors are asked in groups of 16.
const ROUND_LIMIT: Duration = Duration::from_secs(3);

/// The answers, and the rounds of questions: how many were wanted, begun and finished.
#[derive(Debug, Default)]
struct Rounds {
    wanted: u64,
    begun: u64,
    finished: u64,
    runs: Arc<Vec<RunEntry>>,
}

/// Asks supervisors when it is told to. The thread lives as long as the process.
#[derive(Debug, Clone)]
pub(super) struct RunsAsker {
    shared: Arc<(Mutex<Rounds>, Condvar)>,
}

impl RunsAsker {
    /// Starts the thread. `only`: the runs in question; empty: all.
    ///
    /// # Errors
    ///
    /// EAGAIN: no more threads.
    pub(super) fn start(only: Vec<RunName>) -> std::io::Result<Self> {
        let asker = Self { shared: Arc::default() };
        let own = asker.clone();
        let client = Client::new(runtime_dir()).limited_to(SUPERVISOR_LIMIT);
        let rounds = move || {
            loop {
                own.wait_until_wanted();
                let runs = Arc::new(ask(&client, &only));
                let mut rounds = own.lock();
                rounds.runs = runs;
                rounds.finished = rounds.begun;
                own.shared.1.notify_all();
            }
        };
        std::thread::Builder::new().name("runs".into()).spawn(rounds)?;
        Ok(asker)
    }

    /// Asks, and waits for the answers. After the time limit, gives those of the round before.
    pub(super) fn ask(&self) -> Arc<Vec<RunEntry>> {
        let until = Instant::now() + ROUND_LIMIT;
        let mut rounds = self.lock();
        // A round that has begun may have asked before the moment in question.
        let own = rounds.begun + 1;
        rounds.wanted = rounds.wanted.max(own);
        self.shared.1.notify_all();
        while rounds.finished < own {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            let wait = self.shared.1.wait_timeout(rounds, rest);
            rounds = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        rounds.runs.clone()
    }

    fn wait_until_wanted(&self) {
        let rounds = self.lock();
        let wait = self.shared.1.wait_while(rounds, |it| it.wanted <= it.begun);
        wait.unwrap_or_else(PoisonError::into_inner).begun += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Rounds> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ask(client: &Client, only: &[RunName]) -> Vec<RunEntry> {
    let mut runs = client.list_all();
    ask_replaced(client, &mut runs);
    if only.is_empty() {
        return runs;
    }
    runs.retain(|run| only.contains(&run.name));
    for name in only {
        if !runs.iter().any(|run| run.name == *name) {
            runs.push(client.entry(name));
        }
    }
    runs
}

/// Asks again where `reexec` replaces a supervisor: `exec` closes its connections, and the next program listens
/// on its socket.
fn ask_replaced(client: &Client, runs: &mut [RunEntry]) {
    let until = Instant::now() + SUPERVISOR_LIMIT;
    let own = client.user();
    for run in runs.iter_mut().filter(|run| run.user == own) {
        let is_replaced = |run: &RunEntry| {
            let error = run.answer.as_ref().err().map(ClientError::cause);
            matches!(error, Some(ClientError::SupervisorEnded(_)))
        };
        while is_replaced(run) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
            *run = client.entry(&run.name);
        }
    }
}

/// Whether a run is ready.
pub(super) fn readiness(run: &RunEntry) -> RunReadiness {
    RunReadiness {
        name: run.name.to_string(),
        user: run.user.clone(),
        facts: run.answer.as_ref().map(|status| run_facts(status)).map_err(why),
    }
}

fn why(error: &ClientError) -> String {
    match error.cause() {
        ClientError::Ended(ended) => format!("it has ended: {}", ended.why),
        ClientError::NoSuchRun(_) | ClientError::Elsewhere(_) => "there is no such run".to_owned(),
        ClientError::SupervisorDead(_) => "its supervisor was killed".to_owned(),
        _ => "its supervisor does not answer".to_owned(),
    }
}
