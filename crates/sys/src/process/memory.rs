//! Reading a worker's memory.

#![expect(unsafe_code, reason = "process_vm_readv(2) has no safe wrapper")]

use rustix::io::Errno;

/// Copies `buffer.len()` bytes from `address` in the memory of the process that this thread
/// belongs to.
///
/// The worker can change them at any moment: nothing that must hold may be decided by them. Read
/// afresh each time, never through a cached `/proc/PID/mem`, which would go stale on exec.
///
/// # Errors
///
/// EFAULT: not all of it can be read (the kernel will say EFAULT to the worker too). EPERM: the
/// process is not dumpable, or the ptrace rules forbid it. ESRCH: it is gone.
///
/// Source: `process_vm_readv(2)`.
pub fn read_memory(tid: i32, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
    let Ok(address) = usize::try_from(address) else { return Err(Errno::FAULT) };
    let wanted = buffer.len();
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: wanted };
    let remote =
        libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: wanted };
    // SAFETY: `local` describes the exclusively borrowed `buffer`; `remote` is only ever used as
    // an address in the other process, checked by the kernel there.
    let read = unsafe { libc::process_vm_readv(tid, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(read) {
        Ok(read) if read == wanted => Ok(()),
        Ok(_) => Err(Errno::FAULT),
        Err(_) => Err(crate::errno::last_errno()),
    }
}
