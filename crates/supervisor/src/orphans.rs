//! Finds the workers of a supervisor that was killed, and duplicates their sockets.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::time::Duration;

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::model::name::RunName;
use sameport_policy::model::{Address, Protocol, is_of_other_group};
use sameport_sys::inspect::{OpenDescriptor, SocketQuery};
use sameport_sys::process::ForeignProcess;
use sameport_sys::run_files::{SupervisorState, connect_supervisor, folders};
use sameport_sys::socket::WorkerSocket;
use sameport_sys::{Errno, ProcessIdentity, guarded, inspect, process};

use crate::control::RunRecord;
use crate::control::continuation::RecordedWorker;
use crate::control::counters::RunCounters;
use crate::control::protocol::PortRules;
use crate::error::{RunError, TakeoverError};
use crate::plan::{NamedOptions, RunBegin, RunPlan};
use crate::processes;

/// Time limit of a connection to a supervisor, and of reading an environment.
const LIMIT: Duration = Duration::from_secs(1);

/// The workers of a killed supervisor.
#[derive(Debug)]
pub(crate) struct Orphans {
    /// The pid that the supervisor had.
    pub(crate) supervisor: i32,
    pub(crate) workers: Vec<OrphanedWorker>,
    pub(crate) sockets: Vec<OrphanedSocket>,
    /// Inodes of the members of each TCP group, in the kernel's order when the supervisor was killed.
    pub(crate) groups: Vec<Vec<u64>>,
    /// The policies that requests had set for single ports.
    pub(crate) traffic: Vec<PortRules>,
    /// What the run had counted.
    pub(crate) counters: RunCounters,
}

#[derive(Debug)]
pub(crate) struct OrphanedWorker {
    pub(crate) ordinal: u16,
    pub(crate) start: InstanceId,
    /// Not empty. The first process of the worker, if it lives, is the first.
    pub(crate) processes: Vec<ForeignProcess>,
    /// The addresses that a replacement must listen on.
    pub(crate) addresses: Vec<String>,
    /// The inode of the pipe of its output, if its log writer has ended too.
    pub(crate) unread: Option<u64>,
}

/// A socket of orphans, duplicated.
#[derive(Debug)]
pub(crate) struct OrphanedSocket {
    pub(crate) socket: WorkerSocket,
    pub(crate) address: Address,
    pub(crate) users: Vec<InstanceId>,
    /// Whether workers inherit it as an open descriptor (`--listen`).
    pub(crate) passed: bool,
}

impl Orphans {
    /// The workers that the last supervisor of this run left; `None` if it left none that live.
    pub(crate) fn find(plan: &RunPlan, named: &NamedOptions) -> Result<Option<Self>, RunError> {
        let folders = folders(plan.environment.runtime_dir.as_deref().map(Path::new));
        let state = connect_supervisor(&named.name, &folders, LIMIT);
        let Some(SupervisorState::Gone(Some(bytes))) = state else { return Ok(None) };
        let Ok(record) = serde_json::from_slice::<RunRecord>(&bytes) else { return Ok(None) };
        let mut recorded = record.workers();
        // Those that served replace the others of the same ordinal. A canary has the ordinal of a worker
        // that serves beside it.
        recorded.sort_by_key(|worker| (worker.canary, !worker.ready, worker.start));
        let is_same_command = record.info.command == plan.command;
        let output = record.continuation.as_ref().map(|it| it.output.clone());
        let output = output.filter(|output| !output.is_read()).unwrap_or_default();
        let living = |worker: RecordedWorker| {
            let processes = living_processes(&worker, &named.name);
            let addresses = if is_same_command { worker.addresses } else { Vec::new() };
            let (ordinal, start) = (worker.ordinal, worker.start);
            let unread = output.pipes.get(&start).copied();
            (!processes.is_empty()).then_some(OrphanedWorker {
                ordinal,
                start,
                processes,
                addresses,
                unread,
            })
        };
        let workers: Vec<OrphanedWorker> = recorded.into_iter().filter_map(living).collect();
        if workers.is_empty() {
            return Ok(None);
        }
        let continuation = record.continuation;
        let mut orphans = Self {
            supervisor: record.pid,
            workers,
            sockets: vec![],
            groups: vec![],
            traffic: vec![],
            counters: record.history.counters.restored(),
        };
        if named.hold {
            let known = continuation.as_ref().map(|it| it.sockets.iter().copied().collect());
            let ends = matches!(named.begin, RunBegin::Stop { .. });
            orphans.sockets = match orphans.duplicate_sockets(known.as_ref(), plan.owner()) {
                // To end a worker takes no socket. New connections reach it until it ends.
                Err(_) if ends => Vec::new(),
                duplicated => duplicated?,
            };
            if let Some(continuation) = continuation {
                orphans.groups = continuation.groups;
                // Another command line has a policy of its own.
                if continuation.arguments == named.arguments {
                    orphans.traffic = continuation.traffic;
                }
            }
        }
        Ok(Some(orphans))
    }

