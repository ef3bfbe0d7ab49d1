//! Samples of addresses and of the members that eBPF programs choose.

use std::collections::{BTreeMap, BTreeSet};

use sameport_policy::metrics::{
    self, AddressFacts, AddressFilter, CounterTotals, MetricSet, addresses,
};
use sameport_policy::model::{Address, Protocol, Socket, SocketState};
use sameport_policy::traffic::MemberTraffic;
use sameport_supervisor::control::client::{Client, RunEntry};
use sameport_sys::bpf::traffic::{TrafficKey, TrafficState};
use sameport_sys::inspect::{self, InspectError, SocketQuery, StateFilter};
use sameport_sys::netlink;
use sameport_sys::netns::own_cookie;

use crate::operations::runtime_dir::runtime_dir;

/// The most addresses of one run: a supervisor of another user may send any number.
const MOST: usize = 1024;

/// The labels of a member: protocol, port, run, worker, program.
type MemberLabels = [String; 5];

/// A member: protocol, port, and its smallest inode.
type MemberId = (Protocol, u16, u64);

/// The counts of earlier looks.
#[derive(Debug, Default)]
pub(super) struct PortTotals {
    /// By the cookie of the socket.
    drops: CounterTotals<u64, Address>,
    choices: CounterTotals<MemberId, MemberLabels>,
    connections: CounterTotals<MemberId, MemberLabels>,
}

/// A member of a port with a policy.
#[derive(Debug, Clone)]
struct ChosenMember {
    protocol: Protocol,
    port: u16,
    labels: MemberLabels,
    inodes: Vec<u64>,
    chosen: Option<u64>,
    established: Option<u64>,
}

/// Adds the samples of addresses and members.
///
/// # Errors
///
/// When the sockets cannot be listed.
pub(super) fn add(
    set: &mut MetricSet,
    runs: &[RunEntry],
    filter: &AddressFilter,
    totals: &mut PortTotals,
) -> Result<(), InspectError> {
    let query = SocketQuery::everything().in_states(StateFilter::Unconnected);
    let mut sockets = inspect::list_without_owners(&query)?;
    sockets.retain(|socket| socket.state == SocketState::Waiting);
    let of_runs = add_of_runs(set, runs);
    let tcp = sockets.iter().map(|socket| &socket.address);
    let ports: BTreeSet<u16> =
        tcp.filter(|it| it.protocol == Protocol::Tcp).map(Address::port).collect();
    let connections = match ports.is_empty() {
        true => Vec::new(),
        false => netlink::list_established(&ports)?,
    };
    // Inode 0: it waits for accept.
    let accepted = connections.iter().filter(|connection| connection.inode != 0);
    let accepted: Vec<_> = accepted.map(|connection| connection.local).collect();
    let facts = AddressFacts { sockets: &sockets, connections: &accepted, of_runs: &of_runs };
    let report = addresses(facts, filter);
    set.gauge(&metrics::LEFT_OUT, &[], wide(report.left_out as u64));
    let drops = sockets.iter().filter_map(|it| Some((it, u64::from(it.drops?))));
    let shown = drops.filter(|(socket, _)| report.of.contains_key(&socket.address));
    totals.drops.look(shown.map(|(it, drops)| (it.cookie, it.address.clone(), drops)));
    for (address, numbers) in &report.of {
        let labels = [address.protocol.name(), &*address.to_string()];
        set.gauge(&metrics::ADDRESS_MEMBERS, &labels, f64::from(numbers.members));
        if let Some(drops) = totals.drops.of(address) {
            set.count(&metrics::ADDRESS_DROPS, &labels, drops);
        }
        if address.protocol == Protocol::Udp {
            set.gauge(&metrics::ADDRESS_BYTES, &labels, wide(numbers.queue));
            continue;
        }
        set.gauge(&metrics::ADDRESS_CONNECTIONS, &labels, wide(numbers.connections));
        set.gauge(&metrics::ADDRESS_QUEUE, &labels, wide(numbers.queue));
        set.gauge(&metrics::ADDRESS_LIMIT, &labels, wide(numbers.limit));
    }
    add_members(set, members(runs, &sockets, filter), totals);
    Ok(())
}

/// Adds the members that runs have on addresses. Gives the addresses.
fn add_of_runs(set: &mut MetricSet, runs: &[RunEntry]) -> BTreeSet<(Protocol, String)> {
    let mut found = BTreeSet::new();
    for run in runs {
        let Ok(status) = &run.answer else { continue };
        for address in status.addresses.iter().take(MOST) {
            let labels = [&*address.protocol, &*address.address, run.name.as_str(), &*run.user];
            set.gauge(&metrics::ADDRESS_RUN, &labels, f64::from(address.members));
            let udp = address.protocol == Protocol::Udp.name();
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            found.insert((protocol, address.address.clone()));
        }
    }
    found
}

