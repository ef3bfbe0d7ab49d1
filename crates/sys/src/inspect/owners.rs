//! Finds the owners of sockets: by a BPF iterator for root, else by a scan of `/proc` and by duplicates
//! of the sockets.

use std::io;

use sameport_policy::model::{GroupPosition, Socket, SocketOptions, SocketState};

use super::options;
use super::query::SocketQuery;
use crate::bpf::socket_iter;
use crate::bpf::socket_iter::{IterFilter, IterResult, SocketFacts};
use crate::int_hash::{IntMap, IntSet};
use crate::netlink::StateFilter;
use crate::netlink::sockets;
use crate::proc::fd_scan;
use crate::proc::fd_scan::FdHolders;

/// Owners, options and positions of sockets, by inode.
#[derive(Debug, Default)]
pub(super) struct SocketOwners {
    pub(super) holders: FdHolders,
    /// Names by pid. Empty after a scan of `/proc`.
    pub(super) names: IntMap<i32, String>,
    pub(super) options: IntMap<u64, SocketOptions>,
    pub(super) positions: IntMap<u64, GroupPosition>,
    /// Whether a BPF iterator found them.
    pub(super) iterated: bool,
}

/// Finds the owners of these sockets, the result of the query.
pub(super) fn find_owners(
    query: &SocketQuery,
    sockets: &[Socket],
    inodes: &IntSet<u64>,
) -> SocketOwners {
    if inodes.is_empty() {
        return SocketOwners { holders: fd_scan::scan_all(inodes), ..SocketOwners::default() };
    }
    match walk(query, sockets) {
        Ok(found) => from_iterator(found, sockets, inodes),
        // Without the privilege, or on a kernel without such iterators.
        Err(_) => {
            let holders = fd_scan::scan_all(inodes);
            let options = options::read_options(&holders.of, sockets);
            SocketOwners { options, holders, ..SocketOwners::default() }
        }
    }
}

/// Skips sockets that have been connected, unless a bound socket is then missing.
fn walk(query: &SocketQuery, sockets: &[Socket]) -> io::Result<IterResult> {
    let quickly = query.states != StateFilter::Every;
    let wanted =
        IterFilter { states: sockets::kernel_states(query.states), port: query.port, quickly };
    let found = socket_iter::walk(wanted)?;
    let is_missing = |socket: &Socket| {
        socket.state == SocketState::Bound
            && socket.inode != 0
            && !found.facts.contains_key(&socket.inode)
    };
    if quickly && sockets.iter().any(is_missing) {
        return socket_iter::walk(IterFilter { quickly: false, ..wanted });
    }
    Ok(found)
}

fn from_iterator(found: IterResult, sockets: &[Socket], inodes: &IntSet<u64>) -> SocketOwners {
    let IterResult { mut holders, names, facts, .. } = found;
    holders.of.retain(|inode, _| inodes.contains(inode));
    let options = |socket: &Socket| {
        let SocketFacts { reuse_port, reuse_address, filter, .. } = *facts.get(&socket.inode)?;
        let (transparent, freebind) = (socket.transparent?, socket.freebind?);
        let options = SocketOptions { reuse_port, reuse_address, transparent, freebind, filter };
        Some((socket.inode, options))
    };
    let position = |socket: &Socket| Some((socket.inode, facts.get(&socket.inode)?.position?));
    SocketOwners {
        options: sockets.iter().filter_map(options).collect(),
        positions: sockets.iter().filter_map(position).collect(),
        holders,
        names,
        iterated: true,
    }
}
