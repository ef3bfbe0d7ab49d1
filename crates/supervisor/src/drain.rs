//! Accept queues over time: those of draining workers must become empty, those of others must move.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sameport_policy::lifecycle::InstanceId;

use crate::pool::SocketPool;

/// Interval at which the queue of a draining worker is read.
const INTERVAL: Duration = Duration::from_millis(5);

/// For this long, a handshake on the worker's port delays the end of its drain. The handshake may be
/// another worker's.
const HANDSHAKES: Duration = Duration::from_secs(1);

/// Rounds without an accept after which a queue is reported.
const ROUNDS_WITHOUT_ACCEPT: u32 = 4;

/// A worker that drains.
#[derive(Debug, Clone, Copy)]
struct DrainState {
    since: Duration,
    was_empty: bool,
}

/// The queue of a live worker.
#[derive(Debug, Clone, Copy, Default)]
struct QueueWatch {
    waiting: u32,
    rounds: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Drains {
    draining: BTreeMap<InstanceId, DrainState>,
    queues: BTreeMap<InstanceId, QueueWatch>,
}

impl Drains {
    pub(crate) fn begin(&mut self, start: InstanceId, now: Duration) {
        self.draining.insert(start, DrainState { since: now, was_empty: false });
    }

    pub(crate) fn remove(&mut self, start: InstanceId) {
        self.draining.remove(&start);
    }

    pub(crate) fn contains(&self, start: InstanceId) -> bool {
        self.draining.contains_key(&start)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.draining.is_empty()
    }

    pub(crate) fn next_wake(&self, now: Duration) -> Option<Duration> {
        (!self.is_empty()).then_some(now + INTERVAL)
    }

    /// Takes the workers whose queue is empty or whose time is over.
    pub(crate) fn take_drained(
        &mut self,
        pool: &SocketPool,
        grace: Duration,
        now: Duration,
    ) -> Vec<InstanceId> {
        let mut drained = Vec::new();
        for (start, state) in &mut self.draining {
            let elapsed = now.saturating_sub(state.since);
            let is_empty = match elapsed < HANDSHAKES {
                true => pool.is_drained(*start),
                false => pool.waiting(*start) == 0,
            };
            // For a moment a connection is neither a handshake nor in the queue, so two readings must
            // agree.
            if (is_empty && state.was_empty) || elapsed >= grace {
                drained.push(*start);
            }
            state.was_empty = is_empty;
        }
        drained.iter().for_each(|start| self.remove(*start));
        drained
    }

    /// The live workers that have just left their queue without an accept for too many rounds, with
    /// the number of connections in it.
    pub(crate) fn stalled(
        &mut self,
        live: &BTreeSet<InstanceId>,
        pool: &SocketPool,
    ) -> Vec<(InstanceId, u32)> {
        self.queues.retain(|start, _| live.contains(start));
        let mut stalled = Vec::new();
        for start in live {
            let waiting = pool.waiting(*start);
            let queue = self.queues.entry(*start).or_default();
            let stuck = waiting > 0 && waiting >= queue.waiting;
            queue.rounds = if stuck { queue.rounds + 1 } else { 0 };
            queue.waiting = waiting;
            if queue.rounds == ROUNDS_WITHOUT_ACCEPT {
                stalled.push((*start, waiting));
            }
        }
        stalled
    }
}
