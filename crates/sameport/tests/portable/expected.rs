//! What a test expects of the running system: one table, from `sameport::support()`.

// Reason: two test executables contain this file, and use different parts.
#![allow(dead_code)]

use std::net::UdpSocket;

use sameport::{DualStack, ErrorKind, Exclusive, Result, Sharing};

/// The traffic of an address that several shared sockets have, or the reason why no second one has
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// Every member receives a part.
    Balanced,
    /// One member receives everything.
    OneReceives,
    /// The members together receive everything; the distribution is undefined.
    Undefined,
    /// Sharing is an error of kind `Unsupported`.
    Unsupported,
    /// Wine 8 refuses the second TCP socket with WSAEACCES, also that of a C program:
    /// `cargo xtask wine` shows it.
    RefusedByWine,
}

/// WSAEACCES of winsock2.h.
const WSAEACCES: i32 = 10013;

/// What the running system is expected to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// A second shared TCP socket, a listener or a client, on the address of a listener.
    pub(crate) tcp: Join,
    /// A second shared UDP socket.
    pub(crate) udp: Join,
    /// Whether a shared socket of the same user can have a more specific address than an exclusive
    /// wildcard socket.
    pub(crate) specific_over_exclusive: bool,
    /// The sockets of `listen_all` with a bare port.
    pub(crate) sockets_of_a_port: usize,
}

pub(crate) fn expected() -> Expected {
    let support = sameport::support();
    let udp = join(support.sharing);
    Expected {
        tcp: if is_wine() { Join::RefusedByWine } else { udp },
        udp,
        specific_over_exclusive: support.exclusive == Exclusive::PlainBindExceptSpecific,
        sockets_of_a_port: match support.dual_stack {
            _ if !has_ipv6() => 1,
            DualStack::OneSocket => 1,
            _ => 2,
        },
    }
}

fn join(sharing: Sharing) -> Join {
    match sharing {
        Sharing::Balanced => Join::Balanced,
        Sharing::NotBalanced => Join::OneReceives,
        Sharing::Unsupported => Join::Unsupported,
        _ => Join::Undefined,
    }
}

/// Set by `cargo xtask wine`.
fn is_wine() -> bool {
    std::env::var_os("SAMEPORT_TEST_WINE").is_some()
}

/// Whether this machine has IPv6.
pub(crate) fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

/// Port 0 on the loopback address of each family.
pub(crate) fn loopbacks() -> &'static [&'static str] {
    if has_ipv6() { &["127.0.0.1:0", "[::1]:0"] } else { &["127.0.0.1:0"] }
}

/// The first shared socket of an address. `None` where sharing is an error, which it must be then.
pub(crate) fn first<T: std::fmt::Debug>(result: Result<T>) -> Option<T> {
    if sameport::support().sharing == Sharing::Unsupported {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
        return None;
    }
    Some(result.unwrap())
}

impl Join {
    /// The next shared socket of an address. `None` where the system refuses it, as it must then.
    pub(crate) fn next<T: std::fmt::Debug>(self, result: Result<T>) -> Option<T> {
        match self {
            Self::Balanced | Self::OneReceives | Self::Undefined => Some(result.unwrap()),
            Self::Unsupported => {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
                None
            }
            Self::RefusedByWine => {
                let error = result.unwrap_err();
                assert_eq!((error.kind(), error.call()), (ErrorKind::InUse, "bind"), "{error}");
                let os = error.os_error().and_then(std::io::Error::raw_os_error);
                assert_eq!(os, Some(WSAEACCES), "{error}");
                None
            }
        }
    }

    /// Checks the number of arrivals at each member of a group.
    pub(crate) fn check(self, counts: &[usize], all: usize) {
        assert_eq!(counts.iter().sum::<usize>(), all, "{counts:?}");
        let receivers = counts.iter().filter(|&&count| count > 0).count();
        match self {
            // Of a uniform distribution over two or three members, one in 10^10 runs has fewer.
            Self::Balanced => {
                assert!(counts.iter().all(|&count| count >= all / 24), "{counts:?}");
            }
            Self::OneReceives => assert_eq!(receivers, 1, "{counts:?}"),
            _ => {}
        }
    }
}
