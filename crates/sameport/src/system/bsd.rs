//! The BSDs, macOS and its relatives: `SO_REUSEPORT`, and `SO_REUSEPORT_LB` on FreeBSD.
//!
//! One table of facts for each system. The facts come from the systems' sources and manual pages;
//! the code is checked by the compiler only.

use std::io;

use libc::c_int;
use socket2::{Domain, SockRef, Socket, Type};

use super::{System, raw};
use crate::socket_job::{Role, SocketJob};
use crate::support::{DualStack, Exclusive, JoinPolicy, Sharing, Support};

/// The differences between the systems of this file.
struct Facts {
    sharing: Sharing,
    join_policy: JoinPolicy,
    dual_stack: DualStack,
    /// The option of level `SOL_SOCKET` that balances a group.
    balance: Option<c_int>,
    /// The settings of the system that must all be on for groups to be balanced.
    switches: &'static [&'static str],
    /// The option that admits addresses of other machines.
    bind_any: Option<PerFamily>,
    /// The option that binds a socket to the index of a network interface.
    bound_if: Option<PerFamily>,
}

/// The level and the name of an option on an IPv4 and on an IPv6 socket.
type PerFamily = [(c_int, c_int); 2];

/// - Any user can join a shared wildcard address: `in_pcbbind` of `bsd/netinet/in_pcb.c` omits the
///   check of users if both addresses are wildcards, and `in6_pcbbind` of `bsd/netinet6/in6_pcb.c` if
///   the first socket has the option too. Both sockets need the option in the check that follows.
/// - `[::]` with IPv4 can be bound beside 0.0.0.0, whatever the users and options: `in6_pcbbind`
///   compares it with IPv6 sockets only.
/// - `IP_BOUND_IF`, `IPV6_BOUND_IF`: unprivileged.
#[cfg(target_vendor = "apple")]
const FACTS: Facts = Facts {
    sharing: Sharing::NotBalanced,
    join_policy: JoinPolicy::AnyUserOnWildcard,
    dual_stack: DualStack::OneSocket,
    balance: None,
    switches: &[],
    bind_any: None,
    bound_if: Some([
        (libc::IPPROTO_IP, libc::IP_BOUND_IF),
        (libc::IPPROTO_IPV6, libc::IPV6_BOUND_IF),
    ]),
};

/// - `SO_REUSEPORT` is balanced by a hash since DragonFly 3.6, unless `net.inet.tcp.reuseport_ext` or
///   `net.inet.udp.reuseport_ext` is 0: `sys/netinet/{tcp_input,udp_usrreq}.c`.
/// - Users are compared on every IPv6 address: `sys/netinet6/in6_pcb.c`. Earlier versions of
///   `sys/netinet/in_pcb.c` admit any user to a wildcard address.
/// - Clearing `IPV6_V6ONLY` fails with EOPNOTSUPP: ip6(4).
#[cfg(target_os = "dragonfly")]
const FACTS: Facts = Facts {
    sharing: Sharing::Balanced,
    join_policy: JoinPolicy::SameUserOrRoot,
    dual_stack: DualStack::TwoSockets,
    balance: None,
    switches: &["net.inet.tcp.reuseport_ext", "net.inet.udp.reuseport_ext"],
    bind_any: None,
    bound_if: None,
};

/// From `sys/netinet/in_pcb.c` and `sys/netinet6/in6_pcb.c`:
///
/// - `SO_REUSEPORT_LB` is balanced by a hash, since FreeBSD 12.
/// - Two sockets can have one address if they have either option in common, so a listener gets
///   both. A client gets `SO_REUSEPORT` only: with `SO_REUSEPORT_LB`, `bind` would add it to the
///   balancing group, where it would receive connections that it cannot accept.
/// - In FreeBSD 12 to 14, any user can join a wildcard socket that has `SO_REUSEPORT_LB` but not
///   `SO_REUSEPORT`.
/// - A dual-stack IPv6 wildcard socket is not added to a balancing group.
/// - `IP_BINDANY`, ip(4): needs the privilege PRIV_NETINET_BINDANY.
#[cfg(target_os = "freebsd")]
const FACTS: Facts = Facts {
    sharing: Sharing::NotBalanced,
    join_policy: JoinPolicy::SameUserOrRoot,
    dual_stack: DualStack::OneSocketNotBalanced,
    balance: Some(libc::SO_REUSEPORT_LB),
    switches: &[],
    bind_any: Some([
        (libc::IPPROTO_IP, libc::IP_BINDANY),
        (libc::IPPROTO_IPV6, libc::IPV6_BINDANY),
    ]),
    bound_if: None,
};

/// - Any user can join a shared wildcard address: `sys/netinet/in_pcb.c` omits the check of users
///   if both addresses are wildcards and the first socket has the option.
/// - Any user can join a shared IPv6 address: `in6pcb_bind_port` of `sys/netinet6/in6_pcb.c` compares no
///   users.
/// - `IP_BINDANY`, `IPV6_BINDANY`: `sys/netinet/in.h` and `sys/netinet6/in6.h`, not in the crate `libc`.
///   Earlier versions of NetBSD answer ENOPROTOOPT.
#[cfg(target_os = "netbsd")]
const FACTS: Facts = Facts {
    sharing: Sharing::NotBalanced,
    join_policy: JoinPolicy::AnyUserOnWildcardOrIpv6,
    dual_stack: DualStack::OneSocket,
    balance: None,
    switches: &[],
    bind_any: Some([(libc::IPPROTO_IP, 27), (libc::IPPROTO_IPV6, 64)]),
    bound_if: None,
};

