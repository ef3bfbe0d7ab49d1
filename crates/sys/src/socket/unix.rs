//! Names of `unix(7)` sockets.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

/// Binds a socket to an abstract name that the kernel picks (autobind); returns the name.
pub(crate) fn autobind(socket: impl AsFd) -> Result<Vec<u8>, Errno> {
    rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
    let address = SocketAddrUnix::try_from(rustix::net::getsockname(&socket)?)?;
    address.abstract_name().map(<[u8]>::to_vec).ok_or(Errno::ADDRNOTAVAIL)
}
