//! The words of a user about traffic: policy, tier, selector, value, canary.

use std::fmt;
use std::str::FromStr;

use crate::model::Protocol;
use crate::model::name::{RunName, RunNameError};
use crate::spelling;

/// How the member of a group is chosen for a new connection, or for a new flow of UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum TrafficPolicy {
    /// The kernel's own: a hash of both addresses and ports.
    Hash,
    /// Each member with equal probability.
    Random,
    /// Each member with a probability in proportion to its weight.
    Weights,
    /// By the address of the client: a client keeps its member while that one stays.
    Sticky,
    /// Each member in turn.
    RoundRobin,
    /// The members of the first rank that can take connections.
    Standby,
    /// The member with the fewest open connections.
    LeastConnections,
    /// The better of two random members.
    TwoChoices,
    /// A member of the processor that received the packet (`SO_INCOMING_CPU`, socket(7)).
    Cpu,
    /// A member of the NUMA node that received the packet.
    Numa,
}

impl TrafficPolicy {
    /// Every policy, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::Hash,
        Self::Random,
        Self::Weights,
        Self::Sticky,
        Self::RoundRobin,
        Self::Standby,
        Self::LeastConnections,
        Self::TwoChoices,
        Self::Cpu,
        Self::Numa,
    ];

    /// The word of the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Random => "random",
            Self::Weights => "weights",
            Self::Sticky => "sticky",
            Self::RoundRobin => "round-robin",
            Self::Standby => "standby",
            Self::LeastConnections => "least-connections",
            Self::TwoChoices => "two-choices",
            Self::Cpu => "cpu",
            Self::Numa => "numa",
        }
    }

    /// The policy of `on` and `auto`: the best one that the tier can follow and that is safe for every
    /// program. UDP has no connections to count.
    #[must_use]
    pub fn default_of(tier: SteeringTier, protocol: Protocol) -> Self {
        match (tier, protocol) {
            (SteeringTier::Extended, Protocol::Tcp) => Self::TwoChoices,
            (SteeringTier::Classic, _) | (_, Protocol::Udp) => Self::Random,
        }
    }

    /// The greatest value of a member: 0 if the policy takes none, 1 if a member gets connections or
    /// not, 255 for ranks.
    #[must_use]
    pub fn most(self) -> u32 {
        match self {
            Self::Hash => 0,
            Self::RoundRobin | Self::Cpu | Self::Numa => 1,
            Self::Standby => u8::MAX.into(),
            _ => u32::MAX,
        }
    }

    /// Whether a member's value is its rank, and not its weight.
    #[must_use]
    pub fn has_ranks(self) -> bool {
        self == Self::Standby
    }
}

impl fmt::Display for TrafficPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for TrafficPolicy {
    type Err = RulesError;

    /// Parses the word of a policy.
    ///
    /// # Errors
    ///
    /// [`RulesError::Policy`] if no policy has this name.
    fn from_str(text: &str) -> Result<Self, RulesError> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == text)
            .ok_or_else(|| RulesError::Policy(text.to_owned()))
    }
}

/// The mechanism with which the kernel follows a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum SteeringTier {
    /// Classic BPF (`SO_ATTACH_REUSEPORT_CBPF`, Linux 4.5): no privilege, no state.
    Classic,
    /// eBPF (`BPF_PROG_TYPE_SK_REUSEPORT`): CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON.
    #[cfg_attr(feature = "serde", serde(rename = "ebpf"))]
    Extended,
}

impl SteeringTier {
    /// The usual name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic BPF",
            Self::Extended => "eBPF",
        }
    }
}

impl fmt::Display for SteeringTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which members of a group are meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub enum MemberSelector {
    /// The workers of a run, else those of a group of runs: `web`.
    Name(RunName),
    /// One worker of a run, from 1: `web.2`; if no run has that worker, as [`Self::Name`] with a dot.
    Worker(RunName, u16),
    /// The sockets that this process has open: `4130`.
    Pid(i32),
}

impl fmt::Display for MemberSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Worker(name, worker) => write!(f, "{name}.{worker}"),
            Self::Pid(pid) => pid.fmt(f),
        }
    }
}

impl FromStr for MemberSelector {
    type Err = RulesError;

    /// Parses a selector. Digits are a pid; a name that ends with a dot and a number is a worker.
    ///
    /// # Errors
    ///
    /// [`RulesError::Selector`] if the text is neither a name nor a pid.
    fn from_str(text: &str) -> Result<Self, RulesError> {
        let invalid = |why: String| RulesError::Selector(text.to_owned(), why);
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.parse() {
                Ok(pid) if pid > 0 => Ok(Self::Pid(pid)),
                _ => Err(invalid(format!("a pid is a number from 1 to {}", i32::MAX))),
            };
        }
        if let Some((run, worker)) = text.rsplit_once('.')
            && let (Ok(run), Some(worker)) = (run.parse(), ordinal(worker))
        {
            return Ok(Self::Worker(run, worker));
        }
        text.parse().map(Self::Name).map_err(|error| match error {
            // The other messages quote the text.
            RunNameError::Empty => {
                invalid("a member is a run, a group, a worker such as web.2, or a pid".into())
            }
            other => invalid(other.to_string()),
        })
    }
}

fn ordinal(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain)
}

impl TryFrom<String> for MemberSelector {
    type Error = RulesError;

    fn try_from(text: String) -> Result<Self, RulesError> {
        text.parse()
    }
}

