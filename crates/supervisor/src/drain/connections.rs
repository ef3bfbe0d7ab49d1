//! The connections of draining workers: whose they are, and what has passed on them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use sameport_policy::drain::ConnectionFacts;
use sameport_policy::lifecycle::InstanceId;
use sameport_sys::bpf::LastDataReader;
use sameport_sys::netlink::{self, ConnectionReader, TcpConnection};
use sameport_sys::socket::IdleConnection;
use sameport_sys::{inspect, netlink::InspectError};

use crate::pool::SocketPool;

/// Interval at which all connections are listed, and the owners of unknown ones are looked up. A draining worker gets no new
/// connection, but can receive one by SCM_RIGHTS, or accept one in a group that cannot be steered.
const SCAN: Duration = Duration::from_millis(500);

/// A worker whose connections are of interest.
#[derive(Debug, Clone)]
pub(super) struct TrackedWorker {
    /// Its first process, or 0 if that has ended.
    pub(super) first: i32,
    /// The ports that it listens on.
    pub(super) ports: BTreeSet<u16>,
}

#[derive(Debug, Clone, Copy)]
struct TrackedConnection {
    worker: InstanceId,
    pid: i32,
    descriptor: i32,
    /// The facts of the last list.
    last: TcpConnection,
}

/// The connections whose workers are known, by cookie.
#[derive(Debug, Default)]
pub(super) struct ConnectionTracker {
    owned: HashMap<u64, TrackedConnection>,
    /// Processes that had several connections at once: none of them was forked for a connection.
    with_several: HashSet<i32>,
    next_scan: Duration,
    /// `Some(None)`: not possible here.
    order: Option<Option<LastDataReader>>,
    /// Whether single connections cannot be read.
    reads_tables: Option<bool>,
}

/// All connections of the tracked workers at one moment.
#[derive(Debug, Default)]
pub(super) struct ConnectionReading {
    pub(super) of: BTreeMap<InstanceId, Vec<ConnectionFacts>>,
    /// Whether the owner of every connection was looked up.
    pub(super) is_complete: bool,
}

impl ConnectionTracker {
    /// Looks up the owners of unknown connections at the next reading.
    pub(super) fn scan_next(&mut self) {
        self.next_scan = Duration::ZERO;
    }

    pub(super) fn read(
        &mut self,
        workers: &BTreeMap<InstanceId, TrackedWorker>,
        pool: &SocketPool,
        now: Duration,
    ) -> Result<ConnectionReading, InspectError> {
        let reads_tables = *self.reads_tables.get_or_insert_with(netlink::reads_tables);
        let is_due = now >= self.next_scan || reads_tables;
        let open = if is_due {
            self.next_scan = now + SCAN;
            let ports = workers.values().flat_map(|worker| worker.ports.iter().copied());
            netlink::list_connections(&ports.collect())?
        } else {
            self.read_known()?
        };
        let by_cookie: HashMap<u64, &TcpConnection> =
            open.iter().map(|connection| (connection.cookie, connection)).collect();
        self.owned.retain(|cookie, tracked| {
            let now = by_cookie.get(cookie);
            tracked.last = now.map_or(tracked.last, |now| **now);
            now.is_some() && workers.contains_key(&tracked.worker)
        });
        let unknown: Vec<TcpConnection> =
            open.into_iter().filter(|it| !self.owned.contains_key(&it.cookie)).collect();
        if !unknown.is_empty() {
            self.scan(&unknown, workers, pool);
        }
        let mut reading = ConnectionReading { of: BTreeMap::new(), is_complete: is_due };
        let mut of_process: HashMap<i32, u32> = HashMap::new();
        for tracked in self.owned.values() {
            *of_process.entry(tracked.pid).or_default() += 1;
        }
        self.with_several.retain(|pid| of_process.contains_key(pid));
        let several = of_process.iter().filter(|(_, count)| **count > 1);
        self.with_several.extend(several.map(|(pid, _)| *pid));
        for (cookie, tracked) in &self.owned {
            let first = workers.get(&tracked.worker).map_or(0, |worker| worker.first);
            let is_alone = tracked.pid != first && !self.with_several.contains(&tracked.pid);
            let facts = facts(*cookie, &tracked.last, is_alone);
            reading.of.entry(tracked.worker).or_default().push(facts);
        }
        self.order_ties(&mut reading);
        Ok(reading)
    }

