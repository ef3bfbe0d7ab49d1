//! What holds for the traffic of one port. Every verb that shows traffic prints from it.

use std::fmt;

use super::model::{SteeringTier, TrafficRules};
use crate::model::Protocol;

/// The traffic of one port.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TrafficStatus {
    /// TCP or UDP: `tcp`, `udp`.
    #[cfg_attr(feature = "serde", serde(with = "protocol_name"))]
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// The addresses of the members.
    pub addresses: Vec<String>,
    /// The policy and the values that a user wants.
    pub rules: TrafficRules,
    /// What makes the kernel follow them; `None`: nothing, as for `hash`.
    pub tier: Option<SteeringTier>,
    /// Whether the kernel follows the rules; the reason if not. In JSON `not_in_force`: null, or the
    /// reason.
    #[cfg_attr(feature = "serde", serde(rename = "not_in_force", with = "null_or_reason"))]
    pub in_force: Result<(), String>,
    /// The members, in the order of the output.
    pub members: Vec<MemberTraffic>,
    /// The number of choices that the program made for these members since the rules changed last; `None` if it does
    /// not count.
    pub choices: Option<u64>,
    /// What a user should know, one line each.
    #[cfg_attr(feature = "serde", serde(default))]
    pub remarks: Vec<String>,
}

/// One member and its traffic. `None` is unknown.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MemberTraffic {
    /// The process that serves it.
    pub pid: Option<i32>,
    /// The name of that process.
    pub program: Option<String>,
    /// The run of that process.
    pub run: Option<String>,
    /// The worker's number in the run, from 1.
    pub worker: Option<u16>,
    /// The addresses of its sockets.
    pub addresses: Vec<String>,
    /// The inodes of its sockets.
    #[cfg_attr(feature = "serde", serde(default))]
    pub inodes: Vec<u64>,
    /// The weight of the plan.
    pub weight: Option<u32>,
    /// The rank of the plan.
    pub rank: Option<u8>,
    /// Whether it is a canary.
    pub canary: bool,
    /// The part of new connections that the rules give it, from 0 to 1; `None` if they give none, as
    /// `least-connections`.
    pub share_wanted: Option<f64>,
    /// The part of the counted choices that it got, from 0 to 1.
    pub share_seen: Option<f64>,
    /// How often the program chose it since the rules changed last.
    pub chosen: Option<u64>,
    /// Open connections.
    pub open: Option<u32>,
    /// Connections in the accept queue.
    pub queue: Option<u32>,
    /// The limit of the accept queue.
    pub backlog: Option<u32>,
    /// Packets that its sockets dropped.
    pub drops: Option<u64>,
    /// Whether it gets new connections.
    pub state: MemberState,
}

impl MemberTraffic {
    /// How a user names it: `web.2`, else the pid, else `?`.
    #[must_use]
    pub fn label(&self) -> String {
        match (&self.run, self.worker, self.pid) {
            (Some(run), Some(worker), _) => format!("{run}.{worker}"),
            (_, _, Some(pid)) => pid.to_string(),
            _ => "?".to_owned(),
        }
    }
}

/// Whether a member gets new connections, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum MemberState {
    /// It gets what the policy gives it.
    Serving,
    /// It gets nothing until it is ready.
    HeldBack,
    /// It gets nothing new, and finishes what it has.
    Draining,
    /// It does not accept: its queue is full, or nothing left the queue for a while.
    Hung,
    /// Its socket is closed.
    Gone,
    /// It is not in the plan.
    Foreign,
}

impl MemberState {
    /// The word of the output and of JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::HeldBack => "held-back",
            Self::Draining => "draining",
            Self::Hung => "hung",
            Self::Gone => "gone",
            Self::Foreign => "foreign",
        }
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A protocol as its word.
#[cfg(feature = "serde")]
mod protocol_name {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::model::Protocol;

    pub(super) fn serialize<S: Serializer>(it: &Protocol, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(it.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Protocol, D::Error> {
        let name = String::deserialize(from)?;
        [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .find(|protocol| protocol.name() == name)
            .ok_or_else(|| serde::de::Error::custom("a protocol is tcp or udp"))
    }
}

/// `Ok` as null, `Err` as the reason.
#[cfg(feature = "serde")]
mod null_or_reason {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(
        it: &Result<(), String>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        it.as_ref().err().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Result<(), String>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map_or(Ok(()), Err))
    }
}
