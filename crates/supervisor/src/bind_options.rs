//! What the user wants of the workers' sockets, whatever the interposer, and what of it was used.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sameport_policy::bind::map::MapRule;
use sameport_policy::bind::verdict::PortSet;

/// What is wanted of every socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindOptions {
    /// The ports to share.
    pub ports: PortSet,
    /// Where binds go instead (`--map`).
    pub rules: Vec<MapRule>,
    /// Where connections come from (`--source`); port 0 for any.
    pub source: Option<SocketAddr>,
    /// Whether addresses may be others than this machine's (`--transparent`).
    pub transparent: bool,
}

/// A wish that nothing ever came of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnusedOption {
    /// A map rule matched no bind.
    Rule(MapRule),
    /// No connection got the source address.
    Source(SocketAddr),
    /// No socket was bound or connected, so that none became transparent.
    Transparent,
}

/// Which wishes have been used, marked by whoever carries them out.
#[derive(Debug, Clone)]
pub(crate) struct OptionUsage {
    rules: Arc<[AtomicBool]>,
    source: Arc<AtomicBool>,
    transparent: Arc<AtomicBool>,
}

impl OptionUsage {
    pub(crate) fn nothing_of(wishes: &BindOptions) -> Self {
        let rules = wishes.rules.iter().map(|_| AtomicBool::new(false)).collect();
        Self { rules, source: Arc::default(), transparent: Arc::default() }
    }

    /// The rule in this place moved a bind.
    pub(crate) fn rule(&self, place: usize) {
        if let Some(rule) = self.rules.get(place) {
            rule.store(true, Ordering::Relaxed);
        }
    }

    /// A connection got its source.
    pub(crate) fn source(&self) {
        self.source.store(true, Ordering::Relaxed);
    }

    /// A socket was to be transparent.
    pub(crate) fn transparent(&self) {
        self.transparent.store(true, Ordering::Relaxed);
    }

    /// What is left.
    pub(crate) fn unused(&self, wishes: &BindOptions) -> Vec<UnusedOption> {
        let rules = wishes.rules.iter().zip(self.rules.iter());
        let rules = rules.filter(|(_, used)| !used.load(Ordering::Relaxed));
        let source = wishes.source.filter(|_| !self.source.load(Ordering::Relaxed));
        let transparent = wishes.transparent && !self.transparent.load(Ordering::Relaxed);
        rules
            .map(|(rule, _)| UnusedOption::Rule(*rule))
            .chain(source.map(UnusedOption::Source))
            .chain(transparent.then_some(UnusedOption::Transparent))
            .collect()
    }
}