    /// Adds the order of data that passed within one jiffy, with the privilege for eBPF.
    fn order_ties(&mut self, reading: &mut ConnectionReading) {
        let mut ties: Vec<&mut ConnectionFacts> =
            reading.of.values_mut().flatten().filter(|facts| facts.is_tie()).collect();
        if ties.is_empty() {
            return;
        }
        let reader = self.order.get_or_insert_with(|| LastDataReader::new().ok());
        let Some(Ok(orders)) = reader.as_ref().map(LastDataReader::read) else { return };
        for facts in &mut ties {
            facts.last = orders.get(&facts.id).copied();
        }
    }

    /// Reads the connections whose owners are known. The reader is not kept, so that the supervisor has no
    /// more descriptors after a drain than before.
    fn read_known(&self) -> Result<Vec<TcpConnection>, InspectError> {
        let mut open = Vec::new();
        if self.owned.is_empty() {
            return Ok(open);
        }
        let reader = ConnectionReader::open()?;
        for tracked in self.owned.values() {
            open.extend(reader.read(&tracked.last)?);
        }
        Ok(open)
    }

    fn scan(
        &mut self,
        unknown: &[TcpConnection],
        workers: &BTreeMap<InstanceId, TrackedWorker>,
        pool: &SocketPool,
    ) {
        let snapshot = pool.processes().snapshot();
        let mut worker_of: HashMap<i32, InstanceId> = HashMap::new();
        for start in workers.keys() {
            worker_of.extend(snapshot.of(*start).iter().map(|pid| (*pid, *start)));
        }
        let pids: Vec<i32> = worker_of.keys().copied().collect();
        let inodes: HashSet<u64> = unknown.iter().map(|connection| connection.inode).collect();
        let descriptors = inspect::descriptors_of(&inodes, &pids);
        for connection in unknown {
            // The last process is the one that was forked for the connection.
            let holder = descriptors.get(&connection.inode).and_then(|holders| holders.last());
            let Some(holder) = holder else { continue };
            let Some(worker) = worker_of.get(&holder.pid) else { continue };
            let tracked = TrackedConnection {
                worker: *worker,
                pid: holder.pid,
                descriptor: holder.descriptor,
                last: *connection,
            };
            self.owned.insert(connection.cookie, tracked);
        }
    }

    /// A connection as it was in the last reading, for its end.
    pub(super) fn idle(&self, cookie: u64) -> Option<IdleConnection> {
        let TrackedConnection { pid, descriptor, last, .. } = self.owned.get(&cookie)?;
        Some(IdleConnection {
            pid: *pid,
            descriptor: *descriptor,
            inode: last.inode,
            received: last.received,
            sent: last.sent,
        })
    }
}

fn facts(id: u64, connection: &TcpConnection, is_alone: bool) -> ConnectionFacts {
    ConnectionFacts {
        id,
        receive_queue: connection.receive_queue,
        send_queue: connection.send_queue,
        unsent: connection.unsent,
        last: None,
        received: connection.received,
        sent: connection.sent,
        received_age: connection.received_age,
        sent_age: connection.sent_age,
        is_alone,
    }
}

/// Number of connections to these ports that the processes have open; `None` if it is not known.
pub(super) fn count_open(ports: &BTreeSet<u16>, pids: &[i32]) -> Option<usize> {
    let ports: Vec<u16> = ports.iter().copied().collect();
    netlink::count_connections(&ports, &[pids.to_vec()]).ok()?.first().copied()
}
