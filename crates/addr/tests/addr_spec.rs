//! Valid and invalid addresses, and the error messages.

use std::net::IpAddr;

use proptest::prelude::*;
use sameport_addr::{AddrSpec, Host, parse_fixed_port, parse_port};

fn spec(text: &str) -> AddrSpec {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn valid_addresses_are_parsed() {
    let ip = |text: &str| Host::Ip(text.parse().unwrap());
    let name = |text: &str| Host::Name(text.into());
    let cases = [
        ("8080", Host::Any, 8080, ":8080"),
        (":8080", Host::Any, 8080, ":8080"),
        ("*:8080", Host::Any, 8080, ":8080"),
        ("0", Host::Any, 0, ":0"),
        (":65535", Host::Any, 65535, ":65535"),
        ("127.0.0.1:8080", ip("127.0.0.1"), 8080, "127.0.0.1:8080"),
        ("0.0.0.0:1", ip("0.0.0.0"), 1, "0.0.0.0:1"),
        ("[::1]:8080", ip("::1"), 8080, "[::1]:8080"),
        ("[0:0:0:0:0:0:0:0]:1", ip("::"), 1, "[::]:1"),
        ("[::ffff:1.2.3.4]:1", ip("::ffff:1.2.3.4"), 1, "[::ffff:1.2.3.4]:1"),
        ("localhost:8080", name("localhost"), 8080, "localhost:8080"),
        ("a_b-c.Example.org.:0", name("a_b-c.Example.org."), 0, "a_b-c.Example.org.:0"),
        ("3com.com:80", name("3com.com"), 80, "3com.com:80"),
        ("0x7g:80", name("0x7g"), 80, "0x7g:80"),
    ];
    for (text, host, port, again) in cases {
        assert_eq!(spec(text), AddrSpec { host, port }, "{text}");
        assert_eq!(spec(text).to_string(), again);
    }
}

#[test]
fn errors_name_the_expected_form() {
    let cases = [
        ("", "is empty"),
        ("65536", "\"65536\" is not a port"),
        ("-1", "\"-1\" is not a port"),
        ("+80", "is not a port"),
        ("1e3", "is not a port"),
        ("0x50", "is not a port"),
        ("80 ", "\"80 \" is not a port"),
        (" 80", "is not a port"),
        ("\u{ff18}\u{ff10}", "is not a port"),
        ("\u{661}\u{662}", "is not a port"),
        ("080", "is not a port"),
        ("00", "is not a port"),
        (" ", "is not a port"),
        ("80\0", "\"80\\0\" is not a port"),
        ("localhost", "has no port"),
        ("127.0.0.1", "has no port"),
        ("localhost:", "has no port"),
        (":", "has no port"),
        ("[::1]", "has no port"),
        ("[::1]:", "has no port"),
        ("localhost:80x", "\"80x\" is not a port"),
        ("localhost:080", "\"080\" is not a port"),
        (":+80", "\"+80\" is not a port"),
        ("[::1]:65536", "\"65536\" is not a port"),
        ("::1", "in brackets, such as [::1]:8080"),
        ("::1:8080", "in brackets, such as [::1]:8080"),
        ("::", "in brackets"),
        ("fe80::1:80", "in brackets"),
        ("[fe80::1%eth0]:80", "has a scope"),
        ("fe80::1%eth0:80", "has a scope"),
        ("[localhost]:80", "not an IPv6 address"),
        ("[127.0.0.1]:80", "not an IPv6 address"),
        ("[::1:80", "not an IPv6 address"),
        ("[::1]80", "not an IPv6 address"),
        ("[]:80", "not an IPv6 address"),
        ("1.2.3:80", "is not an IPv4 address"),
        ("127.1:80", "is not an IPv4 address"),
        ("256.1.1.1:80", "is not an IPv4 address"),
        ("0x7f.1:80", "is not an IPv4 address"),
        ("0x7f:80", "is not an IPv4 address"),
        ("127.0.0.0x1:80", "is not an IPv4 address"),
        ("127.0.0.1.:80", "is not an IPv4 address"),
        ("127.0.0.01:80", "is not an IPv4 address"),
        ("1234:80", "is not an IPv4 address"),
        ("-a:80", "is not a host name"),
        ("a..b:80", "is not a host name"),
        (".:80", "is not a host name"),
        ("**:80", "is not a host name"),
        ("a b:80", "is not a host name"),
        ("b\u{fc}cher.de:80", "is not a host name"),
        ("a\0b:80", "\"a\\0b:80\" is not a host name"),
        ("a\nb:80", "\"a\\nb:80\" is not a host name"),
        ("http://localhost:80", "is not a host name"),
        ("user@host:80", "is not a host name"),
    ];
    for (text, expected) in cases {
        let message = text.parse::<AddrSpec>().expect_err(text).to_string();
        assert!(message.contains(expected), "{text:?}: {message}");
        assert!(!message.contains('\n'), "{message:?}");
    }
}

#[test]
fn ports_are_parsed_strictly() {
    for (text, any, fixed) in [
        ("0", Some(0), None),
        ("1", Some(1), Some(1)),
        ("65535", Some(65535), Some(65535)),
        ("65536", None, None),
        ("99999999999999999999", None, None),
        ("", None, None),
        (":80", None, None),
        ("8\u{301}", None, None),
    ] {
        assert_eq!(parse_port(text).ok(), any, "{text}");
        assert_eq!(parse_fixed_port(text).ok(), fixed, "{text}");
    }
    assert!(parse_fixed_port("0").unwrap_err().to_string().contains("from 1 to 65535"));
}

#[test]
fn a_mebibyte_is_rejected_with_a_short_message() {
    for filling in ["9", "a", ":", "[", "\0", "\u{ff18}", "a."] {
        let text = filling.repeat((1 << 20) / filling.len());
        for message in [
            text.parse::<AddrSpec>().unwrap_err().to_string(),
            parse_port(&text).unwrap_err().to_string(),
        ] {
            assert!(message.len() < 600, "{} bytes", message.len());
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics_and_display_round_trips(text in ".*") {
        if let Ok(spec) = text.parse::<AddrSpec>() {
            prop_assert_eq!(spec.to_string().parse::<AddrSpec>().unwrap(), spec);
        }
        let _ = (parse_port(&text), parse_fixed_port(&text));
    }

    #[test]
    fn almost_valid_texts_do_not_panic(text in "[\\[\\]:.%0-9a-fx_-]{0,40}") {
        match text.parse::<AddrSpec>() {
            Ok(spec) => prop_assert_eq!(spec.to_string().parse::<AddrSpec>().unwrap(), spec),
            Err(error) => prop_assert!(error.to_string().is_ascii()),
        }
    }

    #[test]
    fn every_socket_address_of_std_is_parsed(ip: IpAddr, port: u16) {
        let text = std::net::SocketAddr::new(ip, port).to_string();
        prop_assert_eq!(spec(&text), AddrSpec { host: Host::Ip(ip), port });
    }
}
