//! Reads the options of another process's socket, such as `SO_REUSEPORT`.
//!
//! sock_diag does not report these options. They are read from a duplicate of the socket: `pidfd_getfd`
//! (Linux 5.6) needs permission to ptrace the owner (`PTRACE_MODE_ATTACH_REALCREDS`: a process of the
//! same user, or `CAP_SYS_PTRACE`; Yama's `ptrace_scope` restricts it further). The owner is not
//! stopped or notified, no option is set, and the duplicate is closed at once.

#![expect(unsafe_code, reason = "IP_TRANSPARENT and SO_GET_FILTER have no safe wrapper")]

use std::os::fd::AsRawFd as _;

use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt};
use rustix::process::{Pid, PidfdFlags};
use sameport_policy::model::{Socket, SocketOptions};

use crate::fd::ForeignFd;
use crate::fd::duplicate_from;
use crate::int_hash::IntMap;
use crate::proc::fd_scan::FdHolder;

/// Number of owners of one socket that are tried. Forked copies of a process answer alike.
const ATTEMPTS: usize = 4;

/// The options of these sockets, by inode. Sockets whose owners cannot be read are left out.
pub(crate) fn read_options(
    holders: &IntMap<u64, Vec<FdHolder>>,
    sockets: &[Socket],
) -> IntMap<u64, SocketOptions> {
    let reported = |socket: &Socket| Some((socket.inode, (socket.transparent?, socket.freebind?)));
    let reported: IntMap<_, _> = sockets.iter().filter_map(reported).collect();
    let mut known = IntMap::default();
    for attempt in 0..ATTEMPTS {
        let mut open: Vec<(FdHolder, u64)> = holders
            .iter()
            .filter(|(inode, _)| !known.contains_key(*inode))
            .filter_map(|(inode, holders)| Some((*holders.get(attempt)?, *inode)))
            .collect();
        // One pidfd for all sockets of a process.
        open.sort_unstable_by_key(|(holder, _)| holder.pid);
        for sockets in open.chunk_by(|(a, _), (b, _)| a.pid == b.pid) {
            read_from(sockets, &reported, &mut known);
        }
    }
    known
}

/// `IP_TRANSPARENT` and `IP_FREEBIND`.
type OptionFacts = (bool, bool);

/// Reads the options of some sockets of one process.
fn read_from(
    sockets: &[(FdHolder, u64)],
    reported: &IntMap<u64, OptionFacts>,
    known: &mut IntMap<u64, SocketOptions>,
) {
    let Some(pid) = sockets.first().and_then(|(holder, _)| Pid::from_raw(holder.pid)) else {
        return;
    };
    let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    for (holder, inode) in sockets {
        match duplicate_from(&process, holder.descriptor) {
            Ok(socket) => {
                let socket = ForeignFd::new(socket);
                if is_socket(&socket, *inode)
                    && let Ok(options) = read(&socket, reported.get(inode).copied())
                {
                    known.insert(*inode, options);
                }
            }
            // Every other descriptor of this process would fail too.
            Err(Errno::PERM | Errno::NOSYS) => return,
            _ => {}
        }
    }
}

/// Options that sock_diag reported are not read again.
fn read(socket: &ForeignFd, reported: Option<OptionFacts>) -> Result<SocketOptions, Errno> {
    let (transparent, freebind) = reported.map_or_else(|| read_unreported(socket), Ok)?;
    Ok(SocketOptions {
        reuse_port: sockopt::socket_reuseport(socket)?,
        reuse_address: sockopt::socket_reuseaddr(socket)?,
        transparent,
        freebind,
        filter: has_filter(socket)?,
    })
}

/// For older kernels, whose sock_diag does not report these options.
fn read_unreported(socket: &ForeignFd) -> Result<OptionFacts, Errno> {
    let (level, transparent, freebind) = match sockopt::socket_domain(socket)? {
        AddressFamily::INET6 => (libc::SOL_IPV6, libc::IPV6_TRANSPARENT, libc::IPV6_FREEBIND),
        _ => (libc::SOL_IP, libc::IP_TRANSPARENT, libc::IP_FREEBIND),
    };
    Ok((is_set(socket, level, transparent)?, is_set(socket, level, freebind)?))
}

fn is_set(socket: &ForeignFd, level: i32, option: i32) -> Result<bool, Errno> {
    let mut value: libc::c_int = 0;
    // The size of an int is 4 on every Linux.
    let mut length: libc::socklen_t = 4;
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`, through the pointer.
    let result = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut length)
    };
    if result == 0 { Ok(value != 0) } else { Err(last_error()) }
}

/// Whether a filter is attached. `SO_GET_FILTER` (Linux 3.8; `sk_get_filter`) with a zero length returns
/// the number of instructions of a classic filter, and fails with EACCES for an eBPF filter.
fn has_filter(socket: &ForeignFd) -> Result<bool, Errno> {
    let mut length: libc::socklen_t = 0;
    // SAFETY: with a length of 0 the kernel does not access the pointer, which may be null.
    let result = unsafe {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_GET_FILTER);
        let nowhere = std::ptr::null_mut();
        libc::getsockopt(socket.as_raw_fd(), level, option, nowhere, &raw mut length)
    };
    match (result, last_error()) {
        (0, _) => Ok(length > 0),
        (_, Errno::ACCESS) => Ok(true),
        (_, errno) => Err(errno),
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// The descriptor may have been reused, and so may the pid.
fn is_socket(file: &ForeignFd, inode: u64) -> bool {
    // `fstat(2)` of another file can block.
    file.socket_kind().is_ok() && rustix::fs::fstat(file).is_ok_and(|stat| stat.st_ino == inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_read_alone() {
        use socket2::{Domain, SockFilter, Socket, Type};
        type Set = fn(&Socket) -> std::io::Result<()>;
        let none = SocketOptions::default();
        let cases: [(Set, SocketOptions); 4] = [
            (|_| Ok(()), none),
            (|socket| socket.set_reuse_port(true), SocketOptions { reuse_port: true, ..none }),
            (
                |socket| socket.set_reuse_address(true),
                SocketOptions { reuse_address: true, ..none },
            ),
            (
                // Accepts everything.
                |socket| socket.attach_filter(&[SockFilter::new(6, 0, 0, u32::MAX)]),
                SocketOptions { filter: true, ..none },
            ),
        ];
        for domain in [Domain::IPV4, Domain::IPV6] {
            for kind in [Type::STREAM, Type::DGRAM] {
                for (set, expected) in &cases {
                    let socket = Socket::new(domain, kind, None).unwrap();
                    // Some machines restrict filters to root.
                    if set(&socket).is_err() {
                        assert!(expected.filter && crate::effective_user() != 0);
                        continue;
                    }
                    assert_eq!(
                        read(&ForeignFd::new(socket.into()), None),
                        Ok(*expected),
                        "{domain:?} {kind:?}"
                    );
                }
                let free = Socket::new(domain, kind, None).unwrap();
                match domain {
                    Domain::IPV4 => free.set_freebind_v4(true).unwrap(),
                    _ => free.set_freebind_v6(true).unwrap(),
                }
                let expected = SocketOptions { freebind: true, ..none };
                assert_eq!(
                    read(&ForeignFd::new(free.into()), None),
                    Ok(expected),
                    "{domain:?} {kind:?}"
                );
            }
        }
        let transparent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Needs CAP_NET_ADMIN or CAP_NET_RAW.
        if transparent.set_ip_transparent_v4(true).is_ok() {
            let expected = SocketOptions { transparent: true, ..none };
            assert_eq!(read(&ForeignFd::new(transparent.into()), None), Ok(expected));
        }
    }
}
