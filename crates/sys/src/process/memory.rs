//! Reading the memory of a worker.

#![expect(unsafe_code, reason = "process_vm_readv(2) has no safe wrapper")]

use rustix::io::Errno;
use sameport_policy::sandbox::SandboxedCall;

use crate::seccomp::permits;

/// Copies `buffer.len()` bytes from `address` in the memory of the process of thread `tid`
/// (`process_vm_readv(2)`, Linux 3.2). Needs the right to ptrace the process.
///
/// The worker can change the memory at any time, so do not decide about its rights by the copy. An
/// open `/proc/PID/mem` would refer to the old memory after an exec; this call does not.
///
/// # Errors
///
/// EFAULT: a part of the range is not readable; the worker's own call fails with EFAULT too. EPERM:
/// the process is not dumpable, or the ptrace rules forbid the access. ESRCH: the thread has ended.
pub fn read_memory(tid: i32, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
    let Ok(address) = usize::try_from(address) else { return Err(Errno::FAULT) };
    permits(SandboxedCall::ProcessVmReadv)?;
    let length = buffer.len();
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: length };
    let remote =
        libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: length };
    // SAFETY: `local` describes the exclusively borrowed `buffer`; the kernel checks `remote` as an
    // address in the other process.
    let read = unsafe { libc::process_vm_readv(tid, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(read) {
        Ok(read) if read == length => Ok(()),
        Ok(_) => Err(Errno::FAULT),
        Err(_) => Err(crate::errno::last_errno()),
    }
}
