//! What a load balancer may know about a named run.

use std::thread;
use std::time::{Duration, Instant};

use sameport_policy::model::name::RunName;
use sameport_policy::readiness::{RunFacts, RunSight};
use sameport_supervisor::control::client::{Client, ClientError};
use sameport_supervisor::control::protocol::{RunStatus, WorkerPhase};
use sameport_sys::run_files::ConnectError;

/// How long a supervisor that `reexec` replaces is asked again.
const REPLACED: Duration = Duration::from_secs(1);

/// Asks the supervisor of the run. Returns within the time limit of the client and one second.
pub(crate) fn run_sight(runs: &Client, name: &RunName) -> RunSight {
    let begun = Instant::now();
    loop {
        let error = match runs.status(name) {
            Ok(status) => return RunSight::Answers(run_facts(&status)),
            Err(error) => error,
        };
        // `exec` closes the connections of a supervisor, and the next program listens on its socket.
        let is_replaced = matches!(error.cause(), ClientError::SupervisorEnded(_));
        if is_replaced && begun.elapsed() < REPLACED {
            thread::sleep(Duration::from_millis(20));
            continue;
        }
        return sight_of(error.cause());
    }
}

/// The facts of a status.
pub(crate) fn run_facts(status: &RunStatus) -> RunFacts {
    let mut ready: Vec<u16> = status
        .workers
        .iter()
        .filter(|worker| worker.state == WorkerPhase::Ready && !worker.canary)
        .map(|worker| worker.ordinal)
        .collect();
    // During an upgrade the old and the new process of a worker are ready.
    ready.dedup();
    RunFacts {
        wanted: status.copies,
        ready: u16::try_from(ready.len()).unwrap_or(u16::MAX),
        leaving: status.treatment.leaving.is_some(),
    }
}

fn sight_of(error: &ClientError) -> RunSight {
    match error {
        ClientError::NoSuchRun(_) | ClientError::Elsewhere(_) => RunSight::Unknown,
        ClientError::Ended(_) => RunSight::Ended,
        ClientError::SupervisorDead(dead) => RunSight::SupervisorDead(dead.running_workers.len()),
        ClientError::NoAnswer(_)
        | ClientError::SupervisorEnded(_)
        | ClientError::Unreachable(ConnectError::Busy) => RunSight::Silent,
        ClientError::Unreachable(ConnectError::OtherUser(uid)) => {
            RunSight::Unreachable(format!("user {uid} listens in the place of its supervisor"))
        }
        ClientError::Unreachable(ConnectError::System(errno)) => {
            RunSight::Unreachable(format!("connect: {errno}"))
        }
        ClientError::Failed { error, .. } => RunSight::Unreachable(error.clone()),
        ClientError::Frame(..) | ClientError::TooLong(..) | ClientError::OfUser(..) => {
            RunSight::Unreachable("its answer is not valid".to_owned())
        }
    }
}
