//! The predictions as data. `tests/prediction` compares them with a kernel.

use super::*;
use crate::model::{Address, Protocol};

const USER: u32 = 1000;
const OTHER_USER: u32 = 1001;

const LIMITS: PortLimits = PortLimits {
    may_bind_low: false,
    may_be_transparent: false,
    unprivileged_port_start: 1024,
    is_local: true,
    nonlocal_bind: false,
    device_exists: true,
};

fn at(protocol: Protocol, text: &str) -> Address {
    Address::new(protocol, text.parse().unwrap())
}

fn tcp(text: &str) -> Address {
    at(Protocol::Tcp, text)
}

fn udp(text: &str) -> Address {
    at(Protocol::Udp, text)
}

fn on(device: &str, address: Address) -> Address {
    Address { device: Some(device.to_owned()), ..address }
}

/// A waiting socket of `USER`.
fn socket(address: Address, reuse_address: bool, reuse_port: bool) -> ExistingSocket {
    ExistingSocket {
        address,
        usage: SocketUse::Waiting,
        uid: USER,
        reuse_port: Some(reuse_port),
        reuse_address: Some(reuse_address),
    }
}

fn request(address: Address, reuse_address: bool, reuse_port: bool) -> BindRequest {
    BindRequest { reuse_port, reuse_address, ..BindRequest::plain(address, USER) }
}

fn verdict(request: &BindRequest, sockets: &[ExistingSocket]) -> PredictedResult {
    predict(request, &LIMITS, sockets).result
}

#[test]
fn limits_are_checked_in_the_order_of_the_kernel() {
    let low = BindRequest::plain(tcp("192.0.2.1:80"), USER);
    let low6 = BindRequest::plain(tcp("[2001:db8::1]:80"), USER);
    let mapped = |v6only| Address { v6only, ..tcp("[::ffff:127.0.0.1]:8080") };
    let away = PortLimits { is_local: false, ..LIMITS };
    let high = BindRequest::plain(tcp("192.0.2.1:8080"), USER);
    let transparent = BindRequest { transparent: true, ..high.clone() };
    let device = PortLimits { device_exists: false, ..LIMITS };
    let able = PortLimits { may_bind_low: true, may_be_transparent: true, ..away };
    let nonlocal = PortLimits { nonlocal_bind: true, ..away };
    let cases = [
        // IPv4 checks the address first, IPv6 the privilege.
        (&low, away, Some(PredictedRefusal::NotLocal)),
        (&low6, away, Some(PredictedRefusal::NeedsPrivilege)),
        (&low, LIMITS, Some(PredictedRefusal::NeedsPrivilege)),
        (&low, PortLimits { may_bind_low: true, ..LIMITS }, None),
        (&high, away, Some(PredictedRefusal::NotLocal)),
        (&high, nonlocal, None),
        (&BindRequest { freebind: true, ..high.clone() }, away, None),
        (&transparent, away, Some(PredictedRefusal::NotTransparent)),
        (&transparent, able, None),
        (&high, device, Some(PredictedRefusal::NoDevice)),
        (&BindRequest::plain(mapped(true), USER), LIMITS, Some(PredictedRefusal::MappedAndV6only)),
        (&BindRequest::plain(mapped(false), USER), LIMITS, None),
        (&BindRequest::plain(tcp("[fe80::1]:8080"), USER), LIMITS, Some(PredictedRefusal::NoScope)),
        (&BindRequest::plain(on("lo", tcp("[fe80::1]:8080")), USER), LIMITS, None),
    ];
    for (request, limits, expected) in cases {
        let expected = expected.map_or(PredictedResult::Granted, PredictedResult::Refused);
        assert_eq!(predict(request, &limits, &[]).result, expected, "{request:?} {limits:?}");
    }
}

#[test]
fn a_refusal_names_all_conflicts_and_what_they_lack() {
    let unrelated = socket(tcp("127.0.0.2:8080"), false, false);
    let held = socket(tcp("0.0.0.0:8080"), true, false);
    let foreign = ExistingSocket { uid: OTHER_USER, ..socket(tcp("127.0.0.1:8080"), true, true) };
    let all = [unrelated, held, foreign];
    let PredictedResult::Refused(refused) =
        verdict(&request(tcp("127.0.0.1:8080"), true, false), &all)
    else {
        panic!("it is refused");
    };
    assert_eq!(refused.error(), ("bind", "EADDRINUSE"));
    let missing = |theirs, same_user| Missing { ours: true, theirs, same_user };
    let expected = vec![
        Conflict { index: 1, share_lacks: missing(true, false), reuse_lacks: None },
        Conflict { index: 2, share_lacks: missing(false, true), reuse_lacks: None },
    ];
    assert_eq!(refused, PredictedRefusal::InUse(expected));
}

