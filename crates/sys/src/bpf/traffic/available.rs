//! Whether the kernel and the privileges allow a state.

use std::io;

use rustix::thread::CapabilitySet;

use super::object;
use crate::process::capability;

/// The first kernel whose programs can do everything: `bpf_get_netns_cookie` for sockops.
const FIRST: (u32, u32) = (5, 15);

/// Fails where no state can be made or changed: without CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (CAP_SYS_ADMIN
/// stands for the first and the last), and before Linux 5.15. Makes nothing.
///
/// Without CAP_PERFMON the verifier follows every path to its end, keeps no number that was spilled to the
/// stack, and refuses these programs.
///
/// # Errors
///
/// EPERM: a capability is missing. EOPNOTSUPP: the kernel is too old.
pub fn check_extended_tier() -> io::Result<()> {
    let enough = capability::has(CapabilitySet::NET_ADMIN)?
        && (capability::has(CapabilitySet::SYS_ADMIN)?
            || capability::has(CapabilitySet::BPF | CapabilitySet::PERFMON)?);
    if !enough {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    let release = crate::kernel_release();
    let mut numbers = release.split(|it: char| !it.is_ascii_digit()).map(str::parse::<u32>);
    let version = (numbers.next(), numbers.next());
    match version {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < FIRST => {
            Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
        }
        _ => Ok(()),
    }
}

/// Whether a choice of a program that this process loads looks at the accept queue of the member: with
/// CAP_PERFMON (or CAP_SYS_ADMIN), BTF (`/sys/kernel/btf/vmlinux`) and without `lockdown=confidentiality`.
///
/// # Errors
///
/// The reason why it does not.
pub fn queues_are_read() -> io::Result<()> {
    object::queue_offsets().map(drop)
}

#[cfg(test)]
mod tests {
    use sameport_policy::traffic::refusal::EXTENDED_NEEDS;

    use super::FIRST;

    #[test]
    fn messages_name_the_first_kernel() {
        assert!(EXTENDED_NEEDS.ends_with(&format!("Linux {}.{}", FIRST.0, FIRST.1)));
    }
}
