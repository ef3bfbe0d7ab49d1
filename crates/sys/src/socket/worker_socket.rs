//! A duplicate of a worker's socket, through which options are read and set before the worker's
//! `bind` continues.

#![expect(unsafe_code, reason = "setsockopt(2) of options that have no safe wrapper")]

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};
use sameport_policy::model::{Address, Protocol};

use crate::fd::ForeignFd;
use crate::netns::cookie;

/// A duplicate of a worker's socket, closed on drop. Both descriptors refer to one socket, so options
/// that are set here apply to the worker.
#[derive(Debug)]
pub struct WorkerSocket {
    fd: ForeignFd,
    inode: u64,
    owner: u32,
}

impl WorkerSocket {
    pub(super) fn new(fd: ForeignFd, inode: u64, owner: u32) -> Self {
        Self { fd, inode, owner }
    }

    /// Takes a socket of this process.
    ///
    /// # Errors
    ///
    /// Errors of `fstat(2)`.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Errno> {
        let status = rustix::fs::fstat(&fd)?;
        Ok(Self { fd: ForeignFd::new(fd), inode: status.st_ino, owner: status.st_uid })
    }

    /// Takes a socket that this process inherited. Call it once for each number.
    ///
    /// # Errors
    ///
    /// Errors of [`crate::fd::inherit::take`]. ENOTSOCK: not a socket.
    pub fn from_inherited(number: i32) -> Result<Self, Errno> {
        let fd = crate::fd::inherit::take(number)?;
        let status = rustix::fs::fstat(&fd)?;
        match rustix::fs::FileType::from_raw_mode(status.st_mode).is_socket() {
            true => Self::from_fd(fd),
            false => Err(Errno::NOTSOCK),
        }
    }

    /// Duplicates the descriptor.
    ///
    /// # Errors
    ///
    /// EMFILE: too many open descriptors.
    pub fn duplicate(&self) -> Result<Self, Errno> {
        let fd = rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)?;
        Ok(Self { fd: ForeignFd::new(fd), inode: self.inode, owner: self.owner })
    }

    /// The inode, which identifies the socket on this machine.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The owner: the user who created the socket, or the one set by `fchown(2)`. The kernel compares
    /// the owners of sockets that share an address.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Stores the owner that `fchown(2)` has set.
    pub(crate) fn record_owner(&mut self, owner: u32) {
        self.owner = owner;
    }

    /// TCP for stream sockets of TCP and MPTCP, UDP for datagram sockets of UDP and UDP-Lite, and
    /// whether the socket is an IPv6 one; `None` for everything else (AF_UNIX, raw, ping, SCTP, …).
    pub fn protocol_and_family(&self) -> Result<Option<(Protocol, bool)>, Errno> {
        const MPTCP: u32 = 262;
        const UDP_LITE: u32 = 136;
        const TCP: u32 = 6;
        const UDP: u32 = 17;
        let is_v6 = match self.family()? {
            AddressFamily::INET => false,
            AddressFamily::INET6 => true,
            _ => return Ok(None),
        };
        let number = sockopt::socket_protocol(&self.fd)?.map_or(0, |p| p.as_raw().get());
        Ok(match (sockopt::socket_type(&self.fd)?, number) {
            (SocketType::STREAM, TCP | MPTCP) => Some((Protocol::Tcp, is_v6)),
            (SocketType::DGRAM, UDP | UDP_LITE) => Some((Protocol::Udp, is_v6)),
            _ => None,
        })
    }

    /// The protocol alone.
    pub fn protocol(&self) -> Result<Option<Protocol>, Errno> {
        Ok(self.protocol_and_family()?.map(|(protocol, _)| protocol))
    }

    fn family(&self) -> Result<AddressFamily, Errno> {
        sockopt::socket_domain(&self.fd)
    }

    /// `SO_REUSEPORT`.
    ///
    /// # Errors
    ///
    /// Errors of `getsockopt(2)`.
    pub fn reuse_port(&self) -> Result<bool, Errno> {
        sockopt::socket_reuseport(&self.fd)
    }

    /// `SO_REUSEADDR`.
    ///
    /// # Errors
    ///
    /// Errors of `getsockopt(2)`.
    pub fn reuse_address(&self) -> Result<bool, Errno> {
        sockopt::socket_reuseaddr(&self.fd)
    }

    /// Sets `SO_REUSEPORT`; with `clear_reuse_address`, clears `SO_REUSEADDR`.
    ///
    /// # Errors
    ///
    /// Errors of `setsockopt(2)`.
    pub fn share(&self, clear_reuse_address: bool) -> Result<(), Errno> {
        if clear_reuse_address {
            sockopt::set_socket_reuseaddr(&self.fd, false)?;
        }
        sockopt::set_socket_reuseport(&self.fd, true)
    }

    /// Binds the socket with the rights of this process. The caller must have checked that the worker
    /// may bind the address.
    ///
    /// # Errors
    ///
    /// Errors of `bind(2)`.
    pub fn bind(&self, address: SocketAddr) -> Result<(), Errno> {
        rustix::net::bind(&self.fd, &address)
    }

    /// Binds the socket to the source address of a later `connect`. With port 0 the kernel picks the
    /// port at `connect`, when it knows both addresses (`IP_BIND_ADDRESS_NO_PORT`, `ip(7)`, Linux 4.2).
    ///
    /// # Errors
    ///
    /// Errors of `bind(2)` and `setsockopt(2)`.
    pub fn bind_source(&self, address: SocketAddr) -> Result<(), Errno> {
        if address.port() == 0 {
            // An older kernel assigns the port at the bind, which exhausts the ports sooner.
            let _ = set_flag(&self.fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
        } else {
            // With both options, another user's datagram socket could join.
            let datagrams = sockopt::socket_type(&self.fd)? == SocketType::DGRAM;
            self.share(datagrams)?;
        }
        self.bind(address)
    }

    /// Whether the socket has a local address or port.
    ///
    /// # Errors
    ///
    /// Errors of `getsockname(2)`.
    pub fn has_local_address(&self) -> Result<bool, Errno> {
        let local = SocketAddr::try_from(rustix::net::getsockname(&self.fd)?)?;
        Ok(local.port() != 0 || !local.ip().is_unspecified())
    }

    /// Whether the socket is connected (`getpeername(2)`).
    #[must_use]
    pub fn is_connected(&self) -> bool {
        rustix::net::getpeername(&self.fd).is_ok_and(|peer| peer.is_some())
    }

    /// Whether the socket is an IPv6 socket.
    ///
    /// # Errors
    ///
    /// Errors of `getsockopt(2)`.
    pub fn is_v6(&self) -> Result<bool, Errno> {
        Ok(self.family()? == AddressFamily::INET6)
    }

    /// Whether the socket is an IPv6 socket with `IPV6_V6ONLY`.
    ///
    /// # Errors
    ///
    /// Errors of `getsockopt(2)`.
    pub fn is_v6only(&self) -> Result<bool, Errno> {
        Ok(self.is_v6()? && sockopt::ipv6_v6only(&self.fd)?)
    }

    /// Whether the socket listens (`SO_ACCEPTCONN`).
    ///
    /// # Errors
    ///
    /// Errors of `getsockopt(2)`.
    pub fn is_listening(&self) -> Result<bool, Errno> {
        sockopt::socket_acceptconn(&self.fd)
    }

    /// Whether the socket is in the network namespace of this process.
    ///
    /// Compares `SO_NETNS_COOKIE` (Linux 5.14). On older kernels, compares the namespace of the thread
    /// instead, which is wrong for a thread that changed it after `socket(2)`.
    ///
    /// # Errors
    ///
    /// Errors of `stat(2)` for `/proc/TID/ns/net`, on older kernels.
    pub fn is_in_own_netns(&self, tid: i32) -> Result<bool, Errno> {
        match (own_netns_cookie(), cookie::socket_netns_cookie(&self.fd)) {
            (Some(own), Ok(cookie)) => Ok(own == cookie),
            _ => {
                let inode = |path: String| rustix::fs::stat(path).map(|status| status.st_ino);
                Ok(inode(format!("/proc/{tid}/ns/net"))? == inode("/proc/self/ns/net".into())?)
            }
        }
    }

    /// The address to which the socket is bound, with protocol, device and `IPV6_V6ONLY`. `None` if it
    /// is not bound to a port.
    ///
    /// # Errors
    ///
    /// Errors of `getsockname(2)` and `getsockopt(2)`.
    pub fn bound_address(&self, protocol: Protocol) -> Result<Option<Address>, Errno> {
        let bound = self.local_address()?.filter(|socket| socket.port() != 0);
        bound.map(|socket| self.address_at(protocol, socket)).transpose()
    }

    /// The local IP address and port, 0 where it is not bound to one; `None` if it has no IP address.
    pub fn local_address(&self) -> Result<Option<SocketAddr>, Errno> {
        Ok(SocketAddr::try_from(rustix::net::getsockname(&self.fd)?).ok())
    }

    /// The device that it is bound to (`SO_BINDTODEVICE`).
    #[must_use]
    pub fn device(&self) -> Option<String> {
        let name = socket2::SockRef::from(&self.fd).device().ok().flatten()?;
        Some(String::from_utf8_lossy(&name).into_owned())
    }

    /// The address of this socket after a bind to `socket`.
    ///
    /// # Errors
    ///
    /// Errors of `getsockopt(2)`.
    pub fn address_at(&self, protocol: Protocol, socket: SocketAddr) -> Result<Address, Errno> {
        // The bind to one IPv6 address sets the option anyway.
        let v6only = socket.is_ipv6() && socket.ip().is_unspecified() && self.is_v6only()?;
        Ok(Address { protocol, socket, device: self.device(), v6only })
    }
}

impl AsFd for WorkerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The cookie of this process's network namespace, which it never leaves.
fn own_netns_cookie() -> Option<u64> {
    static COOKIE: OnceLock<Option<u64>> = OnceLock::new();
    *COOKIE.get_or_init(|| {
        cookie::socket_netns_cookie(std::net::UdpSocket::bind("127.0.0.1:0").ok()?).ok()
    })
}

pub(super) fn set_flag(
    socket: impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
) -> Result<(), Errno> {
    let (on, fd): (libc::c_int, _) = (1, socket.as_fd().as_raw_fd());
    // SAFETY: the kernel reads four bytes, the size of `on`, through the pointer.
    let done = unsafe { libc::setsockopt(fd, level, option, (&raw const on).cast(), 4) };
    if done == 0 { Ok(()) } else { Err(crate::errno::last_errno()) }
}
