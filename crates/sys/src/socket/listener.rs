//! Opening listeners that several processes share.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::worker_socket::WorkerSocket;

/// The backlog of `sameport::Options`. The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Opens a TCP listener with SO_REUSEPORT and without SO_REUSEADDR, closed on exec. On the IPv6
/// wildcard address it accepts IPv4 too, and IPv4-mapped addresses work, whatever
/// `net.ipv6.bindv6only` says.
///
/// `freebind`: the address need not be local yet ([`WorkerSocket::set_freebind`]).
///
/// With `owner`, the socket belongs to this user id before it is bound, so that only sockets of the
/// same owner can join its group; its connections then have SO_REUSEADDR. See
/// [`WorkerSocket::set_owner`].
///
/// # Errors
///
/// EADDRINUSE: a socket that does not share the address has it, or one of another owner.
/// EADDRNOTAVAIL: the address is not local. EACCES: a low port, without CAP_NET_BIND_SERVICE.
/// EAFNOSUPPORT: no IPv6. EPERM, EINVAL: errors of [`WorkerSocket::set_owner`].
pub fn open_listener(
    address: SocketAddr,
    owner: Option<u32>,
    freebind: bool,
) -> Result<WorkerSocket, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let fd = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut socket = WorkerSocket::from_fd(fd)?;
    if let SocketAddr::V6(v6) = address
        && (v6.ip().is_unspecified() || v6.ip().to_ipv4_mapped().is_some())
    {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    if let Some(owner) = owner {
        socket.set_owner(owner)?;
    }
    if freebind {
        socket.set_freebind()?;
    }
    socket.share(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?;
    if owner.is_some() {
        socket.set_reuse_address(true)?;
    }
    Ok(socket)
}

/// The addresses of a host name, in the resolver's order, each once (`getaddrinfo(3)`).
///
/// # Errors
///
/// The name has no address, or the resolver cannot be reached.
pub fn resolve_host(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    // A name that is twice in /etc/hosts gives its addresses twice.
    for address in (name, port).to_socket_addrs()? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use sameport_policy::model::Protocol;

    use super::*;

    #[test]
    fn listeners_share_an_address_without_reuse_address() {
        let first = open_listener("127.0.0.1:0".parse().unwrap(), None, false).unwrap();
        let address = first.bound_address(Protocol::Tcp).unwrap().unwrap().socket;
        let second = open_listener(address, None, false).unwrap();
        for socket in [first, second] {
            assert!(socket.is_listening().unwrap() && socket.reuse_port().unwrap());
            assert!(!socket.reuse_address().unwrap());
        }
    }

    #[test]
    fn a_host_name_resolves_to_distinct_addresses() {
        let addresses = resolve_host("localhost", 80).unwrap();
        let distinct: std::collections::HashSet<_> = addresses.iter().collect();
        assert!(!addresses.is_empty() && distinct.len() == addresses.len());
    }
}
