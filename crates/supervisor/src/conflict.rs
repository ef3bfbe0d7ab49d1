//! Why the kernel refused an address, found out by looking who is on it.

use std::net::IpAddr;

use sameport_policy::model::{Address, Member};
use sameport_policy::refusal;
use sameport_policy::refusal::{Refusal, RefusalFacts};
use sameport_sys::inspect;

/// Whose bind was refused.
#[derive(Debug, Clone, Copy)]
pub struct RefusedCaller {
    /// The owner of its socket.
    pub uid: u32,
    /// Whether its socket had `SO_REUSEPORT`.
    pub shared: bool,
    /// Whether it lacks the privilege for this port.
    pub needs_privilege: bool,
}

/// Decides, from who is on the address's port.
pub fn reason(address: &Address, caller: RefusedCaller, members: &[Member]) -> Refusal {
    let RefusedCaller { uid, shared, needs_privilege } = caller;
    let is_local = is_local(address.socket.ip());
    refusal::explain(&RefusalFacts { address, members, uid, shared, is_local, needs_privilege })
}

/// Everybody on the ports of these addresses, whatever the IP. What only we have open, for the moment
/// in which a worker is answered, is nobody's; and where we are beside a worker, the worker is first.
pub fn look_at(addresses: &[&Address]) -> Result<Vec<Member>, inspect::InspectError> {
    let query = match addresses {
        [one, rest @ ..] if rest.iter().all(|a| same_port(a, one)) => {
            inspect::SocketQuery::only(one.protocol).on(one.port())
        }
        _ => inspect::SocketQuery::everything(),
    };
    let mut members = inspect::list_sockets(&query)?.members;
    let ourselves = std::process::id().cast_signed();
    members.retain(|member| !matches!(&member.processes[..], [only] if only.pid == ourselves));
    for member in &mut members {
        member.processes.sort_by_key(|process| process.pid == ourselves);
    }
    Ok(members)
}

fn same_port(one: &Address, other: &Address) -> bool {
    (one.protocol, one.port()) == (other.protocol, other.port())
}

/// Whether an IP address is one of this machine's, asked by binding a free port on it.
pub fn is_local(ip: IpAddr) -> bool {
    !matches!(std::net::UdpSocket::bind((ip, 0)), Err(error)
        if error.kind() == std::io::ErrorKind::AddrNotAvailable)
}
