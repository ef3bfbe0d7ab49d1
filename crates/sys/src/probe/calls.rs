//! System calls that only probes make and that no crate wraps.

#![expect(unsafe_code, reason = "system calls without a safe binding")]

use crate::seccomp::permits;
use sameport_policy::sandbox::SandboxedCall;
use std::io;
use std::ptr;

/// The result of a system call, with the error from `errno`.
fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `seccomp(SECCOMP_GET_ACTION_AVAIL)`, Linux 4.14: fails with EOPNOTSUPP for an unknown action. See
/// seccomp(2).
pub(super) fn seccomp_action_available(action: u32) -> io::Result<()> {
    permits(SandboxedCall::Seccomp)?;
    // SAFETY: the kernel reads four bytes at the pointer, which `action` outlives.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, ptr::from_ref(&action))
    };
    checked(result).map(drop)
}

/// `seccomp(SECCOMP_GET_NOTIF_SIZES)`, Linux 5.0: the sizes of a notification and of a response, in
/// bytes.
pub(super) fn seccomp_notif_sizes() -> io::Result<(u16, u16)> {
    let mut sizes =
        libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    permits(SandboxedCall::Seccomp)?;
    // SAFETY: the kernel writes one `seccomp_notif_sizes`, the type that the pointer refers to.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_NOTIF_SIZES,
            0,
            ptr::from_mut(&mut sizes),
        )
    };
    checked(result).map(|_| (sizes.seccomp_notif, sizes.seccomp_notif_resp))
}

/// Passes a null filter with these flags: EFAULT if the kernel knows all the flags, else EINVAL.
/// Installs nothing.
pub(super) fn seccomp_without_filter(flags: libc::c_ulong) -> io::Error {
    if let Err(errno) = permits(SandboxedCall::Seccomp) {
        return errno.into();
    }
    let nothing: *const libc::sock_fprog = ptr::null();
    // SAFETY: the kernel rejects the null pointer and reads nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, nothing) };
    checked(result).err().unwrap_or_else(|| io::Error::other("a null filter was accepted"))
}

/// `io_uring_setup` with null parameters: EFAULT if this process may call it, EPERM if not, ENOSYS
/// if the kernel lacks it. Creates no ring.
pub(super) fn io_uring_without_parameters() -> io::Error {
    if let Err(errno) = permits(SandboxedCall::IoUringSetup) {
        return errno.into();
    }
    // SAFETY: the kernel rejects the null pointer and creates nothing.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, ptr::null::<libc::c_void>()) };
    checked(result).err().unwrap_or_else(|| io::Error::other("a ring without parameters"))
}
