//! Capabilities of this process.

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

/// Whether the calling thread has these effective capabilities, in its own user namespace
/// (`capget(2)`).
pub(crate) fn has(capabilities: CapabilitySet) -> Result<bool, Errno> {
    Ok(rustix::thread::capabilities(None)?.effective.contains(capabilities))
}

/// Whether the calling thread has CAP_SYS_ADMIN, with which it may install a seccomp filter without
/// `no_new_privs`. `false` if `capget(2)` fails.
#[must_use]
pub fn has_cap_sys_admin() -> bool {
    has(CapabilitySet::SYS_ADMIN).unwrap_or(false)
}

/// Whether the calling thread has CAP_SYS_PTRACE, with which it sees and duplicates the descriptors of every
/// process of its user namespace (`ptrace(2)`, "Ptrace access mode checking"). `false` if `capget(2)` fails.
#[must_use]
pub fn has_cap_sys_ptrace() -> bool {
    has(CapabilitySet::SYS_PTRACE).unwrap_or(false)
}

/// Removes CAP_CHOWN from the ambient set, so that the next program does not inherit it
/// (`capabilities(7)`, Linux 4.3). Async-signal-safe.
pub(crate) fn drop_ambient_chown() -> Result<(), Errno> {
    rustix::thread::configure_capability_in_ambient_set(CapabilitySet::CHOWN, false)
}
