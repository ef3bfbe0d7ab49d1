//! The system calls that have no safe wrapper: `bpf(BPF_OBJ_GET)` and `mount`.

#![expect(unsafe_code, reason = "bpf(2) and mount(2) have no safe wrapper here")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Opens what is pinned there: a link, a map or a program. See bpf(2), `BPF_OBJ_GET`.
pub(crate) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    /// The part of `union bpf_attr` that this command reads.
    #[repr(C)]
    struct Attributes {
        path: u64,
        fd: u32,
        flags: u32,
    }
    const BPF_OBJ_GET: libc::c_int = 7;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = Attributes { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the kernel reads as many bytes as `Attributes` has, and the string that it points
    // to, which lives until after the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, &raw mut attributes, size_of::<Attributes>())
    };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made this descriptor, close-on-exec, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Mounts a BPF file system, open to root only, as bpftool(8) does.
pub(super) fn mount_bpffs(on: &CStr) -> io::Result<()> {
    // SAFETY: all four strings end with a zero byte and outlive the call.
    let result = unsafe {
        libc::mount(c"bpf".as_ptr(), on.as_ptr(), c"bpf".as_ptr(), 0, c"mode=0700".as_ptr().cast())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The cookie of this thread's network namespace.
pub(super) fn own_network() -> io::Result<u64> {
    crate::netns::cookie::socket_netns_cookie(socket2::Socket::new(
        socket2::Domain::IPV4,
        socket2::Type::DGRAM,
        None,
    )?)
}
