//! The share of a canary, and whether an address can have one.

use std::collections::BTreeSet;

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::model::{Address, Protocol};
use sameport_policy::traffic::{CanaryShare, SteeringTier};

use super::steering::Selection;
use super::{PoolState, SocketPool};

/// Why new connections cannot be divided.
#[derive(Debug)]
pub(crate) struct CanaryObstacle {
    pub(crate) why: String,
    pub(crate) hint: &'static str,
    /// Whether eBPF could do it.
    pub(crate) is_of_tier: bool,
}

impl SocketPool {
    /// Gives these workers a share of new connections, from the next [`Self::steer`] on; `None`: they are
    /// workers like any other.
    pub(crate) fn set_canary(&self, share: Option<CanaryShare>, workers: BTreeSet<InstanceId>) {
        self.state().steering.traffic.set_canary(share, &workers);
    }

    /// Whether connections wait in a socket that no worker uses.
    pub(crate) fn has_left_queue(&self) -> bool {
        let state = self.state();
        let slots = &state.slots;
        slots.held.unused().any(|(inode, _)| slots.waiting(inode) > 0)
    }

    /// Why no workers can have a share of the new connections on some address of the run; `None` if they
    /// can.
    pub(crate) fn canary_obstacle(&self) -> Option<CanaryObstacle> {
        let mut state = self.state();
        let not_held = state.workers.values().flat_map(|worker| &worker.not_held).next().cloned();
        if let Some(address) = not_held {
            return Some(CanaryObstacle {
                why: format!("the supervisor does not hold the sockets on {}", address.labelled()),
                hint: "start the run with --via seccomp, and without --no-hold",
                is_of_tier: false,
            });
        }
        let addresses: Vec<Address> = state.slots.held.addresses().into_iter().cloned().collect();
        if addresses.is_empty() {
            return Some(CanaryObstacle {
                why: "the run listens on no address".into(),
                hint: "`sameport upgrade NAME -- COMMAND` replaces its workers",
                is_of_tier: false,
            });
        }
        addresses.into_iter().find_map(|address| state.canary_obstacle(&address))
    }
}

impl PoolState {
    fn canary_obstacle(&mut self, address: &Address) -> Option<CanaryObstacle> {
        let at = address.labelled();
        let obstacle = |why: String, hint, is_of_tier| {
            Some(CanaryObstacle { why: format!("{at}: {why}"), hint, is_of_tier })
        };
        let own_run = "give the canary a run of its own";
        if self.slots.shared_on(address).is_some() {
            return obstacle("all workers accept from one queue".into(), own_run, false);
        }
        if let Some(why) = self.not_replaced.get(address) {
            return obstacle(why.clone(), own_run, false);
        }
        if address.protocol == Protocol::Udp {
            return obstacle(
                "datagrams have no queue of their own to leave out".into(),
                own_run,
                false,
            );
        }
        let Self { slots, steering, .. } = self;
        if let Some(why) = steering.obstacle(address) {
            let hint = "end the other members first, or give the canary a run of its own";
            return obstacle(why, hint, true);
        }
        let members = slots.members(address);
        let is_live = |inode: &u64| members.get(inode).copied().unwrap_or(false);
        // What the kernel refuses, for example for MPTCP, is found out by an attempt. It would replace a
        // program of eBPF.
        let is_classic = steering.traffic.run.tier == SteeringTier::Classic;
        let refused = match is_classic && members.values().any(|live| *live) {
            true => steering.select(slots, address, Selection::WithoutNext, is_live).err(),
            false => None,
        };
        steering.steer(slots, address);
        refused.and_then(|why| obstacle(why, own_run, false))
    }
}
