//! `sk_lookup` programs: eBPF that selects a socket before the kernel's own lookup.

use std::fs::File;

use rustix::io::Errno;

use super::syscall;

/// Ids of the `sk_lookup` programs attached to the caller's network namespace (Linux 5.9). Empty on a
/// kernel without `sk_lookup`.
///
/// Source: bpf(2), `BPF_PROG_QUERY`; `netns_bpf_prog_query` in kernel/bpf/net_namespace.c.
///
/// # Errors
///
/// EPERM without CAP_NET_ADMIN (and CAP_BPF where `kernel.unprivileged_bpf_disabled` is set).
pub fn sk_lookup_programs() -> Result<Vec<u32>, Errno> {
    let found = File::open("/proc/self/ns/net")
        .and_then(|network| syscall::query_programs(network, syscall::BPF_SK_LOOKUP));
    match found.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)) {
        // The kernel is older than `sk_lookup`, or built without it.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(Vec::new()),
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_user_without_the_capability_is_refused() {
        match sk_lookup_programs() {
            Ok(_) => {}
            Err(errno) => {
                assert_eq!(errno, Errno::PERM);
                assert_ne!(crate::effective_user(), 0);
            }
        }
    }
}
