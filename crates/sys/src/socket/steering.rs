//! Selecting the member of a group that gets new connections, and gates that hold connections back.

use std::os::fd::{AsFd, AsRawFd as _};

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
    /// Attaches a program that selects a member of this socket's group, in place of the previous one
    /// (`SO_ATTACH_REUSEPORT_CBPF`, `socket(7)`, Linux 4.5, no privilege). The program stays until the
    /// last member leaves the group.
    ///
    /// # Errors
    ///
    /// EINVAL: a bound socket without a group, because it lacks SO_REUSEPORT or is TCP and does not
    /// listen. EOPNOTSUPP: an MPTCP socket. ENOMEM: the program exceeds `net.core.optmem_max`.
    pub fn steer(&self, program: &[Instruction]) -> Result<(), Errno> {
        raw_option::attach(self.as_fd(), libc::SO_ATTACH_REUSEPORT_CBPF, program)
    }

    /// Attaches an eBPF program of type `sk_reuseport` in place of the previous one
    /// (`SO_ATTACH_REUSEPORT_EBPF`, Linux 4.19). The program stays until the last member leaves the
    /// group.
    ///
    /// # Errors
    ///
    /// As for [`Self::steer`]. EPERM: the program was loaded without CAP_BPF.
    pub fn steer_by(&self, program: impl AsFd) -> Result<(), Errno> {
        let name = SockOpt { level: libc::SOL_SOCKET, number: libc::SO_ATTACH_REUSEPORT_EBPF };
        raw_option::set(self.as_fd(), name, &program.as_fd().as_raw_fd().to_ne_bytes())
    }

    /// Detaches the program, after which the kernel selects by its hash (`SO_DETACH_REUSEPORT_BPF`,
    /// Linux 5.3). Succeeds for a group without a program.
    ///
    /// # Errors
    ///
    /// Errors of `setsockopt(2)`, other than ENOENT.
    pub fn stop_steering(&self) -> Result<(), Errno> {
        let name = SockOpt { level: libc::SOL_SOCKET, number: SO_DETACH_REUSEPORT_BPF };
        // The kernel requires four bytes and ignores their value.
        match raw_option::set(self.as_fd(), name, &[0; 4]) {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }

    /// The cookie, which no other socket has until the machine ends (`SO_COOKIE`, `socket(7)`, Linux 4.12).
    ///
    /// # Errors
    ///
    /// Errors of `getsockopt(2)`.
    pub fn cookie(&self) -> Result<u64, Errno> {
        sockopt::socket_cookie(self.as_fd())
    }

    /// The processor that the program has chosen for the socket (`SO_INCOMING_CPU`, `socket(7)`, Linux 3.19);
    /// `None` if it has chosen none. Of a socket that receives, it is the processor of the last packet.
    #[must_use]
    pub fn incoming_cpu(&self) -> Option<u32> {
        let processor = sockopt::socket_incoming_cpu(self.as_fd()).ok()?;
        // -1: none.
        (processor != u32::MAX).then_some(processor)
    }

    /// Drops the SYNs of new clients, or no longer: they retransmit, first after 1 s, and reach another
    /// member once this socket has left the group. Handshakes in progress, and queued connections,
    /// continue. See [`Self::open_gate`] for the exception. `IP_MINTTL` (Linux 2.6.34),
    /// `IPV6_MINHOPCOUNT` (Linux 2.6.35).
    ///
    /// # Errors
    ///
    /// Errors of `setsockopt(2)`.
    pub fn drop_new_clients(&self, drop: bool) -> Result<(), Errno> {
        let least = (if drop { 255_i32 } else { 0 }).to_ne_bytes();
        let name = |level, number| SockOpt { level, number };
        raw_option::set(self.as_fd(), name(libc::IPPROTO_IP, libc::IP_MINTTL), &least)?;
        if self.is_v6()? {
            let hops = name(libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT);
            raw_option::set(self.as_fd(), hops, &least)?;
        }
        Ok(())
    }

    /// Makes a listener stop listening, in every process that has it open: `accept(2)` fails with EINVAL.
    /// Connections in its queue are reset; those that were accepted continue. `shutdown(2)`, `inet_shutdown` in
    /// `net/ipv4/af_inet.c`.
    ///
    /// # Errors
    ///
    /// Errors of `shutdown(2)`: ENOTCONN if it does not listen.
    pub fn stop_listening(&self) -> Result<(), Errno> {
        rustix::net::shutdown(self.as_fd(), rustix::net::Shutdown::Read)
    }

    /// Opens a gate: a bound member of this TCP socket's group that receives no connection. The kernel
    /// drops the SYN of a client that is steered to the gate, and the client retransmits it, first
    /// after 1 s. The gate joins the group with [`Self::listen`] and leaves it when dropped.
    /// Handshakes in progress with other members, and established or queued connections, continue.
    ///
    /// The gate drops packets whose TTL or hop limit is below 255 (`IP_MINTTL`, `IPV6_MINHOPCOUNT`). A
    /// client on the same link that sends with 255, which is rare, can queue one connection. A filter
    /// would drop every packet, but on TCP it needs CAP_NET_ADMIN in newer kernels (6.18.44).
    ///
    /// # Errors
    ///
    /// EADDRINUSE: the group accepts no other member. EXDEV: the socket is in another network
    /// namespace. EPERM: the socket belongs to another user, and this process lacks CAP_CHOWN.
    /// ENOTCONN: the socket is not bound.
    pub fn open_gate(&self) -> Result<Self, Errno> {
        let bound = self.bound_address(Protocol::Tcp)?.ok_or(Errno::NOTCONN)?;
        let family = if self.is_v6()? { AddressFamily::INET6 } else { AddressFamily::INET };
        let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
        let gate = rustix::net::socket_with(family, kind, flags, None)?;
        let cookie = |socket| cookie::socket_netns_cookie(socket).ok();
        if cookie(self.as_fd()) != cookie(gate.as_fd()) {
            return Err(Errno::XDEV);
        }
        // The group accepts sockets of one owner only.
        if self.owner() != crate::effective_user() {
            rustix::fs::fchown(&gate, Some(Uid::from_raw(self.owner())), None)?;
        }
        let ttl = 255_i32.to_ne_bytes();
        let name = |level, number| SockOpt { level, number };
        raw_option::set(gate.as_fd(), name(libc::IPPROTO_IP, libc::IP_MINTTL), &ttl)?;
        if family == AddressFamily::INET6 {
            raw_option::set(gate.as_fd(), name(libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT), &ttl)?;
            sockopt::set_ipv6_v6only(&gate, self.is_v6only()?)?;
        }
        if let Some(device) = &bound.device {
            socket2::SockRef::from(&gate)
                .bind_device(Some(device.as_bytes()))
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        }
        sockopt::set_socket_reuseport(&gate, true)?;
        // SO_REUSEADDR of a private group's connections: see `stands_beside` in the policy.
        sockopt::set_socket_reuseaddr(&gate, is_private_uid(self.owner()))?;
        rustix::net::bind(&gate, &bound.socket)?;
        Self::from_fd(gate)
    }
}

#[cfg(test)]
#[path = "classic_tests.rs"]
mod classic_tests;
#[cfg(test)]
#[path = "steering_tests.rs"]
mod tests;
