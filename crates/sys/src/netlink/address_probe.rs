//! Whether an address is free, by one request for one socket.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use sameport_policy::model::{Address, Protocol};

use super::sock_diag::{self, DiagRequest};

/// A connection to `sock_diag` that is opened once and used for many requests.
#[derive(Debug, Default)]
pub struct AddressProbe {
    kernel: Option<OwnedFd>,
}

impl AddressProbe {
    /// Whether a socket may wait for peers on this address, or on a wider one that covers it.
    ///
    /// `false` is certain, as of now, in the network namespace of the first call. `true` also means
    /// that one request cannot tell, or that the kernel did not answer. The cost does not depend on
    /// the number of sockets: the kernel looks the address up in its hash table.
    pub fn may_be_taken(&mut self, address: &Address) -> bool {
        // UDP finds no IPv4 socket by an IPv4-mapped address.
        let ip = address.socket.ip().to_canonical();
        let confined =
            address.device.is_some() || matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if confined {
            return true;
        }
        let protocol = match address.protocol {
            Protocol::Tcp => libc::IPPROTO_TCP,
            Protocol::Udp => libc::IPPROTO_UDP,
        };
        let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let request = DiagRequest { protocol, family, states: 0, port: address.port() };
        // After an error the connection is closed, so that no late reply answers another request.
        let Some(kernel) = self.kernel.take().or_else(|| sock_diag::open().ok()) else {
            return true;
        };
        match request.finds(ip, &kernel) {
            Ok(is_found) => {
                self.kernel = Some(kernel);
                is_found
            }
            Err(_) => true,
        }
    }
}
