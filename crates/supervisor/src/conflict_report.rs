//! Inspections of addresses, as events.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use sameport_policy::holder::{Holder, classify};
use sameport_policy::join_debounce;
use sameport_policy::join_debounce::Sharer;
use sameport_policy::model::{Address, Member, Protocol, SocketState};
use sameport_policy::predict::contests;
use sameport_sys::{inspect, process};

use crate::conflict::{PortSockets, RefusedCaller, bound_members_on, reason};
use crate::event::{ContestedTraffic, RunEvent};
use crate::plan::PROGRAM;
use crate::report::{AnsweredCall, Report, SharedAddress};

/// Inspects the machine once, and returns the members of each address.
pub(crate) fn members_of(due: Vec<Address>) -> Vec<Report> {
    let members = match bound_members_on(&due.iter().collect::<Vec<_>>()) {
        Ok(members) => members,
        Err(error) => {
            let first = due.into_iter().take(1);
            let why = error.to_string();
            let failed = |address| RunEvent::InspectFailed { address, why: why.clone() };
            return first.map(|address| Report::Event(failed(address))).collect();
        }
    };
    let mut by_port: BTreeMap<(Protocol, u16), Vec<Member>> = BTreeMap::new();
    for member in members {
        let address = &member.socket.address;
        by_port.entry((address.protocol, address.port())).or_default().push(member);
    }
    due.into_iter()
        .map(|address| {
            let members = by_port.get(&(address.protocol, address.port()));
            Report::Inspected(shared(address, members.map_or(&[], Vec::as_slice)))
        })
        .collect()
}

/// The members of an address that a socket has joined.
fn shared(bound: Address, members: &[Member]) -> SharedAddress {
    let address = as_listed(bound.clone(), members);
    let is_waiting = |member: &&Member| member.socket.state == SocketState::Waiting;
    let waiting: Vec<&Member> = members.iter().filter(is_waiting).collect();
    let relevant: Vec<Member> = waiting
        .iter()
        .filter(|member| member.socket.address.overlaps(&address))
        .map(|member| (*member).clone())
        .collect();
    let facts = inspect::holder_facts(&relevant, PROGRAM, false);
    let all: Vec<&Member> = relevant.iter().collect();
    let holder = |member: &Member| classify(member, &all, &facts);
    let mut sharers: BTreeMap<Sharer, Holder> = BTreeMap::new();
    for member in relevant.iter().filter(|member| member.socket.address == address) {
        let holder = holder(member);
        // Of two processes of one worker the later one replaces the other.
        sharers.insert(Sharer::of(&holder, member.socket.inode), holder);
    }
    let mut sharers: Vec<_> = sharers.into_iter().collect();
    sharers.sort_by_key(|(_, holder)| holder.process.as_ref().map(|process| process.pid));
    let contests = join_debounce::neighbours(&address, &relevant).into_iter().flat_map(|pair| {
        let between = pair.map(|member| (member.socket.address.clone(), holder(member)));
        contests(pair[0], pair[1]).into_iter().map(move |contest| ContestedTraffic {
            traffic: contest.address,
            winner: contest.winner,
            between: between.clone(),
        })
    });
    let contests = contests.collect();
    let own = || members.iter().filter(|it| it.socket.address == address && is_own(it));
    let is_bound = |member: &Member| member.socket.state == SocketState::Bound;
    let is_settled = own().any(|member| is_waiting(&member)) && !own().any(is_bound);
    SharedAddress { bound, address, sharers, contests, is_settled }
}

/// Whether a worker has the socket open.
fn is_own(member: &Member) -> bool {
    member.processes.iter().any(|process| process::is_descendant(process.pid))
}

/// The address as the kernel lists it: the address of a bind lacks the device and IPV6_V6ONLY.
fn as_listed(address: Address, members: &[Member]) -> Address {
    let listed = || members.iter().map(|member| &member.socket.address);
    if listed().any(|other| *other == address) {
        return address;
    }
    listed().find(|other| other.socket == address.socket).cloned().unwrap_or(address)
}

/// Why the kernel refused these calls: one inspection for all.
/// `runtime`: see `run_files::runtime_dir`.
pub(crate) fn why_refused(calls: Vec<AnsweredCall>, runtime: Option<&OsStr>) -> Vec<RunEvent> {
    explain(calls.into_iter().map(|asked| (asked.address, asked.caller)).collect(), runtime)
}

/// A refused bind that the preload library reported.
pub(crate) struct RefusedBind {
    pub(crate) address: Address,
    pub(crate) pid: i32,
    /// Whether the socket had SO_REUSEPORT.
    pub(crate) shared: bool,
}

/// Why the kernel refused these processes their addresses: one inspection for all.
pub(crate) fn why_refused_at(refused: Vec<RefusedBind>, runtime: Option<&OsStr>) -> Vec<RunEvent> {
    let first_unprivileged = process::first_unprivileged_port();
    let caller = |RefusedBind { address, pid, shared }| {
        let caller = caller(address.port() < first_unprivileged, pid, shared);
        (address, caller)
    };
    explain(refused.into_iter().map(caller).collect(), runtime)
}

fn explain(refused: Vec<(Address, RefusedCaller)>, runtime: Option<&OsStr>) -> Vec<RunEvent> {
    let addresses: Vec<_> = refused.iter().map(|(address, _)| address).collect();
    if addresses.is_empty() {
        return Vec::new();
    }
    let sockets = PortSockets::on(&addresses, runtime).map_err(|error| error.to_string());
    let explained = refused.into_iter().map(|(address, caller)| match &sockets {
        Ok(sockets) => {
            let refusal = reason(&address, caller, sockets);
            RunEvent::Refused { address, refusal: Box::new(refusal) }
        }
        Err(why) => RunEvent::InspectFailed { address, why: why.clone() },
    });
    explained.collect()
}

/// The caller with this process id. A process that has ended had the rights of its supervisor.
fn caller(low: bool, pid: i32, shared: bool) -> RefusedCaller {
    let rights = || {
        process::thread_rights(pid)
            .or_else(|| process::thread_rights(std::process::id().cast_signed()))
    };
    RefusedCaller {
        pid,
        uid: sameport_sys::effective_user(),
        shared,
        needs_privilege: low && !rights().is_some_and(|rights| rights.bind_low_ports),
    }
}