#[test]
fn an_unknown_option_makes_the_result_uncertain() {
    let unknown = ExistingSocket {
        reuse_port: None,
        reuse_address: None,
        ..socket(tcp("0.0.0.0:8080"), true, true)
    };
    let bound = ExistingSocket { usage: SocketUse::Bound, ..unknown.clone() };
    let foreign = ExistingSocket { uid: OTHER_USER, ..unknown.clone() };
    let (reuse, share) = (ReuseFlag::ReuseAddress, ReuseFlag::ReusePort);
    let depends = |flags: &[ReuseFlag]| {
        PredictedResult::Uncertain(vec![Uncertainty {
            index: 0,
            unknown: UnknownFact::AnySet(flags.to_vec()),
        }])
    };
    let any = || tcp("0.0.0.0:8080");
    assert_eq!(
        verdict(&request(any(), false, true), std::slice::from_ref(&unknown)),
        depends(&[share])
    );
    assert_eq!(
        verdict(&request(any(), true, true), std::slice::from_ref(&bound)),
        depends(&[reuse, share])
    );
    assert_eq!(verdict(&request(any(), true, false), &[bound]), depends(&[reuse]));
    // Without the option on the new socket, or with another user, the unknown option does not matter.
    for refused in
        [request(any(), true, false), BindRequest { uid: OTHER_USER, ..request(any(), true, true) }]
    {
        assert!(matches!(
            verdict(&refused, std::slice::from_ref(&unknown)),
            PredictedResult::Refused(_)
        ));
    }
    assert!(matches!(
        verdict(&request(any(), true, true), &[foreign]),
        PredictedResult::Refused(_)
    ));
}

#[test]
fn time_wait_has_no_owner() {
    let time_wait = ExistingSocket {
        usage: SocketUse::TimeWait,
        uid: OTHER_USER,
        ..socket(tcp("127.0.0.1:8080"), false, true)
    };
    let any = || tcp("0.0.0.0:8080");
    assert_eq!(
        verdict(&request(any(), false, true), std::slice::from_ref(&time_wait)),
        PredictedResult::Granted
    );
    assert!(matches!(
        verdict(&request(any(), true, false), &[time_wait]),
        PredictedResult::Refused(_)
    ));
}

#[test]
fn the_lookup_order_of_udp_may_decide() {
    let open = socket(udp("127.0.0.2:53"), false, true);
    let closed = socket(udp("127.0.0.1:53"), false, false);
    let able = PortLimits { may_bind_low: true, ..LIMITS };
    let request = request(udp("0.0.0.0:53"), false, true);
    let uncertainty = Uncertainty { index: 1, unknown: UnknownFact::LookupOrder };
    assert_eq!(
        predict(&request, &able, &[closed.clone(), open]).result,
        PredictedResult::Uncertain(vec![uncertainty])
    );
    assert!(matches!(
        predict(&request, &able, std::slice::from_ref(&closed)).result,
        PredictedResult::Refused(_)
    ));
    // IPv6 sockets with `SO_REUSEPORT` are last in the list.
    let both = BindRequest { address: udp("[::]:53"), ..request };
    let six = socket(udp("[::1]:53"), false, true);
    let refused = predict(&both, &able, &[closed, six.clone()]).result;
    assert!(matches!(refused, PredictedResult::Refused(_)), "{refused:?}");
    let foreign = ExistingSocket { uid: OTHER_USER, ..six };
    let open = socket(udp("127.0.0.2:53"), false, true);
    assert_eq!(predict(&both, &able, &[open, foreign]).result, PredictedResult::Granted);
}

