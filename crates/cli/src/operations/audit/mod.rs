//! `audit`: conflicts between the programs on a port.

pub(crate) mod watch;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sameport_policy::addr::{Host, PortSpec};
use sameport_policy::audit::{AuditFacts, Finding, ProgramEvidence, Redirection, audit};
use sameport_policy::holder::HolderFacts;
use sameport_policy::membership::run_line::RunLine;
use sameport_policy::model::{Address, Member, Protocol};
use sameport_supervisor::control::holder_facts;
use sameport_sys::bpf;
use sameport_sys::bpf::guard;
use sameport_sys::cgroup::Cgroup;
use sameport_sys::inspect;
use sameport_sys::inspect::{Snapshot, SocketQuery, StateFilter};
use sameport_sys::proc;
use sameport_sys::socket::resolve_host;
use sameport_sys::{Errno, effective_user};

use super::runtime_dir::runtime_dir;

/// A finding can be transient: a server between `bind` and `listen`, a process between `fork` and `exec`.
/// It is reported if it is still there after this time.
const TRANSIENT: Duration = Duration::from_millis(200);

/// The part of the machine that `audit` examines.
#[derive(Debug, Clone)]
pub(crate) struct AuditRequest {
    /// One port or address, or all.
    on: Option<PortSpec>,
    /// The IP addresses of `on`; `None` for all.
    ips: Option<Vec<IpAddr>>,
}

/// The reason why there is no report.
#[derive(Debug)]
pub(crate) enum Error {
    /// The name has no address.
    Name { name: String, source: io::Error },
    /// The sockets could not be listed.
    Look(inspect::InspectError),
}

impl From<inspect::InspectError> for Error {
    fn from(error: inspect::InspectError) -> Self {
        Self::Look(error)
    }
}

impl AuditRequest {
    /// Resolves the host of `on`.
    ///
    /// # Errors
    ///
    /// [`Error::Name`].
    pub(crate) fn new(on: Option<PortSpec>) -> Result<Self, Error> {
        let ips = match on.as_ref().map(|on| &on.addr.host) {
            None | Some(Host::Any) => None,
            Some(Host::Ip(ip)) => Some(vec![*ip]),
            Some(Host::Name(name)) => {
                let port = on.as_ref().map_or(0, |on| on.addr.port);
                let found = resolve_host(name, port);
                let found = found.map_err(|source| Error::Name { name: name.clone(), source })?;
                Some(found.into_iter().map(|address| address.ip()).collect())
            }
        };
        Ok(Self { on, ips })
    }

    pub(crate) fn on(&self) -> Option<&PortSpec> {
        self.on.as_ref()
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.on.as_ref().map(|on| on.addr.port)
    }

    /// Whether the report includes this address.
    pub(crate) fn includes(&self, address: &Address) -> bool {
        let Some(on) = &self.on else { return true };
        let has_ip = |ip: &IpAddr| {
            let wanted = Address { device: on.device.clone(), ..address.clone() };
            let socket = SocketAddr::new(*ip, on.addr.port);
            address.overlaps(&Address { socket, v6only: false, ..wanted })
        };
        address.port() == on.addr.port
            && on.protocol.is_none_or(|protocol| protocol == address.protocol)
            && match &self.ips {
                Some(ips) => ips.iter().any(has_ip),
                None => {
                    on.device.is_none() || address.device.is_none() || address.device == on.device
                }
            }
    }

    /// Whether the report includes this finding: one about the whole machine, or about an address.
    fn includes_finding(&self, finding: &Finding) -> bool {
        let parties = || [&finding.intruder, &finding.owner].into_iter().flatten();
        let protocol = self.on.as_ref().and_then(|on| on.protocol);
        let is_of = |found: Protocol| protocol.is_none_or(|protocol| protocol == found);
        finding.port.is_none_or(|(found, _)| is_of(found))
            && (parties().next().is_none() || parties().any(|party| self.includes(&party.address)))
    }

    /// The findings in these facts that the report includes.
    fn findings(&self, facts: &AuditFacts) -> Vec<Finding> {
        let mut findings = audit(facts);
        findings.retain(|finding| self.includes_finding(finding));
        findings
    }
}

/// The findings, and the parts of the machine that could not be inspected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditReport {
    pub(crate) findings: Vec<Finding>,
    pub(crate) unseen: Vec<Unseen>,
}

