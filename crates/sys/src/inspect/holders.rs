//! The facts by which `sameport_policy::holder` classifies the holders of sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use sameport_policy::holder::{
    HolderFacts, MOST_ANCESTORS, Manager, ProcessFacts, Task, TaskTool, manager_of, task_tool,
    unit_of,
};
use sameport_policy::model::{Member, Process};

use crate::proc::fd_scan::ProcessCache;
use crate::{guarded, proc, process, systemd};

/// The time limit of reading an environment.
const LIMIT: Duration = Duration::from_secs(1);

/// The facts about the holders of these sockets: reads the holders and their ancestors from `/proc`, about
/// 30 µs each, and environments of workers. `program` is the kernel's name of this program.
///
/// `managers`: asks the service managers about the units of the holders, in about 20 ms. Starts `systemctl`,
/// and only if a holder belongs to a unit or is a manager. Without it, and without the right to ask, no
/// unit is known.
#[must_use]
pub fn holder_facts<'a>(
    members: impl IntoIterator<Item = &'a Member>,
    program: &str,
    managers: bool,
) -> HolderFacts {
    let mut facts =
        HolderFacts { ephemeral_ports: proc::sysctl::ephemeral_ports(), ..HolderFacts::default() };
    let mut cache = ProcessCache::new(crate::int_hash::IntMap::default(), true);
    let own_file = proc::executable_id(std::process::id().cast_signed());
    let is_sameport = |process: &Process| {
        process.program == program
            || (own_file.is_some() && proc::executable_id(process.pid) == own_file)
    };
    let mut holders = BTreeSet::new();
    for process in members.into_iter().flat_map(|member| &member.processes) {
        if holders.insert(process.pid) {
            let known = process.details.is_some().then(|| process.clone());
            let Some(process) = known.or_else(|| cache.process(process.pid)) else { continue };
            add_with_ancestors(process, &is_sameport, &mut cache, &mut facts.processes);
        }
    }
    for pid in &holders {
        add_environment(*pid, &mut facts.processes);
    }
    if managers {
        add_units(&mut facts, &holders);
    }
    facts
}

fn add_with_ancestors(
    process: Process,
    is_sameport: &impl Fn(&Process) -> bool,
    cache: &mut ProcessCache,
    processes: &mut BTreeMap<i32, ProcessFacts>,
) {
    let mut next = Some(process);
    for _ in 0..MOST_ANCESTORS {
        let Some(process) = next.filter(|process| !processes.contains_key(&process.pid)) else {
            return;
        };
        let parent = process.details.as_ref().and_then(|details| details.parent);
        let facts =
            ProcessFacts { is_sameport: is_sameport(&process), ..ProcessFacts::new(process) };
        processes.insert(facts.process.pid, facts);
        next = parent.filter(|pid| *pid > 0).and_then(|pid| cache.process(pid));
    }
}

/// Reads the number of a worker, and the name of a process manager's task.
fn add_environment(pid: i32, processes: &mut BTreeMap<i32, ProcessFacts>) {
    let mut above = Vec::new();
    let mut next = Some(pid);
    while let Some(facts) = next.and_then(|pid| processes.get(&pid))
        && above.len() < MOST_ANCESTORS
    {
        above.push(&facts.process);
        next = facts.process.details.as_ref().and_then(|details| details.parent);
    }
    let has = |is: &dyn Fn(&Process) -> bool| above.iter().skip(1).any(|it| is(it));
    let is_sameport = |it: &Process| processes.get(&it.pid).is_some_and(|it| it.is_sameport);
    let worker = has(&is_sameport).then(|| env_value(pid, "SAMEPORT_WORKER")).flatten();
    let task = match above.iter().skip(1).find_map(|it| Some((*it, task_tool(it)?))) {
        Some((manager, TaskTool::Supervisorctl)) => supervisor_task(pid, manager),
        // runsv, s6-supervise and supervise run in the directory of their service.
        Some((manager, tool)) => proc::working_directory(manager.pid).map(|directory| {
            let name = directory.to_string_lossy().into_owned();
            Task { tool, options: vec![], name }
        }),
        None => None,
    };
    if let Some(facts) = processes.get_mut(&pid) {
        facts.worker = worker.and_then(|number| number.parse().ok());
        facts.task = task;
    }
}

/// supervisor sets `SUPERVISOR_PROCESS_NAME` and `SUPERVISOR_GROUP_NAME` for its processes.
fn supervisor_task(pid: i32, manager: &Process) -> Option<Task> {
    let process = env_value(pid, "SUPERVISOR_PROCESS_NAME")?;
    let group = env_value(pid, "SUPERVISOR_GROUP_NAME");
    let directory = proc::working_directory(manager.pid);
    Task::of_supervisor(process, group, manager, directory.as_deref())
}

/// A file system that does not respond blocks the read of an environment that is mapped from it.
fn env_value(pid: i32, variable: &'static str) -> Option<String> {
    let value = guarded::within(LIMIT, move || process::env_value(pid, variable)).flatten()?;
    Some(OsStr::from_bytes(&value).to_string_lossy().into_owned())
}

fn add_units(facts: &mut HolderFacts, holders: &BTreeSet<i32>) {
    let mut names: BTreeMap<Manager, BTreeSet<String>> = BTreeMap::new();
    let mut with_sockets = BTreeSet::new();
    for it in facts.processes.values() {
        let cgroup = it.process.details.as_ref().and_then(|details| details.cgroup.as_deref());
        if let Some(manager) = manager_of(&it.process) {
            if holders.contains(&it.process.pid) {
                with_sockets.insert(manager);
            }
        } else if let Some(unit) = cgroup.and_then(unit_of) {
            names.entry(unit.manager).or_default().insert(unit.name);
        }
    }
    let managers: BTreeSet<Manager> = names.keys().chain(&with_sockets).copied().collect();
    for manager in managers {
        let names: Vec<String> = names.remove(&manager).unwrap_or_default().into_iter().collect();
        facts.units.extend(systemd::show_units(manager, &names, with_sockets.contains(&manager)));
    }
}
