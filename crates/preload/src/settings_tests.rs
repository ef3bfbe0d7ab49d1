//! The effect of each variable on the settings.

use super::*;

type Variables<'a> = &'a [(&'a str, &'a str)];

type Change<'a> = Option<Result<&'a str, ()>>;

fn settings() -> Box<Settings> {
    Box::new(Settings::new())
}

fn with_variables(variables: Variables<'_>) -> Box<Settings> {
    let settings = settings();
    for (name, value) in variables {
        settings
            .set_variable(name, value)
            .unwrap_or_else(|error| panic!("{name}={value}: {error}"));
    }
    settings
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn no_variable_changes_no_call() {
    let settings = settings();
    assert!(!settings.affects_bind() && !settings.affects_connect());
    assert_eq!(settings.rules().count(), 0);
    assert_eq!(settings.report_name().1, 0);
    assert_eq!(settings.bindp_address(address("127.0.0.1:80"), false), None);
    assert_eq!(settings.sources().next(), None);
}

#[test]
fn invalid_values_are_errors() {
    use SettingError::*;
    let many = vec!["80=81"; MAX_RULES + 1].join(",");
    let long = "x".repeat(MAX_NAME + 1);
    let cases = [
        ("SAMEPORT_SHARE", "yes", NotASwitch),
        ("REUSE_PORT", "2", NotASwitch),
        ("SAMEPORT_PORTS", "", NotAPort),
        ("SAMEPORT_PORTS", "80,", NotAPort),
        ("SAMEPORT_PORTS", "0", NotAPort),
        ("SAMEPORT_PORTS", "65536", NotAPort),
        ("SAMEPORT_PORTS", "127.0.0.1:80", NotAPort),
        ("BIND_PORT", "http", NotAPort),
        ("SAMEPORT_MAP", "", NotARule),
        ("SAMEPORT_MAP", "80=81,", NotARule),
        ("SAMEPORT_MAP", "80=80", NotARule),
        ("SAMEPORT_MAP", &many, TooManyRules),
        ("SAMEPORT_SOURCE", "80", NotAnAddress),
        ("SAMEPORT_SOURCE", "localhost", NotAnAddress),
        ("BIND_ADDR", "", NotAnAddress),
        ("BIND_ADDR", "127.0.0.1:80", NotAnAddress),
        ("BIND_ADDR", "127.0.0.1,127.0.0.2", TwoOfOneFamily),
        ("SAMEPORT_REPORT", "", NotAName),
        ("SAMEPORT_REPORT", &long, NotAName),
        ("SAMEPORT_CHILDREN", "none", NotAChoice),
    ];
    for (name, value, expected) in cases {
        assert_eq!(settings().set_variable(name, value), Err(expected), "{name}={value}");
    }
}

#[test]
fn ports_limit_sharing() {
    let settings = with_variables(&[("SAMEPORT_SHARE", "1")]);
    assert!(settings.shares_port(Protocol::Tcp, 1) && settings.shares_port(Protocol::Udp, 65535));
    let ports = "1,8080/tcp,65535,53/udp";
    let settings = with_variables(&[("SAMEPORT_SHARE", "1"), ("SAMEPORT_PORTS", ports)]);
    for port in 0..=u16::MAX {
        let shares = |protocol| settings.shares_port(protocol, port);
        assert_eq!(shares(Protocol::Tcp), [1, 8080, 65535].contains(&port), "{port}");
        assert_eq!(shares(Protocol::Udp), [1, 53, 65535].contains(&port), "{port}");
    }
}

#[test]
fn rules_are_loaded_as_stored() {
    let texts = [
        "80=8080",
        "127.0.0.1:80/tcp=127.0.0.2",
        "[::1]:53/udp=[fe80::1]:5353",
        "[::]=0.0.0.0:1",
        "255.255.255.255=65535",
    ];
    let settings = with_variables(&[("SAMEPORT_MAP", &texts.join(","))]);
    let back: Vec<String> = settings.rules().map(|rule| rule.to_string()).collect();
    assert_eq!(back, texts);
    let most: Vec<_> = (1..=MAX_RULES).map(|port| format!("{port}=60000")).collect();
    assert_eq!(with_variables(&[("SAMEPORT_MAP", &most.join(","))]).rules().count(), MAX_RULES);
}

#[test]
fn reading_twice_changes_nothing() {
    let variables = [("SAMEPORT_MAP", "80=81,82=83"), ("SAMEPORT_SOURCE", "[::1]:9")];
    let settings = with_variables(&variables);
    for (name, value) in variables {
        settings.set_variable(name, value).unwrap();
    }
    assert_eq!(settings.rules().count(), 2);
    assert_eq!(settings.sources().collect::<Vec<_>>(), [address("[::1]:9")]);
}

#[test]
fn bindp_variables_change_every_bind() {
    let four = [("BIND_ADDR", "127.0.0.1")];
    let both = [("BIND_PORT", "88"), ("BIND_ADDR", "127.0.0.1,[::1]")];
    let port = [("BIND_PORT", "88")];
    let cases: [(Variables<'_>, &str, bool, Change<'_>); 11] = [
        (&four, "0.0.0.0:80", false, Some(Ok("127.0.0.1:80"))),
        (&four, "0.0.0.0:0", false, Some(Ok("127.0.0.1:0"))),
        (&four, "127.0.0.1:80", false, None),
        (&four, "[::]:80", false, Some(Ok("[::ffff:127.0.0.1]:80"))),
        (&four, "[::]:80", true, Some(Err(()))),
        (&both, "0.0.0.0:80", false, Some(Ok("127.0.0.1:88"))),
        (&both, "[::]:80", true, Some(Ok("[::1]:88"))),
        (&both, "[::]:0", false, Some(Ok("[::1]:0"))),
        (&port, "[fe80::1%3]:80", false, Some(Ok("[fe80::1%3]:88"))),
        (&port, "0.0.0.0:0", false, None),
        (&[("BIND_ADDR", "::1")], "0.0.0.0:80", false, Some(Err(()))),
    ];
    for (variables, requested, v6only, expected) in cases {
        let expected = expected.map(|change| change.map(address));
        let changed = with_variables(variables).bindp_address(address(requested), v6only);
        assert_eq!(changed, expected, "{variables:?} {requested} {v6only}");
    }
}

#[test]
fn sources_of_sameport_precede_those_of_bindp() {
    let cases: &[(Variables<'_>, &[&str])] = &[
        (&[("SAMEPORT_SOURCE", "127.0.0.7")], &["127.0.0.7:0"]),
        (&[("SAMEPORT_SOURCE", "[::1]:9"), ("BIND_ADDR", "127.0.0.7")], &["[::1]:9"]),
        (&[("BIND_PORT", "9"), ("BIND_ADDR", "::1,127.0.0.7")], &["127.0.0.7:9", "[::1]:9"]),
        (&[("BIND_ADDR", "::1")], &["[::1]:0"]),
        (&[("BIND_PORT", "9")], &[]),
    ];
    for (variables, expected) in cases {
        let settings = with_variables(variables);
        let expected: Vec<_> = expected.iter().map(|text| address(text)).collect();
        assert_eq!(settings.sources().collect::<Vec<_>>(), expected, "{variables:?}");
        assert_eq!(settings.affects_connect(), !expected.is_empty());
    }
}

#[test]
fn a_report_name_is_loaded_as_stored() {
    for name in ["a", "sameport-1234", &"x".repeat(MAX_NAME)] {
        let (bytes, length) = with_variables(&[("SAMEPORT_REPORT", name)]).report_name();
        assert_eq!(&bytes[..length], name.as_bytes());
    }
}
