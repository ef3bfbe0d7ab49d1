//! Inspections of addresses, as events.

use std::collections::BTreeMap;

use sameport_policy::join_debounce;
use sameport_policy::model::{Address, Member, Protocol};
use sameport_sys::process;

use crate::conflict::{RefusedCaller, members_on, reason};
use crate::event::RunEvent;
use crate::report::AnsweredCall;

/// Inspects the machine once, and returns the members of each address.
pub(crate) fn members_of(due: Vec<Address>) -> Vec<RunEvent> {
    let members = match members_on(&due.iter().collect::<Vec<_>>()) {
        Ok(members) => members,
        Err(error) => {
            let first = due.into_iter().take(1);
            let why = error.to_string();
            return first
                .map(|address| RunEvent::InspectFailed { address, why: why.clone() })
                .collect();
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
            shared(address, members.map_or(&[], Vec::as_slice))
        })
        .collect()
}

/// The members of an address that a socket has joined.
fn shared(address: Address, members: &[Member]) -> RunEvent {
    let address = as_listed(address, members);
    let shadowed = join_debounce::shadowed_pairs(&address, members)
        .into_iter()
        .map(|(wider, narrower)| (wider.clone(), narrower.clone()))
        .collect();
    let on_it = members.iter().filter(|member| member.socket.address == address);
    let mut members: Vec<Member> = on_it.cloned().collect();
    members.sort_by_key(|member| member.processes.first().map(|first| first.pid));
    RunEvent::Shared { address, members, shadowed }
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
pub(crate) fn why_refused(calls: Vec<AnsweredCall>) -> Vec<RunEvent> {
    explain(calls.into_iter().map(|asked| (asked.address, asked.caller)).collect())
}

/// A refused bind that the preload library reported.
pub(crate) struct RefusedBind {
    pub(crate) address: Address,
    pub(crate) pid: i32,
    /// Whether the socket had SO_REUSEPORT.
    pub(crate) shared: bool,
}

/// Why the kernel refused these processes their addresses: one inspection for all.
pub(crate) fn why_refused_at(refused: Vec<RefusedBind>) -> Vec<RunEvent> {
    let first_unprivileged = process::first_unprivileged_port();
    let caller = |RefusedBind { address, pid, shared }| {
        let caller = caller(address.port() < first_unprivileged, pid, shared);
        (address, caller)
    };
    explain(refused.into_iter().map(caller).collect())
}

fn explain(refused: Vec<(Address, RefusedCaller)>) -> Vec<RunEvent> {
    let addresses: Vec<_> = refused.iter().map(|(address, _)| address).collect();
    if addresses.is_empty() {
        return Vec::new();
    }
    let members = members_on(&addresses).map_err(|error| error.to_string());
    let explained = refused.into_iter().map(|(address, caller)| match &members {
        Ok(members) => {
            let refusal = reason(&address, caller, members);
            RunEvent::Refused { address, refusal }
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
        uid: sameport_sys::effective_user(),
        shared,
        needs_privilege: low && !rights().is_some_and(|rights| rights.bind_low_ports),
    }
}
