//! Rules that move binds: what they say, which one wins, what comes of it.

use std::net::SocketAddr;

use proptest::prelude::*;
use sameport_policy::addr::Protocol;
use sameport_policy::addr::Protocol::{Tcp, Udp};
use sameport_policy::bind::map::{
    MapRequest, MapRule, MapRuleError, Mapping, contradiction, decide,
};

fn rules(texts: &[&str]) -> Vec<MapRule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn asked(protocol: Protocol, address: &str) -> MapRequest {
    MapRequest { protocol, address: address.parse().unwrap(), v6only: false }
}

fn to(address: &str) -> Mapping {
    Mapping::To(address.parse().unwrap())
}

#[test]
fn the_most_specific_rule_wins() {
    let list = rules(&[
        "80=1080",
        "udp:80=2080",
        "127.0.0.1=127.0.0.2",
        "127.0.0.1:80=127.0.0.3:3080",
        "tcp:127.0.0.1:81=4080",
        "[::]:443=[::1]:8443",
        "[::]:444=127.0.0.1:8444",
        "445=[::1]:8445",
        "446=127.0.0.1",
        "447=0.0.0.0:8447",
        "448=192.0.2.1:8448",
        "449=[2001:db8::1]:8449",
    ]);
    let v6only = |address| MapRequest { v6only: true, ..asked(Tcp, address) };
    let cases = [
        (asked(Tcp, "0.0.0.0:80"), Some((0, to("0.0.0.0:1080")))),
        (asked(Tcp, "[::]:80"), Some((0, to("[::]:1080")))),
        (asked(Udp, "0.0.0.0:80"), Some((1, to("0.0.0.0:2080")))),
        (asked(Tcp, "127.0.0.1:9"), Some((2, to("127.0.0.2:9")))),
        (asked(Tcp, "127.0.0.1:0"), Some((2, to("127.0.0.2:0")))),
        (asked(Udp, "127.0.0.1:80"), Some((3, to("127.0.0.3:3080")))),
        (asked(Tcp, "[::ffff:127.0.0.1]:80"), Some((3, to("[::ffff:127.0.0.3]:3080")))),
        (asked(Tcp, "127.0.0.1:81"), Some((4, to("127.0.0.1:4080")))),
        (asked(Udp, "127.0.0.1:81"), Some((2, to("127.0.0.2:81")))),
        (asked(Tcp, "[::]:443"), Some((5, to("[::1]:8443")))),
        (asked(Tcp, "0.0.0.0:443"), None),
        (asked(Tcp, "[::]:444"), Some((6, to("[::ffff:127.0.0.1]:8444")))),
        (v6only("[::]:444"), Some((6, Mapping::OtherFamily))),
        // A rule for a port of any address is for both families.
        (asked(Tcp, "0.0.0.0:445"), Some((7, to("127.0.0.1:8445")))),
        (v6only("[::]:445"), Some((7, to("[::1]:8445")))),
        (asked(Tcp, "0.0.0.0:446"), Some((8, to("127.0.0.1:446")))),
        (v6only("[::]:446"), Some((8, to("[::1]:446")))),
        (asked(Tcp, "[::]:446"), Some((8, to("[::ffff:127.0.0.1]:446")))),
        (asked(Tcp, "[::1]:446"), Some((8, to("[::1]:446")))),
        (asked(Tcp, "[::ffff:127.0.0.9]:446"), Some((8, to("[::ffff:127.0.0.1]:446")))),
        (v6only("[::]:447"), Some((9, to("[::]:8447")))),
        (asked(Tcp, "[::]:447"), Some((9, to("[::ffff:0.0.0.0]:8447")))),
        // An address of one interface has no counterpart.
        (v6only("[::]:448"), Some((10, Mapping::OtherFamily))),
        (asked(Tcp, "[::]:448"), Some((10, to("[::ffff:192.0.2.1]:8448")))),
        (asked(Tcp, "[::1]:448"), Some((10, to("[::ffff:192.0.2.1]:8448")))),
        (asked(Tcp, "0.0.0.0:449"), Some((11, Mapping::OtherFamily))),
        (asked(Tcp, "0.0.0.0:0"), None),
        (asked(Tcp, "0.0.0.0:8080"), None),
    ];
    for (asked, expected) in cases {
        assert_eq!(decide(&list, &asked), expected, "{asked:?}");
    }
}

