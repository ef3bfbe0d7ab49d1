//! Sockets with their owners: joins the kernel's list of sockets (`netlink`), the descriptors of
//! processes (`bpf::socket_iter` or `proc::fd_scan`), process details and user names to a [`Snapshot`].

mod connection_owners;
mod holders;
pub(crate) mod options;
mod owners;
mod query;
#[cfg(test)]
mod tests;
mod watchers;

pub use crate::netlink::{InspectError, StateFilter};
pub use connection_owners::{ConnectionOwners, OwnedConnection};
pub use holders::holder_facts;
pub use query::SocketQuery;
pub use watchers::watchers_of;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;

use sameport_policy::holder::unit_of;
use sameport_policy::model::{Address, Member, Socket};

use crate::int_hash::IntSet;
use crate::netlink;
use crate::proc::fd_scan::{FdHolder, FdHolders, ProcessCache};
use owners::SocketOwners;

/// The sockets that match a query, with their owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Every matching socket. Processes and `shared` are limited by the caller's privileges.
    pub members: Vec<Member>,
    /// Whether the owners are complete: every process could be read, and every socket has one. False
    /// for a user other than root as soon as another user has a process, for sockets held outside the
    /// caller's pid namespace, and for sockets of the kernel (NFS). True without sockets.
    pub complete: bool,
    /// Whether bound TCP sockets that do not listen are included, if TCP was requested. False if the
    /// query excludes them, and before Linux 6.8, which cannot list them.
    pub bound: bool,
    /// Whether a BPF iterator found the owners, with options and positions, instead of a scan of
    /// `/proc`. See [`iterator_available`].
    pub iterated: bool,
}

/// Lists sockets with their owners, in the caller's network and pid namespaces.
///
/// The list of sockets is complete without privileges. For root a BPF iterator finds owners, options and
/// group positions ([`iterator_available`]), in about 2 ms and 0.5 µs for each descriptor of the machine.
/// For other users one pass over `/proc/PID/fd` finds the owners, in about 2 µs for each descriptor;
/// options, including `shared`, are read from a duplicate of the socket where `pidfd_getfd` (Linux 5.6)
/// is permitted, and positions are unknown. Without matching sockets neither runs. No process is
/// stopped, and nothing is changed.
///
/// A socket that two processes have open is one member with two processes. Sockets and processes that
/// appear or disappear during the call may be missing.
///
/// # Errors
///
/// See [`InspectError`]. A process that cannot be read is not an error; [`Snapshot::complete`] is then
/// false.
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
            // `collect` would allocate space for 4 processes, and most sockets have 1.
            let mut processes = Vec::with_capacity(holders.len());
            processes.extend(holders.iter().filter_map(|holder| programs.process(holder.pid)));
            Member {
                processes,
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

/// Whether the kernel answers about sockets. Where netlink sockets are refused (`RestrictAddressFamilies=`),
/// [`list_sockets`] reads `/proc/self/net`, which has neither devices nor the options of other users' sockets.
///
/// # Errors
///
/// [`InspectError::Ask`] with the refused call.
pub fn require_netlink() -> Result<(), InspectError> {
    netlink::ConnectionReader::open().map(drop)
}

/// Whether [`list_sockets`] can use a BPF iterator: loads one and creates it, without running it.
///
/// # Errors
///
/// EPERM without CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN) in the initial user namespace; ENOENT without
/// type information in the kernel (`CONFIG_DEBUG_INFO_BTF`); EOPNOTSUPP if the kernel's structs differ
/// from the expected, on big-endian machines, and if `/proc` belongs to another pid namespace; EINVAL
/// before Linux 5.11.
pub fn iterator_available() -> io::Result<()> {
    crate::bpf::socket_iter::open(crate::bpf::socket_iter::IterFilter {
        states: 0,
        port: None,
        quickly: true,
    })
    .map(drop)
}

/// Sets the cgroup of each member. If a socket's own cgroup is removed, hidden or unknown, the cgroup of
/// a process that has it open is used.
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
        // The manager that keeps a socket for a service has it open too.
        let of_service = || of_processes(member).find(|cgroup| unit_of(cgroup).is_some());
        member.cgroup = own.or_else(of_service).or_else(|| of_processes(member).next());
    }
}

/// Those of these sockets that one of these processes has open, in any thread. `None` if a process cannot
/// be read.
#[must_use]
pub fn open_in(inodes: &HashSet<u64>, pids: &[i32]) -> Option<HashSet<u64>> {
    let found = crate::proc::fd_scan::scan_processes(inodes, pids);
    found.all_read.then(|| found.of.into_keys().collect())
}

/// The addresses of the TCP listeners and unconnected UDP sockets of these processes, in all threads.
///
/// An ephemeral port (`net.ipv4.ip_local_port_range`) can be one that the kernel picked, which is left
/// out. The interposers set SO_REUSEPORT on sockets with a port of the program's choice alone, so the
/// option distinguishes the two. It is read from a duplicate of the socket.
///
/// # Errors
///
/// See [`InspectError`].
pub fn listen_addresses(pids: &[i32]) -> Result<BTreeSet<Address>, InspectError> {
    let ephemeral = crate::proc::sysctl::ephemeral_ports();
    let mut sockets = list_without_owners(&SocketQuery::everything())?;
    let inodes: IntSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
    let mut holders = crate::proc::fd_scan::scan_processes(&inodes, pids).of;
    sockets.retain(|socket| holders.contains_key(&socket.inode));
    let picked: IntSet<u64> = sockets
        .iter()
        .filter(|socket| ephemeral.contains(&socket.address.port()))
        .map(|socket| socket.inode)
        .collect();
    holders.retain(|inode, _| picked.contains(inode));
    let options = options::read_options(&holders, &sockets);
    let is_shared = |inode| options.get(&inode).is_some_and(|options| options.reuse_port);
    let theirs =
        sockets.into_iter().filter(|it| !picked.contains(&it.inode) || is_shared(it.inode));
    Ok(theirs.map(|socket| socket.address).collect())
}

/// The processes among these that have one of these sockets open. Unreadable processes are left out.
#[must_use]
pub fn holders_of(inodes: &HashSet<u64>, pids: &[i32]) -> HashSet<i32> {
    let found = crate::proc::fd_scan::scan_processes(inodes, pids);
    found.of.into_values().flatten().map(|holder| holder.pid).collect()
}

/// A descriptor of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenDescriptor {
    /// The process.
    pub pid: i32,
    /// The number of the descriptor.
    pub descriptor: i32,
}

/// The descriptors of these processes that refer to these sockets, by inode; one for each process.
#[must_use]
pub fn descriptors_of(inodes: &HashSet<u64>, pids: &[i32]) -> HashMap<u64, Vec<OpenDescriptor>> {
    let found = crate::proc::fd_scan::scan_processes(inodes, pids);
    let open = |holder: FdHolder| OpenDescriptor { pid: holder.pid, descriptor: holder.descriptor };
    let of = found.of.into_iter();
    of.map(|(inode, holders)| (inode, holders.into_iter().map(open).collect())).collect()
}

/// Lists sockets without their owners: complete for every user, and cheaper.
///
/// # Errors
///
/// See [`InspectError`].
pub fn list_without_owners(query: &SocketQuery) -> Result<Vec<Socket>, InspectError> {
    netlink::sockets::list(&query.filter())
}
