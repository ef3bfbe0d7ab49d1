//! What sharing means on a system, as values.

use std::fmt;

use crate::system;

/// The truth about one system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Support {
    /// What happens to the traffic of a shared address.
    pub sharing: Sharing,
    /// Who, besides the program that opened it, can join a shared address.
    pub joiners: JoinPolicy,
    /// How an exclusive socket keeps others off.
    pub exclusive: Exclusive,
    /// Whether one socket can take IPv4 and IPv6.
    pub dual_stack: DualStack,
}

/// What happens to the traffic of a shared address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sharing {
    /// The system spreads new connections and senders over all members, by a hash.
    Balanced,
    /// Several can be there, and one of them gets everything until it goes.
    NotBalanced,
    /// As `NotBalanced`, and any user of the machine can join and take the traffic.
    OpenToOtherUsers,
    /// Sharing fails with [`Kind::Unsupported`](crate::Kind::Unsupported).
    Unsupported,
    /// The probe itself failed, out of descriptors for instance.
    CouldNotTell,
}

/// Who can join a shared address by opening it as shared too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JoinPolicy {
    /// The same user only. Root is not exempt.
    SameUser,
    /// The same user and root.
    SameUserOrRoot,
    /// The same user and root; where the address is the wildcard, any user.
    AnyUserOnWildcard,
    /// Any user.
    AnyUser,
    /// Nobody: nothing is shared.
    Nobody,
}

/// How an exclusive socket keeps others off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exclusive {
    /// Neither sharing option, listening at once: no overlapping bind succeeds.
    PlainBind,
    /// As `PlainBind`, except that the same user, or root, can bind a more specific address than
    /// an exclusive wildcard and take its traffic.
    PlainBindExceptSpecific,
    /// `SO_EXCLUSIVEADDRUSE`.
    ExclusiveAddrUse,
    /// `SO_EXCLBIND`.
    ExclBind,
}

/// Whether one socket can take IPv4 and IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DualStack {
    /// Yes: a `[::]` socket with `IPV6_V6ONLY` cleared.
    OneSocket,
    /// Yes, but such a socket is left out of balancing: [`crate::listen_all`] opens two.
    OneSocketNotBalanced,
    /// No: [`crate::listen_all`] opens two.
    TwoSockets,
}

/// What sharing means on the running system.
///
/// Constant on all systems but FreeBSD, where a socket that is never bound is asked for
/// `SO_REUSEPORT_LB`. Needs no privilege.
///
/// ```
/// let support = sameport::support();
/// println!("{}, open to {}", support.sharing, support.joiners);
/// ```
#[must_use]
pub fn support() -> Support {
    system::support()
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Balanced => "balanced",
            Self::NotBalanced => "not balanced",
            Self::OpenToOtherUsers => "not balanced, open to other users",
            Self::Unsupported => "unsupported",
            Self::CouldNotTell => "could not tell",
        })
    }
}

impl fmt::Display for JoinPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SameUser => "the same user",
            Self::SameUserOrRoot => "the same user and root",
            Self::AnyUserOnWildcard => "the same user and root, on a wildcard any user",
            Self::AnyUser => "any user",
            Self::Nobody => "nobody",
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