fn add_members(set: &mut MetricSet, members: Vec<ChosenMember>, totals: &mut PortTotals) {
    let id = |it: &ChosenMember| {
        (it.protocol, it.port, it.inodes.iter().copied().min().unwrap_or_default())
    };
    let counted = |count: fn(&ChosenMember) -> Option<u64>| {
        let members = members.iter();
        members.filter_map(move |it| Some((id(it), it.labels.clone(), count(it)?)))
    };
    totals.choices.look(counted(|it| it.chosen));
    totals.connections.look(counted(|it| it.established));
    for (labels, count) in totals.choices.iter() {
        set.count(&metrics::MEMBER_CHOICES, &labels.each_ref().map(String::as_str), count);
    }
    for (labels, count) in totals.connections.iter() {
        set.count(&metrics::MEMBER_CONNECTIONS, &labels.each_ref().map(String::as_str), count);
    }
}

/// The members of ports with a policy of the eBPF tier: as supervisors report them, and with the right to read
/// the maps, as the kernel counts them.
fn members(runs: &[RunEntry], sockets: &[Socket], filter: &AddressFilter) -> Vec<ChosenMember> {
    let own = Client::new(runtime_dir()).user();
    let mut members: Vec<ChosenMember> = Vec::new();
    // The eBPF tier is root's: the report of a supervisor of another user does not count.
    for run in runs.iter().filter(|run| run.user == own) {
        let Ok(status) = &run.answer else { continue };
        for traffic in &status.treatment.traffic {
            let (protocol, port) = (traffic.protocol, traffic.port);
            let of = |it: &MemberTraffic| ChosenMember {
                protocol,
                port,
                labels: member_labels(protocol, port, it),
                inodes: it.inodes.clone(),
                chosen: it.chosen,
                established: None,
            };
            members.extend(traffic.members.iter().map(of));
        }
    }
    let supervisors: BTreeMap<i32, &str> = runs
        .iter()
        .filter(|run| run.user == own)
        .filter_map(|run| Some((run.answer.as_ref().ok()?.pid, run.name.as_str())))
        .collect();
    add_kernel_counts(&mut members, sockets, &supervisors);
    members.retain(|it| filter.includes_port(it.protocol, it.port));
    members
}

/// `supervisors`: the names of runs, by pid.
fn add_kernel_counts(
    members: &mut Vec<ChosenMember>,
    sockets: &[Socket],
    supervisors: &BTreeMap<i32, &str>,
) {
    let (Ok(keys), Ok(netns)) = (TrafficState::list(), own_cookie()) else { return };
    for key in keys.into_iter().filter(|key| key.netns == netns) {
        // A state that is removed meanwhile, or of another build, says nothing.
        let Ok(Some(state)) = TrafficState::find(key) else { continue };
        let on_port: BTreeMap<u64, u64> = sockets
            .iter()
            .filter(|it| (it.address.protocol, it.address.port()) == (key.protocol, key.port))
            .map(|it| (it.cookie, it.inode))
            .collect();
        let mut programs = None;
        for counted in state.snapshot().members {
            let inodes: Vec<u64> =
                counted.cookies.iter().filter_map(|it| on_port.get(it).copied()).collect();
            if inodes.is_empty() {
                continue;
            }
            let established = (key.protocol == Protocol::Tcp).then_some(counted.established);
            let known = members.iter_mut().find(|member| {
                (member.protocol, member.port) == (key.protocol, key.port)
                    && member.inodes.iter().any(|inode| inodes.contains(inode))
            });
            if let Some(member) = known {
                (member.chosen, member.established) = (Some(counted.chosen), established);
                continue;
            }
            let programs = programs.get_or_insert_with(|| programs_on(key));
            let holder = inodes.iter().find_map(|inode| programs.get(inode));
            // A socket of a worker that has ended: the supervisor empties its queue.
            let (run, program) = match holder.map(|(pid, program)| (supervisors.get(pid), program))
            {
                Some((Some(run), _)) => (*run, ""),
                Some((None, program)) => ("", program.as_str()),
                None => ("", ""),
            };
            let (protocol, port) = (key.protocol, key.port);
            members.push(ChosenMember {
                protocol,
                port,
                labels: labels(protocol, port, run, "", program),
                inodes,
                chosen: Some(counted.chosen),
                established,
            });
        }
    }
}

/// The pid and the name of a process that has each socket of the port open, by inode. Costs a scan of processes, so only
/// ports that no run has are looked at.
fn programs_on(key: TrafficKey) -> BTreeMap<u64, (i32, String)> {
    let query = SocketQuery::only(key.protocol).on(key.port);
    let members = inspect::list_sockets(&query.in_states(StateFilter::Unconnected));
    let members = members.map(|snapshot| snapshot.members).unwrap_or_default().into_iter();
    members
        .filter_map(|member| {
            let first = member.processes.first()?;
            Some((member.socket.inode, (first.pid, first.program.clone())))
        })
        .collect()
}

fn member_labels(protocol: Protocol, port: u16, member: &MemberTraffic) -> MemberLabels {
    let run = member.run.as_deref().unwrap_or_default();
    let worker = match (member.worker, member.canary) {
        (Some(worker), true) => format!("{worker}-canary"),
        (Some(worker), false) => worker.to_string(),
        (None, _) => String::new(),
    };
    let program = match run {
        "" => member.program.as_deref().unwrap_or_default(),
        _ => "",
    };
    labels(protocol, port, run, &worker, program)
}

fn labels(protocol: Protocol, port: u16, run: &str, worker: &str, program: &str) -> MemberLabels {
    [protocol.name(), &port.to_string(), run, worker, program].map(str::to_owned)
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
fn wide(count: u64) -> f64 {
    count as f64
}
