//! The system calls of the probes that no binding crate has; nothing else here is unsafe but
//! `child`.
#![expect(unsafe_code, reason = "system calls without a safe binding")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;

/// A system call's result as std has it.
fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The classic BPF instruction that returns its constant: `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

#[expect(clippy::cast_possible_truncation, reason = "sizes of some bytes")]
const fn length_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// Takes ownership of the descriptor that a call returned.
fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(checked(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `seccomp(SECCOMP_GET_ACTION_AVAIL)`, Linux 4.14: fails with `EOPNOTSUPP` for an action that the
/// kernel does not know. See seccomp(2).
pub(super) fn seccomp_action_available(action: u32) -> io::Result<()> {
    // SAFETY: the kernel reads four bytes at the pointer, which `action` outlives.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, ptr::from_ref(&action))
    };
    checked(result).map(drop)
}

/// `seccomp(SECCOMP_GET_NOTIF_SIZES)`, Linux 5.0: how large this kernel's notification and
/// response are, in bytes.
pub(super) fn seccomp_notif_sizes() -> io::Result<(u16, u16)> {
    let mut sizes =
        libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    // SAFETY: the kernel writes one `seccomp_notif_sizes`, which is what the pointer is to.
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

/// Offers the kernel no filter at all, with these flags: `EFAULT` if it knows them all, `EINVAL` if
/// not. Installs nothing.
pub(super) fn seccomp_without_filter(flags: libc::c_ulong) -> io::Error {
    let nothing: *const libc::sock_fprog = ptr::null();
    // SAFETY: the kernel checks the pointer, finds it null and reads nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, nothing) };
    checked(result).err().unwrap_or_else(|| io::Error::other("a null filter was accepted"))
}

/// Installs a filter that allows everything, with a listener, on the calling thread alone, until
/// that thread ends. The thread needs `no_new_privs` or `CAP_SYS_ADMIN`. `EBUSY`: one of the
/// filters on this thread has a listener already.
pub(super) fn seccomp_listener() -> io::Result<OwnedFd> {
    let mut allow = libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let program = libc::sock_fprog { len: 1, filter: &raw mut allow };
    // SAFETY: `program` points to its one instruction; the kernel copies both before it returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            ptr::from_ref(&program),
        )
    };
    descriptor(result)
}

/// `SECCOMP_IOCTL_NOTIF_ADDFD` for a notification that does not exist: `ENOENT` if the kernel knows
/// the request and these flags, `EINVAL` or `ENOTTY` if not.
pub(super) fn seccomp_addfd_to_nobody(listener: BorrowedFd<'_>, flags: u32) -> io::Error {
    let request = libc::seccomp_notif_addfd {
        id: u64::MAX,
        flags,
        srcfd: listener.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: 0,
    };
    // SAFETY: the kernel reads one `seccomp_notif_addfd`; no notification has this id, so that no
    // descriptor is made anywhere.
    let result = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, ptr::from_ref(&request))
    };
    checked(result.into()).err().unwrap_or_else(|| io::Error::other("added to nobody"))
}

/// `process_vm_readv` of eight bytes of `pid`'s memory at the address of the one given, which the
/// caller knows to be mapped there: its own, or that of a child it forked. Gives what was read.
pub(super) fn read_memory(pid: i32, of: &u64) -> io::Result<u64> {
    let mut copy = 0_u64;
    let local =
        libc::iovec { iov_base: ptr::from_mut(&mut copy).cast(), iov_len: size_of::<u64>() };
    let remote =
        libc::iovec { iov_base: ptr::from_ref(of).cast_mut().cast(), iov_len: size_of::<u64>() };
    // SAFETY: the kernel writes at most eight bytes to `copy`, and checks the remote side itself.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match checked(read.try_into().unwrap_or(-1))? {
        8 => Ok(copy),
        n => Err(io::Error::other(format!("{n} of 8 bytes read"))),
    }
}

/// `io_uring_setup` without parameters: `EFAULT` if it answers, `EPERM` if it is forbidden, `ENOSYS`
/// if it is absent. Makes no ring.
pub(super) fn io_uring_without_parameters() -> io::Error {
    // SAFETY: the kernel checks the pointer, finds it null and makes nothing.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, ptr::null::<libc::c_void>()) };
    checked(result).err().unwrap_or_else(|| io::Error::other("a ring without parameters"))
}

/// `SO_ATTACH_REUSEPORT_CBPF`, Linux 4.5: a classic program that always chooses member 0.
pub(super) fn attach_cbpf(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut first = libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut first };
    // SAFETY: the kernel reads one `sock_fprog` and the instruction it points to.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            ptr::from_ref(&program).cast(),
            length_of::<libc::sock_fprog>(),
        )
    };
    checked(result.into()).map(drop)
}
