//! The members of a port, with what a selector can name: the run, its group, the worker, the pids.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};

use sameport_policy::addr::{Host, PortSpec};
use sameport_policy::holder::{Holder, HolderClass, HolderFacts, classify_all};
use sameport_policy::membership::run_line::RunLine;
use sameport_policy::model::name::RunName;
use sameport_policy::model::{Address, Member, Protocol, SocketState};
use sameport_supervisor::control::holder_facts;
use sameport_sys::inspect;
use sameport_sys::inspect::{InspectError, SocketQuery, StateFilter};
use sameport_sys::socket::resolve_host;

use crate::operations::runtime_dir::runtime_dir;

/// One port of one protocol.
#[derive(Debug, Clone)]
pub(crate) struct PortMembers {
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    /// The sockets that take new connections, in the order of their addresses.
    pub(crate) sockets: Vec<MemberSocket>,
    /// Open connections by process; `None` where the process of one could not be seen.
    pub(crate) open: Option<BTreeMap<i32, u32>>,
}

/// A socket that takes new connections, and who has it.
#[derive(Debug, Clone)]
pub(crate) struct MemberSocket {
    pub(crate) member: Member,
    pub(crate) holder: Holder,
    /// Every process that serves the socket, the main one first; only one, if only that one waits for it.
    pub(crate) pids: Vec<i32>,
    /// The run, where it has a name, and its group.
    pub(crate) run: Option<RunName>,
    pub(crate) group: Option<RunName>,
    pub(crate) worker: Option<u16>,
    /// The living supervisor of a named run, and its user.
    pub(crate) supervisor: Option<(i32, u32)>,
}

impl MemberSocket {
    /// The main process.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.pids.first().copied()
    }

    /// The name of the program of the main process.
    pub(crate) fn program(&self) -> &str {
        let main = self.holder.servers().find(|process| Some(process.pid) == self.pid());
        main.map_or("", |process| &process.program)
    }

    /// Whether only the supervisor has it open: it waits for the next worker, and gets nothing.
    pub(crate) fn is_spare(&self) -> bool {
        let is_supervisor = |pid| self.supervisor.is_some_and(|(supervisor, _)| supervisor == pid);
        let processes = &self.member.processes;
        !processes.is_empty() && processes.iter().all(|process| is_supervisor(process.pid))
    }

    /// The address.
    pub(crate) fn address(&self) -> &Address {
        &self.member.socket.address
    }
}

impl PortMembers {
    /// `8080/tcp`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.port, self.protocol)
    }
}

/// Why the members of a port are not known.
#[derive(Debug)]
pub(crate) enum PortError {
    /// The name has no address.
    Name { name: String, source: io::Error },
    /// The kernel was not asked.
    Look(InspectError),
}

/// The members of a port, by protocol: TCP first. A protocol without a socket is left out.
///
/// # Errors
///
/// See [`PortError`].
pub(crate) fn members(spec: &PortSpec) -> Result<Vec<PortMembers>, PortError> {
    let ips = match &spec.addr.host {
        Host::Any => None,
        Host::Ip(ip) => Some(vec![*ip]),
        Host::Name(name) => {
            let found = resolve_host(name, spec.addr.port)
                .map_err(|source| PortError::Name { name: name.clone(), source })?;
            Some(found.iter().map(SocketAddr::ip).collect())
        }
    };
    let mut ports = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        if spec.protocol.is_none_or(|named| named == protocol) {
            let found = of_protocol(protocol, spec.addr.port, ips.as_deref());
            ports.extend(found.map_err(PortError::Look)?);
        }
    }
    Ok(ports)
}

