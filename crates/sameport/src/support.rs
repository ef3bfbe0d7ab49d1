//! The facts about an operating system, as values.

use std::fmt;

/// The facts about one operating system: see [`support`](crate::support()).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Support {
    /// The distribution of traffic on a shared address.
    pub sharing: Sharing,
    /// The users that can join a shared address.
    pub join_policy: JoinPolicy,
    /// The mechanism of exclusive sockets.
    pub exclusive: Exclusive,
    /// Whether one socket can receive IPv4 and IPv6.
    pub dual_stack: DualStack,
}

/// The distribution of traffic on a shared address.
///
/// `Display` writes one line in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sharing {
    /// The system distributes new connections and UDP senders over all sockets by a hash.
    Balanced,
    /// Several sockets can have the address; one of them receives everything until it is closed.
    NotBalanced,
    /// As `NotBalanced`, and any user of the machine can join and receive the traffic.
    OpenToOtherUsers,
    /// Sharing fails with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    Unsupported,
    /// The probe failed, for example for lack of file descriptors. FreeBSD and DragonFly only.
    Unknown,
}

/// The users that can join a shared address by opening it as shared.
///
/// `Display` writes one line in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JoinPolicy {
    /// The user of the first socket only; root is not exempt.
    SameUser,
    /// The user of the first socket, and root.
    SameUserOrRoot,
    /// The user of the first socket, and root; on a wildcard address any user.
    AnyUserOnWildcard,
    /// The user of the first socket, and root; on a wildcard address and on every IPv6 address any
    /// user.
    AnyUserOnWildcardOrIpv6,
    /// Any user.
    AnyUser,
    /// No user: the system does not share addresses.
    NoUser,
}

/// The mechanism of exclusive sockets.
///
/// `Display` writes the name of the option, or one line in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exclusive {
    /// `bind` without a sharing option, and `listen` at once: no overlapping bind succeeds. On Linux,
    /// TCP listeners can also restart over connections in TIME-WAIT: [`crate::Options::exclusive`].
    PlainBind,
    /// As `PlainBind`, except that the same user, or root, can bind a more specific address than
    /// an exclusive wildcard address and receive its traffic. `SO_REUSEADDR` on the new socket is
    /// enough, and std's listeners have it. On NetBSD any user can do so with an IPv6 address.
    PlainBindExceptSpecific,
    /// `SO_EXCLUSIVEADDRUSE` of Windows.
    ExclusiveAddrUse,
    /// `SO_EXCLBIND` of illumos and Solaris.
    ExclBind,
}

/// Whether one socket can receive IPv4 and IPv6.
///
/// `Display` writes one line in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DualStack {
    /// Yes: a socket on `[::]` without `IPV6_V6ONLY`.
    OneSocket,
    /// Yes, but such a socket is not balanced: [`crate::listen_all`] opens two sockets.
    OneSocketNotBalanced,
    /// No: [`crate::listen_all`] opens two sockets.
    TwoSockets,
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Balanced => "balanced",
            Self::NotBalanced => "not balanced",
            Self::OpenToOtherUsers => "not balanced, open to other users",
            Self::Unsupported => "unsupported",
            Self::Unknown => "unknown",
        })
    }
}

impl fmt::Display for JoinPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SameUser => "the same user",
            Self::SameUserOrRoot => "the same user and root",
            Self::AnyUserOnWildcard => "the same user and root, on a wildcard any user",
            Self::AnyUserOnWildcardOrIpv6 => {
                "the same user and root, on a wildcard and on IPv6 any user"
            }
            Self::AnyUser => "any user",
            Self::NoUser => "no user",
        })
    }
}

impl fmt::Display for Exclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PlainBind => "plain bind",
            Self::PlainBindExceptSpecific => {
                "plain bind, except for more specific addresses of the same user or root"
            }
            Self::ExclusiveAddrUse => "SO_EXCLUSIVEADDRUSE",
            Self::ExclBind => "SO_EXCLBIND",
        })
    }
}

impl fmt::Display for DualStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OneSocket => "one socket",
            Self::OneSocketNotBalanced => "one socket, not balanced; two, balanced",
            Self::TwoSockets => "two sockets",
        })
    }
}
