//! UDP addresses that unrelated programs share by design.

use std::net::IpAddr;

use crate::model::{Address, Protocol};

/// Multicast and broadcast services; each program receives a copy: DHCP (67, 68, 546, 547),
/// PTP (319, 320), SSDP (1900), WS-Discovery (3702), mDNS (5353), LLMNR (5355).
const MULTICAST_PORTS: [u16; 10] = [67, 68, 319, 320, 546, 547, 1900, 3702, 5353, 5355];

/// DHCP programs have a socket for each interface, bound to the address of the interface.
const DHCP_PORTS: [u16; 4] = [67, 68, 546, 547];

/// Whether different programs on this address are normal: a multicast or broadcast address, or the
/// wildcard on a port of a multicast service. On a unicast address of such a port they are not.
pub(super) fn is_shared_by_design(address: &Address) -> bool {
    let (ip, port) = (address.socket.ip().to_canonical(), address.port());
    let is_multicast = match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    let is_service = MULTICAST_PORTS.contains(&port) && ip.is_unspecified();
    address.protocol == Protocol::Udp && (is_multicast || is_service || DHCP_PORTS.contains(&port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multicast_services_are_shared_by_design() {
        let cases = [
            (Protocol::Udp, "0.0.0.0:5353", true),
            (Protocol::Udp, "[::]:5353", true),
            (Protocol::Udp, "127.0.0.1:5353", false),
            (Protocol::Udp, "224.0.0.251:5353", true),
            (Protocol::Udp, "[ff02::fb]:5353", true),
            (Protocol::Udp, "239.1.2.3:7777", true),
            (Protocol::Udp, "255.255.255.255:7777", true),
            (Protocol::Udp, "0.0.0.0:7777", false),
            (Protocol::Udp, "0.0.0.0:53", false),
            (Protocol::Udp, "192.0.2.1:68", true),
            (Protocol::Tcp, "0.0.0.0:5353", false),
        ];
        for (protocol, text, expected) in cases {
            let address = Address::new(protocol, text.parse().unwrap());
            assert_eq!(is_shared_by_design(&address), expected, "{protocol} {text}");
        }
    }
}
