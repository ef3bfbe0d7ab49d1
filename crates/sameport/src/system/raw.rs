//! The one door for options that no safe setter exists for.
#![expect(
    unsafe_code,
    reason = "no safe binding sets these options or finds an interface's number"
)]
#![allow(dead_code, reason = "each system needs one or the other")]

use std::io;

use socket2::SockRef;

/// Sets an integer option. `setsockopt(2)`.
#[cfg(unix)]
pub(super) fn set(socket: &SockRef<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    const LENGTH: libc::socklen_t = 4;
    let value: libc::c_int = value;
    // SAFETY: the pointer and the length describe `value`, four bytes that live until the call is
    // over, and the kernel only reads them; the descriptor is borrowed from `socket`.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), LENGTH)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The number of a network interface. `if_nametoindex(3)`.
#[cfg(unix)]
pub(super) fn device_index(name: &str) -> io::Result<std::num::NonZeroU32> {
    let name =
        std::ffi::CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
    // SAFETY: `name` is a terminated string that lives until the call is over.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    std::num::NonZeroU32::new(index).ok_or_else(io::Error::last_os_error)
}

/// Sets an integer option. `setsockopt` of Winsock.
#[cfg(windows)]
pub(super) fn set(socket: &SockRef<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    use std::os::windows::io::AsRawSocket;

    use windows_sys::Win32::Networking::WinSock::{SOCKET, setsockopt};

    let value = value.to_ne_bytes();
    let raw = SOCKET::try_from(socket.as_raw_socket()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length describe `value`, four bytes that live until the call is
    // over, and the system only reads them; the socket is borrowed from `socket`.
    let result = unsafe { setsockopt(raw, level, option, value.as_ptr(), 4) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
