//! What `run` does with a worker's bind: make the socket shareable, or leave it alone.

use std::collections::BTreeSet;

pub use crate::bind::share::{Attempt, Reason, Verdict};

/// The ports that `run` shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// Every fixed port.
    All,
    /// Only these (`--port`).
    Only(BTreeSet<u16>),
}

/// Decides. Every fixed port is shared unless `ports` says otherwise.
#[must_use]
pub fn decide(attempt: &Attempt, ports: &Ports) -> Verdict {
    let wanted = match (ports, attempt.address) {
        (Ports::Only(only), Some(address)) => only.contains(&address.port()),
        _ => true,
    };
    crate::bind::share::decide(attempt, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sameport_addr::protocol::Protocol;

    fn attempt(protocol: Protocol, address: &str) -> Attempt {
        Attempt {
            protocol: Some(protocol),
            address: Some(address.parse().unwrap()),
            reuse_port: false,
            reuse_address: false,
            same_network: true,
        }
    }

    #[test]
    fn facts_to_verdict() {
        use Protocol::{Tcp, Udp};
        use Reason::*;
        let share = Verdict::Share { clear_reuse_address: false };
        let tcp = attempt(Tcp, "0.0.0.0:8080");
        let udp = attempt(Udp, "[::]:53");
        let only = Ports::Only([8080].into());
        let leave = Verdict::LeaveAlone;
        let cases = [
            (tcp.clone(), &Ports::All, share),
            (udp.clone(), &Ports::All, share),
            (tcp.clone(), &only, share),
            (udp.clone(), &only, leave(OtherPort)),
            (attempt(Tcp, "127.0.0.1:0"), &Ports::All, leave(AnyPort)),
            (attempt(Tcp, "127.0.0.1:0"), &only, leave(AnyPort)),
            (Attempt { reuse_address: true, ..tcp.clone() }, &Ports::All, share),
            (
                Attempt { reuse_address: true, ..udp.clone() },
                &Ports::All,
                Verdict::Share { clear_reuse_address: true },
            ),
            (Attempt { reuse_port: true, ..tcp.clone() }, &Ports::All, Verdict::SharedByItself),
            (
                Attempt { reuse_port: true, reuse_address: true, ..udp.clone() },
                &Ports::All,
                Verdict::SharedByItself,
            ),
            (Attempt { same_network: false, ..tcp.clone() }, &Ports::All, leave(OtherNetwork)),
            (Attempt { protocol: None, ..tcp.clone() }, &Ports::All, leave(NotAPort)),
            (Attempt { address: None, ..tcp }, &Ports::All, leave(NotAPort)),
            (attempt(Udp, "224.0.0.251:5353"), &Ports::All, leave(Multicast)),
            (attempt(Udp, "[ff02::fb]:5353"), &Ports::All, leave(Multicast)),
            (attempt(Udp, "[::ffff:224.0.0.251]:5353"), &Ports::All, leave(Multicast)),
        ];
        for (attempt, ports, expected) in cases {
            assert_eq!(decide(&attempt, ports), expected, "{attempt:?} {ports:?}");
        }
    }
}
