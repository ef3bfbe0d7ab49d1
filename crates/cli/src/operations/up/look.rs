//! What there is of a service: its run, as its supervisor describes it.

use std::ffi::OsString;
use std::path::PathBuf;

use sameport_policy::model::name::RunName;
use sameport_policy::services::changes::{CanaryFacts, PresentRun, RunningFacts};
use sameport_policy::services::line::LineOptions;
use sameport_supervisor::control::canary::CanaryState;
use sameport_supervisor::control::client::{Client, ClientError};
use sameport_supervisor::control::protocol::{RunStatus, TrafficPort, WorkerPhase};

/// A run, or that there is none.
#[derive(Debug, Clone)]
pub(crate) struct ServiceRun {
    pub(crate) present: PresentRun,
    /// The pid of its supervisor, which may have been killed.
    pub(crate) pid: Option<i32>,
    /// Who started it.
    pub(crate) owner: RunOwner,
    /// Its TCP ports.
    pub(crate) ports: Vec<TrafficPort>,
}

/// Who starts and changes a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunOwner {
    /// No user: there is no run.
    None,
    /// `up` of this file.
    File(PathBuf),
    /// `sameport run`, by hand.
    Hand,
    /// A service manager, which would start it as before.
    Manager,
}

/// Looks for the run of this name.
///
/// # Errors
///
/// The supervisor does not answer.
pub(crate) fn look(client: &Client, name: &RunName) -> Result<ServiceRun, ClientError> {
    match client.status(name) {
        Ok(status) => Ok(running(&status)),
        Err(ClientError::SupervisorDead(dead)) => {
            let record = dead.record.as_ref();
            let next = record.and_then(|record| record.continuation.as_ref());
            let origin = next.and_then(|next| origin_of(&next.arguments));
            let workers = dead.running_workers.len();
            Ok(ServiceRun {
                present: PresentRun::Orphaned { workers, origin: origin.clone() },
                pid: record.map(|record| record.pid),
                owner: match (origin, record.and_then(|record| record.info.service.as_ref())) {
                    (Some(origin), _) => RunOwner::File(origin),
                    (None, Some(_)) => RunOwner::Manager,
                    (None, None) if workers == 0 => RunOwner::None,
                    (None, None) => RunOwner::Hand,
                },
                ports: Vec::new(),
            })
        }
        Err(error) if error.is_over() => Ok(ServiceRun {
            present: PresentRun::None,
            pid: None,
            owner: RunOwner::None,
            ports: Vec::new(),
        }),
        Err(error) => Err(error),
    }
}

/// The file of services in a command line of `sameport run`.
fn origin_of(arguments: &[OsString]) -> Option<PathBuf> {
    LineOptions::read(arguments)?.origin
}

fn running(status: &RunStatus) -> ServiceRun {
    let start = status.treatment.start.as_ref();
    let origin = start.and_then(|start| origin_of(&start.arguments));
    let is_ready = |state: WorkerPhase| state == WorkerPhase::Ready;
    let ready = status.workers.iter().filter(|it| !it.canary && is_ready(it.state)).count();
    let mut environment = start.map(|start| start.environment.clone()).unwrap_or_default();
    // The later of one name counts.
    environment.reverse();
    environment.sort_by(|one, other| one.0.cmp(&other.0));
    environment.dedup_by(|next, kept| next.0 == kept.0);
    let canary = status.treatment.canary.as_ref().and_then(|canary| match canary.state {
        CanaryState::Active { share, .. } => Some(CanaryFacts {
            command: canary.command.clone(),
            directory: canary.directory.clone().into(),
            share,
        }),
        CanaryState::RolledBack { .. } => None,
    });
    let steered = start.map(|start| start.steered.iter().map(|port| port.rules.clone()));
    ServiceRun {
        present: PresentRun::Running(Box::new(RunningFacts {
            arguments: start.map(|start| start.arguments.clone()),
            copies: status.copies,
            ready,
            command: status.command.clone(),
            directory: status.directory.clone().into(),
            environment,
            steered: steered.into_iter().flatten().collect(),
            canary,
            can_hand_over: status.via == "seccomp",
        })),
        pid: Some(status.pid),
        owner: match (origin, start.and_then(|start| start.service.as_ref())) {
            (Some(origin), _) => RunOwner::File(origin),
            (None, Some(_)) => RunOwner::Manager,
            (None, None) => RunOwner::Hand,
        },
        ports: ports(status),
    }
}

fn ports(status: &RunStatus) -> Vec<TrafficPort> {
    let tcp = status.addresses.iter().filter(|it| it.protocol == "tcp");
    let number = |address: &String| address.rsplit(':').next()?.parse().ok();
    let mut ports: Vec<u16> = tcp.filter_map(|it| number(&it.address)).collect();
    ports.sort_unstable();
    ports.dedup();
    ports.into_iter().map(|port| TrafficPort { udp: false, port }).collect()
}
