//! Who has sockets open, and what is known of them by that: for root by a BPF iterator, else by a scan
//! of `/proc` and by duplicates.

use std::collections::{HashMap, HashSet};
use std::io;

use sameport_policy::model::socket::{Options, Position, Socket, State};

use super::{Query, States, options};
use crate::bpf::socket_iter;
use crate::bpf::socket_iter::{Facts, Iterated, Wanted};
use crate::netlink::sockets;
use crate::proc::fd_scan;
use crate::proc::fd_scan::Holders;

/// What was found out, by the inodes of sockets.
#[derive(Debug, Default)]
pub(super) struct Holding {
    pub(super) holders: Holders,
    /// Of processes, as far as they came along.
    pub(super) names: HashMap<i32, String>,
    pub(super) options: HashMap<u64, Options>,
    pub(super) positions: HashMap<u64, Position>,
    /// By a BPF iterator.
    pub(super) iterated: bool,
}

/// Looks for these sockets, which the query found, by their inodes.
pub(super) fn holding(query: &Query, sockets: &[Socket], inodes: &HashSet<u64>) -> Holding {
    if inodes.is_empty() {
        return Holding { holders: fd_scan::holders(inodes), ..Holding::default() };
    }
    match walk(query, sockets) {
        Ok(found) => known(found, sockets, inodes),
        // Whoever may not, and every kernel that cannot, has the other way.
        Err(_) => {
            let holders = fd_scan::holders(inodes);
            let options = options::options(&holders.of, sockets);
            Holding { options, holders, ..Holding::default() }
        }
    }
}

/// Quickly, and once more where that leaves somebody out.
fn walk(query: &Query, sockets: &[Socket]) -> io::Result<Iterated> {
    let quickly = query.states != States::Every;
    let wanted = Wanted { states: sockets::in_kernel(query.states), port: query.port, quickly };
    let found = socket_iter::walk(wanted)?;
    let is_missing = |socket: &Socket| {
        socket.state == State::Bound
            && socket.inode != 0
            && !found.facts.contains_key(&socket.inode)
    };
    if quickly && sockets.iter().any(is_missing) {
        return socket_iter::walk(Wanted { quickly: false, ..wanted });
    }
    Ok(found)
}

fn known(found: Iterated, sockets: &[Socket], inodes: &HashSet<u64>) -> Holding {
    let Iterated { mut holders, names, facts } = found;
    holders.of.retain(|inode, _| inodes.contains(inode));
    let options = |socket: &Socket| {
        let Facts { reuse_port, reuse_address, filter, .. } = *facts.get(&socket.inode)?;
        let (transparent, freebind) = (socket.transparent?, socket.freebind?);
        let options = Options { reuse_port, reuse_address, transparent, freebind, filter };
        Some((socket.inode, options))
    };
    let position = |socket: &Socket| Some((socket.inode, facts.get(&socket.inode)?.position?));
    Holding {
        options: sockets.iter().filter_map(options).collect(),
        positions: sockets.iter().filter_map(position).collect(),
        holders,
        names,
        iterated: true,
    }
}
