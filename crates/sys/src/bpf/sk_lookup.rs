//! The eBPF programs that choose a socket before the kernel looks for one (`sk_lookup`).

#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper here")]

use std::fs::File;
use std::os::fd::AsRawFd as _;

use rustix::io::Errno;

/// The numbers of the programs at `sk_lookup` in our network namespace (Linux ≥ 5.9); none on a kernel
/// that has no such thing. Source: bpf(2), `BPF_PROG_QUERY`; `netns_bpf_prog_query` in
/// kernel/bpf/net_namespace.c.
///
/// # Errors
///
/// EPERM without CAP_NET_ADMIN (and CAP_BPF, where unprivileged bpf(2) is off).
pub fn sk_lookup_programs() -> Result<Vec<u32>, Errno> {
    /// The part of `union bpf_attr` that this command reads and writes.
    #[repr(C)]
    struct Query {
        target: u32,
        kind: u32,
        query_flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        rest: [u32; 5],
    }
    const BPF_PROG_QUERY: libc::c_int = 16;
    const BPF_SK_LOOKUP: u32 = 36;
    /// The kernel itself admits 64.
    const MOST: usize = 64;

    let network = File::open("/proc/self/ns/net")
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let mut programs = [0_u32; MOST];
    let mut query = Query {
        target: network.as_raw_fd().cast_unsigned(),
        kind: BPF_SK_LOOKUP,
        query_flags: 0,
        attach_flags: 0,
        programs: programs.as_mut_ptr() as u64,
        count: 64,
        rest: [0; 5],
    };
    // SAFETY: the kernel reads and writes as many bytes as `Query` has, and writes at most `count`
    // numbers to where it points, which has room for them and lives until after the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) };
    if result == 0 {
        let count = usize::try_from(query.count).unwrap_or(MOST).min(MOST);
        return Ok(programs[..count].to_vec());
    }
    match std::io::Error::last_os_error().raw_os_error() {
        // Older than what is asked for, or built without.
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => Ok(Vec::new()),
        errno => Err(Errno::from_raw_os_error(errno.unwrap_or(libc::EIO))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_told_and_others_know_that_they_are_not() {
        match sk_lookup_programs() {
            Ok(_) => {}
            Err(errno) => {
                assert_eq!(errno, Errno::PERM);
                assert_ne!(crate::effective_user(), 0);
            }
        }
    }
}
