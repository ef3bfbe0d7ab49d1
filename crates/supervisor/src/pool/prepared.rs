//! Programs of eBPF that are loaded before the lock of the pool is taken.
//!
//! The verifier takes 50 to 500 ms. Only the worker waits whose `listen` needs them, or the client that sets another
//! policy: the calls of other workers and other clients are answered meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use sameport_policy::traffic::{SteeringTier, TrafficPolicy, TrafficRules};
use sameport_sys::bpf::traffic::PreparedTraffic;

use super::SocketPool;
use crate::traffic::{PortKey, extended};

/// Whether a thread has loaded what it was started for, or has failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoadProgress(Arc<AtomicBool>);

impl LoadProgress {
    /// Whether it has.
    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl SocketPool {
    /// Loads what the rules of the run need on a port that does not have them, and waits for it.
    pub(super) fn prepare(&self, port: PortKey) {
        let rules = || {
            let steering = &self.state().steering;
            let traffic = &steering.traffic;
            let is_new = steering.is_extended(port) && !traffic.claimed.contains(&port);
            traffic.rules(port).filter(|_| is_new)
        };
        let Some(rules) = rules() else { return };
        // The stack of a thread that answers a worker is small.
        std::thread::scope(|scope| {
            let loading = std::thread::Builder::new();
            let _ = loading.spawn_scoped(scope, || self.load(port, &rules));
        });
    }

    /// Loads what these rules need on a port, in a thread that wakes the supervisor when it ends. `None`: they need
    /// nothing.
    pub(crate) fn prepare_rules(
        &self,
        port: PortKey,
        rules: &TrafficRules,
    ) -> Option<LoadProgress> {
        let tier = self.state().steering.traffic.run.tier_for(port.protocol);
        if tier != SteeringTier::Extended
            || rules.policy == TrafficPolicy::Hash
            || extended::has_program_for(port, rules)
        {
            return None;
        }
        let progress = LoadProgress::default();
        let (pool, rules, over) = (self.clone(), rules.clone(), progress.clone());
        let load = move || {
            pool.load(port, &rules);
            over.0.store(true, Ordering::Release);
            pool.0.changed.notify_one();
        };
        std::thread::Builder::new().name("preparing".into()).spawn(load).ok().map(|_| progress)
    }

    fn load(&self, port: PortKey, rules: &TrafficRules) {
        // Two workers that listen at once need them once.
        let _turn = self.0.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        let (addresses, is_loaded) = {
            let state = self.state();
            let prepared = state.steering.traffic.prepared.get(&port).map(PreparedTraffic::program);
            (state.addresses_of(port).len(), prepared == Some(extended::program_of(port, rules)))
        };
        // Without them, the call that needs them loads them, or says why it cannot.
        if !is_loaded && let Ok(prepared) = extended::prepare(port, rules, addresses) {
            let earlier = self.state().steering.traffic.prepared.insert(port, prepared);
            drop(earlier);
        }
    }

    /// Removes what was loaded and not used.
    pub(crate) fn forget_prepared(&self) {
        let prepared = std::mem::take(&mut self.state().steering.traffic.prepared);
        drop(prepared);
    }
}
