//! Moving a program's binds to other addresses: `--map FROM=TO`, one decision for every
//! interposer.
//!
//! Each side is `PORT`, `ADDR` or `ADDR:PORT` (IPv6 in brackets: `[::1]`, `[::1]:80`), FROM with `/tcp` or
//! `/udp` behind it (or `tcp:`, `udp:` before it) if the rule is for one of them only. A part that TO leaves out
//! stays as in the program's call; a loopback or wildcard TO of a rule for a port of any address stands for
//! that of both families. Of several rules that match, the most specific wins: address and
//! port before address before port, and among those the one that names a protocol.
//!
//! Only `core` is used: the preload library takes this file as it is, and may not allocate.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use core::str::FromStr;

use super::protocol::Protocol;

/// One side of a rule. A part that is `None` matches everything (FROM) or stays unchanged (TO).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleSide {
    /// The IP address.
    pub ip: Option<IpAddr>,
    /// The port, never 0.
    pub port: Option<u16>,
}

/// `FROM=TO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapRule {
    /// The protocol it is for, if not both.
    pub protocol: Option<Protocol>,
    /// The address in the program's call.
    pub from: RuleSide,
    /// The address that the socket gets.
    pub to: RuleSide,
}

/// The bind that a program asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapRequest {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The address in its `bind`.
    pub address: SocketAddr,
    /// Whether its socket is an IPv6 one that refuses IPv4 (`IPV6_V6ONLY`).
    pub v6only: bool,
}

/// The result of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// This address, of the socket's own family. An IPv4 address on an IPv6 socket is written
    /// `::ffff:a.b.c.d`: the socket then takes IPv4 traffic only, whatever it asked for. A socket of the
    /// other family than the rule's gets the [`counterpart`], if FROM is a port of any address.
    To(SocketAddr),
    /// The rule names an address of a family that this socket cannot have: the bind is refused.
    OtherFamily,
}

/// The index of the rule that applies to this bind, and its result.
#[must_use]
pub fn decide(rules: &[MapRule], asked: &MapRequest) -> Option<(usize, Mapping)> {
    let mut best: Option<(usize, &MapRule)> = None;
    for (place, rule) in rules.iter().enumerate() {
        if rule.matches(asked) && best.is_none_or(|(_, so_far)| rule.rank() > so_far.rank()) {
            best = Some((place, rule));
        }
    }
    best.map(|(place, rule)| (place, rule.apply(asked)))
}

impl MapRule {
    fn matches(&self, asked: &MapRequest) -> bool {
        self.protocol.is_none_or(|protocol| protocol == asked.protocol)
            && self.from.port.is_none_or(|port| port == asked.address.port())
            && self.from.ip.is_none_or(|ip| ip.to_canonical() == asked.address.ip().to_canonical())
            // Port 0 asks for any free port; only a rule for the address may touch it.
            && (asked.address.port() != 0 || self.from.port.is_none())
    }

    /// Higher is more specific.
    fn rank(&self) -> u8 {
        let named = |is: bool, weight| if is { weight } else { 0 };
        named(self.from.ip.is_some(), 4)
            + named(self.from.port.is_some(), 2)
            + named(self.protocol.is_some(), 1)
    }

    fn apply(&self, asked: &MapRequest) -> Mapping {
        let port = self.to.port.unwrap_or(asked.address.port());
        let Some(ip) = self.to.ip else {
            let mut moved = asked.address;
            moved.set_port(port);
            return Mapping::To(moved);
        };
        let other_family = || match counterpart(ip).filter(|_| self.from.ip.is_none()) {
            Some(ip) => Mapping::To(SocketAddr::new(ip, port)),
            None => Mapping::OtherFamily,
        };
        match (asked.address, ip) {
            (SocketAddr::V4(_), IpAddr::V4(ip)) => Mapping::To(SocketAddrV4::new(ip, port).into()),
            (SocketAddr::V6(_), IpAddr::V6(ip)) => moved_v6(ip, port),
            (SocketAddr::V6(address), IpAddr::V4(ip)) => {
                let named = address.ip();
                let takes_v4 = named.is_unspecified() || named.to_ipv4_mapped().is_some();
                match other_family() {
                    // Its IPv4 part is what the rule is about.
                    _ if takes_v4 && !asked.v6only => moved_v6(ip.to_ipv6_mapped(), port),
                    Mapping::OtherFamily if !asked.v6only => moved_v6(ip.to_ipv6_mapped(), port),
                    mapping => mapping,
                }
            }
            (SocketAddr::V4(_), IpAddr::V6(_)) => other_family(),
        }
    }
}

