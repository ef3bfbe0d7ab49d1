//! Why the kernel refused an address, from the sockets on its port.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::time::Duration;

use sameport_policy::holder::HolderFacts;
use sameport_policy::model::{Address, Member, Protocol};
use sameport_policy::refusal;
use sameport_policy::refusal::{Refusal, RefusalFacts};
use sameport_sys::inspect;
use sameport_sys::inspect::StateFilter;
use sameport_sys::netlink;

use crate::control::holder_facts;
use crate::guards;

/// The caller of a refused bind.
#[derive(Debug, Clone, Copy)]
pub struct RefusedCaller {
    /// The process, or one of its threads.
    pub pid: i32,
    /// The owner of its socket.
    pub uid: u32,
    /// Whether its socket had `SO_REUSEPORT`.
    pub shared: bool,
    /// Whether it lacks the privilege for this port.
    pub needs_privilege: bool,
}

/// The sockets on ports, and who holds them.
#[derive(Debug)]
pub struct PortSockets {
    members: Vec<Member>,
    closing: Vec<(Address, Duration)>,
    holders: HolderFacts,
}

impl PortSockets {
    /// Lists the sockets on the ports of these addresses, in every state if it is one port: a machine can
    /// have many connections. A socket that only the supervisor has open, while it answers a worker, is
    /// left out. `runtime`: see `run_files::runtime_dir`.
    ///
    /// # Errors
    ///
    /// Those of listing sockets.
    pub fn on(
        addresses: &[&Address],
        runtime: Option<&OsStr>,
    ) -> Result<Self, inspect::InspectError> {
        let is_one_port = addresses.iter().all(|it| same_port(it, addresses[0]));
        let is_tcp = addresses.first().is_some_and(|it| it.protocol == Protocol::Tcp);
        let states = if is_one_port { StateFilter::Every } else { StateFilter::Unconnected };
        let members = list(addresses, states)?;
        let closing = match addresses.first().filter(|_| is_one_port && is_tcp) {
            Some(address) => netlink::time_wait_sockets(address.port())?,
            None => vec![],
        };
        let closing = closing.into_iter().map(|it| (it.address, it.ends_in)).collect();
        let holders = holder_facts(&members, runtime, true);
        Ok(Self { members, closing, holders })
    }
}

/// The reason, from the guard of the address's port and the sockets on it.
#[must_use]
pub fn reason(address: &Address, caller: RefusedCaller, sockets: &PortSockets) -> Refusal {
    let RefusedCaller { pid, uid, shared, needs_privilege } = caller;
    let is_local = is_local(address.socket.ip());
    let on_port = |member: &&Member| same_port(&member.socket.address, address);
    let members: Vec<Member> = sockets.members.iter().filter(on_port).cloned().collect();
    let closing: Vec<_> =
        sockets.closing.iter().filter(|(it, _)| same_port(it, address)).cloned().collect();
    let guard = guards::refused(address.port(), address.protocol, pid, uid);
    refusal::explain(&RefusalFacts {
        guard: guard.as_ref(),
        address,
        members: &members,
        closing: &closing,
        holders: &sockets.holders,
        uid,
        shared,
        is_local,
        needs_privilege,
    })
}

/// The waiting and the bound sockets on the ports of these addresses, whatever the IP address.
pub(crate) fn bound_members_on(
    addresses: &[&Address],
) -> Result<Vec<Member>, inspect::InspectError> {
    list(addresses, StateFilter::Unconnected)
}

/// The sockets on the ports of these addresses. A socket that only the supervisor has open, while it answers
/// a worker, is left out; where both have it open, the worker comes first.
fn list(addresses: &[&Address], states: StateFilter) -> Result<Vec<Member>, inspect::InspectError> {
    let query = match addresses {
        [one, rest @ ..] if rest.iter().all(|a| same_port(a, one)) => {
            inspect::SocketQuery::only(one.protocol).on(one.port())
        }
        _ => inspect::SocketQuery::everything(),
    };
    let mut members = inspect::list_sockets(&query.in_states(states).with_details())?.members;
    let supervisor = std::process::id().cast_signed();
    members.retain(|member| !matches!(&member.processes[..], [only] if only.pid == supervisor));
    for member in &mut members {
        member.processes.sort_by_key(|process| process.pid == supervisor);
    }
    Ok(members)
}

fn same_port(one: &Address, other: &Address) -> bool {
    (one.protocol, one.port()) == (other.protocol, other.port())
}

/// Whether an IP address is one of this machine's. Binds a free port on it to find out.
pub fn is_local(ip: IpAddr) -> bool {
    !matches!(std::net::UdpSocket::bind((ip, 0)), Err(error)
        if error.kind() == std::io::ErrorKind::AddrNotAvailable)
}
