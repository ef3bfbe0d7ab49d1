//! The sockets that wait for others, TCP listeners and unconnected UDP sockets, in our words.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use sameport_rules::sockets::{Address, Protocol, Socket, State};

use super::answer::Entry;
use super::diag::{Failure, Request, TRIES};
use super::{Error, Query};

const TCP_LISTEN: u32 = 1 << 10;
/// The state of a UDP socket without a peer; the kernel borrows TCP's word CLOSE for it.
const UNCONNECTED: u32 = 1 << 7;

/// Every socket that the query asks for, one entry a socket, in the kernel's order.
pub(super) fn sockets(query: &Query) -> Result<Vec<Socket>, Error> {
    let tcp = (Protocol::Tcp, libc::IPPROTO_TCP, TCP_LISTEN);
    let udp = (Protocol::Udp, libc::IPPROTO_UDP, UNCONNECTED);
    let asked = [query.tcp.then_some(tcp), query.udp.then_some(udp)];
    let mut devices = Devices::default();
    let mut sockets = Vec::new();
    for (protocol, number, states) in asked.into_iter().flatten() {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let port = query.port.unwrap_or(0);
            let entries = Request { protocol: number, family, states, port }
                .dump()
                .map_err(|failure| error(protocol, failure))?;
            sockets.extend(entries.iter().map(|entry| socket(protocol, entry, &mut devices)));
        }
    }
    Ok(sockets)
}

pub(super) fn error(protocol: Protocol, failure: Failure) -> Error {
    match failure {
        Failure::Call(call, source) => Error::Ask { call, protocol, source },
        Failure::NoModule => Error::Unsupported { protocol },
        Failure::Unsettled => Error::Unsettled { protocol, tries: TRIES },
        Failure::Malformed => Error::Malformed { protocol },
    }
}

fn socket(protocol: Protocol, entry: &Entry, devices: &mut Devices) -> Socket {
    let at = match entry.ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, entry.port, 0, entry.interface).into()
        }
        ip => SocketAddr::new(ip, entry.port),
    };
    Socket {
        address: Address {
            protocol,
            socket: at,
            device: devices.name(entry.interface),
            // The kernel sets the option by itself on every socket bound to one IPv6 address.
            v6only: entry.v6only && entry.ip == Ipv6Addr::UNSPECIFIED,
        },
        inode: entry.inode.into(),
        cookie: entry.cookie,
        state: State::Waiting,
        drops: None,
        uid: entry.uid,
        queue: entry.receive_queue,
        backlog: match protocol {
            Protocol::Tcp => entry.send_queue,
            Protocol::Udp => 0,
        },
        cgroup: entry.cgroup,
    }
}

/// Names of interfaces by index, each asked for once.
#[derive(Default)]
struct Devices {
    known: HashMap<u32, String>,
}

impl Devices {
    fn name(&mut self, index: u32) -> Option<String> {
        (index != 0)
            .then(|| self.known.entry(index).or_insert_with(|| interface_name(index)).clone())
    }
}

/// Whether anybody waits on this address, or on one that it is a part of, in one step. Where that
/// cannot be told in one step, or at all, somebody may.
pub(super) fn may_be_taken(address: &Address) -> bool {
    // An IPv4 address in IPv6 clothes is not looked for among IPv4 sockets by UDP.
    let ip = address.socket.ip().to_canonical();
    let confined =
        address.device.is_some() || matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let protocol = match address.protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
    };
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let request = Request { protocol, family, states: 0, port: address.port() };
    confined || request.finds(ip).unwrap_or(true)
}

/// An interface that is gone, or whose name is not text, still has its number.
fn interface_name(index: u32) -> String {
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)
        .and_then(|any| rustix::net::netdevice::index_to_name(any, index))
        .unwrap_or_else(|_| format!("if{index}"))
}
