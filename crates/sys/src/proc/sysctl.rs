//! Kernel settings that affect port assignment and access to other processes.

use std::fs::read_to_string;
use std::ops::RangeInclusive;

use rustix::thread::CapabilitySet;
use sameport_policy::audit::KernelSettings;
use sameport_policy::capability::restrictions::{self, Lockdown};

use crate::process::capability;

/// The current settings of the caller's network namespace. A setting that cannot be read has Linux's
/// default. Needs no privilege.
#[must_use]
pub fn kernel_settings() -> KernelSettings {
    let read = |path| read_to_string(path).unwrap_or_default().trim().to_owned();
    KernelSettings {
        ephemeral_ports: ephemeral_ports(),
        reserved_ports: crate::bpf::guard::reserved_text().unwrap_or_default().trim().to_owned(),
        ptrace_scope: ptrace_scope(),
        init_passes_sockets: read("/proc/1/comm") == "systemd",
    }
}

/// `kernel.yama.ptrace_scope`; `None` without Yama.
fn ptrace_scope() -> Option<u8> {
    read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?.trim().parse().ok()
}

/// Whether Yama lets this process access the processes that it starts, as `pidfd_getfd(2)` and
/// `process_vm_readv(2)` do.
///
/// # Errors
///
/// The value of `kernel.yama.ptrace_scope` that forbids it.
pub fn check_ptrace_scope() -> Result<(), u8> {
    let Some(scope) = ptrace_scope() else { return Ok(()) };
    let capable = capability::has(CapabilitySet::SYS_PTRACE).unwrap_or(false);
    if restrictions::may_trace_workers(Some(scope), capable) { Ok(()) } else { Err(scope) }
}

/// The kernel's lockdown; `None` if it has none, or securityfs is not mounted.
pub(crate) fn lockdown() -> Option<Lockdown> {
    Lockdown::read(&read_to_string("/sys/kernel/security/lockdown").ok()?)
}

/// Whether eBPF programs may not read kernel memory.
pub(crate) fn is_confidential() -> bool {
    lockdown() == Some(Lockdown::Confidentiality)
}

/// `net.ipv4.ip_local_port_range`: the ports that the kernel assigns; Linux's default if unreadable.
pub(crate) fn ephemeral_ports() -> RangeInclusive<u16> {
    let range = read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range.split_ascii_whitespace().map(str::parse);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => 32_768..=60_999,
    }
}
