//! Accept queues over time: those of draining workers must become empty, those of others must move.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sameport_policy::lifecycle::InstanceId;
use sameport_sys::netlink;

use crate::pool::SocketPool;

/// For this long, a handshake on the worker's port delays the end of its drain. The handshake may be
/// another worker's.
const HANDSHAKES: Duration = Duration::from_secs(1);

/// The same while new clients wait for the end of the worker: they try again after 1 s.
const HANDSHAKES_WHILE_LEAVING: Duration = Duration::from_millis(100);

/// Rounds without an accept after which a queue is reported.
const ROUNDS_WITHOUT_ACCEPT: u32 = 4;

/// The accept queues of all draining workers at one moment. Handshakes are counted once for each port.
#[derive(Debug, Default)]
pub(super) struct QueueReading {
    in_handshake: BTreeMap<u16, bool>,
}

impl QueueReading {
    /// Whether no connection waits for this worker, which has drained for `elapsed`.
    pub(super) fn is_empty(
        &mut self,
        start: InstanceId,
        pool: &SocketPool,
        elapsed: Duration,
    ) -> bool {
        let limit = match pool.drops_new_clients() {
            true => HANDSHAKES_WHILE_LEAVING,
            false => HANDSHAKES,
        };
        if elapsed >= limit {
            return pool.waiting(start) == 0;
        }
        // A handshake shows its port only, so those of other workers count too.
        pool.ports_without_queue(start).is_some_and(|ports| {
            ports.into_iter().all(|port| {
                !*self.in_handshake.entry(port).or_insert_with(|| {
                    !netlink::count_handshakes(port).is_ok_and(|count| count == 0)
                })
            })
        })
    }
}

/// The queue of a live worker.
#[derive(Debug, Clone, Copy, Default)]
struct QueueWatch {
    waiting: u32,
    rounds: u32,
}

/// The queues of live workers.
#[derive(Debug, Default)]
pub(super) struct LiveQueues(BTreeMap<InstanceId, QueueWatch>);

impl LiveQueues {
    /// The live workers that have just left their queue without an accept for too many rounds, with
    /// the number of connections in it.
    pub(super) fn stalled(
        &mut self,
        live: &BTreeSet<InstanceId>,
        pool: &SocketPool,
    ) -> Vec<(InstanceId, u32)> {
        self.0.retain(|start, _| live.contains(start));
        let mut stalled = Vec::new();
        for start in live {
            let waiting = pool.waiting(*start);
            let queue = self.0.entry(*start).or_default();
            let stuck = waiting > 0 && waiting >= queue.waiting;
            queue.rounds = if stuck { queue.rounds + 1 } else { 0 };
            queue.waiting = waiting;
            if queue.rounds == ROUNDS_WITHOUT_ACCEPT {
                stalled.push((*start, waiting));
            }
        }
        stalled
    }

    /// The live workers that have left their queue without an accept for too many rounds.
    pub(super) fn not_accepting(&self) -> BTreeSet<InstanceId> {
        let is_stuck = |queue: &QueueWatch| queue.rounds >= ROUNDS_WITHOUT_ACCEPT;
        self.0.iter().filter(|(_, queue)| is_stuck(queue)).map(|(start, _)| *start).collect()
    }
}