#[test]
fn the_remembered_bind_of_tcp_may_decide() {
    // A listener that does not share; another user's socket beside it, then a bind on a device.
    let held = socket(Address { v6only: true, ..tcp("[::]:8080") }, false, false);
    let beside = ExistingSocket { uid: OTHER_USER, ..socket(tcp("0.0.0.0:8080"), false, true) };
    let above = |uid| BindRequest { uid, ..request(on("lo", tcp("[::]:8080")), false, true) };
    let uncertainty = Uncertainty { index: 1, unknown: UnknownFact::LookupOrder };
    assert_eq!(
        verdict(&above(OTHER_USER), &[held.clone(), beside]),
        PredictedResult::Uncertain(vec![uncertainty])
    );
    assert!(matches!(verdict(&above(OTHER_USER), &[held]), PredictedResult::Refused(_)));
}

#[test]
fn traffic_follows_the_lookup() {
    let open = |address| socket(address, true, true);
    let cases = [
        (tcp("0.0.0.0:80"), open(tcp("0.0.0.0:80")), "0.0.0.0:80", TrafficOutcome::Shared),
        (tcp("127.0.0.1:80"), open(tcp("0.0.0.0:80")), "127.0.0.1:80", TrafficOutcome::Taken),
        (tcp("0.0.0.0:80"), open(tcp("127.0.0.1:80")), "127.0.0.1:80", TrafficOutcome::Kept),
        (tcp("[::]:80"), open(tcp("[::]:80")), "*:80", TrafficOutcome::Shared),
        (tcp("[::]:80"), open(tcp("0.0.0.0:80")), "0.0.0.0:80", TrafficOutcome::Kept),
        (tcp("0.0.0.0:80"), open(tcp("[::]:80")), "0.0.0.0:80", TrafficOutcome::Taken),
        (
            on("lo", tcp("0.0.0.0:80")),
            open(tcp("0.0.0.0:80")),
            "0.0.0.0%lo:80",
            TrafficOutcome::Taken,
        ),
        // The newest IPv4 socket is first, on any device; the newest IPv6 socket is last.
        (
            tcp("0.0.0.0:80"),
            open(on("lo", tcp("0.0.0.0:80"))),
            "0.0.0.0%lo:80",
            TrafficOutcome::Taken,
        ),
        (on("lo", tcp("[::]:80")), open(tcp("[::]:80")), "*%lo:80", TrafficOutcome::Kept),
        (
            udp("127.0.0.1:80"),
            ExistingSocket { uid: OTHER_USER, ..open(udp("127.0.0.1:80")) },
            "127.0.0.1:80",
            TrafficOutcome::Taken,
        ),
    ];
    let able = PortLimits { may_bind_low: true, ..LIMITS };
    for (address, other, region, outcome) in cases {
        let prediction =
            predict(&request(address, true, true), &able, std::slice::from_ref(&other));
        assert_eq!(prediction.result, PredictedResult::Granted, "{other:?}");
        let [effect] = &prediction.effects[..] else { panic!("{:?}", prediction.effects) };
        assert_eq!(
            (effect.address.to_string().as_str(), effect.outcome),
            (region, outcome),
            "{other:?}"
        );
    }
    // A bound socket: it shares, or the first `listen` wins.
    let bound = |other: ExistingSocket| ExistingSocket { usage: SocketUse::Bound, ..other };
    for (uid, reuse_port, expected) in [
        (USER, true, None),
        (USER, false, Some(TrafficOutcome::Race)),
        (OTHER_USER, true, Some(TrafficOutcome::Race)),
    ] {
        let request = BindRequest { uid, ..request(tcp("0.0.0.0:80"), true, reuse_port) };
        let prediction = predict(&request, &able, &[bound(open(tcp("127.0.0.1:80")))]);
        assert_eq!(prediction.result, PredictedResult::Granted);
        assert_eq!(prediction.effects.first().map(|effect| effect.outcome), expected);
    }
    // Refused, or another port: no effect.
    for address in ["0.0.0.0:80", "0.0.0.0:81"] {
        let refused =
            predict(&request(tcp("0.0.0.0:80"), false, false), &able, &[open(tcp(address))]);
        assert_eq!(refused.effects, []);
    }
}