/// - IPv6 sockets always have `IPV6_V6ONLY`: ip6(4).
/// - `SO_BINDANY`, setsockopt(2): needs root.
#[cfg(target_os = "openbsd")]
const FACTS: Facts = Facts {
    sharing: Sharing::NotBalanced,
    join_policy: JoinPolicy::SameUserOrRoot,
    dual_stack: DualStack::TwoSockets,
    balance: None,
    switches: &[],
    bind_any: Some([(libc::SOL_SOCKET, libc::SO_BINDANY); 2]),
    bound_if: None,
};

pub(crate) struct Bsd;

pub(crate) use self::Bsd as Here;

impl System for Bsd {
    const UNSUPPORTED: &'static [i32] = &[
        libc::EAFNOSUPPORT,
        libc::ENOPROTOOPT,
        libc::ENOTSUP,
        libc::EOPNOTSUPP,
        libc::EPROTONOSUPPORT,
    ];

    /// `INPCBLBGROUP_SIZMAX` of FreeBSD's `sys/netinet/in_pcb.c`: further sockets are bound, but receive
    /// nothing.
    const MAX_MEMBERS: Option<usize> = if cfg!(target_os = "freebsd") { Some(256) } else { None };

    fn support() -> Support {
        Support {
            sharing: FACTS.balance.map_or_else(without_option, probe),
            join_policy: FACTS.join_policy,
            exclusive: Exclusive::PlainBindExceptSpecific,
            dual_stack: FACTS.dual_stack,
        }
    }

    fn set_shared(socket: &SockRef<'_>, job: &SocketJob) -> io::Result<()> {
        socket.set_reuse_address(false)?;
        socket.set_reuse_port(true)?;
        if job.role == Role::Client {
            return Ok(());
        }
        set_balance(socket, true)
    }

    fn set_exclusive(socket: &SockRef<'_>, _job: &SocketJob) -> io::Result<()> {
        socket.set_reuse_address(false)?;
        socket.set_reuse_port(false)?;
        set_balance(socket, false)
    }

    fn is_shared(socket: &SockRef<'_>) -> io::Result<bool> {
        let balanced = |option| raw::get(socket, libc::SOL_SOCKET, option).unwrap_or(0) != 0;
        Ok(socket.reuse_port()? || FACTS.balance.is_some_and(balanced))
    }

    fn is_listening(socket: &SockRef<'_>) -> io::Result<bool> {
        raw::get(socket, libc::SOL_SOCKET, libc::SO_ACCEPTCONN).map(|value| value != 0)
    }

    fn set_device(socket: &SockRef<'_>, name: &str, ipv6: bool) -> io::Result<()> {
        let option = FACTS.bound_if.ok_or(io::ErrorKind::Unsupported)?;
        set_per_family(socket, option, ipv6, raw::interface_index(name)?)
    }

    fn set_transparent(socket: &SockRef<'_>, ipv6: bool) -> io::Result<()> {
        set_per_family(socket, FACTS.bind_any.ok_or(io::ErrorKind::Unsupported)?, ipv6, 1)
    }

    /// The same option: it admits every address, present on this machine or not.
    fn set_freebind(socket: &SockRef<'_>, ipv6: bool) -> io::Result<()> {
        Self::set_transparent(socket, ipv6)
    }
}

/// Sets the balancing option, if the system and its version have it. FreeBSD 11 and older share
/// without it; a caller that needs balancing asks for `Options::require_balanced`.
fn set_balance(socket: &SockRef<'_>, on: bool) -> io::Result<()> {
    let Some(option) = FACTS.balance else { return Ok(()) };
    match raw::set(socket, libc::SOL_SOCKET, option, on.into()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        result => result,
    }
}

/// The distribution on systems without a balancing option.
fn without_option() -> Sharing {
    for name in FACTS.switches {
        match switch(name) {
            Ok(0) => return Sharing::NotBalanced,
            // A version without the setting balances always.
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Sharing::Unknown,
            _ => {}
        }
    }
    FACTS.sharing
}

#[cfg(target_os = "dragonfly")]
fn switch(name: &str) -> io::Result<c_int> {
    raw::sysctl(name)
}

#[cfg(not(target_os = "dragonfly"))]
fn switch(_name: &str) -> io::Result<c_int> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sets the balancing option on a new socket that is never bound.
fn probe(option: c_int) -> Sharing {
    let result = Socket::new(Domain::IPV4, Type::STREAM, None)
        .and_then(|socket| raw::set(&SockRef::from(&socket), libc::SOL_SOCKET, option, 1));
    match result {
        Ok(()) => Sharing::Balanced,
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => FACTS.sharing,
        Err(_) => Sharing::Unknown,
    }
}

fn set_per_family(
    socket: &SockRef<'_>,
    option: PerFamily,
    ipv6: bool,
    value: c_int,
) -> io::Result<()> {
    let (level, name) = option[usize::from(ipv6)];
    raw::set(socket, level, name, value)
}
