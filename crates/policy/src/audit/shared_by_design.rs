//! UDP addresses that every program on them shares by design.

use std::net::IpAddr;

use crate::model::{Address, Protocol};

/// Ports on which datagrams are for the whole network, and each program has its own copy: DHCP
/// (67, 68, 546, 547), PTP (319, 320), SSDP (1900), WS-Discovery (3702), mDNS (5353), LLMNR (5355).
const FOR_ALL: [u16; 10] = [67, 68, 319, 320, 546, 547, 1900, 3702, 5353, 5355];

/// DHCP clients and servers have a socket an interface, on whatever address that has.
const EVERY_ADDRESS: [u16; 4] = [67, 68, 546, 547];

/// Whether it is normal that strangers are here: a multicast or broadcast address, or the wildcard of a
/// port that exists for multicast. One address of this machine on such a port is nobody's but its
/// owner's.
pub(super) fn is_shared_by_design(address: &Address) -> bool {
    let (ip, port) = (address.socket.ip().to_canonical(), address.port());
    let for_many = match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    let known = FOR_ALL.contains(&port) && ip.is_unspecified();
    address.protocol == Protocol::Udp && (for_many || known || EVERY_ADDRESS.contains(&port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_by_design() {
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
