//! UDP addresses that unrelated programs share by design.

use crate::bind::share;
use crate::model::Address;

/// Whether different programs on this address are normal.
pub(super) fn is_shared_by_design(address: &Address) -> bool {
    share::is_multicast_service(address.protocol, address.socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

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
