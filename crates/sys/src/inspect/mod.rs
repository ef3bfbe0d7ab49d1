//! Facts about sockets and the processes that hold them.
//!
//! `sockets` lists those that wait for others (`diag` asks the kernel, `answer` reads its bytes),
//! `connections` counts those that have a peer, `left` what is left of them, `holding` finds who has
//! them open (for root `iterated`, else `processes`), `details` what else is known of those, `above`
//! and `lineage` by whom they were started, `options` reads a socket's options, `cgroups` and `users`
//! name what it belongs to. `elsewhere` looks from another network namespace, `lookup` and `settings`
//! at what else decides there.

pub(crate) mod options;
mod owners;
mod query;
#[cfg(test)]
mod tests;

pub use crate::netlink::{InspectError, StateFilter};
pub use query::SocketQuery;

use std::collections::{BTreeSet, HashSet};
use std::io;

use sameport_policy::model::{Address, Member, Socket};

use crate::int_hash::IntSet;
use crate::netlink;
use crate::proc::fd_scan::{FdHolders, ProcessCache};
use owners::SocketOwners;

/// What could be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Every socket asked for. Sockets are always all there; their processes and `shared` only as
    /// far as the caller may look.
    pub members: Vec<Member>,
    /// Whether `processes` names everybody: every process could be looked into, and some process
    /// was found for every socket. False for a caller who is not root as soon as other users have
    /// processes, inside a pid namespace where sockets are held outside it, and where the kernel
    /// itself listens (NFS). With no socket there is nobody to miss, and this is true.
    pub complete: bool,
    /// Whether every TCP socket that is bound and does not listen is there, if TCP was asked for. False
    /// when they were not, and before Linux 6.8, which has no list of them.
    pub bound: bool,
    /// Whether the processes were found by a BPF iterator, with options and positions, and not by a
    /// scan of `/proc`. Needs root, and a kernel as in [`iterates`].
    pub iterated: bool,
}

/// Who is on which port, in the caller's network and pid namespaces, as of now.
///
/// The list of sockets is complete without any privilege. For root their processes, options and
/// places in groups are found by a BPF iterator ([`iterates`]), in some 5 ms and 0.5 µs a descriptor
/// of the whole machine. Elsewhere processes are found by one pass over `/proc/PID/fd`, about 2 µs a
/// descriptor; options, `shared` among them, are read from a duplicate of the socket where the caller
/// may have one (`pidfd_getfd`, Linux ≥ 5.6) and are `None` elsewhere; places are not known. Both are
/// left out when no socket was found. Nothing is changed and no process is disturbed.
///
/// A socket that two processes have open is one member with two processes. Sockets and processes
/// that come or go during the call may or may not be in its result.
///
/// # Errors
///
/// When the kernel's list cannot be had: see [`Error`]. What may not be seen of the processes is no
/// error, but [`Seen::complete`] is false.
pub fn list_sockets(query: &SocketQuery) -> Result<Snapshot, InspectError> {
    let sockets = netlink::sockets::list(&query.filter())?;
    let wanted: IntSet<u64> =
        sockets.iter().map(|socket| socket.inode).filter(|inode| *inode != 0).collect();
    let SocketOwners { holders, names, options, positions, iterated } =
        owners::find_owners(query, &sockets, &wanted);
    let FdHolders { of, all_read } = holders;
    let complete = all_read && wanted.iter().all(|inode| of.contains_key(inode));

    let mut programs = ProcessCache::new(names, query.details);
    let mut users = crate::users::UserNames::default();
    let mut members: Vec<_> = sockets
        .into_iter()
        .map(|socket| {
            let holders = of.get(&socket.inode).map_or(&[][..], Vec::as_slice);
            let options = options.get(&socket.inode).copied();
            Member {
                processes: holders
                    .iter()
                    .filter_map(|holder| programs.process(holder.pid))
                    .collect(),
                user: users.name(socket.uid),
                shared: options.map(|options| options.reuse_port),
                options,
                position: positions.get(&socket.inode).copied(),
                ..Member::new(socket)
            }
        })
        .collect();
    if query.cgroups {
        fill_cgroups(&mut members);
    }
    let bound = !query.tcp
        || (query.states != StateFilter::Waiting && netlink::sockets::lists_bound_sockets());
    Ok(Snapshot { members, complete, bound, iterated })
}

/// Whether [`members`] finds processes by a BPF iterator here: loads and opens one.
///
/// # Errors
///
/// EPERM without CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN) in the first user namespace; ENOENT where
/// the kernel does not describe its types (`CONFIG_DEBUG_INFO_BTF`); EOPNOTSUPP where its structs are
/// not as expected, on big-endian machines, and where `/proc` shows another pid namespace; EINVAL before
/// Linux 5.11.
pub fn iterator_available() -> io::Result<()> {
    crate::bpf::socket_iter::open(crate::bpf::socket_iter::IterFilter {
        states: 0,
        port: None,
        quickly: true,
    })
    .map(drop)
}

/// Where a socket's own cgroup is gone, hidden or not told, its holder's stands for it.
fn fill_cgroups(members: &mut [Member]) {
    fn of_processes(member: &Member) -> impl Iterator<Item = String> {
        let details = member.processes.iter().filter_map(|process| process.details.as_ref());
        details.filter_map(|details| details.cgroup.clone())
    }
    let numbers = members.iter().filter_map(|member| member.socket.cgroup).collect();
    let likely: BTreeSet<String> = members.iter().flat_map(of_processes).collect();
    let paths = crate::proc::cgroups::paths(numbers, likely);
    for member in members {
        let own = member.socket.cgroup.and_then(|number| paths.get(&number).cloned());
        member.cgroup = own.or_else(|| of_processes(member).next());
    }
}

/// Whether one of these processes has one of these sockets open, in any of its threads. One that may
/// not be looked at counts as having it.
pub(crate) fn is_open_in(inodes: &HashSet<u64>, pids: &[i32]) -> bool {
    let found = crate::proc::fd_scan::scan_processes(inodes, pids);
    !found.of.is_empty() || !found.all_read
}

/// Where these processes listen, in any of their threads: TCP listeners and unconnected UDP sockets on
/// ports that the kernel does not give away by itself (`net.ipv4.ip_local_port_range`).
///
/// # Errors
///
/// As for [`members`].
pub fn listen_addresses(pids: &[i32]) -> Result<BTreeSet<Address>, InspectError> {
    let given_away = crate::proc::sysctl::ephemeral_ports();
    let mut sockets = list_without_owners(&SocketQuery::everything())?;
    sockets.retain(|socket| !given_away.contains(&socket.address.port()));
    let inodes: IntSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
    let holders = crate::proc::fd_scan::scan_processes(&inodes, pids);
    let theirs = sockets.into_iter().filter(|socket| holders.of.contains_key(&socket.inode));
    Ok(theirs.map(|socket| socket.address).collect())
}

/// Those of these processes that have one of these sockets open, as far as they may be looked into.
#[must_use]
pub fn holders_of(inodes: &HashSet<u64>, pids: &[i32]) -> HashSet<i32> {
    let found = crate::proc::fd_scan::scan_processes(inodes, pids);
    found.of.into_values().flatten().map(|holder| holder.pid).collect()
}

/// The sockets alone, without a look at any process: complete for everybody, and cheap.
///
/// # Errors
///
/// As for [`members`].
pub fn list_without_owners(query: &SocketQuery) -> Result<Vec<Socket>, InspectError> {
    netlink::sockets::list(&query.filter())
}
