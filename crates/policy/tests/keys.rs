//! The lookups of the eBPF programs find the rule that the list would give.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use sameport_policy::addr::Protocol::{Tcp, Udp};
use sameport_policy::bind::keys::{
    RuleKey, RuleTarget, key, lookups, mapped, rule, target, unmapped,
};
use sameport_policy::bind::map::{MapRequest, MapRule, RuleSide, decide};

/// What the kernel's table holds: of two rules under one key the first stays.
fn table(rules: &[MapRule]) -> HashMap<RuleKey, RuleTarget> {
    let mut table = HashMap::new();
    for (place, rule) in rules.iter().enumerate() {
        table.entry(key(rule)).or_insert_with(|| target(rule, u32::try_from(place).unwrap()));
    }
    table
}

fn found(rules: &[MapRule], asked: &MapRequest) -> Option<usize> {
    let table = table(rules);
    let target = lookups(asked).find_map(|key| table.get(&key).copied())?;
    Some(rule(&[0; 20], &target).1 as usize)
}

/// Few addresses and ports, so that rules meet binds.
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
        .prop_filter("a rule is for something", |from| *from != RuleSide { ip: None, port: None });
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
        let asked = MapRequest { protocol, address: SocketAddr::new(ip, port), v6only };
        prop_assert_eq!(found(&rules, &asked), decide(&rules, &asked).map(|(place, _)| place));
    }

    #[test]
    fn what_was_written_can_be_read(written in any_rule(), place: u32) {
        let (read, its_place) = rule(&key(&written), &target(&written, place));
        prop_assert_eq!(its_place, place);
        prop_assert_eq!(read.protocol, written.protocol);
        prop_assert_eq!(read.from.port, written.from.port);
        prop_assert_eq!(read.from.ip, written.from.ip.map(|ip| ip.to_canonical()));
        prop_assert_eq!(read.to, written.to);
    }

    #[test]
    fn an_address_survives_the_round(ip: IpAddr) {
        prop_assert_eq!(unmapped(mapped(ip), ip.is_ipv4()), ip);
    }
}

#[test]
fn no_bytes_make_it_panic() {
    for byte in [0, 1, 6, 17, 255] {
        let _ = rule(&[byte; 20], &[byte; 24]);
    }
}