/// A part of the machine that could not be inspected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// The processes of this number of sockets, which belong to another user.
    Processes(usize),
    /// The same, but invisible for root too: in another pid namespace, or in the kernel.
    EvenForRoot(usize),
    /// The open sockets of a hidden process.
    Holders,
    /// Bound sockets that do not listen: this kernel does not list them.
    Bound,
    /// Whether a program steers a group.
    Steering,
    /// Whether a program redirects connections between all sockets.
    Redirections(Errno),
}

/// Inspects the machine, and a second time if there are findings.
///
/// # Errors
///
/// When the sockets could not be listed.
pub(crate) fn report(request: &AuditRequest) -> Result<AuditReport, Error> {
    let (facts, mut unseen) = facts(request, false)?;
    let mut findings = request.findings(&facts);
    if !findings.is_empty() {
        std::thread::sleep(TRANSIENT);
        let (facts, now_unseen) = self::facts(request, true)?;
        unseen = now_unseen;
        let before = std::mem::take(&mut findings);
        findings = request.findings(&facts);
        findings.retain(|finding| before.iter().any(|earlier| earlier.is_same(finding)));
    }
    Ok(AuditReport { findings, unseen })
}

/// `with_units`: whether to ask the service managers, for a fix that stops or restarts a unit.
///
/// The tables of `/proc/net` do not replace the kernel's list: without the device and the options of a socket,
/// neither a finding nor its absence is certain.
fn facts(
    request: &AuditRequest,
    with_units: bool,
) -> Result<(AuditFacts, Vec<Unseen>), inspect::InspectError> {
    // On all ports together, connections are many and no evidence.
    let states = if request.on.is_some() { StateFilter::Every } else { StateFilter::Unconnected };
    let query = SocketQuery { port: request.port(), ..SocketQuery::everything() };
    inspect::require_netlink()?;
    let seen = inspect::list_sockets(&query.in_states(states).with_details())?;
    let lookups = bpf::sk_lookup_programs();
    let unseen = unseen(&seen, lookups.as_ref().err().copied());
    let redirections = lookups.unwrap_or_default().into_iter();
    let runtime = runtime_dir();
    let holders = holder_facts(&seen.members, runtime.as_deref(), with_units);
    let facts = AuditFacts {
        evidence: traces(&seen.members, &holders),
        members: seen.members,
        kernel: proc::kernel_settings(),
        port: request.port(),
        redirections: redirections.map(|program| Redirection { program }).collect(),
        holders,
        caller: effective_user(),
        can_guard: Cgroup::first().is_ok(),
    };
    Ok((facts, unseen))
}

/// Evidence about every process with a socket, about its parent, and about the supervisors of runs.
fn traces(members: &[Member], holders: &HolderFacts) -> BTreeMap<i32, ProgramEvidence> {
    let mut traces = BTreeMap::new();
    for process in members.iter().flat_map(|member| &member.processes) {
        let parent = process.details.as_ref().and_then(|details| details.parent);
        for pid in [Some(process.pid), parent].into_iter().flatten() {
            traces.entry(pid).or_insert_with(|| trace(pid));
        }
    }
    let supervisors = holders.processes.values().filter(|it| it.is_sameport);
    for pid in supervisors.map(|it| it.process.pid) {
        traces.entry(pid).or_insert_with(|| trace(pid));
    }
    traces
}

fn trace(pid: i32) -> ProgramEvidence {
    let runs = proc::ancestor_commands(pid, sameport_supervisor::PROGRAM)
        .filter_map(|line| Some(RunLine::read(&line.words)?.identity(line.directory.as_deref())));
    ProgramEvidence {
        executable: proc::executable_id(pid),
        directory: proc::working_directory(pid),
        ancestors: proc::ancestors(pid),
        runs: runs.collect(),
        binder: guard::binder(pid).ok(),
    }
}

fn unseen(seen: &Snapshot, lookups: Option<Errno>) -> Vec<Unseen> {
    let is_root = effective_user() == 0;
    // Inode 0: a connection in an accept queue has no process yet.
    let nameless = |member: &&Member| member.processes.is_empty() && member.socket.inode != 0;
    let nameless = seen.members.iter().filter(nameless).count();
    let processes = match (nameless, is_root) {
        (0, _) => (!seen.complete).then_some(Unseen::Holders),
        (sockets, true) => Some(Unseen::EvenForRoot(sockets)),
        (sockets, false) => Some(Unseen::Processes(sockets)),
    };
    // A program cannot choose where there is one socket.
    let steering = !seen.iterated && seen.members.len() > 1;
    let bound = (!seen.bound).then_some(Unseen::Bound);
    let steering = steering.then_some(Unseen::Steering);
    [processes, bound, steering, lookups.map(Unseen::Redirections)].into_iter().flatten().collect()
}
