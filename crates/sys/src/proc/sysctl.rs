//! Kernel settings that affect port assignment and access to other processes.

use std::fs::read_to_string;
use std::ops::RangeInclusive;

use sameport_policy::audit::KernelSettings;

/// The current settings of the caller's network namespace. A setting that cannot be read has Linux's
/// default. Needs no privilege.
#[must_use]
pub fn kernel_settings() -> KernelSettings {
    let read = |path| read_to_string(path).unwrap_or_default().trim().to_owned();
    KernelSettings {
        ephemeral_ports: ephemeral_ports(),
        reserved_ports: crate::bpf::guard::reserved_text().unwrap_or_default().trim().to_owned(),
        ptrace_scope: read("/proc/sys/kernel/yama/ptrace_scope").parse().ok(),
        init_passes_sockets: read("/proc/1/comm") == "systemd",
    }
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
