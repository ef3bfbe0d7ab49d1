//! Whether `SO_REUSEPORT` is set on another process's socket.
//!
//! No list of the kernel's tells it, so a duplicate of the socket is asked: `pidfd_getfd`
//! (Linux ≥ 5.6), which needs the right to ptrace its holder (`PTRACE_MODE_ATTACH_REALCREDS`; own
//! programs, or `CAP_SYS_PTRACE`; Yama's `ptrace_scope` ≥ 1 narrows it). The holder is neither
//! stopped nor told, no option is set, and the duplicate is closed at once.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use super::processes::Holder;

/// More holders of one socket than these are not asked: forked copies answer alike.
const ATTEMPTS: usize = 4;

/// The option of every socket, by inode, whose first holders may be asked and still have it.
pub(super) fn reuse_port(holders: &HashMap<u64, Vec<Holder>>) -> HashMap<u64, bool> {
    let mut known = HashMap::with_capacity(holders.len());
    for attempt in 0..ATTEMPTS {
        let mut open: Vec<(Holder, u64)> = holders
            .iter()
            .filter(|(inode, _)| !known.contains_key(*inode))
            .filter_map(|(inode, holders)| Some((*holders.get(attempt)?, *inode)))
            .collect();
        // Each process is opened once for all its sockets.
        open.sort_unstable_by_key(|(holder, _)| holder.pid);
        for asked in open.chunk_by(|(a, _), (b, _)| a.pid == b.pid) {
            ask(asked, &mut known);
        }
    }
    known
}

/// Asks one process for some of its sockets.
fn ask(asked: &[(Holder, u64)], known: &mut HashMap<u64, bool>) {
    let Some(pid) = asked.first().and_then(|(holder, _)| Pid::from_raw(holder.pid)) else { return };
    let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    for (holder, inode) in asked {
        let flags = PidfdGetfdFlags::empty();
        match rustix::process::pidfd_getfd(&process, holder.descriptor, flags) {
            Ok(socket) if is_socket(&socket, *inode) => {
                if let Ok(set) = rustix::net::sockopt::socket_reuseport(&socket) {
                    known.insert(*inode, set);
                }
            }
            // Not this process, whichever descriptor.
            Err(Errno::PERM | Errno::NOSYS) => return,
            _ => {}
        }
    }
}

/// The descriptor may mean something else by now, and the pid another process.
fn is_socket(file: &OwnedFd, inode: u64) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::Socket && stat.st_ino == inode
    })
}
