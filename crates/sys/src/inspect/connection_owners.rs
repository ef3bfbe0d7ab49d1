//! The processes that have the TCP connections of ports open, looked up once for each connection.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use sameport_policy::holder::MOST_ANCESTORS;

use super::InspectError;
use crate::bpf::socket_iter;
use crate::bpf::socket_iter::IterFilter;
use crate::int_hash::{IntMap, IntSet};
use crate::netlink;
use crate::netlink::EstablishedConnection;
use crate::proc::fd_scan;
use crate::proc::fd_scan::FdHolders;
use crate::process;

/// `1 << TCP_ESTABLISHED | 1 << TCP_CLOSE_WAIT`.
const STATES: u32 = 1 << 1 | 1 << 8;

/// Looks in which a connection without a visible process is looked up. `accept(2)` makes the socket visible
/// to sock_diag before its descriptor.
const TRIES: u8 = 3;

/// Looks after which every owner is looked up again: a process can pass a connection to another.
const REFRESH: u32 = 30;

/// A connection with its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedConnection {
    /// Unique among all sockets since boot.
    pub cookie: u64,
    /// The local address.
    pub local: SocketAddr,
    /// Whether a process has accepted it.
    pub accepted: bool,
    /// The process that has it open, or its nearest ancestor among the processes in question. `None` if it is
    /// hidden from the caller, or none.
    pub owner: Option<i32>,
}

/// The owners of connections, kept from one look to the next.
#[derive(Debug, Default)]
pub struct ConnectionOwners {
    known: IntMap<u64, KnownOwner>,
    looks: u32,
}

#[derive(Debug, Clone, Copy)]
struct KnownOwner {
    pid: Option<i32>,
    tries: u8,
}

impl ConnectionOwners {
    /// Lists the connections to these ports, also those that wait for `accept`. Connections that the last look
    /// did not have cost the scan for owners of [`list_sockets`](super::list_sockets); without such a connection
    /// a look costs the list alone, about 1 µs for each. A connection that was passed to another process has its
    /// former owner for up to 30 looks. `among`: the processes in question, such as those with a listener.
    ///
    /// # Errors
    ///
    /// See [`InspectError`].
    pub fn look(
        &mut self,
        ports: &BTreeSet<u16>,
        among: &BTreeSet<i32>,
    ) -> Result<Vec<OwnedConnection>, InspectError> {
        let connections = netlink::list_established(ports)?;
        if self.looks.is_multiple_of(REFRESH) {
            self.known.clear();
        }
        self.looks = self.looks.wrapping_add(1);
        let accepted = connections.iter().filter(|it| it.inode != 0);
        let is_settled = |it: &KnownOwner| it.pid.is_some() || it.tries >= TRIES;
        let unknown: Vec<EstablishedConnection> = accepted
            .filter(|it| !self.known.get(&it.cookie).is_some_and(is_settled))
            .copied()
            .collect();
        if !unknown.is_empty() {
            self.find(&unknown, ports, among);
        }
        let cookies: IntSet<u64> = connections.iter().map(|it| it.cookie).collect();
        self.known.retain(|cookie, _| cookies.contains(cookie));
        let owned = connections.into_iter().map(|it| OwnedConnection {
            cookie: it.cookie,
            local: it.local,
            accepted: it.inode != 0,
            owner: self.known.get(&it.cookie).and_then(|owner| owner.pid),
        });
        Ok(owned.collect())
    }

    fn find(
        &mut self,
        unknown: &[EstablishedConnection],
        ports: &BTreeSet<u16>,
        among: &BTreeSet<i32>,
    ) {
        let inodes: IntSet<u64> = unknown.iter().map(|it| it.inode).collect();
        let holders = holders(&inodes, ports);
        let mut ancestors = IntMap::default();
        for connection in unknown {
            // The last process is the one that was forked for the connection.
            let holder = holders.of.get(&connection.inode).and_then(|holders| holders.last());
            let pid = holder.map(|holder| {
                *ancestors.entry(holder.pid).or_insert_with(|| nearest(holder.pid, among))
            });
            let tries = self.known.get(&connection.cookie).map_or(0, |owner| owner.tries) + 1;
            self.known.insert(connection.cookie, KnownOwner { pid, tries });
        }
    }
}

fn holders(inodes: &IntSet<u64>, ports: &BTreeSet<u16>) -> FdHolders {
    let port = if ports.len() == 1 { ports.first().copied() } else { None };
    match socket_iter::walk(IterFilter { states: STATES, port, quickly: false }) {
        Ok(found) => found.holders,
        // Without the privilege, or on a kernel without such iterators.
        Err(_) => fd_scan::scan_all(inodes),
    }
}

/// The process or its nearest ancestor that is in the set; the process itself if none is.
fn nearest(pid: i32, among: &BTreeSet<i32>) -> i32 {
    let mut ancestors = std::iter::successors(Some(pid), |pid| process::parent(*pid))
        .take_while(|pid| *pid > 0)
        .take(MOST_ANCESTORS);
    ancestors.find(|pid| among.contains(pid)).unwrap_or(pid)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::socket::until;

    #[test]
    fn connections_have_the_process_that_accepted_them() {
        let _turn = crate::serial::run_shared();
        let ourselves = std::process::id().cast_signed();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut owners = ConnectionOwners::default();
        let mut look = || owners.look(&[to.port()].into(), &[ourselves].into()).unwrap();
        assert_eq!(look(), []);

        let clients = [(); 2].map(|()| TcpStream::connect(to).unwrap());
        until("both wait", || look().len() == 2);
        assert!(look().iter().all(|it| !it.accepted && it.owner.is_none() && it.local == to));
        let first = listener.accept().unwrap();
        let owned = look();
        assert_eq!(owned.iter().filter(|it| it.accepted).count(), 1);
        assert_eq!(owned.iter().filter(|it| it.owner == Some(ourselves)).count(), 1);
        let second = listener.accept().unwrap();
        until("both are ours", || look().iter().all(|it| it.owner == Some(ourselves)));
        drop((first, second, clients));
        until("none is left", || look().is_empty());
    }

    #[test]
    fn a_child_counts_for_its_ancestor() {
        let _turn = crate::serial::run_shared();
        let ourselves = std::process::id().cast_signed();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        assert_eq!(nearest(pid, &[ourselves].into()), ourselves);
        assert_eq!(nearest(pid, &[pid, ourselves].into()), pid);
        assert_eq!(nearest(pid, &BTreeSet::new()), pid);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
