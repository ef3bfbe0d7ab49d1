//! Tables of the catalog, of sets of samples, and of addresses.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use sameport_addr::{Address, Protocol};

use super::*;
use crate::bind::verdict::SharedPort;
use crate::model::{Socket, SocketState};
use crate::readiness::RunFacts;

#[test]
fn names_follow_the_conventions() {
    let mut names = BTreeSet::new();
    for metric in METRICS {
        let name = metric.name;
        assert!(names.insert(name), "{name} twice");
        assert!(name.starts_with("sameport_"), "{name}");
        let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(
            name.chars().all(is_word) && metric.labels.iter().all(|it| it.chars().all(is_word))
        );
        assert_eq!(name.ends_with("_total"), metric.kind == MetricKind::Counter, "{name}");
        let is_unit = name.ends_with("_seconds") || metric.kind != MetricKind::Histogram;
        assert!(is_unit, "{name}");
        assert!(!metric.help.ends_with('.') && metric.help.len() > 10, "{name}");
        // Reserved by Prometheus.
        assert!(!metric.labels.iter().any(|it| ["job", "instance", "le"].contains(it)), "{name}");
    }
}

#[test]
fn a_series_occurs_once() {
    let mut set = MetricSet::default();
    set.gauge(&WORKER_STATE, &["web", "root", "1", "ready"], 1.0);
    set.gauge(&WORKER_STATE, &["web", "root", "1", "ready"], 1.0);
    set.count(&SCRAPE_ERRORS, &["sockets"], 2);
    set.count(&SCRAPE_ERRORS, &["sockets"], 3);
    let found: Vec<_> = set.families().map(|(metric, samples)| (metric.name, samples)).collect();
    let [(first, errors), (second, states)] = &*found else { panic!("{found:?}") };
    // In the order of the catalog.
    assert_eq!((*first, *second), ("sameport_scrape_errors_total", "sameport_worker_state"));
    assert_eq!(errors.values().collect::<Vec<_>>(), [&MetricValue::Count(5)]);
    assert_eq!(states.values().collect::<Vec<_>>(), [&MetricValue::Number(2.0)]);
}

#[test]
fn a_label_is_not_longer_than_256_bytes() {
    let label = |text: &str| {
        let mut set = MetricSet::default();
        set.gauge(&BUILD_INFO, &[text], 1.0);
        let (_, samples) = set.families().next().unwrap();
        samples.keys().next().unwrap()[0].clone()
    };
    for text in ["x".repeat(256), "é".repeat(128), String::new()] {
        assert_eq!(label(&text), text);
    }
    for text in ["x".repeat(257), "é".repeat(1_000_000)] {
        let cut = label(&text);
        assert!(cut.len() <= 256 && cut.ends_with('…') && cut.len() > 250, "{cut}");
    }
}

fn address(protocol: Protocol, text: &str) -> Address {
    Address::new(protocol, text.parse().unwrap())
}

fn listener(protocol: Protocol, text: &str, cookie: u64, drops: u32) -> Socket {
    let of = Socket::new(address(protocol, text), cookie, 0);
    Socket { cookie, queue: 2, backlog: 128, drops: Some(drops), ..of }
}

#[test]
fn connections_belong_to_the_most_specific_listener() {
    let tcp = |text, cookie| listener(Protocol::Tcp, text, cookie, 0);
    let sockets = [
        tcp("0.0.0.0:80", 1),
        tcp("0.0.0.0:80", 2),
        tcp("127.0.0.1:80", 3),
        tcp("0.0.0.0:81", 4),
        Socket { state: SocketState::Bound, ..tcp("127.0.0.1:80", 5) },
    ];
    let connections: Vec<SocketAddr> =
        ["127.0.0.1:80", "127.0.0.2:80", "127.0.0.2:80", "127.0.0.1:82"]
            .map(|text| text.parse().unwrap())
            .into();
    let of_runs = BTreeSet::new();
    let facts = AddressFacts { sockets: &sockets, connections: &connections, of_runs: &of_runs };
    let all = AddressFilter { all: true, ..AddressFilter::default() };
    let found = addresses(facts, &all);
    let numbers: Vec<_> = found
        .of
        .iter()
        .map(|(address, it)| (address.to_string(), it.members, it.queue, it.limit, it.connections))
        .collect();
    let expected = [
        ("0.0.0.0:80".to_owned(), 2, 4, 256, 2),
        ("0.0.0.0:81".to_owned(), 1, 2, 128, 0),
        ("127.0.0.1:80".to_owned(), 1, 2, 128, 1),
    ];
    assert_eq!(BTreeSet::from(expected), numbers.into_iter().collect());
}

