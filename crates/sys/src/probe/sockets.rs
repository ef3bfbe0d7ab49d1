//! What sockets can do here, tried on scratch sockets that nobody else sees.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;

use sameport_policy::capability::question::ProbeAnswer;
use socket2::{Domain, Socket, Type};

use super::{calls, present, usable};

fn shared_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_port(true)?;
    Ok(socket)
}

/// Two sockets on one address of the loopback, with a port that the kernel picks.
pub(super) fn reuse_port() -> ProbeAnswer {
    let joined = shared_socket().and_then(|first| {
        first.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let second = shared_socket()?;
        second.bind(&first.local_addr()?)
    });
    usable("setsockopt(SO_REUSEPORT)", joined, |()| "two sockets joined".into())
}

/// A program on a group of one.
pub(super) fn reuse_port_cbpf() -> ProbeAnswer {
    let attached = shared_socket().and_then(|socket| {
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        calls::attach_cbpf(socket.as_fd())
    });
    usable("setsockopt(SO_ATTACH_REUSEPORT_CBPF)", attached, |()| {
        "members can be chosen without privilege".into()
    })
}

/// Which network namespace a socket is of.
pub(super) fn netns_cookie() -> ProbeAnswer {
    let cookie = Socket::new(Domain::IPV4, Type::DGRAM, None)
        .and_then(crate::netns::cookie::socket_netns_cookie);
    present("getsockopt(SO_NETNS_COOKIE)", cookie, |cookie| format!("this one is {cookie}"))
}

/// A `sock_diag` dump of this protocol that selects no socket.
pub(super) fn diag(protocol: libc::c_int) -> ProbeAnswer {
    match crate::netlink::sock_diag_available(protocol) {
        // The kernel's word for "no module answers for this protocol".
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            ProbeAnswer::No("this kernel does not have it: no module answers (ENOENT)".into())
        }
        dump => usable("sock_diag", dump, |()| String::new()),
    }
}

/// Loads one and opens it.
pub(super) fn iterator() -> ProbeAnswer {
    let opened = crate::inspect::iterator_available();
    if let Err(error) = &opened
        && error.kind() == io::ErrorKind::NotFound
    {
        return ProbeAnswer::No("this kernel does not describe its types: /sys/kernel/btf".into());
    }
    usable("bpf(BPF_ITER_CREATE)", opened, |()| "over the descriptors of all processes".into())
}

/// Gives a socket of its own away.
pub(super) fn change_owner() -> ProbeAnswer {
    let owner = sameport_policy::model::private_uid::FIRST;
    let given = crate::socket::private_owner::check_owner_change(owner).map_err(io::Error::from);
    match given {
        // The kernel has had fchown for sockets ever since: it is the owner that does not exist here.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            ProbeAnswer::No(format!("this user namespace has no user {owner}: fchown: {error}"))
        }
        given => usable("fchown", given, |()| "gave a socket to another owner".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_without_a_module_is_a_definite_no() {
        // 253 is reserved for experiments and has no sock_diag handler anywhere.
        assert!(matches!(diag(253), ProbeAnswer::No(_)), "{:?}", diag(253));
        assert!(matches!(diag(libc::IPPROTO_TCP), ProbeAnswer::Yes(_)));
    }

    #[test]
    fn the_cookie_is_this_namespace() {
        let first = netns_cookie();
        assert_eq!(first, netns_cookie());
        assert!(!matches!(first, ProbeAnswer::CouldNotTell(_)), "{first:?}");
    }
}
