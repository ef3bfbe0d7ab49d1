//! Socket options and interface numbers for which no safe function exists.

// Reason: no safe binding sets these options or returns the index of an interface.
#![allow(unsafe_code)]

use std::io;

use socket2::SockRef;

/// Sets an integer option: setsockopt(2).
#[cfg(unix)]
pub(super) fn set(socket: &SockRef<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let value = value.to_ne_bytes();
    // SAFETY: the pointer and the length describe `value`, four bytes that live until the call
    // returns, and the kernel only reads them; the descriptor is borrowed from `socket`.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), 4) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The index of a network interface: if_nametoindex(3).
#[cfg(unix)]
pub(super) fn interface_index(name: &str) -> io::Result<i32> {
    let not_found = || io::Error::from(io::ErrorKind::NotFound);
    let name = std::ffi::CString::new(name).map_err(|_| not_found())?;
    // SAFETY: `name` is a NUL-terminated string that lives until the call returns.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(index).map_err(|_| not_found())
}

/// Sets an integer option: `setsockopt` of Winsock.
#[cfg(windows)]
pub(super) fn set(socket: &SockRef<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    use std::os::windows::io::AsRawSocket;

    use windows_sys::Win32::Networking::WinSock::{SOCKET, setsockopt};

    let value = value.to_ne_bytes();
    let raw = SOCKET::try_from(socket.as_raw_socket()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length describe `value`, four bytes that live until the call
    // returns, and the system only reads them; the socket is borrowed from `socket`.
    let result = unsafe { setsockopt(raw, level, option, value.as_ptr(), 4) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
