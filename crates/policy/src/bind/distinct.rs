//! A program's own sockets stay distinct: what fails natively within one execution still fails.
//!
//! Sharing is between executions of programs. A program that binds an address twice, or tries the next
//! port when one is in use, relies on EADDRINUSE: vsftpd's sessions, which are forked without `exec`, find
//! their data ports so.

use crate::bind::reuse::refuses;
use crate::bind::share::BindAttempt;
use crate::model::Address;

pub use crate::bind::reuse::{OwnStep, ReuseOptions};

impl BindAttempt {
    /// The options that the program itself has set.
    #[must_use]
    pub fn reuse_options(&self) -> ReuseOptions {
        ReuseOptions { reuse_port: self.reuse_port, reuse_address: self.reuse_address }
    }
}

/// An earlier socket of the same execution, which is still open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierSocket {
    /// Where it is bound.
    pub address: Address,
    /// The options that the program itself set on it.
    pub options: ReuseOptions,
    /// Whether it listens.
    pub listens: bool,
}

/// Whether the kernel would refuse the new socket because of the earlier one, if neither were shared.
/// `new`: the options that the program itself set on the new socket.
#[must_use]
pub fn conflicts(
    address: &Address,
    new: ReuseOptions,
    step: OwnStep,
    earlier: &EarlierSocket,
) -> bool {
    address.overlaps(&earlier.address)
        && refuses(address.protocol, new, step, earlier.options, earlier.listens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    #[test]
    fn what_the_kernel_refuses_natively() {
        use OwnStep::{Bind, Listen};
        use Protocol::{Tcp, Udp};
        const NONE: ReuseOptions = ReuseOptions { reuse_port: false, reuse_address: false };
        const RA: ReuseOptions = ReuseOptions { reuse_address: true, ..NONE };
        const RP: ReuseOptions = ReuseOptions { reuse_port: true, ..NONE };
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
        for (protocol, first, options, listens, second, new, step, expected) in cases {
            let at = |text: &str| Address::new(protocol, text.parse().unwrap());
            let earlier = EarlierSocket { address: at(first), options, listens };
            let conflicts = conflicts(&at(second), new, step, &earlier);
            assert_eq!(conflicts, expected, "{earlier:?} {second} {new:?} {step:?}");
        }
    }
}
