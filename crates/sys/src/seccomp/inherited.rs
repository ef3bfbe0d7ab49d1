//! Which system calls an inherited filter refuses: that of a service manager, a container or a sandbox.
//!
//! A filter that kills (SIGSYS) leaves no time for a message, so a child attempts each call, with arguments
//! that do nothing. Every place that makes such a call asks [`permits`] first.

#![expect(unsafe_code, reason = "clone(2), and the async-signal-safe calls of the child")]

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::sync::OnceLock;

use rustix::io::Errno;
use sameport_policy::sandbox::{CallRefusal, RefusedCalls, SandboxedCall};

use crate::errno::last_errno;

/// The refused calls. The first call of this function attempts them, in a child for each call that kills
/// and one more, in about 1 ms each; without a filter nothing is attempted. Linux 2.6.23.
///
/// A child that cannot be started, or that another signal ends, proves nothing: the calls that it did not
/// reach count as permitted.
#[must_use]
pub fn refused_calls() -> &'static RefusedCalls {
    static REFUSED: OnceLock<RefusedCalls> = OnceLock::new();
    REFUSED.get_or_init(|| if has_filter() { attempt_all() } else { RefusedCalls::default() })
}

/// Fails if the call would end this process.
///
/// # Errors
///
/// EPERM, as a filter that does not kill returns it most often.
pub(crate) fn permits(call: SandboxedCall) -> Result<(), Errno> {
    match refused_calls().of(call) {
        Some(CallRefusal::Kills) => Err(Errno::PERM),
        Some(CallRefusal::Fails(_)) | None => Ok(()),
    }
}

/// Whether this process has a seccomp filter.
fn has_filter() -> bool {
    // SAFETY: PR_GET_SECCOMP takes no pointer. In strict mode, the one mode in which the call kills, the
    // process could not have come here.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) != 0 }
}

fn attempt_all() -> RefusedCalls {
    let mut refused = RefusedCalls::default();
    let mut calls = &SandboxedCall::ALL[..];
    while let Some(results) = attempt(calls) {
        for (call, errno) in calls.iter().zip(&results.errnos) {
            refused.0.extend(call.refusal(*errno).map(|refusal| (*call, refusal)));
        }
        let Some((killer, rest)) = calls[results.errnos.len()..].split_first() else { break };
        if !results.was_killed {
            break;
        }
        refused.0.push((*killer, CallRefusal::Kills));
        calls = rest;
    }
    refused
}

/// The error numbers of the calls that a child made, and whether a filter then killed it.
struct AttemptResults {
    errnos: Vec<i32>,
    was_killed: bool,
}

/// Attempts the calls, in this order, in a child process. `None`: there is no child.
fn attempt(calls: &[SandboxedCall]) -> Option<AttemptResults> {
    if calls.is_empty() {
        return None;
    }
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
    // SAFETY: no flag and a null stack make clone(2) a fork. The child makes system calls alone and ends
    // by `_exit`. Its exit sends no SIGCHLD, and a wait without __WALL, such as the supervisor's, does
    // not reap it.
    let child = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    match libc::pid_t::try_from(child).ok()? {
        0 => make_calls(calls, writer.as_raw_fd()),
        child if child < 0 => None,
        child => {
            drop(writer);
            let errnos = read_results(reader);
            let mut status = 0;
            // SAFETY: the kernel writes one integer, to `status`.
            while unsafe { libc::waitpid(child, &raw mut status, libc::__WALL) } < 0
                && last_errno() == Errno::INTR
            {}
            let was_killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS;
            Some(AttemptResults { errnos, was_killed })
        }
    }
}

fn read_results(reader: OwnedFd) -> Vec<i32> {
    let mut bytes = Vec::new();
    // The results before a failed read count.
    let _ = std::fs::File::from(reader).read_to_end(&mut bytes);
    let numbers = bytes.chunks_exact(size_of::<i32>());
    numbers.filter_map(|bytes| Some(i32::from_ne_bytes(bytes.try_into().ok()?))).collect()
}

/// The child. Async-signal-safe: another thread may have held any lock.
fn make_calls(calls: &[SandboxedCall], results: RawFd) -> ! {
    // SAFETY: PR_SET_DUMPABLE takes numbers. Without it each killed child would leave a core dump.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    for call in calls {
        let errno = make_call(*call).to_ne_bytes();
        // SAFETY: the kernel reads the four bytes of `errno`.
        if unsafe { libc::write(results, errno.as_ptr().cast(), errno.len()) } < 0 {
            break;
        }
    }
    // SAFETY: _exit(2) ends the process and runs no handlers.
    unsafe { libc::_exit(0) }
}

/// Makes the call with arguments that the kernel rejects, or that change nothing. Returns its error number,
/// 0 for none.
fn make_call(call: SandboxedCall) -> i32 {
    let (number, [a, b, c, d, e, f]) = harmless(call);
    // SAFETY: no argument is a pointer to memory: where the call takes one it is null, and the kernel
    // rejects the other arguments before it would write anything.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { last_errno().raw_os_error() } else { 0 }
}

/// The number of the call, with an unknown operation, an unknown flag, or -1 as descriptor or process id.
/// A socket is open until the child ends.
fn harmless(call: SandboxedCall) -> (libc::c_long, [usize; 6]) {
    /// AF_UNIX, AF_NETLINK; SOCK_RAW, SOCK_SEQPACKET; NETLINK_SOCK_DIAG.
    const UNIX: [usize; 3] = [1, 5, 0];
    const NETLINK: [usize; 3] = [16, 3, 4];
    const NONE: usize = usize::MAX;
    match call {
        SandboxedCall::UnixSocket => (libc::SYS_socket, [UNIX[0], UNIX[1], UNIX[2], 0, 0, 0]),
        SandboxedCall::NetlinkSocket => {
            (libc::SYS_socket, [NETLINK[0], NETLINK[1], NETLINK[2], 0, 0, 0])
        }
        SandboxedCall::Seccomp => (libc::SYS_seccomp, [NONE, 0, 0, 0, 0, 0]),
        SandboxedCall::PidfdOpen => (libc::SYS_pidfd_open, [NONE, 0, 0, 0, 0, 0]),
        SandboxedCall::PidfdGetfd => (libc::SYS_pidfd_getfd, [NONE, NONE, 0, 0, 0, 0]),
        SandboxedCall::ProcessVmReadv => (libc::SYS_process_vm_readv, [NONE, 0, 0, 0, 0, NONE]),
        SandboxedCall::Kcmp => (libc::SYS_kcmp, [NONE, NONE, NONE, 0, 0, 0]),
        SandboxedCall::Bpf => (libc::SYS_bpf, [NONE, 0, 0, 0, 0, 0]),
        SandboxedCall::Fchown => (libc::SYS_fchown, [NONE, NONE, NONE, 0, 0, 0]),
        SandboxedCall::IoUringSetup => (libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
        // The first number is above the last.
        SandboxedCall::CloseRange => (libc::SYS_close_range, [1, 0, 0, 0, 0, 0]),
    }
}

#[cfg(test)]
#[path = "inherited_tests.rs"]
mod tests;
