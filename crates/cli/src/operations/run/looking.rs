//! Looking who is on addresses, to tell of it.

use sameport_linux::worker;
use sameport_rules::joins;
use sameport_rules::refusal::Refusal;
use sameport_rules::sockets::{Address, Member};

use super::Event;
use super::asking::Asked;
use super::supervisor::News;
use crate::operations::refusal::{Caller, look_at, reason};

/// Somebody whose bind may or may not have come to something.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tried {
    /// The socket with this inode, of this caller.
    Socket(u64, Caller),
    /// Some socket of this process, in which SO_REUSEPORT has been set.
    Process(i32),
}

/// Looks once, and gives what is to be told of each address.
pub(super) fn look(due: Vec<(Address, Option<Tried>)>) -> Vec<News> {
    let addresses: Vec<&Address> = due.iter().map(|(address, _)| address).collect();
    match look_at(&addresses) {
        Ok(members) => due
            .into_iter()
            .map(|(address, tried)| {
                let refused = tried.and_then(|tried| why_not_there(&address, tried, &members));
                match refused {
                    Some(event) => News::Refused(event),
                    None => News::Looked(who_is_there(address, &members)),
                }
            })
            .collect(),
        Err(error) => due
            .into_iter()
            .take(1)
            .map(|(address, _)| {
                News::Looked(Event::CouldNotLook { address, why: error.to_string() })
            })
            .collect(),
    }
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

/// Why somebody who was to share an address is not on it; `None` if it is, or nothing explains it.
pub(super) fn why_not_there(address: &Address, tried: Tried, members: &[Member]) -> Option<Event> {
    let on_it = |member: &Member| match tried {
        Tried::Socket(inode, _) => member.socket.inode == inode,
        Tried::Process(pid) => {
            member.socket.address.socket == address.socket
                && member.processes.iter().any(|process| process.pid == pid)
        }
    };
    if members.iter().any(on_it) {
        return None;
    }
    let caller = match tried {
        Tried::Socket(_, caller) => caller,
        Tried::Process(pid) => caller(address, pid, true),
    };
    match reason(address, caller, members) {
        Refusal::Unexplained => None,
        refusal => Some(Event::Refused { address: address.clone(), refusal }),
    }
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