/// The address of the other family that means the same: the loopback or the wildcard. A rule for a port of
/// any address is for both families, and many programs have a socket for each.
#[must_use]
pub fn counterpart(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) if ip.is_loopback() => Some(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(ip) if ip.is_unspecified() => Some(Ipv6Addr::UNSPECIFIED.into()),
        IpAddr::V6(ip) if ip.is_loopback() => Some(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => Some(Ipv4Addr::UNSPECIFIED.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn moved_v6(ip: Ipv6Addr, port: u16) -> Mapping {
    Mapping::To(SocketAddrV6::new(ip, port, 0, 0).into())
}

/// Why a text is not a rule, or a rule that no socket could follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapRuleError {
    /// Not `FROM=TO`.
    NoEquals,
    /// FROM is none of the forms.
    From,
    /// TO is none of the forms.
    To,
    /// A protocol of TO that FROM does not have: a socket cannot change it.
    ProtocolOfTo,
    /// Both sides are the same, so nothing would be moved.
    Itself,
    /// FROM is of one family and TO of the other, where no socket could be of both.
    Family,
}

impl fmt::Display for MapRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEquals => "write FROM=TO, such as 80=8080",
            Self::From => "before = goes PORT, ADDR or ADDR:PORT, such as 80 or [::1]:80",
            Self::To => "after = goes PORT, ADDR or ADDR:PORT, such as 8080 or [::1]:8080",
            Self::ProtocolOfTo => {
                "a bind keeps its protocol: write it behind FROM, as in 80/tcp=8080"
            }
            Self::Itself => "both sides are the same",
            Self::Family => "an IPv4 socket cannot have an IPv6 address, nor one for [::1] IPv4",
        })
    }
}

impl core::error::Error for MapRuleError {}

impl FromStr for MapRule {
    type Err = MapRuleError;

    fn from_str(text: &str) -> Result<Self, MapRuleError> {
        let (from, to) = text.split_once('=').ok_or(MapRuleError::NoEquals)?;
        let (protocol, from) = take_protocol(from).ok_or(MapRuleError::From)?;
        let (of_to, to) = take_protocol(to).ok_or(MapRuleError::To)?;
        if of_to.is_some() && of_to != protocol {
            return Err(MapRuleError::ProtocolOfTo);
        }
        let from: RuleSide = from.parse().map_err(|()| MapRuleError::From)?;
        let to: RuleSide = to.parse().map_err(|()| MapRuleError::To)?;
        // A side that only repeats what FROM names moves nothing.
        let same_ip = to.ip.is_none() || to.ip == from.ip;
        let same_port = to.port.is_none() || to.port == from.port;
        if same_ip && same_port {
            return Err(MapRuleError::Itself);
        }
        match (from.ip, to.ip) {
            (Some(IpAddr::V4(_)), Some(IpAddr::V6(_))) => Err(MapRuleError::Family),
            // The wildcard takes both families, so IPv4 is a part of what it asks for.
            (Some(IpAddr::V6(ip)), Some(IpAddr::V4(_)))
                if !ip.is_unspecified() && ip.to_ipv4_mapped().is_none() =>
            {
                Err(MapRuleError::Family)
            }
            _ => Ok(Self { protocol, from, to }),
        }
    }
}

impl FromStr for RuleSide {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(rest) = text.strip_prefix('[') {
            let (ip, rest) = rest.split_once(']').ok_or(())?;
            let ip = IpAddr::V6(ip.parse::<Ipv6Addr>().map_err(drop)?);
            let port = match rest.strip_prefix(':') {
                Some(port_text) => Some(port(port_text).ok_or(())?),
                None if rest.is_empty() => None,
                None => return Err(()),
            };
            return Ok(Self { ip: Some(ip), port });
        }
        if let Some(port) = port(text) {
            return Ok(Self { ip: None, port: Some(port) });
        }
        let (ip, port) = match text.split_once(':') {
            Some((ip, port_text)) => (ip, Some(port(port_text).ok_or(())?)),
            None => (text, None),
        };
        Ok(Self { ip: Some(IpAddr::V4(ip.parse::<Ipv4Addr>().map_err(drop)?)), port })
    }
}

/// The protocol of `80/tcp` or of `tcp:80`, and the rest; `None` if both forms are used.
#[must_use]
pub fn take_protocol(text: &str) -> Option<(Option<Protocol>, &str)> {
    let named = |tcp: Option<_>, udp: Option<_>| {
        let tcp = tcp.map(|rest| (Some(Protocol::Tcp), rest));
        tcp.or(udp.map(|rest| (Some(Protocol::Udp), rest)))
    };
    let before = named(text.strip_prefix("tcp:"), text.strip_prefix("udp:"));
    let behind = named(text.strip_suffix("/tcp"), text.strip_suffix("/udp"));
    match (before, behind) {
        (Some(_), Some(_)) => None,
        (found, other) => Some(found.or(other).unwrap_or((None, text))),
    }
}

/// A fixed port: digits only, 1 to 65535, no leading zero.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if digits { text.parse().ok() } else { None }
}

/// Two rules for one FROM contradict each other: the indices of the first such pair.
#[must_use]
pub fn contradiction(rules: &[MapRule]) -> Option<(usize, usize)> {
    rules.iter().enumerate().find_map(|(later, rule)| {
        let same = |other: &MapRule| (other.protocol, other.from) == (rule.protocol, rule.from);
        rules[..later].iter().position(same).map(|earlier| (earlier, later))
    })
}

impl fmt::Display for RuleSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, self.port) {
            (None, None) => Ok(()),
            (None, Some(port)) => write!(f, "{port}"),
            (Some(IpAddr::V4(ip)), None) => write!(f, "{ip}"),
            (Some(IpAddr::V6(ip)), None) => write!(f, "[{ip}]"),
            (Some(ip), Some(port)) => write!(f, "{}", SocketAddr::new(ip, port)),
        }
    }
}

/// The text that it parses from.
impl fmt::Display for MapRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Some(protocol) => write!(f, "{}/{protocol}={}", self.from, self.to),
            None => write!(f, "{}={}", self.from, self.to),
        }
    }
}
