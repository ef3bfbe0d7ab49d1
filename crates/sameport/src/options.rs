//! The builder: how a socket is to be opened.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{SockRef, Type};

use crate::error::{Error, ErrorKind, Result};
use crate::open;
use crate::place::ToAddress;
use crate::system::{self, Role, SocketJob};

/// What a socket of the caller's must be able to give: its descriptor.
#[cfg(not(windows))]
pub use std::os::fd::AsFd as AsHandle;
/// What a socket of the caller's must be able to give: its handle.
#[cfg(windows)]
pub use std::os::windows::io::AsSocket as AsHandle;

/// How a TCP listener or a UDP socket is to be opened: shared or exclusive, and with what options.
///
/// ```
/// use sameport::Options;
///
/// let first = Options::shared().backlog(64).listen("127.0.0.1:0")?;
/// let second = Options::shared().nonblocking(true).listen(first.local_addr().unwrap())?;
/// # drop(second);
/// # Ok::<(), sameport::Error>(())
/// ```
///
/// An option that the system does not have is an error of kind [`Kind::Unsupported`], never
/// ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Options {
    pub(crate) shared: bool,
    pub(crate) balanced: bool,
    pub(crate) backlog: i32,
    pub(crate) v6only: Option<bool>,
    pub(crate) nonblocking: bool,
    pub(crate) device: Option<String>,
    pub(crate) transparent: bool,
    pub(crate) freebind: bool,
}

impl Options {
    /// Others may open the same address as shared too. Who: [`crate::support`].
    pub fn shared() -> Self {
        Self::new(true)
    }

    /// Nobody else may be on the address, and nobody may join later. How: [`crate::support`].
    ///
    /// On Linux that is neither `SO_REUSEPORT` nor `SO_REUSEADDR`, and `listen` at once. It keeps out
    /// every user, root included, from the address and from all that overlaps it: the wildcard and
    /// what is under it, IPv4 under `[::]`, a device. It does not keep anybody from a sibling
    /// (`[::1]` beside `127.0.0.1`: take a wildcard), nor from the port while nobody has it, nor
    /// whoever has this very socket open: a descriptor that was passed on, on which `SO_REUSEPORT`
    /// can be set later. On Windows it is `SO_EXCLUSIVEADDRUSE`, on illumos `SO_EXCLBIND`; on the
    /// BSDs and macOS root, or the same user, can still take a more specific address from a
    /// wildcard. `docs/security.md` has every way and the test that shows it.
    ///
    /// As no option allows it, an exclusive listener cannot be started again while connections of
    /// the one before it are still closing, up to a minute on Linux, except on Windows.
    pub fn exclusive() -> Self {
        Self::new(false)
    }

    fn new(shared: bool) -> Self {
        Self {
            shared,
            balanced: false,
            backlog: 4096,
            v6only: None,
            nonblocking: false,
            device: None,
            transparent: false,
            freebind: false,
        }
    }

