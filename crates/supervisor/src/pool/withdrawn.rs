//! Workers that are given up: a replacement that is not ready in time, and the others of its upgrade.
//!
//! Such a worker can listen on an address that the run did not have and that takes clients from one of the
//! run's: the kernel prefers `0.0.0.0:80` to `[::]:80`, and `127.0.0.1:80` to `0.0.0.0:80`
//! (`compute_score` and `__inet_lookup_listener` in `net/ipv4/inet_hashtables.c`). No other worker serves
//! the queue there. While the worker finishes what it has, new clients reach a gate, or the sockets drop their
//! first packets where eBPF selects the members. The sockets are closed
//! when the worker ends, or stop listening if it does not end; the first packets of the waiting clients, which
//! are sent again after a second, then reach the run's own address.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::model::Address;

use super::{PoolState, SocketPool, WorkerRecord};
use crate::traffic::PortKey;

/// The time limit of the drain of such a worker: new clients wait for its end, and send their first packet
/// again after 1, 3 and 7 s.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// After this time the sockets of a worker that has not ended at the stop signal stop listening. A waiting
/// client sends its SYN after 0, 1, 3 and 7 s, and the last one reaches the run's own address.
const LONGEST: Duration = Duration::from_secs(6);

impl SocketPool {
    /// Lets the new clients of a worker wait that is given up, on addresses that only such workers have.
    pub(crate) fn withdraw(&self, start: InstanceId, is_expected: impl Fn(&Address) -> bool) {
        let mut state = self.state();
        state.workers.entry(start).or_default().withdrawn = true;
        let used = state.slots.held.used_by(start).map(|(_, address)| address.clone());
        for address in used.collect::<BTreeSet<_>>() {
            if !is_expected(&address) && state.is_of_withdrawn(&address) {
                state.withdraw(address);
            }
        }
    }

    /// A replacement that has ended by itself before it was ready is given up too: its sockets on such
    /// addresses are closed with its end.
    pub(crate) fn withdraw_ended(&self, start: InstanceId, is_expected: impl Fn(&Address) -> bool) {
        let has_served = |it: &WorkerRecord| it.ready_at.is_some() || it.replaces.is_none();
        let is_given_up = !self.state().workers.get(&start).is_none_or(has_served);
        if is_given_up {
            self.withdraw(start, is_expected);
        }
    }

    /// Whether this worker is given up, and new clients wait for its end.
    pub(crate) fn is_withdrawn(&self, start: InstanceId) -> bool {
        let state = self.state();
        let withdrawn = &state.steering.withdrawn;
        state.slots.held.used_by(start).any(|(_, address)| withdrawn.contains_key(address))
    }

    /// The workers that are given up and that new clients wait for.
    pub(crate) fn withdrawn(&self) -> BTreeSet<InstanceId> {
        let state = self.state();
        let addresses = state.steering.withdrawn.keys();
        let members = addresses.flat_map(|address| state.slots.members(address).into_keys());
        members.flat_map(|inode| state.slots.held.users(inode)).collect()
    }
}

impl PoolState {
    /// Whether all users of the sockets on this address are given up.
    fn is_of_withdrawn(&self, address: &Address) -> bool {
        let is_withdrawn = |start| self.workers.get(&start).is_some_and(|it| it.withdrawn);
        let members = self.slots.members(address).into_keys();
        self.slots.shared_on(address).is_none()
            && members.flat_map(|inode| self.slots.held.users(inode)).all(is_withdrawn)
    }

    fn withdraw(&mut self, address: Address) {
        let Self { slots, steering, .. } = self;
        match steering.close(slots, &address) {
            Ok(()) => {
                steering.withdrawn.insert(address, Instant::now());
            }
            // A gate is no member of a state of eBPF.
            Err(_) if steering.is_extended(PortKey::of(&address)) => {
                steering.leave(slots, &address, true);
                steering.withdrawn.insert(address.clone(), Instant::now());
                steering.steer(slots, &address);
            }
            // Without a gate the worker gets new clients until it ends.
            Err(_) => steering.reopen(slots, &address),
        }
    }

    /// Removes the gates: a worker starts that may use the addresses.
    pub(super) fn cancel_withdrawal(&mut self) {
        let Self { slots, steering, closing, .. } = self;
        if !*closing {
            for address in std::mem::take(&mut steering.withdrawn).into_keys() {
                if steering.is_extended(PortKey::of(&address)) {
                    steering.leave(slots, &address, false);
                    steering.steer(slots, &address);
                }
                steering.reopen(slots, &address);
            }
        }
    }

    /// Closes the sockets that no worker has open any more, and then their gates.
    pub(super) fn release_withdrawn(&mut self) {
        for (address, since) in self.steering.withdrawn.clone() {
            let members: Vec<u64> = self.slots.members(&address).into_keys().collect();
            if members.iter().any(|inode| !self.slots.held.users(*inode).is_empty()) {
                if since.elapsed() < LONGEST || self.closing {
                    continue;
                }
                for socket in members.iter().filter_map(|inode| self.slots.sockets.get(inode)) {
                    // The worker has closed it already.
                    let _ = socket.stop_listening();
                }
            }
            for inode in members {
                if self.store.close(inode) {
                    self.release(inode);
                }
            }
            if self.slots.members(&address).is_empty() {
                self.steering.reopen(&self.slots, &address);
                self.steering.withdrawn.remove(&address);
            }
        }
    }
}
