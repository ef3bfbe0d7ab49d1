//! Looking who is on an address, to tell of it.

use sameport_linux::worker;
use sameport_rules::joins;
use sameport_rules::refusal::Refusal;
use sameport_rules::sockets::{Address, Member};

use super::Event;
use super::asking::Asked;
use crate::operations::refusal::{Caller, look_at, reason};

/// Who is on an address that a socket has joined.
pub(super) fn who_is_there(address: Address) -> Event {
    let mut members = match look_at(&address) {
        Ok(members) => members,
        Err(error) => return Event::CouldNotLook { address, why: error.to_string() },
    };
    let address = as_listed(address, &members);
    let shadowed = joins::shadowed(&address, &members)
        .into_iter()
        .map(|(wider, narrower)| (wider.clone(), narrower.clone()))
        .collect();
    members.retain(|member| member.socket.address == address);
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

/// Why the kernel refused a call whose socket is at hand.
pub(super) fn why_refused(asked: Asked) -> Event {
    let caller = Caller {
        uid: asked.socket.owner().unwrap_or(u32::MAX),
        shared: asked.socket.reuse_port().unwrap_or(false),
        needs_privilege: needs_privilege(&asked.address, asked.tid),
    };
    let address = asked.address;
    match reason(&address, caller) {
        Ok(refusal) => Event::Refused { address, refusal },
        Err(error) => Event::CouldNotLook { address, why: error.to_string() },
    }
}

/// Why the kernel refused a process this address, where only that is known.
pub(super) fn why_refused_at(address: Address, pid: i32, shared: bool) -> Option<Event> {
    let caller = Caller {
        uid: sameport_linux::effective_user(),
        shared,
        needs_privilege: needs_privilege(&address, pid),
    };
    let refusal = reason(&address, caller).ok()?;
    Some(Event::Refused { address, refusal })
}

/// Why a process that was to share an address is not on it; `None` if it is, or nothing explains it.
pub(super) fn why_not_there(address: &Address, pid: i32) -> Option<Event> {
    let on_it = |member: &Member| {
        member.socket.address.socket == address.socket
            && member.processes.iter().any(|process| process.pid == pid)
    };
    if look_at(address).ok()?.iter().any(on_it) {
        return None;
    }
    let event = why_refused_at(address.clone(), pid, true)?;
    let unexplained = matches!(&event, Event::Refused { refusal: Refusal::Unexplained, .. });
    (!unexplained).then_some(event)
}

/// Whether the port is a low one and the thread may not bind it. A thread that is gone had the
/// rights that its supervisor has.
fn needs_privilege(address: &Address, tid: i32) -> bool {
    address.port() < worker::first_unprivileged_port()
        && !worker::rights(tid)
            .or_else(|| worker::rights(std::process::id().cast_signed()))
            .is_some_and(|rights| rights.bind_low_ports)
}
