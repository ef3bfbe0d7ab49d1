//! Seccomp filters around a child: a supervisor's, a container's, a unit's.

#![expect(unsafe_code, reason = "what a child does to itself between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

pub(crate) fn without_new_privileges() -> io::Result<()> {
    // SAFETY: prctl(2) takes numbers.
    match unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Installs a filter on the calling process. Returns the result of the kernel.
fn filtered(flags: libc::c_ulong, code: &mut [libc::sock_filter]) -> io::Result<libc::c_long> {
    without_new_privileges()?;
    let len = u16::try_from(code.len()).unwrap_or(0);
    let program = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    let (call, set) = (libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER);
    // SAFETY: the kernel reads the program and its instructions before it returns.
    match unsafe { libc::syscall(call, set, flags, &raw const program) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

fn returns(action: u32) -> libc::sock_filter {
    libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: action }
}

/// Installs a seccomp listener on the calling process that stays open across exec.
pub(crate) fn below_a_supervisor() -> io::Result<()> {
    let mut allow = [returns(libc::SECCOMP_RET_ALLOW)];
    let listener = filtered(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, &mut allow)?;
    // SAFETY: fcntl(2) takes numbers; an invalid descriptor is an error.
    match unsafe { libc::fcntl(i32::try_from(listener).unwrap_or(-1), libc::F_SETFD, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The profile of a container or a unit answers calls that it does not list by this action.
pub(crate) fn refused_by(action: u32) -> io::Result<()> {
    let is = |call: libc::c_long, skip: u8| libc::sock_filter {
        code: 0x15,
        jt: skip,
        jf: 0,
        k: u32::try_from(call).unwrap_or(0),
    };
    let load_number = libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
    let mut code = [
        load_number,
        is(libc::SYS_pidfd_getfd, 3),
        is(libc::SYS_io_uring_setup, 2),
        is(libc::SYS_bpf, 1),
        returns(libc::SECCOMP_RET_ALLOW),
        returns(action),
    ];
    filtered(0, &mut code).map(drop)
}

pub(crate) fn with_pre_exec(mut command: Command, before: fn() -> io::Result<()>) -> Command {
    // SAFETY: both functions make system calls and allocate nothing.
    unsafe { command.pre_exec(before) };
    command
}
