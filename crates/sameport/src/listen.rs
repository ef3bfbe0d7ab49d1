//! Opening listeners and UDP sockets: the methods of [`Options`] and their short forms.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{SockRef, Type};

use crate::endpoint::ToAddress;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::open;
use crate::options::Options;
use crate::socket_job::Role;
use crate::system::{Here, System};

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
/// # Errors
///
/// As [`Options::listen`].
pub fn listen(address: impl ToAddress) -> Result<TcpListener> {
    Options::shared().listen(address)
}

/// Opens an exclusive TCP listener: [`Options::exclusive`], [`Options::listen`].
///
/// # Errors
///
/// As [`Options::listen`].
pub fn listen_exclusive(address: impl ToAddress) -> Result<TcpListener> {
    Options::exclusive().listen(address)
}

/// Opens a shared TCP listener on each address of an endpoint: [`Options::listen_all`].
///
/// # Errors
///
/// As [`Options::listen`].
pub fn listen_all(address: impl ToAddress) -> Result<Vec<TcpListener>> {
    Options::shared().listen_all(address)
}

/// Opens a shared UDP socket: [`Options::shared`], [`Options::bind_udp`].
///
/// # Errors
///
/// As [`Options::listen`].
pub fn bind_udp(address: impl ToAddress) -> Result<UdpSocket> {
    Options::shared().bind_udp(address)
}

/// Opens an exclusive UDP socket: [`Options::exclusive`], [`Options::bind_udp`].
///
/// # Errors
///
/// As [`Options::listen`].
pub fn bind_udp_exclusive(address: impl ToAddress) -> Result<UdpSocket> {
    Options::exclusive().bind_udp(address)
}

/// Opens a shared UDP socket on each address of an endpoint: [`Options::bind_udp_all`].
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
    /// Of a list, or a name with several addresses in the resolver's order, opens the first possible
    /// one, as std does; [`Options::listen_all`] opens all. For a bare port, opens one socket for
    /// both families, or for IPv4 on a machine without IPv6.
    ///
    /// # Errors
    ///
    /// Every [`ErrorKind`] except `Refused` and `TimedOut`. `Unsupported` for a bare port where no
    /// socket receives both families (OpenBSD, DragonFly): use [`Options::listen_all`].
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
    /// addresses of one port, the IPv6 socket excludes IPv4.
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
    /// # Errors
    ///
    /// As [`Options::listen`].
    pub fn bind_udp(&self, address: impl ToAddress) -> Result<UdpSocket> {
        open::first(self, Role::Datagram, &address.to_endpoint()?.resolve()?).map(Into::into)
    }

    /// Opens a UDP socket on each address of an endpoint. Addresses as for
    /// [`Options::listen_all`].
    ///
    /// # Errors
    ///
    /// As [`Options::listen`].
    pub fn bind_udp_all(&self, address: impl ToAddress) -> Result<Vec<UdpSocket>> {
        let sockets = open::all(self, Role::Datagram, &address.to_endpoint()?.resolve()?)?;
        Ok(sockets.into_iter().map(Into::into).collect())
    }

    /// Sets these options on an existing TCP or UDP socket, before the caller binds it to
    /// `address` and, with its own backlog, listens.
    ///
    /// `SO_REUSEADDR` is cleared, except for shared sockets on Windows, where it is set.
    ///
    /// On Linux, bind a shared UDP socket on port 0 before this call, and pass the address that it
    /// got: with the option set, the kernel could choose the port of another program.
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
    ///
    /// [`ErrorKind::NotPermitted`], [`ErrorKind::AddressNotHere`], [`ErrorKind::Unsupported`],
    /// [`ErrorKind::BadAddress`], [`ErrorKind::Other`]. Options before the failed one stay set.
    pub fn apply(&self, socket: &impl AsHandle, address: SocketAddr) -> Result<()> {
        let socket = SockRef::from(socket);
        let r#type = socket.r#type().map_err(|os| Error::os("getsockopt(type)", address, os))?;
        let role = match r#type {
            Type::STREAM => Role::Listener,
            Type::DGRAM => Role::Datagram,
            _ => {
                return Err(Error::new(ErrorKind::Unsupported, "apply", address)
                    .with_note("neither a stream nor a datagram socket"));
            }
        };
        let job = open::job(self, role, address);
        if self.shared && Here::shares_after_bind(&job) {
            return Err(Error::new(ErrorKind::BadAddress, "apply", address).with_note(
                "bind a datagram socket to port 0 first, then give the address it got",
            ));
        }
        open::check(self, &job)?;
        open::set_options(self, &socket, &job)?;
        if self.nonblocking {
            socket.set_nonblocking(true).map_err(|os| Error::os("set nonblocking", address, os))?;
        }
        Ok(())
    }
}
