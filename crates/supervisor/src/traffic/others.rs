//! The members of the groups of a port that are not of the run.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sameport_policy::membership::run_line::RunLine;
use sameport_policy::model::{Address, Member, SocketState};
use sameport_policy::traffic::{SocketId, TrafficMember};
use sameport_sys::bpf::traffic::{MemberCounts, TrafficState};
use sameport_sys::inspect::SocketQuery;
use sameport_sys::proc::ancestor_commands;
use sameport_sys::socket::{SocketAccess, WorkerSocket};
use sameport_sys::{inspect, proc, process};

use super::port_key::PortKey;
use crate::plan::PROGRAM;
use crate::processes;

/// The processes with a socket in the groups that are not of this run, such as `python3 (pid 4711)`.
pub(crate) fn strangers(port: PortKey, own: &[TrafficMember]) -> Vec<String> {
    let own: Vec<&TrafficMember> = own.iter().collect();
    let others = other_members(port, &own, &BTreeMap::new());
    let outside = others.into_iter().filter(|(_, other)| other.run.is_none());
    let mut names: Vec<String> = outside
        .map(|(seen, other)| match other.pid {
            Some(pid) => {
                let program = proc::program_name(pid).unwrap_or_else(|| "?".to_owned());
                format!("{program} (pid {pid}, uid {})", seen.socket.uid)
            }
            None => format!("a process that is not seen (uid {})", seen.socket.uid),
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// What a state says of a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownSocket {
    /// Whether it can be chosen.
    admitted: bool,
    canary: bool,
}

/// The sockets of a state, by cookie.
pub(super) fn known_sockets(state: &TrafficState) -> BTreeMap<u64, KnownSocket> {
    let of = |it: MemberCounts| {
        let known = KnownSocket { admitted: it.admitted, canary: it.canary };
        it.cookies.into_iter().map(move |cookie| (cookie, known))
    };
    state.snapshot().members.into_iter().flat_map(of).collect()
}

/// Without a member of others the kernel is asked once, for a list without owners.
pub(super) fn other_members(
    port: PortKey,
    own: &[&TrafficMember],
    known: &BTreeMap<u64, KnownSocket>,
) -> Vec<(Member, TrafficMember)> {
    let query = SocketQuery::only(port.protocol).on(port.port);
    let addresses: BTreeSet<&Address> = own.iter().map(|member| &member.address).collect();
    let inodes: BTreeSet<u64> = own.iter().map(|member| member.socket.inode).collect();
    let is_other = |address: &Address, inode: u64, cookie: u64, state: SocketState| {
        state == SocketState::Waiting
            && !inodes.contains(&inode)
            && (addresses.contains(address) || known.contains_key(&cookie))
    };
    let listed = inspect::list_without_owners(&query).unwrap_or_default();
    if !listed.iter().any(|it| is_other(&it.address, it.inode, it.cookie, it.state)) {
        return Vec::new();
    }
    let members = inspect::list_sockets(&query).map(|seen| seen.members).unwrap_or_default();
    let others = members.into_iter().filter(|member| {
        let it = &member.socket;
        is_other(&it.address, it.inode, it.cookie, it.state)
    });
    let described = others.map(|member| {
        // One that the state does not have yet is a newcomer.
        let newcomer = KnownSocket { admitted: true, canary: false };
        let known = known.get(&member.socket.cookie).copied().unwrap_or(newcomer);
        let described = describe(&member, known);
        (member, described)
    });
    described.collect()
}

/// A member of another run as the facts have it.
fn describe(member: &Member, known: KnownSocket) -> TrafficMember {
    let socket = &member.socket;
    let id = SocketId { inode: socket.inode, cookie: Some(socket.cookie) };
    let mut pids: Vec<i32> = member.processes.iter().map(|process| process.pid).collect();
    // The supervisor of another run has its sockets open too, and its pid is the lower one.
    let number_of = |pid: &i32| process::env_value(*pid, processes::WORKER);
    if let Some(at) = pids.iter().position(|pid| number_of(pid).is_some()) {
        pids.swap(0, at);
    }
    let first = pids.first().copied();
    let line = first.and_then(|pid| {
        ancestor_commands(pid, PROGRAM).find_map(|command| RunLine::read(&command.words))
    });
    let variable = |name| first.and_then(|pid| process::env_value(pid, name));
    let text = |value: Vec<u8>| String::from_utf8(value).ok();
    TrafficMember {
        pid: first,
        others: pids.iter().skip(1).copied().collect(),
        run: line.as_ref().and_then(|line| line.name.clone()),
        group: line.and_then(|line| line.group),
        worker: variable(processes::WORKER).and_then(text).and_then(|text| text.parse().ok()),
        admitted: known.admitted,
        canary: known.canary,
        ..TrafficMember::new(id, socket.address.clone())
    }
}

/// A duplicate of a socket, from a process that has it open.
pub(super) fn duplicate(member: &Member) -> Option<WorkerSocket> {
    let pids: Vec<i32> = member.processes.iter().map(|process| process.pid).collect();
    of_processes(&HashSet::from([member.socket.inode]), &pids).pop().map(|(socket, _)| socket)
}

/// Duplicates of these sockets, each from one of these processes.
pub(crate) fn of_processes(inodes: &HashSet<u64>, pids: &[i32]) -> Vec<(WorkerSocket, i32)> {
    let open = inspect::descriptors_of(inodes, pids);
    let first = |(inode, open): (u64, Vec<inspect::OpenDescriptor>)| {
        open.into_iter().find_map(|open| {
            match WorkerSocket::from_thread(open.pid, open.descriptor) {
                Ok(SocketAccess::Socket(socket)) if socket.inode() == inode => {
                    Some((socket, open.pid))
                }
                _ => None,
            }
        })
    };
    open.into_iter().filter_map(first).collect()
}
