//! Looking who is on addresses, to tell of it.

use std::collections::BTreeMap;

use sameport_linux::worker;
use sameport_rules::joins;
use sameport_rules::sockets::{Address, Member, Protocol};

use super::Event;
use super::asking::Asked;
use crate::operations::refusal::{Caller, look_at, reason};

/// Looks once, and gives who is on each address.
pub(super) fn look(due: Vec<Address>) -> Vec<Event> {
    let members = match look_at(&due.iter().collect::<Vec<_>>()) {
        Ok(members) => members,
        Err(error) => {
            let first = due.into_iter().take(1);
            let why = error.to_string();
            return first
                .map(|address| Event::CouldNotLook { address, why: why.clone() })
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
            let there = by_port.get(&(address.protocol, address.port()));
            who_is_there(address, there.map_or(&[], Vec::as_slice))
        })
        .collect()
}

/// Who is on an address that a socket has joined.
fn who_is_there(address: Address, members: &[Member]) -> Event {
    let address = as_listed(address, members);
    let shadowed = joins::shadowed(&address, members)
        .into_iter()
        .map(|(wider, narrower)| (wider.clone(), narrower.clone()))
        .collect();
    let on_it = members.iter().filter(|member| member.socket.address == address);
    let mut members: Vec<Member> = on_it.cloned().collect();
    members.sort_by_key(|member| member.processes.first().map(|first| first.pid));
    Event::Shared { address, members, shadowed }
}

/// Whoever has only the address of a bind does not know the socket's device and IPV6_V6ONLY.
fn as_listed(address: Address, members: &[Member]) -> Address {
    let listed = || members.iter().map(|member| &member.socket.address);
    if listed().any(|other| *other == address) {
        return address;
    }
    listed().find(|other| other.socket == address.socket).cloned().unwrap_or(address)
}

/// Why the kernel refused a call.
pub(super) fn why_refused(asked: Asked) -> Event {
    let address = asked.address;
    match look_at(&[&address]) {
        Ok(members) => {
            let refusal = reason(&address, asked.caller, &members);
            Event::Refused { address, refusal }
        }
        Err(error) => Event::CouldNotLook { address, why: error.to_string() },
    }
}

/// Why the kernel refused a process this address, where only that is known.
pub(super) fn why_refused_at(address: Address, pid: i32, shared: bool) -> Option<Event> {
    let members = look_at(&[&address]).ok()?;
    let refusal = reason(&address, caller(&address, pid, shared), &members);
    Some(Event::Refused { address, refusal })
}

/// A process of which only the number is known. One that is gone had the rights that its supervisor
/// has.
fn caller(address: &Address, pid: i32, shared: bool) -> Caller {
    let low = address.port() < worker::first_unprivileged_port();
    let rights =
        || worker::rights(pid).or_else(|| worker::rights(std::process::id().cast_signed()));
    Caller {
        uid: sameport_linux::effective_user(),
        shared,
        needs_privilege: low && !rights().is_some_and(|rights| rights.bind_low_ports),
    }
}
