//! The lookups of the eBPF programs find the first matching rule of the list.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use sameport_policy::addr::Protocol::{Tcp, Udp};
use sameport_policy::bind::keys::{
    RuleKey, RuleTarget, key, lookups, mapped, rule, target, unmapped,
};
use sameport_policy::bind::map::{MapRequest, MapRule, RuleSide, decide};

/// The kernel's table: the first rule with a key stays.
fn table(rules: &[MapRule]) -> HashMap<RuleKey, RuleTarget> {
    let mut table = HashMap::new();
    for (place, rule) in rules.iter().enumerate() {
        table.entry(key(rule)).or_insert_with(|| target(rule, u32::try_from(place).unwrap()));
    }
    table
}

fn find(rules: &[MapRule], request: &MapRequest) -> Option<usize> {
    let table = table(rules);
    let target = lookups(request).find_map(|key| table.get(&key).copied())?;
    Some(rule(&[0; 20], &target).1 as usize)
}

/// Few addresses and ports, so that rules match binds.
fn ip() -> impl Strategy<Value = IpAddr> {
    prop::sample::select(vec!["0.0.0.0", "127.0.0.1", "::", "::1", "::ffff:127.0.0.1"])
        .prop_map(|text| text.parse().unwrap())
}

fn side() -> impl Strategy<Value = RuleSide> {
    (prop::option::of(ip()), prop::option::of(1..4u16)).prop_map(|(ip, port)| RuleSide { ip, port })
}

fn any_rule() -> impl Strategy<Value = MapRule> {
    let protocol = prop::option::of(prop::sample::select(vec![Tcp, Udp]));
    let from = side()
        .prop_filter("a rule has a condition", |from| *from != RuleSide { ip: None, port: None });
    (protocol, from, side()).prop_map(|(protocol, from, to)| MapRule { protocol, from, to })
}

proptest! {
    #[test]
    fn lookups_and_list_agree(
        rules in prop::collection::vec(any_rule(), 0..12),
        protocol in prop::sample::select(vec![Tcp, Udp]),
        ip in ip(),
        port in 0..4u16,
        v6only: bool,
    ) {
        let request = MapRequest { protocol, address: SocketAddr::new(ip, port), v6only };
        prop_assert_eq!(find(&rules, &request), decide(&rules, &request).map(|(place, _)| place));
    }

    #[test]
    fn keys_and_targets_round_trip(original in any_rule(), place: u32) {
        let (read, read_place) = rule(&key(&original), &target(&original, place));
        prop_assert_eq!(read_place, place);
        prop_assert_eq!(read.protocol, original.protocol);
        prop_assert_eq!(read.from.port, original.from.port);
        prop_assert_eq!(read.from.ip, original.from.ip.map(|ip| ip.to_canonical()));
        prop_assert_eq!(read.to, original.to);
    }

    #[test]
    fn addresses_round_trip(ip: IpAddr) {
        prop_assert_eq!(unmapped(mapped(ip), ip.is_ipv4()), ip);
    }
}

#[test]
fn arbitrary_bytes_do_not_panic() {
    for byte in [0, 1, 6, 17, 255] {
        let _ = rule(&[byte; 20], &[byte; 24]);
    }
}
