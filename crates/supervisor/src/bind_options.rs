//! The options for the workers' sockets, the same for every interposer, and which of them were used.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sameport_policy::bind::each;
use sameport_policy::bind::map::MapRule;
use sameport_policy::bind::verdict::{PortSet, SharedPort};

/// The options for every socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindOptions {
    /// The ports to share (`--port`).
    pub ports: PortSet,
    /// The rules that move binds (`--map`).
    pub rules: Vec<MapRule>,
    /// The source address of connections (`--source`); port 0 for any port.
    pub source: Option<SocketAddr>,
    /// Whether sockets may bind addresses that are not local (`--transparent`).
    pub transparent: bool,
    /// Whether sockets may bind addresses that no interface has yet (`--freebind`).
    pub freebind: bool,
    /// Ports of which worker k gets the k-th from there (`--each`).
    pub each: Vec<SharedPort>,
}

impl BindOptions {
    /// The options of one worker: the rules of `--each` are behind those of the run.
    pub(crate) fn of_worker(&self, ordinal: u16) -> Self {
        let mut options = self.clone();
        options.rules.extend(each::rules(&self.each, ordinal));
        options.ports = each::shared(&self.ports, &self.each, ordinal);
        options
    }
}

/// An option that no call ever used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnusedOption {
    /// A map rule matched no bind.
    Rule(MapRule),
    /// No connection got the source address.
    Source(SocketAddr),
    /// No socket was bound or connected, so that none became transparent.
    Transparent,
    /// No socket was bound, so that none got IP_FREEBIND.
    Freebind,
}

/// The options that have been used; the interposer marks them.
#[derive(Debug, Clone)]
pub(crate) struct OptionUsage {
    rules: Arc<[AtomicBool]>,
    source: Arc<AtomicBool>,
    transparent: Arc<AtomicBool>,
    freebind: Arc<AtomicBool>,
}

impl OptionUsage {
    pub(crate) fn none_of(options: &BindOptions) -> Self {
        let rules = options.rules.iter().map(|_| AtomicBool::new(false)).collect();
        let [source, transparent, freebind] = [(); 3].map(|()| Arc::default());
        Self { rules, source, transparent, freebind }
    }

    /// The rule with this index moved a bind.
    pub(crate) fn rule(&self, index: usize) {
        if let Some(rule) = self.rules.get(index) {
            rule.store(true, Ordering::Relaxed);
        }
    }

    /// A connection got its source address.
    pub(crate) fn source(&self) {
        self.source.store(true, Ordering::Relaxed);
    }

    /// A socket became transparent, or tried to.
    pub(crate) fn transparent(&self) {
        self.transparent.store(true, Ordering::Relaxed);
    }

    /// A socket got IP_FREEBIND, or tried to.
    pub(crate) fn freebind(&self) {
        self.freebind.store(true, Ordering::Relaxed);
    }

    /// The options that have not been used.
    pub(crate) fn unused(&self, options: &BindOptions) -> Vec<UnusedOption> {
        let rules = options.rules.iter().zip(self.rules.iter());
        let rules = rules.filter(|(_, used)| !used.load(Ordering::Relaxed));
        let source = options.source.filter(|_| !self.source.load(Ordering::Relaxed));
        let transparent = options.transparent && !self.transparent.load(Ordering::Relaxed);
        let freebind = options.freebind && !self.freebind.load(Ordering::Relaxed);
        rules
            .map(|(rule, _)| UnusedOption::Rule(*rule))
            .chain(source.map(UnusedOption::Source))
            .chain(transparent.then_some(UnusedOption::Transparent))
            .chain(freebind.then_some(UnusedOption::Freebind))
            .collect()
    }
}