    /// How many connections may wait to be accepted, 4096 unless told. Systems cut it short
    /// without a word: Linux at `net.core.somaxconn`, 4096 by default since 5.4. TCP only.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections.try_into().unwrap_or(i32::MAX);
        self
    }

    /// Whether an IPv6 socket refuses IPv4 (`IPV6_V6ONLY`).
    ///
    /// Unless told, a wildcard takes both families on every system, whatever its own default is,
    /// and other addresses keep the system's default. With `true`, a bare port means `[::]`. On an
    /// IPv4 address, an error of kind [`Kind::BadAddress`].
    pub fn v6only(mut self, only: bool) -> Self {
        self.v6only = Some(only);
        self
    }

    /// Whether calls on the socket return at once (`O_NONBLOCK`, `FIONBIO`).
    pub fn nonblocking(mut self, nonblocking: bool) -> Self {
        self.nonblocking = nonblocking;
        self
    }

    /// Only the traffic of this network interface: `SO_BINDTODEVICE` on Linux (unprivileged since
    /// 5.7), `IP_BOUND_IF` on macOS and illumos. Unsupported elsewhere.
    pub fn device(mut self, name: impl Into<String>) -> Self {
        self.device = Some(name.into());
        self
    }

    /// Addresses of other machines, for transparent proxies: `IP_TRANSPARENT` on Linux (needs
    /// CAP_NET_ADMIN or CAP_NET_RAW), `IP_BINDANY` on FreeBSD, `SO_BINDANY` on OpenBSD (both need
    /// root). Unsupported elsewhere.
    pub fn transparent(mut self, transparent: bool) -> Self {
        self.transparent = transparent;
        self
    }

    /// Addresses that are not here yet: `IP_FREEBIND` on Linux (unprivileged), `IP_BINDANY` on
    /// FreeBSD, `SO_BINDANY` on OpenBSD (both need root). Unsupported elsewhere.
    pub fn freebind(mut self, freebind: bool) -> Self {
        self.freebind = freebind;
        self
    }

    /// Fail with [`Kind::Unsupported`] where this socket's traffic would not be balanced.
    pub fn require_balanced(mut self, required: bool) -> Self {
        self.balanced = required;
        self
    }

    /// Opens a TCP listener: bound and listening in one step.
    ///
    /// A name that resolves to several addresses is tried in the resolver's order, and the first
    /// that can be had is taken, as std does; [`Options::listen_all`] takes all. A bare port is one
    /// socket for both families; where IPv6 is absent, for IPv4. Where no socket can take both
    /// (OpenBSD, DragonFly): [`Kind::Unsupported`], use [`Options::listen_all`].
    ///
    /// # Errors
    /// See [`Kind`]: every one but [`Kind::Refused`] and [`Kind::TimedOut`].
    pub fn listen(&self, address: impl ToAddress) -> Result<TcpListener> {
        open::first(self, Role::Listener, &address.to_place()?).map(Into::into)
    }

    /// Opens a TCP listener on each address that this means: all that a name resolves to; for a
    /// bare port one for both families, or one each where the system needs it, or balances only
    /// so. All or none, except that IPv6 addresses are left out where IPv6 is absent. At least one;
    /// on port 0 all get the same port.
    ///
    /// # Errors
    /// As [`Options::listen`].
    pub fn listen_all(&self, address: impl ToAddress) -> Result<Vec<TcpListener>> {
        let sockets = open::all(self, Role::Listener, &address.to_place()?)?;
        Ok(sockets.into_iter().map(Into::into).collect())
    }

    /// Opens a UDP socket. Addresses as for [`Options::listen`].
    ///
    /// # Errors
    /// As [`Options::listen`].
    pub fn bind_udp(&self, address: impl ToAddress) -> Result<UdpSocket> {
        open::first(self, Role::Datagrams, &address.to_place()?).map(Into::into)
    }

    /// Opens a UDP socket on each address that this means, as [`Options::listen_all`] does.
    ///
    /// # Errors
    /// As [`Options::listen`].
    pub fn bind_udp_all(&self, address: impl ToAddress) -> Result<Vec<UdpSocket>> {
        let sockets = open::all(self, Role::Datagrams, &address.to_place()?)?;
        Ok(sockets.into_iter().map(Into::into).collect())
    }

    /// Puts these options on a socket that the caller made, before its `bind` to `address`.
    ///
    /// Works for TCP and UDP sockets of any crate. The caller binds and, with its own backlog,
    /// listens; at once, please. `SO_REUSEADDR` is cleared, except for sharing on Windows, where
    /// it is set.
    ///
    /// On Linux a shared UDP socket must be bound to port 0 *before* the call, which is then given
    /// the address that it got: with the option set, the kernel could pick another program's port.
    ///
    /// ```
    /// use socket2::{Domain, Socket, Type};
    ///
    /// let address: std::net::SocketAddr = "127.0.0.1:0".parse()?;
    /// let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    /// # #[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
    /// sameport::Options::shared().apply(&socket, address)?;
    /// socket.bind(&address.into())?;
    /// socket.listen(128)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`Kind`]. Options before the one that failed have been set.
    pub fn apply(&self, socket: &impl AsHandle, address: SocketAddr) -> Result<()> {
        let socket = SockRef::from(socket);
        let r#type = socket.r#type().map_err(|os| Error::os("getsockopt(type)", address, os))?;
        let role = match r#type {
            Type::STREAM => Role::Listener,
            Type::DGRAM => Role::Datagrams,
            _ => {
                return Err(Error::new(ErrorKind::Unsupported, "apply", address)
                    .noting("neither a stream nor a datagram socket"));
            }
        };
        let job: SocketJob = open::job(self, role, address);
        if self.shared && system::waits_for_port(&job) {
            return Err(Error::new(ErrorKind::BadAddress, "apply", address)
                .noting("bind a datagram socket to port 0 first, then give the address it got"));
        }
        open::check(self, &job)?;
        open::put(self, &socket, &job)?;
        if self.nonblocking {
            socket.set_nonblocking(true).map_err(|os| Error::os("set nonblocking", address, os))?;
        }
        Ok(())
    }
}
