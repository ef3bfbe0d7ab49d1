//! Which listeners accept nothing, seen from outside.
//!
//! An accept queue is first in, first out: a process that accepts takes the oldest connection first. The kernel
//! lists the waiting connections of a port, and the length of each listener's queue, but not which connection
//! waits in which queue. The listeners of a port whose queues did not shrink accept nothing if as many
//! connections as waited there still wait.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::facts::TopLook;
use super::member_key::{GroupKey, group_key};

/// A listener that has accepted nothing for this long is hung.
const STALL: Duration = Duration::from_secs(1);

/// The waiting connections at one look.
#[derive(Debug)]
struct Waiting {
    at: Duration,
    /// Cookies of connections, by port.
    connections: HashMap<u16, HashSet<u64>>,
    /// Lengths of queues, by the listener's cookie.
    queues: HashMap<u64, u32>,
}

/// The waiting connections of the last looks.
#[derive(Debug, Default)]
pub(super) struct StallHistory {
    /// The first is at least [`STALL`] old, if one is.
    looks: VecDeque<Waiting>,
}

impl StallHistory {
    /// Adds a look. Returns the cookies of the listeners that are hung.
    pub(super) fn add(&mut self, look: &TopLook) -> HashSet<u64> {
        let mut connections: HashMap<u16, HashSet<u64>> = HashMap::new();
        for waiting in look.connections.iter().filter(|it| !it.accepted) {
            connections.entry(waiting.local.port()).or_default().insert(waiting.cookie);
        }
        let is_tcp = |key: GroupKey| key.protocol == sameport_addr::Protocol::Tcp;
        let tcp = look.listeners.iter().filter(|it| is_tcp(group_key(it)));
        let queues = tcp.clone().filter(|it| it.queue > 0).map(|it| (it.cookie, it.queue));
        let now = Waiting { at: look.at, connections, queues: queues.collect() };
        while self.looks.get(1).is_some_and(|it| look.at.saturating_sub(it.at) >= STALL) {
            self.looks.pop_front();
        }
        let mut hung = HashSet::new();
        let then = self.looks.front().filter(|it| look.at.saturating_sub(it.at) >= STALL);
        if let Some(then) = then {
            let mut suspects: HashMap<u16, Vec<(u64, u32)>> = HashMap::new();
            for listener in tcp {
                let Some(queue) = then.queues.get(&listener.cookie) else { continue };
                if listener.queue >= *queue {
                    let on_port = suspects.entry(listener.address.port()).or_default();
                    on_port.push((listener.cookie, *queue));
                }
            }
            for (port, suspects) in suspects {
                let still = match (then.connections.get(&port), now.connections.get(&port)) {
                    (Some(then), Some(now)) => then.intersection(now).count(),
                    _ => 0,
                };
                let waited: usize = suspects.iter().map(|(_, queue)| *queue as usize).sum();
                if waited <= still {
                    hung.extend(suspects.into_iter().map(|(cookie, _)| cookie));
                }
            }
        }
        self.looks.push_back(now);
        hung
    }
}
