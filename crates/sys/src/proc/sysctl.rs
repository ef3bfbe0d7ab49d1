//! Settings of the kernel that decide who gets which port, and what of another process one may take.

use std::fs::read_to_string;
use std::ops::RangeInclusive;

use sameport_policy::audit::KernelSettings;

/// As they are now, in our network namespace. Needs no privilege; what cannot be read is as Linux has
/// it by itself.
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

/// The ports from which the kernel takes one when it picks; Linux's own default where that cannot be
/// read.
pub(crate) fn ephemeral_ports() -> RangeInclusive<u16> {
    let range = read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range.split_ascii_whitespace().map(str::parse);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => 32_768..=60_999,
    }
}
