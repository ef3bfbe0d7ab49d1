//! Why the kernel refused an address, found out by looking who is on it.

use std::net::IpAddr;

use sameport_linux::look;
use sameport_rules::refusal::{self, Facts, Refusal};
use sameport_rules::sockets::{Address, Member};

/// Whose bind was refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// The owner of its socket.
    pub(crate) uid: u32,
    /// Whether its socket had `SO_REUSEPORT`.
    pub(crate) shared: bool,
    /// Whether it lacks the privilege for this port.
    pub(crate) needs_privilege: bool,
}

/// Looks at the address and decides.
pub(crate) fn reason(address: &Address, caller: Caller) -> Result<Refusal, look::Error> {
    let members = look_at(address)?;
    let Caller { uid, shared, needs_privilege } = caller;
    let is_local = is_local(address.socket.ip());
    let facts = Facts { address, members: &members, uid, shared, is_local, needs_privilege };
    Ok(refusal::explain(&facts))
}

/// Everybody on the address's port, whatever the IP. A supervisor that has a duplicate of its
/// worker's socket, for the moment in which it answers, comes after the worker.
pub(crate) fn look_at(address: &Address) -> Result<Vec<Member>, look::Error> {
    let query = look::Query::only(address.protocol).on(address.port());
    let mut members = look::members(&query)?.members;
    for member in &mut members {
        member.processes.sort_by_key(|process| process.program == env!("CARGO_BIN_NAME"));
    }
    Ok(members)
}

/// Whether an IP address is one of this machine's, asked by binding a free port on it.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    !matches!(std::net::UdpSocket::bind((ip, 0)), Err(error)
        if error.kind() == std::io::ErrorKind::AddrNotAvailable)
}
