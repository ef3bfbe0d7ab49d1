//! The numbers of addresses, from the kernel's lists of sockets and connections.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use sameport_addr::{Address, Protocol};

use crate::bind::verdict::SharedPort;
use crate::model::{Socket, SocketState};
use crate::top::{specificity, takes};

/// Which addresses have metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressFilter {
    /// Only these ports; empty: every port.
    pub ports: Vec<SharedPort>,
    /// Also addresses with one socket that belongs to no run.
    pub all: bool,
    /// Only addresses of runs that are shown.
    pub only_runs: bool,
    /// The ports that the kernel gives to sockets without one. With `all`, UDP sockets there are clients.
    pub ephemeral: Option<RangeInclusive<u16>>,
}

/// What is known of the sockets.
#[derive(Debug, Clone, Copy)]
pub struct AddressFacts<'a> {
    /// Listeners, and UDP sockets without a peer.
    pub sockets: &'a [Socket],
    /// The local addresses of accepted TCP connections.
    pub connections: &'a [SocketAddr],
    /// The addresses of the runs, as `protocol address`.
    pub of_runs: &'a BTreeSet<(Protocol, String)>,
}

/// One address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressNumbers {
    /// Number of sockets.
    pub members: u32,
    /// TCP: waiting connections. UDP: waiting bytes.
    pub queue: u64,
    /// Sum of the limits of the accept queues.
    pub limit: u64,
    /// Open connections that were accepted. UDP has none.
    pub connections: u64,
}

/// The addresses that have metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressReport {
    /// By address.
    pub of: BTreeMap<Address, AddressNumbers>,
    /// Number of addresses beyond the limit.
    pub left_out: usize,
}

/// The most addresses: a scrape is some hundred bytes for each.
const MOST: usize = 5_000;

/// The numbers of the addresses that the filter names, those of runs before others, at most 5,000.
#[must_use]
pub fn addresses(facts: AddressFacts<'_>, filter: &AddressFilter) -> AddressReport {
    let mut all: BTreeMap<&Address, AddressNumbers> = BTreeMap::new();
    for socket in facts.sockets.iter().filter(|socket| socket.state == SocketState::Waiting) {
        let numbers = all.entry(&socket.address).or_default();
        numbers.members += 1;
        numbers.queue += u64::from(socket.queue);
        numbers.limit += u64::from(socket.backlog);
    }
    let mut by_port: HashMap<u16, Vec<&Address>> = HashMap::new();
    for address in all.keys().filter(|address| address.protocol == Protocol::Tcp) {
        by_port.entry(address.port()).or_default().push(address);
    }
    for local in facts.connections {
        let on_port = by_port.get(&local.port()).into_iter().flatten();
        let fitting = on_port.filter(|address| takes(address, local.ip()));
        if let Some(address) = fitting.max_by_key(|address| specificity(address))
            && let Some(numbers) = all.get_mut(*address)
        {
            numbers.connections += 1;
        }
    }
    let of_run =
        |address: &Address| facts.of_runs.contains(&(address.protocol, address.to_string()));
    let mut shown: Vec<(bool, &Address, AddressNumbers)> = all
        .into_iter()
        .filter_map(|(address, numbers)| {
            let of_run = of_run(address);
            filter.includes(address, numbers.members, of_run).then_some((!of_run, address, numbers))
        })
        .collect();
    shown.sort_by_key(|(is_other, address, _)| (*is_other, *address));
    let left_out = shown.len().saturating_sub(MOST);
    shown.truncate(MOST);
    let of = shown.into_iter().map(|(_, address, numbers)| (address.clone(), numbers)).collect();
    AddressReport { of, left_out }
}

impl AddressFilter {
    /// Whether addresses of this port can have metrics.
    #[must_use]
    pub fn includes_port(&self, protocol: Protocol, port: u16) -> bool {
        let names = |it: &SharedPort| {
            it.port == port && it.protocol.is_none_or(|of_port| of_port == protocol)
        };
        self.ports.is_empty() || self.ports.iter().any(names)
    }

    /// Whether an address with this number of sockets has metrics. `of_run`: of a run that is shown.
    fn includes(&self, address: &Address, members: u32, of_run: bool) -> bool {
        if !self.includes_port(address.protocol, address.port()) {
            return false;
        }
        if of_run || self.only_runs {
            return of_run;
        }
        let is_client = address.protocol == Protocol::Udp
            && self.ephemeral.as_ref().is_some_and(|range| range.contains(&address.port()));
        members > 1 || !self.ports.is_empty() || (self.all && !is_client)
    }
}
