//! The compared ways to choose a member.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Chooser {
    /// Members with `SO_REUSEPORT`, by the kernel's hash
    Hash,
    /// `sameport run --policy` without privilege: classic BPF
    Classic,
    /// `sameport run --policy` as root: eBPF
    Ebpf,
    /// haproxy in front, TCP mode
    Haproxy,
    /// nginx in front, its stream module
    Nginx,
    /// Members that accept from one queue
    Shared,
}

impl Chooser {
    pub(crate) const ALL: [Self; 6] =
        [Self::Hash, Self::Classic, Self::Ebpf, Self::Haproxy, Self::Nginx, Self::Shared];
}

/// The kernel's hash, and its own migration of queues.
pub(crate) const MIGRATES: &str = "tcp_migrate_req";

/// A chooser with its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct BalanceArm {
    pub(crate) chooser: Chooser,
    pub(crate) policy: &'static str,
}

impl BalanceArm {
    pub(crate) fn new(chooser: Chooser, policy: &'static str) -> Self {
        Self { chooser, policy }
    }

    pub(crate) fn name(self) -> String {
        let policy = self.policy;
        match self.chooser {
            Chooser::Hash if policy == MIGRATES => format!("kernel hash, {policy}"),
            Chooser::Hash => "kernel hash".to_owned(),
            Chooser::Classic => format!("sameport, classic BPF, {policy}"),
            Chooser::Ebpf => format!("sameport, eBPF, {policy}"),
            Chooser::Haproxy => format!("haproxy tcp, {policy}"),
            Chooser::Nginx => format!("nginx stream, {policy}"),
            Chooser::Shared => "one shared queue".to_owned(),
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self.chooser, Chooser::Classic | Chooser::Ebpf)
    }
}
