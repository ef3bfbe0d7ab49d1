//! Opening listeners and UDP sockets: the methods of [`Options`] and their short forms.

use std::net::{TcpListener, UdpSocket};

use crate::endpoint::ToAddress;
use crate::error::Result;
use crate::open;
use crate::options::Options;
use crate::socket_job::Role;

/// The trait of a borrowed socket: std's `AsFd`, or `AsSocket` on Windows.
#[cfg(not(windows))]
pub use std::os::fd::AsFd as AsHandle;
/// The trait of a borrowed socket: std's `AsFd`, or `AsSocket` on Windows.
#[cfg(windows)]
pub use std::os::windows::io::AsSocket as AsHandle;

/// Opens a shared TCP listener: [`Options::shared`], [`Options::listen`].
///
/// ```
/// let first = sameport::listen("127.0.0.1:0")?;
/// let second = sameport::listen(first.local_addr()?)?;
/// # drop(second);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// To close one of several listeners without losing the connections that wait in it, use
/// [`drain`](crate::drain()).
///
/// # Errors
///
/// As [`Options::listen`].
#[doc(alias = "SO_REUSEPORT")]
#[doc(alias = "SO_REUSEPORT_LB")]
#[doc(alias = "reuseport")]
pub fn listen(address: impl ToAddress) -> Result<TcpListener> {
    Options::shared().listen(address)
}

/// Opens an exclusive TCP listener: [`Options::exclusive`], [`Options::listen`].
///
/// ```
/// let listener = sameport::listen_exclusive("127.0.0.1:0")?;
/// assert!(sameport::listen_exclusive(listener.local_addr()?).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`Options::listen`].
#[doc(alias = "SO_EXCLUSIVEADDRUSE")]
#[doc(alias = "SO_EXCLBIND")]
pub fn listen_exclusive(address: impl ToAddress) -> Result<TcpListener> {
    Options::exclusive().listen(address)
}

/// Opens a shared TCP listener on each address of an endpoint: [`Options::listen_all`].
///
/// ```
/// // Every address of the name: often `127.0.0.1` and `[::1]`, on one port.
/// for listener in sameport::listen_all("localhost:0")? {
///     println!("{}", listener.local_addr()?);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`Options::listen`].
pub fn listen_all(address: impl ToAddress) -> Result<Vec<TcpListener>> {
    Options::shared().listen_all(address)
}

/// Opens a shared UDP socket: [`Options::shared`], [`Options::bind_udp`].
///
/// ```
/// let first = sameport::bind_udp("127.0.0.1:0")?;
/// let second = sameport::bind_udp(first.local_addr()?)?;
/// assert_eq!(first.local_addr()?, second.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`Options::listen`].
#[doc(alias = "SO_REUSEPORT")]
pub fn bind_udp(address: impl ToAddress) -> Result<UdpSocket> {
    Options::shared().bind_udp(address)
}

/// Opens an exclusive UDP socket: [`Options::exclusive`], [`Options::bind_udp`].
///
/// ```
/// let socket = sameport::bind_udp_exclusive("127.0.0.1:0")?;
/// assert!(sameport::bind_udp(socket.local_addr()?).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`Options::listen`].
#[doc(alias = "SO_EXCLUSIVEADDRUSE")]
pub fn bind_udp_exclusive(address: impl ToAddress) -> Result<UdpSocket> {
    Options::exclusive().bind_udp(address)
}

/// Opens a shared UDP socket on each address of an endpoint: [`Options::bind_udp_all`].
///
/// ```
/// for socket in sameport::bind_udp_all("localhost:0")? {
///     println!("{}", socket.local_addr()?);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`Options::listen`].
pub fn bind_udp_all(address: impl ToAddress) -> Result<Vec<UdpSocket>> {
    Options::shared().bind_udp_all(address)
}

impl Options {
    /// Opens a TCP listener: binds and listens in one step.
    ///
    /// Closing a listener resets the connections that wait in it, also while other listeners share
    /// the address: [`drain`](crate::drain()) takes them first.
    ///
    /// Of a list, or a name with several addresses in the resolver's order, opens the first possible
    /// one, as std does; [`Options::listen_all`] opens all. For a bare port, opens one socket for
    /// both families, or for IPv4 on a machine without IPv6.
    ///
    /// ```
    /// use sameport::Options;
    ///
    /// let listener = Options::shared().backlog(64).listen("127.0.0.1:0")?;
    /// let other = Options::shared().listen(listener.local_addr()?)?;
    /// # drop(other);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Every [`ErrorKind`](crate::ErrorKind) except `Refused`, `TimedOut`, `SharedByOthers` and
    /// `WrongSocket`. `Unsupported` for a bare port where no socket receives both families (OpenBSD,
    /// DragonFly): use [`Options::listen_all`].
    pub fn listen(&self, address: impl ToAddress) -> Result<TcpListener> {
        open::first(self, Role::Listener, &address.to_endpoint()?.resolve()?).map(Into::into)
    }

    /// Opens a TCP listener on each address of an endpoint, at least one.
    ///
    /// A name means all its addresses. A bare port means one socket for both families, or one
    /// socket for each family where the system requires it or balances only so. Opens all sockets
    /// or none, but omits IPv6 addresses of a name or bare port on a machine without IPv6. On port 0,
    /// all sockets get the same port.
    ///
    /// A list means each of its elements, an address that occurs twice once. If it has both wildcard
    /// addresses of one port, the IPv6 socket excludes IPv4. Exclusive addresses cannot overlap.
    ///
    /// ```
    /// let all = sameport::Options::exclusive().listen_all(["[::]:0", "0.0.0.0:0", "0.0.0.0:0"])?;
    /// assert_eq!(all.len(), 2);
    /// assert_eq!(all[0].local_addr().unwrap().port(), all[1].local_addr().unwrap().port());
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Options::listen`].
    pub fn listen_all(&self, address: impl ToAddress) -> Result<Vec<TcpListener>> {
        let sockets = open::all(self, Role::Listener, &address.to_endpoint()?.resolve()?)?;
        Ok(sockets.into_iter().map(Into::into).collect())
    }

    /// Opens a UDP socket. Addresses as for [`Options::listen`].
    ///
    /// ```
    /// let socket = sameport::Options::exclusive().bind_udp("127.0.0.1:0")?;
    /// socket.send_to(b"to itself", socket.local_addr()?)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Options::listen`].
    pub fn bind_udp(&self, address: impl ToAddress) -> Result<UdpSocket> {
        open::first(self, Role::Datagram, &address.to_endpoint()?.resolve()?).map(Into::into)
    }

    /// Opens a UDP socket on each address of an endpoint. Addresses as for
    /// [`Options::listen_all`].
    ///
    /// ```
    /// let all = sameport::Options::exclusive().bind_udp_all(["127.0.0.1:0", "127.0.0.1:0"])?;
    /// assert_eq!(all.len(), 1);
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Options::listen`].
    pub fn bind_udp_all(&self, address: impl ToAddress) -> Result<Vec<UdpSocket>> {
        let sockets = open::all(self, Role::Datagram, &address.to_endpoint()?.resolve()?)?;
        Ok(sockets.into_iter().map(Into::into).collect())
    }
}