#[test]
fn which_addresses_have_metrics() {
    let sockets = [
        listener(Protocol::Tcp, "0.0.0.0:80", 1, 0),
        listener(Protocol::Tcp, "0.0.0.0:80", 2, 0),
        listener(Protocol::Tcp, "0.0.0.0:81", 3, 0),
        listener(Protocol::Tcp, "0.0.0.0:82", 4, 0),
        listener(Protocol::Udp, "0.0.0.0:40000", 5, 0),
        listener(Protocol::Udp, "0.0.0.0:53", 6, 0),
    ];
    let of_runs = BTreeSet::from([(Protocol::Tcp, "0.0.0.0:82".to_owned())]);
    let facts = AddressFacts { sockets: &sockets, connections: &[], of_runs: &of_runs };
    let port = |port| vec![SharedPort { port, protocol: None }];
    let base = AddressFilter { ephemeral: Some(32_768..=60_999), ..AddressFilter::default() };
    let udp = SharedPort { port: 80, protocol: Some(Protocol::Udp) };
    for (filter, expected) in [
        (base.clone(), vec![80, 82]),
        (AddressFilter { all: true, ..base.clone() }, vec![53, 80, 81, 82]),
        (AddressFilter { only_runs: true, ..base.clone() }, vec![82]),
        (AddressFilter { ports: port(81), ..base.clone() }, vec![81]),
        (AddressFilter { ports: port(40_000), ..base.clone() }, vec![40_000]),
        (AddressFilter { ports: vec![udp], ..base.clone() }, vec![]),
        (AddressFilter { ports: port(80), only_runs: true, ..base.clone() }, vec![]),
    ] {
        let found = addresses(facts, &filter);
        let ports: BTreeSet<u16> = found.of.keys().map(Address::port).collect();
        assert_eq!(ports, expected.into_iter().collect(), "{filter:?}");
        assert_eq!(found.left_out, 0);
    }
}

#[test]
fn the_number_of_addresses_is_bounded() {
    let text = |n: u32| format!("127.{}.{}.1:80", n / 256, n % 256);
    let sockets: Vec<Socket> =
        (0..6_000).map(|n| listener(Protocol::Tcp, &text(n), u64::from(n), 0)).collect();
    let last = (Protocol::Tcp, text(5_999));
    let of_runs = BTreeSet::from([last.clone()]);
    let facts = AddressFacts { sockets: &sockets, connections: &[], of_runs: &of_runs };
    let found = addresses(facts, &AddressFilter { all: true, ..AddressFilter::default() });
    assert_eq!((found.of.len(), found.left_out), (5_000, 1_000));
    assert!(found.of.contains_key(&address(last.0, &last.1)), "the one of a run is left out");
}

#[test]
fn totals_never_shrink_while_the_key_is_there() {
    let mut totals = CounterTotals::default();
    for (counts, expected) in [
        (vec![(1, 5), (2, 1)], Some(6)),
        (vec![(1, 7), (2, 1)], Some(8)),
        // A member leaves, another comes.
        (vec![(2, 1)], Some(8)),
        (vec![(2, 2), (3, 0)], Some(9)),
        (vec![], None),
        // The kernel's count begins again at 0.
        (vec![(4, 30)], Some(30)),
        (vec![(4, 1)], Some(31)),
    ] {
        totals.look(counts.iter().map(|(id, count)| (*id, "key", *count)));
        assert_eq!(totals.of(&"key"), expected, "{counts:?}");
    }
}

#[test]
fn ready_is_a_run_with_enough_ready_workers() {
    let run = |name: &str, ready, wanted| RunReadiness {
        name: name.to_owned(),
        user: "root".to_owned(),
        facts: Ok(RunFacts { wanted, ready, leaving: false }),
    };
    let gone = RunReadiness { facts: Err("it has ended".to_owned()), ..run("api", 0, 0) };
    let facts = RunFacts { wanted: 2, ready: 2, leaving: true };
    let leaving = RunReadiness { facts: Ok(facts), ..run("web", 2, 2) };
    let of =
        |run: Option<&str>, min| ReadinessQuery { run: run.map(str::to_owned), min, user: None };
    for (runs, query, is_ready, text) in [
        (vec![run("web", 2, 2)], of(None, None), true, "web: ready, 2 of 2 workers\n"),
        (vec![run("web", 1, 2)], of(None, None), false, "web: not ready, 1 of 2 workers\n"),
        (vec![run("web", 1, 2)], of(None, Some(1)), true, "web: ready, 1 of 2 workers\n"),
        // More than the run has: all of them.
        (vec![run("web", 2, 2)], of(None, Some(9)), true, "web: ready, 2 of 2 workers\n"),
        (vec![run("web", 0, 2)], of(None, Some(0)), true, "web: ready, 0 of 2 workers\n"),
        (
            vec![gone.clone(), run("web", 2, 2)],
            of(Some("web"), None),
            true,
            "web: ready, 2 of 2 workers\n",
        ),
        (
            vec![gone.clone(), run("web", 2, 2)],
            of(None, None),
            false,
            "api: it has ended\nweb: ready, 2 of 2 workers\n",
        ),
        (vec![leaving], of(None, None), false, "web: leaving, 2 of 2 workers\n"),
        (vec![run("web", 2, 2)], of(Some("api"), None), false, "api: there is no such run\n"),
        (vec![], of(None, None), false, "there is no named run\n"),
    ] {
        assert_eq!(readiness(&runs, &query), (is_ready, text.to_owned()), "{runs:?} {query:?}");
    }
    let other = RunReadiness { user: "ann".to_owned(), ..run("web", 0, 1) };
    let query = ReadinessQuery { user: Some("root".to_owned()), ..of(Some("web"), None) };
    assert!(readiness(&[other, run("web", 1, 1)], &query).0);
}

#[test]
fn queries_of_readyz() {
    for (text, expected) in [
        ("", Ok(ReadinessQuery::default())),
        ("run=web", Ok(ReadinessQuery { run: Some("web".into()), ..ReadinessQuery::default() })),
        (
            "run=web&min=1&user=ann",
            Ok(ReadinessQuery { run: Some("web".into()), min: Some(1), user: Some("ann".into()) }),
        ),
        ("min=x", Err("min is a number from 0 to 65535")),
        ("worker=1", Err("the parameters are run, user and min")),
        ("run=", Err("run is the name of a run")),
    ] {
        assert_eq!(text.parse(), expected.map_err(str::to_owned), "{text}");
    }
}