    /// The pids of all first processes.
    pub(crate) fn pids(&self) -> Vec<i32> {
        self.workers.iter().map(|worker| worker.processes[0].pid()).collect()
    }

    /// Duplicates the held sockets. `known`: their inodes; without them, every TCP listener counts.
    fn duplicate_sockets(
        &self,
        known: Option<&HashSet<u64>>,
        owner: Option<u32>,
    ) -> Result<Vec<OrphanedSocket>, RunError> {
        let failed = |error| RunError::TakeOver(TakeoverError::NotListed(error));
        let mut listed =
            inspect::list_without_owners(&SocketQuery::everything()).map_err(failed)?;
        listed.retain(|socket| match known {
            Some(known) => known.contains(&socket.inode),
            None => socket.address.protocol == Protocol::Tcp,
        });
        let inodes: HashSet<u64> = listed.iter().map(|socket| socket.inode).collect();
        let mut of_process: BTreeMap<i32, InstanceId> = BTreeMap::new();
        for worker in &self.workers {
            let own: Vec<i32> = worker.processes.iter().map(ForeignProcess::pid).collect();
            let below = process::descendants_of(&own).into_iter().map(|found| found.pid);
            of_process.extend(own.iter().copied().chain(below).map(|pid| (pid, worker.start)));
        }
        let pids: Vec<i32> = of_process.keys().copied().collect();
        let mut holders = inspect::descriptors_of(&inodes, &pids);
        let mut sockets = Vec::new();
        for socket in listed {
            let holders = holders.remove(&socket.inode).unwrap_or_default();
            let users = holders.iter().filter_map(|it| of_process.get(&it.pid).copied());
            let users: BTreeSet<InstanceId> = users.collect();
            let duplicate = match duplicate(&holders, socket.inode)? {
                Some(duplicate) => duplicate,
                // Another program's, if the record does not name it.
                None if known.is_none() => continue,
                None => return Err(RunError::TakeOver(TakeoverError::NotSeen(socket.address))),
            };
            if is_of_other_group(duplicate.owner(), owner) {
                return Err(RunError::TakeOver(TakeoverError::OtherGroup(socket.address)));
            }
            sockets.push(OrphanedSocket {
                socket: duplicate,
                address: socket.address,
                users: users.into_iter().collect(),
                passed: false,
            });
        }
        Ok(sockets)
    }
}

/// The processes of a recorded worker that live: the first, or else what it left in its group.
fn living_processes(worker: &RecordedWorker, name: &RunName) -> Vec<ForeignProcess> {
    let mut processes: Vec<_> = worker.identities().filter_map(ForeignProcess::open).collect();
    if processes.is_empty() {
        let groups = worker.identities().map(|it| it.pid().cast_signed());
        processes.extend(groups.flat_map(|group| left_in_group(group, name)));
    }
    processes
}

/// The processes of a worker's group, which outlived its first process. The kernel may have given the
/// number of an empty group to another process, whose environment does not name the run.
pub(crate) fn left_in_group(group: i32, name: &RunName) -> Vec<ForeignProcess> {
    let is_ours = |identity: &ProcessIdentity| {
        let pid = identity.pid().cast_signed();
        let value = guarded::within(LIMIT, move || process::env_value(pid, processes::NAME));
        value.flatten().is_some_and(|value| value == name.as_str().as_bytes())
    };
    let members = process::members_of_group(group).into_iter();
    members.filter(is_ours).filter_map(ForeignProcess::open).collect()
}

/// A duplicate of the socket with this inode; `None` if no holder has it any more.
fn duplicate(holders: &[OpenDescriptor], inode: u64) -> Result<Option<WorkerSocket>, RunError> {
    for OpenDescriptor { pid, descriptor } in holders.iter().copied() {
        let identity = ProcessIdentity::of(pid.cast_unsigned());
        let Some(process) = identity.ok().and_then(ForeignProcess::open) else { continue };
        let socket = process.duplicate(descriptor).and_then(WorkerSocket::from_fd);
        match socket {
            Ok(socket) if socket.inode() == inode => return Ok(Some(socket)),
            // The number is another descriptor's by now, or the process ends.
            Ok(_) | Err(Errno::BADF | Errno::SRCH) => {}
            Err(errno) => {
                let error = TakeoverError::NotDuplicated { pid, descriptor, errno };
                return Err(RunError::TakeOver(error));
            }
        }
    }
    Ok(None)
}
