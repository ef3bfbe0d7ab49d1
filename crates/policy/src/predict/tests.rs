//! The shape of the answers. That they are true is `tests/prediction`'s to show, on a kernel.

use super::*;
use crate::model::Protocol;

const ANN: u32 = 1000;
const BOB: u32 = 1001;

const MACHINE: PortLimits = PortLimits {
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

/// A socket of Ann's that waits, with `SO_REUSEADDR` and `SO_REUSEPORT` so.
fn there(address: Address, reuse_address: bool, reuse_port: bool) -> ExistingSocket {
    ExistingSocket {
        address,
        usage: SocketUse::Waiting,
        uid: ANN,
        reuse_port: Some(reuse_port),
        reuse_address: Some(reuse_address),
    }
}

fn wish(address: Address, reuse_address: bool, reuse_port: bool) -> BindRequest {
    BindRequest { reuse_port, reuse_address, ..BindRequest::plain(address, ANN) }
}

fn verdict(wish: &BindRequest, others: &[ExistingSocket]) -> PredictedResult {
    predict(wish, &MACHINE, others).result
}

#[test]
fn what_is_refused_whoever_is_there() {
    let low = BindRequest::plain(tcp("192.0.2.1:80"), ANN);
    let low6 = BindRequest::plain(tcp("[2001:db8::1]:80"), ANN);
    let mapped = |v6only| Address { v6only, ..tcp("[::ffff:127.0.0.1]:8080") };
    let away = PortLimits { is_local: false, ..MACHINE };
    let high = BindRequest::plain(tcp("192.0.2.1:8080"), ANN);
    let transparent = BindRequest { transparent: true, ..high.clone() };
    let device = PortLimits { device_exists: false, ..MACHINE };
    let able = PortLimits { may_bind_low: true, may_be_transparent: true, ..away };
    let nonlocal = PortLimits { nonlocal_bind: true, ..away };
    let cases = [
        // IPv4 is asked for its address first, IPv6 for the privilege.
        (&low, away, Some(PredictedRefusal::NotLocal)),
        (&low6, away, Some(PredictedRefusal::NeedsPrivilege)),
        (&low, MACHINE, Some(PredictedRefusal::NeedsPrivilege)),
        (&low, PortLimits { may_bind_low: true, ..MACHINE }, None),
        (&high, away, Some(PredictedRefusal::NotLocal)),
        (&high, nonlocal, None),
        (&BindRequest { freebind: true, ..high.clone() }, away, None),
        (&transparent, away, Some(PredictedRefusal::NotTransparent)),
        (&transparent, able, None),
        (&high, device, Some(PredictedRefusal::NoDevice)),
        (&BindRequest::plain(mapped(true), ANN), MACHINE, Some(PredictedRefusal::MappedAndV6only)),
        (&BindRequest::plain(mapped(false), ANN), MACHINE, None),
        (&BindRequest::plain(tcp("[fe80::1]:8080"), ANN), MACHINE, Some(PredictedRefusal::NoScope)),
        (&BindRequest::plain(on("lo", tcp("[fe80::1]:8080")), ANN), MACHINE, None),
    ];
    for (wish, machine, expected) in cases {
        let expected = expected.map_or(PredictedResult::Granted, PredictedResult::Refused);
        assert_eq!(predict(wish, &machine, &[]).result, expected, "{wish:?} {machine:?}");
    }
}

#[test]
fn a_refusal_names_all_that_are_in_the_way_and_what_they_lack() {
    let nobody = there(tcp("127.0.0.2:8080"), false, false);
    let held = there(tcp("0.0.0.0:8080"), true, false);
    let bobs = ExistingSocket { uid: BOB, ..there(tcp("127.0.0.1:8080"), true, true) };
    let all = [nobody, held, bobs];
    let PredictedResult::Refused(refused) =
        verdict(&wish(tcp("127.0.0.1:8080"), true, false), &all)
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
fn what_is_not_known_is_a_doubt_and_not_a_guess() {
    let unknown = ExistingSocket {
        reuse_port: None,
        reuse_address: None,
        ..there(tcp("0.0.0.0:8080"), true, true)
    };
    let bound = ExistingSocket { usage: SocketUse::Bound, ..unknown.clone() };
    let bobs = ExistingSocket { uid: BOB, ..unknown.clone() };
    let (reuse, share) = (ReuseFlag::ReuseAddress, ReuseFlag::ReusePort);
    let depends = |flags: &[ReuseFlag]| {
        PredictedResult::Uncertain(vec![Uncertainty {
            index: 0,
            unknown: UnknownFact::AnySet(flags.to_vec()),
        }])
    };
    let any = || tcp("0.0.0.0:8080");
    assert_eq!(
        verdict(&wish(any(), false, true), std::slice::from_ref(&unknown)),
        depends(&[share])
    );
    assert_eq!(
        verdict(&wish(any(), true, true), std::slice::from_ref(&bound)),
        depends(&[reuse, share])
    );
    assert_eq!(verdict(&wish(any(), true, false), &[bound]), depends(&[reuse]));
    // Without an option of ours, and against another user, nothing of theirs can help.
    for hopeless in [wish(any(), true, false), BindRequest { uid: BOB, ..wish(any(), true, true) }]
    {
        assert!(matches!(
            verdict(&hopeless, std::slice::from_ref(&unknown)),
            PredictedResult::Refused(_)
        ));
    }
    assert!(matches!(verdict(&wish(any(), true, true), &[bobs]), PredictedResult::Refused(_)));
}

#[test]
fn what_is_left_of_a_connection_has_no_owner() {
    let left = ExistingSocket {
        usage: SocketUse::TimeWait,
        uid: BOB,
        ..there(tcp("127.0.0.1:8080"), false, true)
    };
    let any = || tcp("0.0.0.0:8080");
    assert_eq!(
        verdict(&wish(any(), false, true), std::slice::from_ref(&left)),
        PredictedResult::Granted
    );
    assert!(matches!(verdict(&wish(any(), true, false), &[left]), PredictedResult::Refused(_)));
}

#[test]
fn the_order_of_others_may_decide() {
    let open = there(udp("127.0.0.2:53"), false, true);
    let closed = there(udp("127.0.0.1:53"), false, false);
    let able = PortLimits { may_bind_low: true, ..MACHINE };
    let wish = wish(udp("0.0.0.0:53"), false, true);
    let doubt = Uncertainty { index: 1, unknown: UnknownFact::LookupOrder };
    assert_eq!(
        predict(&wish, &able, &[closed.clone(), open]).result,
        PredictedResult::Uncertain(vec![doubt])
    );
    assert!(matches!(
        predict(&wish, &able, std::slice::from_ref(&closed)).result,
        PredictedResult::Refused(_)
    ));
    // IPv6 with the option is behind all others.
    let both = BindRequest { address: udp("[::]:53"), ..wish };
    let six = there(udp("[::1]:53"), false, true);
    let refused = predict(&both, &able, &[closed, six.clone()]).result;
    assert!(matches!(refused, PredictedResult::Refused(_)), "{refused:?}");
    let bobs = ExistingSocket { uid: BOB, ..six };
    let open = there(udp("127.0.0.2:53"), false, true);
    assert_eq!(predict(&both, &able, &[open, bobs]).result, PredictedResult::Granted);
}

#[test]
fn the_shortcut_of_tcp_is_seen() {
    // Ann's listener shares with nobody; Bob is beside it, and then above it.
    let held = there(Address { v6only: true, ..tcp("[::]:8080") }, false, false);
    let beside = ExistingSocket { uid: BOB, ..there(tcp("0.0.0.0:8080"), false, true) };
    let above = |uid| BindRequest { uid, ..wish(on("lo", tcp("[::]:8080")), false, true) };
    let doubt = Uncertainty { index: 1, unknown: UnknownFact::LookupOrder };
    assert_eq!(
        verdict(&above(BOB), &[held.clone(), beside]),
        PredictedResult::Uncertain(vec![doubt])
    );
    assert!(matches!(verdict(&above(BOB), &[held]), PredictedResult::Refused(_)));
}

#[test]
fn who_gets_the_traffic() {
    let open = |address| there(address, true, true);
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
        // The newest is first, whatever its device; of IPv6 it is last.
        (
            tcp("0.0.0.0:80"),
            open(on("lo", tcp("0.0.0.0:80"))),
            "0.0.0.0%lo:80",
            TrafficOutcome::Taken,
        ),
        (on("lo", tcp("[::]:80")), open(tcp("[::]:80")), "*%lo:80", TrafficOutcome::Kept),
        (
            udp("127.0.0.1:80"),
            ExistingSocket { uid: BOB, ..open(udp("127.0.0.1:80")) },
            "127.0.0.1:80",
            TrafficOutcome::Taken,
        ),
    ];
    let able = PortLimits { may_bind_low: true, ..MACHINE };
    for (address, other, region, outcome) in cases {
        let prediction = predict(&wish(address, true, true), &able, std::slice::from_ref(&other));
        assert_eq!(prediction.result, PredictedResult::Granted, "{other:?}");
        let [effect] = &prediction.effects[..] else { panic!("{:?}", prediction.effects) };
        assert_eq!(
            (effect.address.to_string().as_str(), effect.outcome),
            (region, outcome),
            "{other:?}"
        );
    }
    // Bound before: it shares, or one of the two comes too late.
    let bound = |other: ExistingSocket| ExistingSocket { usage: SocketUse::Bound, ..other };
    for (uid, reuse_port, expected) in [
        (ANN, true, None),
        (ANN, false, Some(TrafficOutcome::Race)),
        (BOB, true, Some(TrafficOutcome::Race)),
    ] {
        let wish = BindRequest { uid, ..wish(tcp("0.0.0.0:80"), true, reuse_port) };
        let prediction = predict(&wish, &able, &[bound(open(tcp("127.0.0.1:80")))]);
        assert_eq!(prediction.result, PredictedResult::Granted);
        assert_eq!(prediction.effects.first().map(|effect| effect.outcome), expected);
    }
    // Refused, or apart: nothing happens to anybody.
    for address in ["0.0.0.0:80", "0.0.0.0:81"] {
        let refused = predict(&wish(tcp("0.0.0.0:80"), false, false), &able, &[open(tcp(address))]);
        assert_eq!(refused.effects, []);
    }
}

#[test]
fn what_would_work() {
    let any = || tcp("0.0.0.0:8080");
    let server = || wish(any(), true, false);
    let held = || there(any(), true, false);
    let open = || there(any(), true, true);
    let bobs = |other: ExistingSocket| ExistingSocket { uid: BOB, ..other };
    let doing = |doing, other: ExistingSocket| ExistingSocket { usage: doing, ..other };
    let left = || doing(SocketUse::TimeWait, there(tcp("127.0.0.1:8080"), false, false));
    let client = || doing(SocketUse::Connected, there(tcp("127.0.0.1:8080"), false, false));
    let without = || Remedy::Remove(vec![0]);
    let next = || Remedy::OtherPort(8082);
    let both = || wish(tcp("[::]:8080"), true, false);
    let six = Address { v6only: true, ..tcp("[::]:8080") };
    let cases: [(BindRequest, ExistingSocket, Vec<Remedy>); 9] = [
        (server(), held(), vec![Remedy::Share(vec![0]), without(), next()]),
        (server(), open(), vec![Remedy::Join(vec![0]), without(), next()]),
        (
            server(),
            bobs(held()),
            vec![Remedy::AsUser { uid: BOB, restart: vec![0] }, without(), next()],
        ),
        (
            server(),
            bobs(open()),
            vec![Remedy::AsUser { uid: BOB, restart: vec![] }, without(), next()],
        ),
        (server(), left(), vec![without(), next()]),
        (server(), client(), vec![without(), next()]),
        (
            wish(any(), false, false),
            ExistingSocket { reuse_address: Some(true), ..left() },
            vec![Remedy::ReuseAddress, without(), next()],
        ),
        (both(), held(), vec![Remedy::Share(vec![0]), without(), Remedy::OneFamily(six), next()]),
        (server(), there(tcp("127.0.0.1:8081"), false, false), vec![]),
    ];
    let everywhere = [any(), tcp("127.0.0.1:8081"), udp("0.0.0.0:8082")];
    for (wish, other, expected) in cases {
        let found = remedies(&wish, &MACHINE, std::slice::from_ref(&other), &everywhere);
        assert_eq!(found, expected, "{wish:?} {other:?}");
    }
    // It would get past, and take all that comes.
    let open = there(udp("0.0.0.0:53"), true, false);
    let found = remedies(
        &wish(udp("0.0.0.0:5353"), false, false),
        &MACHINE,
        &[ExistingSocket { address: udp("0.0.0.0:5353"), ..open }],
        &everywhere,
    );
    assert!(!found.contains(&Remedy::ReuseAddress), "{found:?}");
    // What is left of connections, with options that nobody can read, is in no remedy's way.
    let rest = ExistingSocket { reuse_address: None, reuse_port: None, ..left() };
    let found = remedies(&server(), &MACHINE, &[held(), rest], &everywhere);
    assert_eq!(found, [Remedy::Share(vec![0]), without(), next()]);
    let rest = ExistingSocket { reuse_address: None, reuse_port: None, ..left() };
    let found = remedies(&wish(any(), false, false), &MACHINE, &[rest], &everywhere);
    assert_eq!(found, [Remedy::ReuseAddress, without(), next()]);
    let low = BindRequest::plain(tcp("0.0.0.0:80"), ANN);
    assert_eq!(remedies(&low, &MACHINE, &[], &[tcp("127.0.0.1:8080")]), [Remedy::OtherPort(8081)]);
    let away = PortLimits { is_local: false, ..MACHINE };
    assert_eq!(remedies(&server(), &away, &[], &everywhere), []);
}
