//! The options for the workers' sockets, the same for every interposer, and which of them were used.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sameport_policy::bind::map::MapRule;
use sameport_policy::bind::verdict::PortSet;

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
}

/// The options that have been used; the interposer marks them.
#[derive(Debug, Clone)]
pub(crate) struct OptionUsage {
    rules: Arc<[AtomicBool]>,
    source: Arc<AtomicBool>,
    transparent: Arc<AtomicBool>,
}

impl OptionUsage {
    pub(crate) fn none_of(options: &BindOptions) -> Self {
        let rules = options.rules.iter().map(|_| AtomicBool::new(false)).collect();
        Self { rules, source: Arc::default(), transparent: Arc::default() }
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

    /// The options that have not been used.
    pub(crate) fn unused(&self, options: &BindOptions) -> Vec<UnusedOption> {
        let rules = options.rules.iter().zip(self.rules.iter());
        let rules = rules.filter(|(_, used)| !used.load(Ordering::Relaxed));
        let source = options.source.filter(|_| !self.source.load(Ordering::Relaxed));
        let transparent = options.transparent && !self.transparent.load(Ordering::Relaxed);
        rules
            .map(|(rule, _)| UnusedOption::Rule(*rule))
            .chain(source.map(UnusedOption::Source))
            .chain(transparent.then_some(UnusedOption::Transparent))
            .collect()
    }
}
