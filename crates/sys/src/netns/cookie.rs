//! Cookies of network namespaces.

#![expect(unsafe_code, reason = "SO_NETNS_COOKIE has no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// The cookie of the socket's network namespace, unique since boot (`SO_NETNS_COOKIE`, Linux 5.14;
/// ENOPROTOOPT before).
pub(crate) fn socket_netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the kernel writes at most `length` bytes, the size of `cookie`, through the pointer.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// The cookie of the calling thread's network namespace.
///
/// # Errors
///
/// ENOPROTOOPT before Linux 5.14.
pub fn own_cookie() -> io::Result<u64> {
    let (domain, kind) = (socket2::Domain::IPV4, socket2::Type::DGRAM);
    socket_netns_cookie(socket2::Socket::new(domain, kind, None)?)
}
