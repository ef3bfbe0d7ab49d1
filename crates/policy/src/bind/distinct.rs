//! A program's own sockets stay distinct: what fails natively within one execution still fails.
//!
//! Sharing is between executions of programs. A program that binds an address twice, or tries the next
//! port when one is in use, relies on EADDRINUSE: vsftpd's sessions, which are forked without `exec`, find
//! their data ports so.

use crate::bind::share::BindAttempt;
use crate::model::{Address, Protocol};

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

/// The step of a new socket beside an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnStep {
    /// `bind`.
    Bind,
    /// `listen`.
    Listen,
}

/// Whether the kernel would refuse the new socket because of the earlier one, if neither were shared.
/// `reuse_port`, `reuse_address`: what the program itself set on the new socket.
///
/// Source: `inet_csk_bind_conflict` in `net/ipv4/inet_connection_sock.c`, `udp_lib_lport_inuse` in
/// `net/ipv4/udp.c`.
#[must_use]
pub fn conflicts(
    address: &Address,
    attempt: &BindAttempt,
    step: OwnStep,
    earlier: &EarlierSocket,
) -> bool {
    if attempt.reuse_port || !address.overlaps(&earlier.address) {
        return false;
    }
    let both_reuse = attempt.reuse_address && earlier.reuse_address;
    match address.protocol {
        Protocol::Udp => !both_reuse,
        // With SO_REUSEADDR two sockets may be bound, but only one may listen.
        Protocol::Tcp => match step {
            OwnStep::Bind => !both_reuse || earlier.listens,
            OwnStep::Listen => earlier.listens,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
