//! Lists sockets that have a port: waiting ones (TCP listeners, unconnected UDP sockets) and, on request,
//! bound and connected ones.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use sameport_policy::model::{Address, Protocol, Socket, SocketState};

use super::error::InspectError;
use super::inet_diag::DiagSocket;
use super::sock_diag::DiagRequest;

const ESTABLISHED: u8 = 1;
/// `TCP_CLOSE`: a UDP socket without a peer, or a TCP socket that is neither listening nor connected.
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;
/// Requests TCP sockets that are bound and neither listening nor connected (`TCP_BOUND_INACTIVE`, Linux
/// 6.8). Older kernels list none.
const BOUND_INACTIVE: u8 = 13;
/// SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING. Not SYN_RECV and TIME_WAIT, which are
/// not sockets of a process.
const TRANSITIONAL: [u8; 6] = [2, 4, 5, 8, 9, 11];

/// Which states to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFilter {
    /// TCP listeners and UDP sockets without a peer.
    Waiting,
    /// Also TCP sockets that are bound and neither listening nor connected (Linux 6.8;
    /// [`Snapshot::bound`](crate::inspect::Snapshot::bound)).
    Unconnected,
    /// Also connected sockets, by local port. This includes connections that wait for `accept`, and closed
    /// ones that the kernel still terminates (no inode); not TIME_WAIT.
    Every,
}

/// Which sockets to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketFilter {
    pub(crate) tcp: bool,
    pub(crate) udp: bool,
    /// `None` for every port.
    pub(crate) port: Option<u16>,
    pub(crate) states: StateFilter,
}

/// The matching sockets, each once, in the kernel's order.
pub(crate) fn list(query: &SocketFilter) -> Result<Vec<Socket>, InspectError> {
    let tcp = (Protocol::Tcp, libc::IPPROTO_TCP, &[libc::AF_UNSPEC][..]);
    let udp = (Protocol::Udp, libc::IPPROTO_UDP, &[libc::AF_INET, libc::AF_INET6][..]);
    let asked = [query.tcp.then_some(tcp), query.udp.then_some(udp)];
    let mut devices = DeviceNames::default();
    let mut sockets = Vec::new();
    for (protocol, number, families) in asked.into_iter().flatten() {
        let states = states(protocol, query.states);
        for family in families.iter().copied() {
            let port = query.port.unwrap_or(0);
            let entries = DiagRequest { protocol: number, family, states, port }
                .dump()
                .map_err(|failure| InspectError::new(protocol, failure))?;
            // The kernel does not filter BOUND_INACTIVE sockets by port.
            let on_port = entries.iter().filter(|entry| port == 0 || entry.port == port);
            sockets.extend(on_port.map(|entry| socket(protocol, entry, &mut devices)));
        }
    }
    Ok(sockets)
}

/// A bit for each state of the protocol.
fn states(protocol: Protocol, wanted: StateFilter) -> u32 {
    let waiting = match protocol {
        Protocol::Tcp => LISTEN,
        Protocol::Udp => CLOSE,
    };
    let (bound, connected) = match wanted {
        StateFilter::Waiting => (&[][..], &[][..]),
        StateFilter::Unconnected => (&[BOUND_INACTIVE][..], &[][..]),
        StateFilter::Every => (&[BOUND_INACTIVE][..], &TRANSITIONAL[..]),
    };
    let established = (wanted == StateFilter::Every).then_some(&ESTABLISHED);
    // UDP has neither bound nor transitional states.
    let of_tcp = bound.iter().chain(connected).filter(|_| protocol == Protocol::Tcp);
    std::iter::once(&waiting).chain(established).chain(of_tcp).fold(0, |bits, at| bits | 1 << at)
}

/// The kernel states of sockets of both protocols that match the filter, a bit each.
pub(crate) fn kernel_states(wanted: StateFilter) -> u32 {
    match wanted {
        StateFilter::Waiting | StateFilter::Unconnected => 1 << LISTEN | 1 << CLOSE,
        StateFilter::Every => u32::MAX,
    }
}

/// Whether this kernel lists bound TCP sockets (Linux 6.8).
pub(crate) fn lists_bound_sockets() -> bool {
    is_at_least(&rustix::system::uname().release().to_string_lossy(), (6, 8))
}

/// Whether a release such as `6.8.0-45-generic` is at least this version. False for other text.
fn is_at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= wanted,
        _ => false,
    }
}

pub(crate) fn socket(protocol: Protocol, entry: &DiagSocket, devices: &mut DeviceNames) -> Socket {
    let at = match entry.ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, entry.port, 0, entry.interface).into()
        }
        ip => SocketAddr::new(ip, entry.port),
    };
    let state = match (protocol, entry.state) {
        (Protocol::Tcp, LISTEN) | (Protocol::Udp, CLOSE) => SocketState::Waiting,
        (Protocol::Tcp, CLOSE | BOUND_INACTIVE) => SocketState::Bound,
        _ => SocketState::Connected,
    };
    Socket {
        address: Address {
            protocol,
            socket: at,
            device: devices.name(entry.interface),
            // The kernel sets the option on every socket bound to a single IPv6 address.
            v6only: entry.v6only && entry.ip == Ipv6Addr::UNSPECIFIED,
        },
        inode: entry.inode.into(),
        cookie: entry.cookie,
        state,
        uid: entry.uid,
        queue: entry.receive_queue,
        backlog: match (protocol, state) {
            (Protocol::Tcp, SocketState::Waiting) => entry.send_queue,
            _ => 0,
        },
        drops: entry.drops,
        cgroup: entry.cgroup,
        transparent: entry.transparent,
        freebind: entry.freebind,
        peer: (entry.peer_port != 0).then(|| SocketAddr::new(entry.peer_ip, entry.peer_port)),
        peer_closed: (protocol, entry.state) == (Protocol::Tcp, CLOSE_WAIT),
    }
}

/// Names of interfaces by index, each requested once.
#[derive(Default)]
pub(crate) struct DeviceNames {
    known: HashMap<u32, String>,
}

impl DeviceNames {
    fn name(&mut self, index: u32) -> Option<String> {
        (index != 0)
            .then(|| self.known.entry(index).or_insert_with(|| interface_name(index)).clone())
    }
}

/// `if` and the index if the interface is gone or its name is not UTF-8.
fn interface_name(index: u32) -> String {
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)
        .and_then(|any| rustix::net::netdevice::index_to_name(any, index))
        .unwrap_or_else(|_| format!("if{index}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        let cases = [
            ("6.8.0-45-generic", true),
            ("6.18.44", true),
            ("7.0-rc1", true),
            ("6.7.12", false),
            ("5.15.0-1-amd64", false),
            ("6", false),
            ("", false),
            ("next", false),
        ];
        for (release, expected) in cases {
            assert_eq!(is_at_least(release, (6, 8)), expected, "{release}");
        }
    }
}
