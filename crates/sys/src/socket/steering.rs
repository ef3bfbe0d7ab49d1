//! Who gets new connections: of a group, and of one socket.

use std::os::fd::AsFd as _;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::Uid;
use sameport_policy::classic_bpf::Instruction;
use sameport_policy::model::{Protocol, is_private_uid};

use super::raw_option;
use super::raw_option::SockOpt;
use crate::netns::cookie;
use crate::socket::worker_socket::WorkerSocket;

// libc lacks it for some architectures that share the generic numbers.
const SO_DETACH_REUSEPORT_BPF: libc::c_int = 68;

impl WorkerSocket {
    /// Gives the group of this socket a program that chooses among its members, instead of the one
    /// it has (`SO_ATTACH_REUSEPORT_CBPF`, Linux 4.5, no privilege; any member will do). It stays
    /// with the group, whoever of it goes, until the last member has gone.
    ///
    /// # Errors
    ///
    /// EINVAL: the socket is bound and has no group: no SO_REUSEPORT, or TCP and not listening.
    /// EOPNOTSUPP: MPTCP. ENOMEM: the program is larger than `net.core.optmem_max`.
    pub fn steer(&self, program: &[Instruction]) -> Result<(), Errno> {
        raw_option::attach(self.as_fd(), libc::SO_ATTACH_REUSEPORT_CBPF, program)
    }

    /// Leaves the choice to the kernel's hash again (`SO_DETACH_REUSEPORT_BPF`, Linux 5.3). A group
    /// without a program is no error.
    pub fn stop_steering(&self) -> Result<(), Errno> {
        let name = SockOpt { level: libc::SOL_SOCKET, number: SO_DETACH_REUSEPORT_BPF };
        // The value means nothing, but the kernel wants four bytes.
        match raw_option::set(self.as_fd(), name, &[0; 4]) {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }

    /// A member for this TCP socket's group to which nobody gets through, bound and ours: whoever
    /// is steered to it is neither refused nor reset, but tries again, after 1 s first. It joins the
    /// group with [`Self::listen`], and leaves when dropped. Meanwhile handshakes that have begun
    /// with others complete, and what is connected or queued is as before.
    ///
    /// It drops packets that have come less far than none (`IP_MINTTL`, `IPV6_MINHOPCOUNT`; 255).
    /// Only of a client next door that sends with 255, as hardly any does, one connection gets into
    /// its queue. A filter would be tight, but on TCP needs CAP_NET_ADMIN in newer kernels (6.18.44
    /// refuses it).
    ///
    /// # Errors
    ///
    /// EADDRINUSE: the group takes no other member. EXDEV: it is in another network namespace.
    /// EPERM: the socket is another user's, and we may not make one for them. ENOTCONN: it is not
    /// bound.
    pub fn open_gate(&self) -> Result<Self, Errno> {
        let bound = self.bound_address(Protocol::Tcp)?.ok_or(Errno::NOTCONN)?;
        let family = if self.is_v6()? { AddressFamily::INET6 } else { AddressFamily::INET };
        let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
        let gate = rustix::net::socket_with(family, kind, flags, None)?;
        let cookie = |socket| cookie::socket_netns_cookie(socket).ok();
        if cookie(self.as_fd()) != cookie(gate.as_fd()) {
            return Err(Errno::XDEV);
        }
        // The group takes sockets of one user only, and looks at the sockets' owner.
        if self.owner() != crate::effective_user() {
            rustix::fs::fchown(&gate, Some(Uid::from_raw(self.owner())), None)?;
        }
        let far = 255_i32.to_ne_bytes();
        let name = |level, number| SockOpt { level, number };
        raw_option::set(gate.as_fd(), name(libc::IPPROTO_IP, libc::IP_MINTTL), &far)?;
        if family == AddressFamily::INET6 {
            raw_option::set(gate.as_fd(), name(libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT), &far)?;
            sockopt::set_ipv6_v6only(&gate, self.is_v6only()?)?;
        }
        if let Some(device) = &bound.device {
            socket2::SockRef::from(&gate)
                .bind_device(Some(device.as_bytes()))
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        }
        sockopt::set_socket_reuseport(&gate, true)?;
        // Connections of a private group are the workers': see `sameport_policy::bind::private::stands_beside`.
        sockopt::set_socket_reuseaddr(&gate, is_private_uid(self.owner()))?;
        rustix::net::bind(&gate, &bound.socket)?;
        Self::from_fd(gate)
    }
}

#[cfg(test)]
#[path = "steering_tests.rs"]
mod tests;
