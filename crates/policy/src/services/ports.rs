//! Services of one file on one port.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::fault::ServiceFault;
use super::model::{ServiceSpec, WorkerCount};
use super::tree::FilePosition;
use crate::addr::{AddrSpec, Host, Protocol};
use crate::bind::map::MapRule;
use crate::option_values::{parse_expected, parse_port, parse_tcp_address};

/// A service, and the places of its keys.
pub(super) struct PlacedService {
    pub(super) spec: ServiceSpec,
    /// Whether everything in its table is right.
    pub(super) is_whole: bool,
    pub(super) places: Vec<(&'static str, FilePosition)>,
}

/// Ports that a service names.
struct PortClaim {
    service: usize,
    key: &'static str,
    /// `None`: both.
    protocol: Option<Protocol>,
    /// `None`: every address.
    ip: Option<IpAddr>,
    ports: RangeInclusive<u16>,
}

impl PortClaim {
    /// The first port that both name for the same clients.
    fn common_port(&self, other: &Self) -> Option<u16> {
        let same_protocol = match (self.protocol, other.protocol) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        let is_any = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_unspecified());
        let same_address = is_any(self.ip)
            || is_any(other.ip)
            || self.ip.map(|ip| ip.to_canonical()) == other.ip.map(|ip| ip.to_canonical());
        let first = *self.ports.start().max(other.ports.start());
        let in_both = self.ports.contains(&first) && other.ports.contains(&first);
        (same_protocol && same_address && in_both).then_some(first)
    }
}

/// The services that would share a port by accident: one fault for each pair, at the later one. Only ports that
/// the file names are known; the port in a command is seen when the service binds it.
pub(super) fn conflicts(services: &[PlacedService]) -> Vec<ServiceFault> {
    let claims: Vec<PortClaim> = services
        .iter()
        .enumerate()
        .filter(|(_, service)| service.is_whole)
        .flat_map(|(index, service)| claims(index, &service.spec))
        .collect();
    let mut faults = Vec::new();
    let mut seen: Vec<(usize, usize)> = Vec::new();
    for (index, later) in claims.iter().enumerate() {
        for earlier in &claims[..index] {
            let pair = (earlier.service, later.service);
            let (one, other) = (&services[pair.0].spec, &services[pair.1]);
            if pair.0 == pair.1 || seen.contains(&pair) || share(one, &other.spec) {
                continue;
            }
            let Some(port) = earlier.common_port(later) else { continue };
            seen.push(pair);
            faults.push(conflict(one, other, later.key, port));
        }
    }
    faults
}

fn conflict(one: &ServiceSpec, other: &PlacedService, key: &str, port: u16) -> ServiceFault {
    let place = other.places.iter().find(|(name, _)| *name == key).map(|(_, at)| *at);
    let start = FilePosition { line: other.spec.line, column: 1 };
    let (line, name, other) = (one.line, &one.name, &other.spec.name);
    let message = format!(
        "port {port} of {other} is also one of {name} (line {line}), without a common group"
    );
    ServiceFault::new(place.unwrap_or(start), message).hint(format!(
        "give one of them another port, or give both the same group if they are to share it, such as group = \"{name}\""
    ))
}

/// Whether two services may share a port: in one group, or with every socket.
fn share(one: &ServiceSpec, other: &ServiceSpec) -> bool {
    let group = |spec: &ServiceSpec| spec.option("group").map(<[String]>::to_vec);
    let joins = |spec: &ServiceSpec| spec.option("join").is_some();
    match (group(one), group(other)) {
        _ if joins(one) && joins(other) => true,
        (Some(one), Some(other)) => one == other,
        (None, None) => one.command == other.command && one.directory == other.directory,
        _ => false,
    }
}

fn claims(service: usize, spec: &ServiceSpec) -> Vec<PortClaim> {
    let claim =
        |key, protocol, ip, port: u16| PortClaim { service, key, protocol, ip, ports: port..=port };
    let values = |option| spec.option(option).unwrap_or_default().iter();
    let rules: Vec<MapRule> = values("map").filter_map(|text| text.parse().ok()).collect();
    let mut claims = Vec::new();
    for address in values("listen").filter_map(|text| parse_tcp_address(text).ok()) {
        if let Some(ip) = ip_of(&address) {
            claims.push(claim("listen", Some(Protocol::Tcp), ip, address.port));
        }
    }
    for expected in values("expect").filter_map(|text| parse_expected(text).ok()) {
        if let Some(ip) = ip_of(&expected.addr) {
            claims.push(claim("expect", expected.protocol, ip, expected.addr.port));
        }
    }
    // A port that a rule moves is another one in the end.
    let is_moved = |port: u16| rules.iter().any(|rule| rule.from.port == Some(port));
    for port in values("port").filter_map(|text| parse_port(text).ok()) {
        if !is_moved(port.port) {
            claims.push(claim("port", port.protocol, None, port.port));
        }
    }
    for rule in &rules {
        if let Some(port) = rule.to.port.or(rule.from.port) {
            claims.push(claim("map", rule.protocol, rule.to.ip, port));
        }
    }
    let workers = match spec.workers {
        WorkerCount::Auto => 1,
        WorkerCount::Number(number) => number,
    };
    for first in values("each").filter_map(|text| parse_port(text).ok()) {
        let ports = first.port..=first.port.saturating_add(workers - 1);
        let protocol = first.protocol;
        claims.push(PortClaim { service, key: "each", protocol, ip: None, ports });
    }
    claims
}

/// The address of a host; `None` for a name that only the resolver knows.
fn ip_of(address: &AddrSpec) -> Option<Option<IpAddr>> {
    match &address.host {
        Host::Any => Some(None),
        Host::Ip(ip) => Some(Some(*ip)),
        Host::Name(name) if name == "localhost" => Some(Some([127, 0, 0, 1].into())),
        Host::Name(_) => None,
    }
}
