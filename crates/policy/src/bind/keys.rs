//! Rules as a hash table, for a decider that can only look up: the eBPF programs in `crates/sys/bpf/`.
//!
//! At most six lookups, the most specific first, find the rule that [`crate::bind::map::decide`] finds in
//! a list. Keys and targets are bytes in the layout of `crates/sys/bpf/bind.bpf.c`, numbers in
//! little-endian order.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bind::map::{MapRequest, MapRule, RuleSide};
use sameport_addr::Protocol;

/// `struct key`: IP address (IPv4 mapped), port, whether there is an IP address, protocol.
pub type RuleKey = [u8; 20];

/// `struct target`: IP address (IPv4 mapped), port, its family (4, 6; 0 for as asked), whether FROM is a
/// port of any address, the rule's place in the list.
pub type RuleTarget = [u8; 24];

const TCP: u8 = 6;
const UDP: u8 = 17;
/// A port of both protocols, in the map `ports`.
const BOTH: u8 = 1;

/// The key under which a rule is found.
#[must_use]
pub fn key(rule: &MapRule) -> RuleKey {
    make_key(rule.protocol, rule.from.ip, rule.from.port.unwrap_or(0))
}

/// The value under that key. `place` is the rule's index in the list.
#[must_use]
pub fn target(rule: &MapRule, place: u32) -> RuleTarget {
    let mut bytes = [0; 24];
    if let Some(ip) = rule.to.ip {
        bytes[..16].copy_from_slice(&mapped(ip));
        bytes[18] = if ip.is_ipv4() { 4 } else { 6 };
    }
    bytes[16..18].copy_from_slice(&rule.to.port.unwrap_or(0).to_le_bytes());
    bytes[19] = u8::from(rule.from.ip.is_none());
    bytes[20..].copy_from_slice(&place.to_le_bytes());
    bytes
}

/// The rule that was written like this, and its place.
#[must_use]
pub fn rule(key: &RuleKey, target: &RuleTarget) -> (MapRule, u32) {
    let protocol = protocol_of_value(key[19]);
    let port = |low, high| Some(u16::from_le_bytes([low, high])).filter(|port| *port != 0);
    let ip = ip_in(key);
    let from =
        RuleSide { ip: (key[18] != 0).then(|| ip.to_canonical()), port: port(key[16], key[17]) };
    let ip = match target[18] {
        0 => None,
        4 => Some(ip_in(target).to_canonical()),
        _ => Some(ip_in(target)),
    };
    let to = RuleSide { ip, port: port(target[16], target[17]) };
    let place = u32::from_le_bytes([target[20], target[21], target[22], target[23]]);
    (MapRule { protocol, from, to }, place)
}

/// The value of a port in the map `ports`, beside what it has already: the number of its protocol, 1 for both.
#[must_use]
pub fn port_value(protocol: Option<Protocol>, before: Option<u8>) -> u8 {
    let value = match protocol {
        None => BOTH,
        Some(Protocol::Tcp) => TCP,
        Some(Protocol::Udp) => UDP,
    };
    if before.is_none_or(|before| before == value) { value } else { BOTH }
}

/// The protocol of a port with this value in the map `ports`; `None` for both.
#[must_use]
pub fn protocol_of_value(value: u8) -> Option<Protocol> {
    match value {
        TCP => Some(Protocol::Tcp),
        UDP => Some(Protocol::Udp),
        _ => None,
    }
}

/// The keys to look under, in this order; the first that is there is the rule.
pub fn lookups(asked: &MapRequest) -> impl Iterator<Item = RuleKey> {
    let (ip, port) = (Some(asked.address.ip()), asked.address.port());
    let places = [(ip, port), (ip, 0), (None, port)];
    let MapRequest { protocol, .. } = *asked;
    // Port 0 asks for any free port; only a rule for the address may touch it.
    places
        .into_iter()
        .filter(move |(ip, _)| ip.is_some() || port != 0)
        .flat_map(move |(ip, port)| [make_key(Some(protocol), ip, port), make_key(None, ip, port)])
}

fn make_key(protocol: Option<Protocol>, ip: Option<IpAddr>, port: u16) -> RuleKey {
    let mut bytes = [0; 20];
    if let Some(ip) = ip {
        bytes[..16].copy_from_slice(&mapped(ip));
        bytes[18] = 1;
    }
    bytes[16..18].copy_from_slice(&port.to_le_bytes());
    bytes[19] = match protocol {
        None => 0,
        Some(Protocol::Tcp) => TCP,
        Some(Protocol::Udp) => UDP,
    };
    bytes
}

/// An address as 16 bytes, those of IPv4 below `::ffff:0:0/96`.
#[must_use]
pub fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The address that these bytes begin with.
fn ip_in(bytes: &[u8]) -> IpAddr {
    let mut ip = [0; 16];
    ip.copy_from_slice(&bytes[..16]);
    IpAddr::V6(Ipv6Addr::from(ip))
}

/// An address of 16 bytes, as a socket of this family has it: `a.b.c.d` on IPv4.
#[must_use]
pub fn unmapped(bytes: [u8; 16], is_v4: bool) -> IpAddr {
    let [.., a, b, c, d] = bytes;
    if is_v4 { Ipv4Addr::new(a, b, c, d).into() } else { Ipv6Addr::from(bytes).into() }
}
