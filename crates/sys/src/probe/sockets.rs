//! Probes of socket options, on sockets of their own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use sameport_policy::capability::question::ProbeAnswer;
use sameport_policy::classic_bpf::Instruction;
use socket2::{Domain, Socket, Type};

use super::answer::usable;
use super::system;
use crate::bpf::syscall::{self, ProgramSpec};
use crate::bpf::traffic::check_extended_tier;
use crate::proc::sysctl;
use crate::seccomp::refused_calls;
use crate::socket::WorkerSocket;
use crate::socket::private_owner::check_owner_change;
use sameport_policy::sandbox::SandboxedCall;

fn shared_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_port(true)?;
    Ok(socket)
}

/// Binds two sockets to one loopback address, on a port that the kernel picks.
pub(super) fn reuse_port() -> ProbeAnswer {
    let joined = shared_socket().and_then(|first| {
        first.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let second = shared_socket()?;
        second.bind(&first.local_addr()?)
    });
    usable("setsockopt(SO_REUSEPORT)", joined, |()| "two sockets joined".into())
}

/// Attaches a program to a group of one socket. The program picks member 0.
pub(super) fn reuse_port_cbpf() -> ProbeAnswer {
    let attached = shared_socket().and_then(|socket| {
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        /// `BPF_RET | BPF_K`.
        const RETURN: u16 = 0x06;
        let first = Instruction { code: RETURN, if_true: 0, if_false: 0, k: 0 };
        WorkerSocket::from_fd(socket.into())?.steer(&[first]).map_err(io::Error::from)
    });
    usable("setsockopt(SO_ATTACH_REUSEPORT_CBPF)", attached, |()| {
        "members can be chosen without privilege".into()
    })
}

/// Loads a program that leaves the selection to the kernel, and attaches it to a group of one socket.
pub(super) fn reuse_port_ebpf() -> ProbeAnswer {
    // r0 = SK_PASS; exit
    let instructions: [u8; 16] = [0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let load = |attach_type| {
        syscall::load_program(&ProgramSpec {
            kind: syscall::BPF_PROG_TYPE_SK_REUSEPORT,
            instructions: &instructions,
            attach_type,
            ..ProgramSpec::default()
        })
    };
    let attached = shared_socket().and_then(|socket| {
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let (program, detail) = match load(syscall::BPF_SK_REUSEPORT_SELECT_OR_MIGRATE) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                (load(0)?, "queued connections cannot move: Linux 5.14")
            }
            program => (program?, "queued connections can move to another member"),
        };
        WorkerSocket::from_fd(socket.into())?.steer_by(&program).map_err(io::Error::from)?;
        Ok(detail)
    });
    usable("bpf(BPF_PROG_LOAD), setsockopt(SO_ATTACH_REUSEPORT_EBPF)", attached, str::to_owned)
}

/// The capabilities and the kernel that the programs for traffic need.
pub(super) fn traffic_programs() -> ProbeAnswer {
    usable("capget, uname", check_extended_tier(), |()| "the programs can be loaded".to_owned())
}

/// A `sock_diag` dump of this protocol that selects no socket.
pub(super) fn diag(protocol: libc::c_int) -> ProbeAnswer {
    match crate::netlink::sock_diag_available(protocol) {
        // No module handles sock_diag for this protocol.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            ProbeAnswer::No("this kernel does not have it: no module answers (ENOENT)".into())
        }
        dump => {
            usable("sock_diag", dump, |()| match refused_calls().of(SandboxedCall::NetlinkSocket) {
                None => String::new(),
                Some(_) => "from /proc/net; a filter refuses socket(AF_NETLINK)".into(),
            })
        }
    }
}

/// Loads the iterator over sockets and opens it.
pub(super) fn iterator() -> ProbeAnswer {
    let opened = crate::inspect::iterator_available();
    if let Err(error) = &opened
        && error.kind() == io::ErrorKind::NotFound
    {
        return ProbeAnswer::No("this kernel does not describe its types: /sys/kernel/btf".into());
    }
    if opened.is_err() && sysctl::is_confidential() {
        return system::kernel_memory();
    }
    usable("bpf(BPF_ITER_CREATE)", opened, |()| "over the descriptors of all processes".into())
}

/// Changes the owner of a socket.
pub(super) fn change_owner() -> ProbeAnswer {
    let owner = sameport_policy::model::private_uid::FIRST;
    let changed = check_owner_change(owner).map_err(io::Error::from);
    match changed {
        // Every kernel has fchown for sockets, so EINVAL is about the owner.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            ProbeAnswer::No(format!("this user namespace has no user {owner}: fchown: {error}"))
        }
        changed => usable("fchown", changed, |()| "gave a socket to another owner".into()),
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
    fn whether_programs_for_traffic_can_be_loaded_is_known() {
        let answer = traffic_programs();
        assert!(!matches!(answer, ProbeAnswer::Unknown(_)), "{answer:?}");
    }
}
