//! Socket options, interface numbers and processors for which no safe function exists.

// Reason: no safe binding sets these options, or returns the index of an interface or the processors.
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

/// Attaches a program to the group of a socket: `SO_ATTACH_REUSEPORT_CBPF`, socket(7).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn attach_program(socket: &SockRef<'_>, code: &[libc::sock_filter]) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let len = u16::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: code.as_ptr().cast_mut() };
    let size = libc::socklen_t::try_from(std::mem::size_of::<libc::sock_fprog>())
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the pointer and the size describe `program`, whose pointer and length describe `code`;
    // both live until the call returns, and the kernel only reads them; the descriptor is borrowed
    // from `socket`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            std::ptr::addr_of!(program).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The processors that the calling thread may use, as a bit mask: sched_getaffinity(2).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn affinity() -> io::Result<Vec<u8>> {
    /// Bytes of the mask of the largest machine that is tried: 65,536 processors. The kernel rejects a
    /// mask that is too small for the machine (EINVAL).
    const LARGEST: usize = 8192;

    let mut words = vec![0_u64; 16];
    loop {
        let size = words.len() * 8;
        // SAFETY: the pointer is aligned for the mask, which is an array of words, and describes `size`
        // bytes, to which alone the kernel writes; 0 is the calling thread.
        let result = unsafe { libc::sched_getaffinity(0, size, words.as_mut_ptr().cast()) };
        if result == 0 {
            return Ok(words.into_iter().flat_map(mask_bytes).collect());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) || size >= LARGEST {
            return Err(error);
        }
        words.resize(words.len() * 2, 0);
    }
}

/// The bytes of eight bytes of the mask, lowest processor first. The kernel's words are longs: on a
/// big-endian 32-bit machine, the upper half of a native `u64` is the first of two.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn mask_bytes(word: u64) -> [u8; 8] {
    if cfg!(all(target_endian = "big", target_pointer_width = "32")) {
        word.rotate_left(32).to_le_bytes()
    } else {
        word.to_le_bytes()
    }
}

/// An integer option, or the first byte of a shorter one: getsockopt(2).
#[cfg(unix)]
pub(super) fn get(socket: &SockRef<'_>, level: i32, option: i32) -> io::Result<i32> {
    use std::os::fd::AsRawFd;

    let mut value = 0_i32;
    let mut length: libc::socklen_t = 4;
    let pointer: *mut i32 = &mut value;
    // SAFETY: `pointer` and `length` describe `value`, four bytes that live until the call returns
    // and that nothing else uses meanwhile; the descriptor is borrowed from `socket`.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, pointer.cast(), &mut length) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// The index of a network interface: if_nametoindex(3).
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
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

/// An integer setting of the kernel: sysctlbyname(3).
#[cfg(target_os = "dragonfly")]
pub(super) fn sysctl(name: &str) -> io::Result<i32> {
    let name = std::ffi::CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut value = 0_i32;
    let mut length = std::mem::size_of::<i32>();
    // SAFETY: `name` is a NUL-terminated string; the pointer and the length describe `value`; all live
    // until the call returns. Nothing is written to the setting.
    let result = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            std::ptr::from_mut(&mut value).cast(),
            &mut length,
            std::ptr::null_mut(),
            0,
        )
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
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

/// An integer option, or the first byte of a shorter one: `getsockopt` of Winsock.
#[cfg(windows)]
pub(super) fn get(socket: &SockRef<'_>, level: i32, option: i32) -> io::Result<i32> {
    use std::os::windows::io::AsRawSocket;

    use windows_sys::Win32::Networking::WinSock::{SOCKET, getsockopt};

    let raw = SOCKET::try_from(socket.as_raw_socket()).map_err(io::Error::other)?;
    let mut value = 0_i32;
    let mut length = 4_i32;
    let pointer: *mut i32 = &mut value;
    // SAFETY: `pointer` and `length` describe `value`, four bytes that live until the call returns
    // and that nothing else uses meanwhile; the socket is borrowed from `socket`.
    let result = unsafe { getsockopt(raw, level, option, pointer.cast(), &mut length) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