#[test]
fn remedies_in_order() {
    let any = || tcp("0.0.0.0:8080");
    let server = || request(any(), true, false);
    let held = || socket(any(), true, false);
    let open = || socket(any(), true, true);
    let foreign = |other: ExistingSocket| ExistingSocket { uid: OTHER_USER, ..other };
    let in_use_as = |usage, other: ExistingSocket| ExistingSocket { usage, ..other };
    let time_wait = || in_use_as(SocketUse::TimeWait, socket(tcp("127.0.0.1:8080"), false, false));
    let client = || in_use_as(SocketUse::Connected, socket(tcp("127.0.0.1:8080"), false, false));
    let without = || Remedy::Remove(vec![0]);
    let next = || Remedy::OtherPort(8082);
    let both = || request(tcp("[::]:8080"), true, false);
    let six = Address { v6only: true, ..tcp("[::]:8080") };
    let cases: [(BindRequest, ExistingSocket, Vec<Remedy>); 9] = [
        (server(), held(), vec![Remedy::Share(vec![0]), without(), next()]),
        (server(), open(), vec![Remedy::Join(vec![0]), without(), next()]),
        (
            server(),
            foreign(held()),
            vec![Remedy::AsUser { uid: OTHER_USER, restart: vec![0] }, without(), next()],
        ),
        (
            server(),
            foreign(open()),
            vec![Remedy::AsUser { uid: OTHER_USER, restart: vec![] }, without(), next()],
        ),
        (server(), time_wait(), vec![without(), next()]),
        (server(), client(), vec![without(), next()]),
        (
            request(any(), false, false),
            ExistingSocket { reuse_address: Some(true), ..time_wait() },
            vec![Remedy::ReuseAddress, without(), next()],
        ),
        (both(), held(), vec![Remedy::Share(vec![0]), without(), Remedy::OneFamily(six), next()]),
        (server(), socket(tcp("127.0.0.1:8081"), false, false), vec![]),
    ];
    let all = [any(), tcp("127.0.0.1:8081"), udp("0.0.0.0:8082")];
    for (request, other, expected) in cases {
        let found = remedies(&request, &LIMITS, std::slice::from_ref(&other), &all, &[]);
        assert_eq!(found, expected, "{request:?} {other:?}");
    }
    // It would succeed, and take all traffic.
    let open = socket(udp("0.0.0.0:53"), true, false);
    let found = remedies(
        &request(udp("0.0.0.0:5353"), false, false),
        &LIMITS,
        &[ExistingSocket { address: udp("0.0.0.0:5353"), ..open }],
        &all,
        &[],
    );
    assert!(!found.contains(&Remedy::ReuseAddress), "{found:?}");
    // TIME_WAIT with unknown options prevents no remedy.
    let rest = ExistingSocket { reuse_address: None, reuse_port: None, ..time_wait() };
    let found = remedies(&server(), &LIMITS, &[held(), rest], &all, &[]);
    assert_eq!(found, [Remedy::Share(vec![0]), without(), next()]);
    let rest = ExistingSocket { reuse_address: None, reuse_port: None, ..time_wait() };
    let found = remedies(&request(any(), false, false), &LIMITS, &[rest], &all, &[]);
    assert_eq!(found, [Remedy::ReuseAddress, without(), next()]);
    // The options cannot be read: without the socket they do not matter, unless another is in the way.
    let hidden = ExistingSocket { reuse_port: None, reuse_address: None, ..held() };
    let found = remedies(&request(any(), false, true), &LIMITS, &[hidden], &all, &[]);
    assert_eq!(found, [without()]);
    let low = BindRequest::plain(tcp("0.0.0.0:80"), USER);
    assert_eq!(
        remedies(&low, &LIMITS, &[], &[tcp("127.0.0.1:8080")], &[]),
        [Remedy::OtherPort(8081)]
    );
    let away = PortLimits { is_local: false, ..LIMITS };
    assert_eq!(remedies(&server(), &away, &[], &all, &[]), [Remedy::Freebind, Remedy::Transparent]);
    // Beside one address of the machine, the others are free.
    let local = ["127.0.0.1", "192.0.2.7", "fe80::1", "::1"].map(|ip| ip.parse().unwrap());
    let held = [socket(tcp("127.0.0.1:8080"), false, false)];
    let wild = request(tcp("0.0.0.0:8080"), false, false);
    let found = remedies(&wild, &LIMITS, &held, &all, &local);
    assert!(found.contains(&Remedy::Specific(vec![tcp("192.0.2.7:8080")])), "{found:?}");
    let dual = request(tcp("[::]:8080"), false, false);
    let found = remedies(&dual, &LIMITS, &held, &all, &local);
    let free = vec![tcp("192.0.2.7:8080"), tcp("[::1]:8080")];
    assert!(found.contains(&Remedy::Specific(free)), "{found:?}");
}