#[test]
fn what_is_no_rule_is_said() {
    use MapRuleError::{Family, From, Itself, NoEquals, ProtocolOfTo, To};
    for (text, expected) in [
        ("", NoEquals),
        ("80", NoEquals),
        ("=80", From),
        ("80=", To),
        ("0=80", From),
        ("80=0", To),
        ("80=65536", To),
        ("080=81", From),
        ("::1=::2", From),
        ("[::1=80", From),
        ("[::1]x=80", From),
        ("localhost=80", From),
        ("80=81=82", To),
        ("80=81/tcp", ProtocolOfTo),
        ("tcp:80=udp:81", ProtocolOfTo),
        ("80/udp=81/tcp", ProtocolOfTo),
        ("tcp:80/tcp=81", From),
        ("80/sctp=81", From),
        ("80=81/sctp", To),
        ("80/tcp/tcp=81", From),
        ("80=80", Itself),
        ("127.0.0.1:80=80", Itself),
        ("127.0.0.1:80=127.0.0.1", Itself),
        ("0.0.0.0:80=[::1]:80", Family),
        ("[::1]:80=127.0.0.1:80", Family),
    ] {
        assert_eq!(text.parse::<MapRule>(), Err(expected), "{text:?}");
    }
}

#[test]
fn two_rules_for_one_address_contradict() {
    assert_eq!(contradiction(&rules(&["80=81", "tcp:80=82", "81=83", "80=84"])), Some((0, 3)));
    assert_eq!(contradiction(&rules(&["80=81", "tcp:80=82", "127.0.0.1:80=83"])), None);
}

#[test]
fn a_thousand_rules_are_no_matter() {
    let list: Vec<MapRule> =
        (1..=1000).map(|port| format!("{port}={}", port + 2000).parse().unwrap()).collect();
    assert_eq!(decide(&list, &asked(Tcp, "0.0.0.0:1000")), Some((999, to("0.0.0.0:3000"))));
    assert_eq!(contradiction(&list), None);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}") {
        let _ = text.parse::<MapRule>();
    }

    #[test]
    fn a_rule_survives_the_round(
        protocol in prop_oneof![Just(""), Just("/tcp"), Just("/udp")],
        from in "[1-9][0-9]{0,3}|127\\.0\\.0\\.[1-9](:[1-9][0-9]{0,3})?",
        to in "[1-9][0-9]{0,3}|127\\.0\\.1\\.[1-9](:[1-9][0-9]{0,3})?",
    ) {
        let text = format!("{from}{protocol}={to}");
        if let Ok(rule) = text.parse::<MapRule>() {
            prop_assert_eq!(rule.to_string(), text);
        }
    }

    #[test]
    fn the_family_of_the_socket_is_kept(address: SocketAddr, v6only: bool) {
        let list = rules(&["80=81", "81=127.0.0.1", "82=[::1]", "127.0.0.1=127.0.0.2"]);
        for port in [0, 80, 81, 82, 83] {
            let mut address = address;
            address.set_port(port);
            let asked = MapRequest { protocol: Tcp, address, v6only };
            if let Some((_, Mapping::To(moved))) = decide(&list, &asked) {
                prop_assert_eq!(moved.is_ipv4(), address.is_ipv4());
            }
        }
    }
}

/// A rule can have the protocol as `sameport` prints it, and is printed so.
#[test]
fn the_protocol_is_behind_or_before_the_address() {
    for (text, printed) in [
        ("80/tcp=8080", "80/tcp=8080"),
        ("tcp:80=8080", "80/tcp=8080"),
        ("80/tcp=8080/tcp", "80/tcp=8080"),
        ("127.0.0.1:80/udp=8080", "127.0.0.1:80/udp=8080"),
        ("[::1]:80/tcp=[::1]:8080/tcp", "[::1]:80/tcp=[::1]:8080"),
        ("127.0.0.1/tcp=127.0.0.2", "127.0.0.1/tcp=127.0.0.2"),
        ("80=8080", "80=8080"),
    ] {
        let rule: MapRule = text.parse().unwrap();
        assert_eq!(rule.to_string(), printed, "{text}");
        assert_eq!(printed.parse(), Ok(rule), "{printed}");
    }
}
