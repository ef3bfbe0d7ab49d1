//! The measures of the benchmark, by name.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BalanceMeasure {
    /// 64 long connections to 8 members: the busiest, divided by the mean
    Long,
    /// One of 4 members is stopped (SIGSTOP): new connections without an answer
    Stopped,
    /// 90 to 10 to 0: the parts of new connections
    Weights,
    /// One of 8 members leaves: clients that change their member
    Sticky,
    /// `upgrade --canary`, `--promote` and `--rollback` under load: lost connections
    Canary,
    /// Nanoseconds of one choice, by the kernel's statistics: the lowest of ten parts
    Choice,
    /// Connections per second
    Rate,
    /// One request in 50 takes 100 times as long: the 99th percentile
    Heavy,
    /// 256 members join and leave under load: lost connections
    Churn,
    /// Counts of open connections, compared with ss; not among the default, because it takes minutes
    Drift,
}

impl BalanceMeasure {
    /// The default: all but `Drift`.
    pub(crate) const ALL: [Self; 9] = [
        Self::Long,
        Self::Stopped,
        Self::Weights,
        Self::Sticky,
        Self::Canary,
        Self::Choice,
        Self::Rate,
        Self::Heavy,
        Self::Churn,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Long => "long",
            Self::Stopped => "stopped",
            Self::Weights => "weights",
            Self::Sticky => "sticky",
            Self::Canary => "canary",
            Self::Choice => "choice",
            Self::Rate => "rate",
            Self::Heavy => "heavy",
            Self::Churn => "churn",
            Self::Drift => "drift",
        }
    }

    /// The question that it answers, for the heading.
    pub(crate) fn question(self) -> &'static str {
        match self {
            Self::Long => "64 long connections to 8 members",
            Self::Stopped => "one of 4 members is stopped",
            Self::Weights => "weights 90, 10 and 0",
            Self::Sticky => "one of 8 members leaves",
            Self::Canary => "canary, promotion and rollback under load",
            Self::Choice => "the cost of a choice",
            Self::Rate => "short connections",
            Self::Heavy => "one request in 50 takes 100 times as long",
            Self::Drift => "counts of open connections beside ss",
            Self::Churn => "256 members join and leave",
        }
    }
}