impl From<MemberSelector> for String {
    fn from(selector: MemberSelector) -> Self {
        selector.to_string()
    }
}

/// The value of the selected members: a weight, or with [`TrafficPolicy::Standby`] a rank.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MemberValue {
    /// The members.
    pub selector: MemberSelector,
    /// A weight, which the members divide among them; 0: none. A rank, which each of them has; 0 serves
    /// first.
    pub value: u32,
}

impl fmt::Display for MemberValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.selector, self.value)
    }
}

impl FromStr for MemberValue {
    type Err = RulesError;

    /// Parses `SELECTOR=VALUE`.
    ///
    /// # Errors
    ///
    /// [`RulesError`] without a `=`, with an invalid selector, or with a value that is not a number
    /// below 2³².
    fn from_str(text: &str) -> Result<Self, RulesError> {
        let Some((selector, value)) = text.rsplit_once('=') else {
            return Err(RulesError::NoValue(text.to_owned()));
        };
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        match value.parse() {
            Ok(value) if is_number => Ok(Self { selector: selector.parse()?, value }),
            _ if is_number => Err(RulesError::TooLarge(text.to_owned())),
            _ => Err(RulesError::Number(text.to_owned(), value.to_owned())),
        }
    }
}

/// The share of new connections that canary members get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CanaryShare {
    /// Connections of 10,000: 1 is 0.01 %, 10,000 is all.
    pub per_10000: u16,
}

impl fmt::Display for CanaryShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.per_10000 / 100, self.per_10000 % 100);
        match part {
            0 => write!(f, "{whole}%"),
            _ if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
            _ => write!(f, "{whole}.{part:02}%"),
        }
    }
}

impl FromStr for CanaryShare {
    type Err = RulesError;

    /// Parses a share such as `10%`, `0.5%` or `10`.
    ///
    /// # Errors
    ///
    /// [`RulesError::Share`] unless it is at least 0.01 % and below 100 %, with two decimals at most.
    fn from_str(text: &str) -> Result<Self, RulesError> {
        let invalid = || RulesError::Share(text.to_owned());
        let number = text.strip_suffix('%').unwrap_or(text);
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let is_digits = |it: &str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(part) || part.len() > 2 {
            return Err(invalid());
        }
        let whole: u16 = whole.parse().map_err(|_| invalid())?;
        let part: u16 = format!("{part:0<2}").parse().map_err(|_| invalid())?;
        match whole.checked_mul(100).and_then(|it| it.checked_add(part)) {
            Some(per_10000 @ 1..10_000) => Ok(Self { per_10000 }),
            _ => Err(invalid()),
        }
    }
}

/// What a user wants for one port. It stays while members come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TrafficRules {
    /// The policy.
    pub policy: TrafficPolicy,
    /// Values of members. A member without one has weight 1, or rank 0.
    #[cfg_attr(feature = "serde", serde(default))]
    pub values: Vec<MemberValue>,
    /// The share of the canary members, before the policy chooses among them. `None`: no member is one.
    #[cfg_attr(feature = "serde", serde(default))]
    pub canary: Option<CanaryShare>,
    /// Whether a datagram of QUIC goes to the socket that its connection id names, before the policy is
    /// asked: docs/udp.md. UDP only.
    #[cfg_attr(feature = "serde", serde(default))]
    pub connection_ids: bool,
}

impl TrafficRules {
    /// A policy without values.
    #[must_use]
    pub fn new(policy: TrafficPolicy) -> Self {
        Self { policy, values: vec![], canary: None, connection_ids: false }
    }
}

/// As the arguments of `steer`: `weights web=9 web-v2=1`.
impl fmt::Display for TrafficRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.policy)?;
        self.values.iter().try_for_each(|value| write!(f, " {value}"))?;
        if self.connection_ids { f.write_str(" --connection-id") } else { Ok(()) }
    }
}

/// Why a text is no policy, selector, value or share. `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RulesError {
    /// No policy has this name.
    Policy(String),
    /// The text is no selector, with the reason.
    Selector(String, String),
    /// The text has no `=`.
    NoValue(String),
    /// In the text, this value is not a number.
    Number(String, String),
    /// The value of the text is 2³² or more.
    TooLarge(String),
    /// The text is not a share.
    Share(String),
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(text) => {
                write!(f, "\"{}\" is not a policy: ", text.escape_debug())?;
                let names = TrafficPolicy::ALL.map(TrafficPolicy::name);
                match spelling::nearest(text, names) {
                    Some(name) => write!(f, "the nearest is {name}"),
                    None => write!(f, "they are {}", names.join(", ")),
                }
            }
            Self::Selector(text, why) => {
                write!(f, "\"{}\" is not a member: {why}", text.escape_debug())
            }
            Self::NoValue(text) => {
                write!(f, "\"{}\" has no value: MEMBER=NUMBER, such as web=9", text.escape_debug())
            }
            Self::Number(text, value) => write!(
                f,
                "\"{}\": \"{}\" is not a number from 0 to {}",
                text.escape_debug(),
                value.escape_debug(),
                u32::MAX
            ),
            Self::TooLarge(text) => {
                write!(f, "\"{}\": a value is a number from 0 to {}", text.escape_debug(), u32::MAX)
            }
            Self::Share(text) => write!(
                f,
                "\"{}\" is not a share: from 0.01% to 99.99%, such as 10%",
                text.escape_debug()
            ),
        }
    }
}

impl std::error::Error for RulesError {}

#[cfg(test)]
mod tests;
