//! A program's own sockets stay distinct: what fails natively within one execution still fails.
//!
//! Sharing is between executions of programs. A program that binds an address twice, or tries the next
//! port when one is in use, relies on EADDRINUSE: vsftpd's sessions, which are forked without `exec`, find
//! their data ports so.

use crate::bind::reuse::{ReuseOptions, refuses};
use crate::bind::share::BindAttempt;
use crate::model::Address;

pub use crate::bind::reuse::OwnStep;

/// An earlier socket of the same execution, which is still open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierSocket {
    /// Where it is bound.
    pub address: Address,
    /// Whether the program itself set `SO_REUSEPORT` on it.
    pub reuse_port: bool,
    /// Whether the program itself set `SO_REUSEADDR` on it.
    pub reuse_address: bool,
    /// Whether it listens.
    pub listens: bool,
}

/// Whether the kernel would refuse the new socket because of the earlier one, if neither were shared.
/// `attempt`: what the program itself set on the new socket.
#[must_use]
pub fn conflicts(
    address: &Address,
    attempt: &BindAttempt,
    step: OwnStep,
    earlier: &EarlierSocket,
) -> bool {
    let new = ReuseOptions { reuse_port: attempt.reuse_port, reuse_address: attempt.reuse_address };
    let EarlierSocket { reuse_port, reuse_address, .. } = *earlier;
    let earlier_options = ReuseOptions { reuse_port, reuse_address };
    address.overlaps(&earlier.address)
        && refuses(address.protocol, new, step, earlier_options, earlier.listens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    #[test]
    fn what_the_kernel_refuses_natively() {
        use OwnStep::{Bind, Listen};
        use Protocol::{Tcp, Udp};
        const NONE: (bool, bool) = (false, false);
        const RA: (bool, bool) = (false, true);
        const RP: (bool, bool) = (true, false);
        // Protocol; earlier socket: address, options, listens; new socket: address, options, step.
        let cases = [
            (Tcp, "127.0.0.1:80", NONE, true, "127.0.0.1:80", NONE, Bind, true),
            (Tcp, "127.0.0.1:80", NONE, false, "127.0.0.1:80", NONE, Bind, true),
            (Tcp, "0.0.0.0:80", NONE, true, "127.0.0.1:80", NONE, Bind, true),
            (Tcp, "0.0.0.0:80", NONE, true, "[::]:80", NONE, Bind, true),
            (Tcp, "127.0.0.2:80", NONE, true, "127.0.0.1:80", NONE, Bind, false),
            (Tcp, "127.0.0.1:81", NONE, true, "127.0.0.1:80", NONE, Bind, false),
            (Tcp, "127.0.0.1:80", RA, false, "127.0.0.1:80", RA, Bind, false),
            (Tcp, "127.0.0.1:80", RA, false, "127.0.0.1:80", NONE, Bind, true),
            (Tcp, "127.0.0.1:80", RA, true, "127.0.0.1:80", RA, Bind, true),
            (Tcp, "127.0.0.1:80", RA, false, "127.0.0.1:80", RA, Listen, false),
            (Tcp, "127.0.0.1:80", RA, true, "127.0.0.1:80", RA, Listen, true),
            (Tcp, "127.0.0.1:80", RP, true, "127.0.0.1:80", RP, Bind, false),
            (Tcp, "127.0.0.1:80", RP, true, "127.0.0.1:80", RP, Listen, false),
            (Tcp, "127.0.0.1:80", RP, true, "127.0.0.1:80", NONE, Bind, true),
            (Udp, "0.0.0.0:53", NONE, false, "0.0.0.0:53", NONE, Bind, true),
            (Udp, "0.0.0.0:53", RA, false, "0.0.0.0:53", RA, Bind, false),
            (Udp, "0.0.0.0:53", RA, false, "0.0.0.0:53", NONE, Bind, true),
        ];
        for (protocol, first, (rp, ra), listens, second, (new_rp, new_ra), step, expected) in cases
        {
            let at = |text: &str| Address::new(protocol, text.parse().unwrap());
            let earlier =
                EarlierSocket { address: at(first), reuse_port: rp, reuse_address: ra, listens };
            let attempt = BindAttempt {
                protocol: Some(protocol),
                address: Some(at(second).socket),
                reuse_port: new_rp,
                reuse_address: new_ra,
                same_network: true,
            };
            let conflicts = conflicts(&at(second), &attempt, step, &earlier);
            assert_eq!(conflicts, expected, "{earlier:?} {attempt:?} {step:?}");
        }
    }
}
