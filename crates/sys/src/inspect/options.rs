//! The options of another process's socket, `SO_REUSEPORT` before all.
//!
//! No list of the kernel's tells them, so a duplicate of the socket is asked: `pidfd_getfd`
//! (Linux ≥ 5.6), which needs the right to ptrace its holder (`PTRACE_MODE_ATTACH_REALCREDS`; own
//! programs, or `CAP_SYS_PTRACE`; Yama's `ptrace_scope` ≥ 1 narrows it). The holder is neither
//! stopped nor told, no option is set, and the duplicate is closed at once.

#![expect(unsafe_code, reason = "IP_TRANSPARENT and SO_GET_FILTER have no safe wrapper")]

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};
use sameport_policy::model::{Socket, SocketOptions};

use crate::int_hash::IntMap;
use crate::proc::fd_scan::FdHolder;

/// More holders of one socket than these are not asked: forked copies answer alike.
const ATTEMPTS: usize = 4;

/// The options of every one of these sockets, by inode, whose first holders may be asked and still
/// have it.
pub(crate) fn read_options(
    holders: &IntMap<u64, Vec<FdHolder>>,
    sockets: &[Socket],
) -> IntMap<u64, SocketOptions> {
    let told = |socket: &Socket| Some((socket.inode, (socket.transparent?, socket.freebind?)));
    let told: IntMap<_, _> = sockets.iter().filter_map(told).collect();
    let mut known = IntMap::default();
    for attempt in 0..ATTEMPTS {
        let mut open: Vec<(FdHolder, u64)> = holders
            .iter()
            .filter(|(inode, _)| !known.contains_key(*inode))
            .filter_map(|(inode, holders)| Some((*holders.get(attempt)?, *inode)))
            .collect();
        // Each process is opened once for all its sockets.
        open.sort_unstable_by_key(|(holder, _)| holder.pid);
        for asked in open.chunk_by(|(a, _), (b, _)| a.pid == b.pid) {
            ask(asked, &told, &mut known);
        }
    }
    known
}

/// Whether a socket is transparent, and whether its bind was free.
type OptionFacts = (bool, bool);

/// Asks one process for some of its sockets.
fn ask(
    asked: &[(FdHolder, u64)],
    told: &IntMap<u64, OptionFacts>,
    known: &mut IntMap<u64, SocketOptions>,
) {
    let Some(pid) = asked.first().and_then(|(holder, _)| Pid::from_raw(holder.pid)) else { return };
    let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    for (holder, inode) in asked {
        let flags = PidfdGetfdFlags::empty();
        match rustix::process::pidfd_getfd(&process, holder.descriptor, flags) {
            Ok(socket) if is_socket(&socket, *inode) => {
                if let Ok(options) = read(&socket, told.get(inode).copied()) {
                    known.insert(*inode, options);
                }
            }
            // Not this process, whichever descriptor.
            Err(Errno::PERM | Errno::NOSYS) => return,
            _ => {}
        }
    }
}

/// What the kernel has told already is not asked for again.
fn read(socket: &OwnedFd, told: Option<OptionFacts>) -> Result<SocketOptions, Errno> {
    let (transparent, freebind) = told.map_or_else(|| ask_for_told(socket), Ok)?;
    Ok(SocketOptions {
        reuse_port: sockopt::socket_reuseport(socket)?,
        reuse_address: sockopt::socket_reuseaddr(socket)?,
        transparent,
        freebind,
        filter: has_filter(socket)?,
    })
}

/// Of older kernels, whose list does not tell.
fn ask_for_told(socket: &OwnedFd) -> Result<OptionFacts, Errno> {
    let (level, transparent, freebind) = match sockopt::socket_domain(socket)? {
        AddressFamily::INET6 => (libc::SOL_IPV6, libc::IPV6_TRANSPARENT, libc::IPV6_FREEBIND),
        _ => (libc::SOL_IP, libc::IP_TRANSPARENT, libc::IP_FREEBIND),
    };
    Ok((is_set(socket, level, transparent)?, is_set(socket, level, freebind)?))
}

fn is_set(socket: &OwnedFd, level: i32, option: i32) -> Result<bool, Errno> {
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

/// Asked without room for it, the kernel tells the length of a classic filter (0 for none), and
/// refuses to tell of eBPF (`SO_GET_FILTER`, Linux 3.8; `sk_get_filter`).
fn has_filter(socket: &OwnedFd) -> Result<bool, Errno> {
    let mut length: libc::socklen_t = 0;
    // SAFETY: of a length of 0 the kernel writes nothing through the pointer, which may be null.
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

/// The descriptor may mean something else by now, and the pid another process.
fn is_socket(file: &OwnedFd, inode: u64) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::Socket && stat.st_ino == inode
    })
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
                // Everything may pass.
                |socket| socket.attach_filter(&[SockFilter::new(6, 0, 0, u32::MAX)]),
                SocketOptions { filter: true, ..none },
            ),
        ];
        for domain in [Domain::IPV4, Domain::IPV6] {
            for kind in [Type::STREAM, Type::DGRAM] {
                for (set, expected) in &cases {
                    let socket = Socket::new(domain, kind, None).unwrap();
                    // Not every machine lets everybody attach a filter.
                    if set(&socket).is_err() {
                        assert!(expected.filter && crate::effective_user() != 0);
                        continue;
                    }
                    assert_eq!(read(&socket.into(), None), Ok(*expected), "{domain:?} {kind:?}");
                }
                let free = Socket::new(domain, kind, None).unwrap();
                match domain {
                    Domain::IPV4 => free.set_freebind_v4(true).unwrap(),
                    _ => free.set_freebind_v6(true).unwrap(),
                }
                let expected = SocketOptions { freebind: true, ..none };
                assert_eq!(read(&free.into(), None), Ok(expected), "{domain:?} {kind:?}");
            }
        }
        let transparent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Only root may.
        if transparent.set_ip_transparent_v4(true).is_ok() {
            let expected = SocketOptions { transparent: true, ..none };
            assert_eq!(read(&transparent.into(), None), Ok(expected));
        }
    }
}
