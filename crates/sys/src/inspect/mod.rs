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
#[cfg(test)]
mod tests;

pub use crate::bpf::sk_lookup::sk_lookup_programs;
pub use crate::netlink::connections::{count_connections, count_handshakes, is_accepted};
pub use crate::netlink::time_wait::{TimeWait, time_wait_sockets};
pub use crate::netns::enter::{NetnsError, run_in};
pub use crate::proc::ancestry::{ProcessCommand, ancestor_commands, working_directory};
pub use crate::proc::same_program::{ancestors, executable_id};
pub use crate::proc::sysctl::kernel_settings;
pub use crate::users::{user_id, user_name};

use std::collections::{BTreeSet, HashSet};
use std::io;

use sameport_policy::model::{Address, Member, Protocol, Socket};

use crate::proc::fd_scan::{FdHolders, ProcessCache};
use owners::SocketOwners;

/// Which sockets to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketQuery {
    /// TCP sockets.
    pub tcp: bool,
    /// UDP sockets.
    pub udp: bool,
    /// Only those on this port.
    pub port: Option<u16>,
    /// Only those in these states.
    pub states: StateFilter,
    /// Whether to look at what else is known of who has them open ([`Process::details`](sameport_policy::model::Process::details)): some 30 µs a
    /// process.
    pub details: bool,
    /// Whether to look for the paths of their cgroups ([`Member::cgroup`]): once over all cgroups.
    pub cgroups: bool,
}

/// Which states of sockets to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFilter {
    /// TCP sockets that listen, UDP sockets without a peer.
    Waiting,
    /// These, and TCP sockets that are bound and neither listen nor are connected, which the kernel
    /// lists since Linux 6.8 ([`Seen::bound`]).
    Unconnected,
    /// These, and connected sockets by their local port: also what waits to be accepted, and what its
    /// process has closed and the kernel is still ending (no inode). Not TIME_WAIT.
    Every,
}

impl SocketQuery {
    /// Whoever waits, by either protocol, on every port.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            tcp: true,
            udp: true,
            port: None,
            states: StateFilter::Waiting,
            details: false,
            cgroups: false,
        }
    }

    /// Whoever waits, by one protocol, on every port.
    #[must_use]
    pub fn only(protocol: Protocol) -> Self {
        let (tcp, udp) = (protocol == Protocol::Tcp, protocol == Protocol::Udp);
        Self { tcp, udp, ..Self::everything() }
    }

    /// The same, on one port.
    #[must_use]
    pub fn on(self, port: u16) -> Self {
        Self { port: Some(port), ..self }
    }

    /// The same, of sockets in these states.
    #[must_use]
    pub fn in_states(self, states: StateFilter) -> Self {
        Self { states, ..self }
    }

    /// The same, with the paths of cgroups.
    #[must_use]
    pub fn with_cgroup_paths(self) -> Self {
        Self { cgroups: true, ..self }
    }

    /// The same, with all that is known of the processes, and the paths of cgroups.
    #[must_use]
    pub fn with_details(self) -> Self {
        Self { details: true, cgroups: true, ..self }
    }
}

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

/// Why the list of sockets could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// A call of the conversation with the kernel failed.
    #[error("cannot list {protocol} sockets: {call}: {source}")]
    Ask {
        /// The call that failed.
        call: &'static str,
        /// What was asked for.
        protocol: Protocol,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel has no `inet_diag`, `tcp_diag` or `udp_diag`.
    #[error("cannot list {protocol} sockets: this kernel has no {protocol}_diag")]
    Unsupported {
        /// What was asked for.
        protocol: Protocol,
    },
    /// The table changed during every attempt to read it.
    #[error("cannot list {protocol} sockets: the list changed during {tries} attempts to read it")]
    Unsettled {
        /// What was asked for.
        protocol: Protocol,
        /// How often.
        tries: usize,
    },
    /// The answer is not what the kernel's headers describe.
    #[error("cannot list {protocol} sockets: the answer of sock_diag could not be understood")]
    Malformed {
        /// What was asked for.
        protocol: Protocol,
    },
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
    let sockets = crate::netlink::sockets::list(query)?;
    let wanted: HashSet<u64> =
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
        || (query.states != StateFilter::Waiting && crate::netlink::sockets::lists_bound_sockets());
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
    let inodes = sockets.iter().map(|socket| socket.inode).collect();
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

/// Asks `sock_diag` for a list of this protocol (`IPPROTO_TCP`, …) with nothing in it: whether
/// [`members`] can work here, at the smallest cost.
///
/// # Errors
///
/// `ENOENT` when the kernel has no module for the protocol; otherwise the error of the call that
/// failed.
pub fn sock_diag_available(protocol: libc::c_int) -> io::Result<()> {
    let nothing = crate::netlink::sock_diag::DiagRequest {
        protocol,
        family: libc::AF_INET,
        states: 0,
        port: 0,
    };
    match nothing.dump() {
        Ok(_) => Ok(()),
        Err(crate::netlink::sock_diag::DiagError::Call(_, source)) => Err(source),
        Err(crate::netlink::sock_diag::DiagError::NoModule) => {
            Err(io::Error::from_raw_os_error(libc::ENOENT))
        }
        Err(crate::netlink::sock_diag::DiagError::Unsettled) => {
            Err(io::Error::from_raw_os_error(libc::EINTR))
        }
        Err(crate::netlink::sock_diag::DiagError::Malformed) => {
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}

/// Whether anybody may wait on this address: `false` is certain, as of now, in the caller's network
/// namespace, and costs one step however many sockets there are. `true` also where only a wider address
/// has somebody, and where it cannot be told; then [`listed`] tells.
#[must_use]
pub fn may_be_taken(address: &Address) -> bool {
    crate::netlink::sockets::may_be_taken(address)
}

/// The sockets alone, without a look at any process: complete for everybody, and cheap.
///
/// # Errors
///
/// As for [`members`].
pub fn list_without_owners(query: &SocketQuery) -> Result<Vec<Socket>, InspectError> {
    crate::netlink::sockets::list(query)
}
