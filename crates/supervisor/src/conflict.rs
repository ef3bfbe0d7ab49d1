//! Why the kernel refused an address, from the sockets on its port.

use std::net::IpAddr;

use sameport_policy::model::{Address, Member};
use sameport_policy::refusal;
use sameport_policy::refusal::{Refusal, RefusalFacts};
use sameport_sys::inspect;
use sameport_sys::inspect::StateFilter;

/// The caller of a refused bind.
#[derive(Debug, Clone, Copy)]
pub struct RefusedCaller {
    /// The owner of its socket.
    pub uid: u32,
    /// Whether its socket had `SO_REUSEPORT`.
    pub shared: bool,
    /// Whether it lacks the privilege for this port.
    pub needs_privilege: bool,
}

/// The reason, from the sockets on the address's port.
pub fn reason(address: &Address, caller: RefusedCaller, members: &[Member]) -> Refusal {
    let RefusedCaller { uid, shared, needs_privilege } = caller;
    let is_local = is_local(address.socket.ip());
    refusal::explain(&RefusalFacts { address, members, uid, shared, is_local, needs_privilege })
}

/// Every member on the ports of these addresses, whatever the IP address. A socket that only the
/// supervisor has open, while it answers a worker, is left out; where both have it open, the worker comes
/// first.
pub fn members_on(addresses: &[&Address]) -> Result<Vec<Member>, inspect::InspectError> {
    list(addresses, StateFilter::Waiting)
}

/// The same, with the sockets that are bound and do not listen.
pub(crate) fn bound_members_on(
    addresses: &[&Address],
) -> Result<Vec<Member>, inspect::InspectError> {
    list(addresses, StateFilter::Unconnected)
}

fn list(addresses: &[&Address], states: StateFilter) -> Result<Vec<Member>, inspect::InspectError> {
    let query = match addresses {
        [one, rest @ ..] if rest.iter().all(|a| same_port(a, one)) => {
            inspect::SocketQuery::only(one.protocol).on(one.port())
        }
        _ => inspect::SocketQuery::everything(),
    };
    let mut members = inspect::list_sockets(&query.in_states(states))?.members;
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