/// The members of one port, as often as they are needed; `None` without any.
pub(crate) fn of_protocol(
    protocol: Protocol,
    port: u16,
    ips: Option<&[IpAddr]>,
) -> Result<Option<PortMembers>, InspectError> {
    let query = SocketQuery::only(protocol).on(port);
    let states = match protocol {
        Protocol::Tcp => StateFilter::Every,
        Protocol::Udp => StateFilter::Waiting,
    };
    let seen = inspect::list_sockets(&query.in_states(states))?;
    let (mut waiting, mut connected) = (Vec::new(), Vec::new());
    for member in seen.members {
        match member.socket.state {
            SocketState::Waiting => waiting.push(member),
            SocketState::Connected => connected.push(member),
            SocketState::Bound => {}
        }
    }
    let takes = |member: &Member, ip: &IpAddr| {
        let wanted = Address::new(protocol, SocketAddr::new(*ip, port));
        member.socket.address.overlaps(&wanted)
    };
    if let Some(ips) = ips
        && !waiting.iter().any(|member| ips.iter().any(|ip| takes(member, ip)))
    {
        return Ok(None);
    }
    if waiting.is_empty() {
        return Ok(None);
    }
    waiting.sort_by(|one, other| {
        let key = |it: &Member| {
            let pid = it.processes.iter().map(|process| process.pid).min();
            (pid.is_none(), pid, it.socket.address.clone(), it.socket.inode)
        };
        key(one).cmp(&key(other))
    });
    // A connection without an inode waits in a queue, or is finished by the kernel.
    let is_seen = |it: &Member| it.socket.inode == 0 || !it.processes.is_empty();
    let is_counted = protocol == Protocol::Tcp && connected.iter().all(is_seen);
    let open = is_counted.then(|| count_open(&connected));
    let facts = holder_facts(&waiting, runtime_dir().as_deref(), false);
    let holders = classify_all(&waiting, &facts);
    let sockets = waiting.into_iter().zip(holders);
    let mut sockets: Vec<MemberSocket> =
        sockets.map(|(member, holder)| socket(member, holder, &facts)).collect();
    name_the_server(&mut sockets);
    Ok(Some(PortMembers { protocol, port, sockets, open }))
}

/// A socket that one of its processes waits for is that one's: the parent that opened it, and the other workers
/// that inherited it, do not serve it. Where several wait, they share it.
fn name_the_server(sockets: &mut [MemberSocket]) {
    let is_unclear = |it: &&mut MemberSocket| it.run.is_none() && it.pids.len() > 1;
    let unclear: Vec<&mut MemberSocket> = sockets.iter_mut().filter(is_unclear).collect();
    if unclear.is_empty() {
        return;
    }
    let inodes: HashSet<u64> = unclear.iter().map(|it| it.member.socket.inode).collect();
    let pids: BTreeSet<i32> = unclear.iter().flat_map(|it| &it.pids).copied().collect();
    let pids: Vec<i32> = pids.into_iter().collect();
    let watchers = inspect::watchers_of(&inodes, &pids);
    for socket in unclear {
        let waiting = watchers.get(&socket.member.socket.inode).into_iter().flatten();
        if let [only] = waiting.copied().collect::<Vec<i32>>()[..] {
            socket.pids = vec![only];
        }
    }
}

/// The connections of each process. One that several processes have open counts for each.
fn count_open(connected: &[Member]) -> BTreeMap<i32, u32> {
    let mut open = BTreeMap::new();
    for process in connected.iter().flat_map(|member| &member.processes) {
        *open.entry(process.pid).or_insert(0) += 1;
    }
    open
}

fn socket(member: Member, holder: Holder, facts: &HolderFacts) -> MemberSocket {
    let line = holder.class.supervisor().and_then(|pid| {
        let details = facts.processes.get(&pid)?.process.details.as_ref()?;
        let words: Vec<OsString> = details.command.iter().map(OsString::from).collect();
        RunLine::read(&words)
    });
    let (run, worker, supervisor) = match &holder.class {
        HolderClass::Run { of, supervisor, uid } => {
            (Some(of.name.clone()), of.worker, supervisor.zip(*uid))
        }
        _ => (None, None, None),
    };
    let group = line.and_then(|line| line.group);
    let pids = holder.servers().map(|process| process.pid).collect();
    MemberSocket { member, holder, pids, run, group, worker, supervisor }
}
