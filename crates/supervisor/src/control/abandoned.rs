//! Workers of named runs whose supervisor was killed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use sameport_policy::holder::{HolderFacts, RunWorker};
use sameport_policy::model::Member;
use sameport_policy::model::name::RunName;
use sameport_sys::inspect;
use sameport_sys::run_files::{SupervisorState, connect_supervisor, folders, list_names};

use super::record::RunRecord;
use crate::plan::PROGRAM;

/// The time limit of a connection to a supervisor.
const LIMIT: Duration = Duration::from_secs(1);

/// The facts about the holders of these sockets (`sys::inspect::holder_facts`), with the workers that a
/// killed supervisor of this user left. `runtime`: see `run_files::runtime_dir`. `managers`: whether to ask
/// service managers about units.
#[must_use]
pub fn holder_facts<'a>(
    members: impl IntoIterator<Item = &'a Member> + Clone,
    runtime: Option<&OsStr>,
    managers: bool,
) -> HolderFacts {
    let mut facts = inspect::holder_facts(members.clone(), PROGRAM, managers);
    let is_supervised = |pid| facts.ancestors(pid).iter().any(|it| it.is_sameport);
    let mut holders = members.into_iter().flat_map(|member| &member.processes);
    if holders.any(|process| !is_supervised(process.pid)) {
        let folders = folders(runtime.map(Path::new));
        for name in list_names(&folders) {
            if let Some(SupervisorState::Gone(Some(bytes))) =
                connect_supervisor(&name, &folders, LIMIT)
            {
                facts.abandoned.extend(workers(&name, &bytes));
            }
        }
    }
    facts
}

/// The living workers in a record, by pid.
fn workers(name: &RunName, record: &[u8]) -> BTreeMap<i32, RunWorker> {
    let Ok(record) = serde_json::from_slice::<RunRecord>(record) else { return BTreeMap::new() };
    let mut workers = BTreeMap::new();
    for worker in record.workers() {
        let living = worker.identities().filter(|identity| !identity.is_gone());
        let of = RunWorker { name: name.clone(), worker: Some(worker.ordinal) };
        workers.extend(living.map(|identity| (identity.pid().cast_signed(), of.clone())));
    }
    workers
}
