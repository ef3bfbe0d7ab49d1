//! Shared TCP listeners.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use sameport::{ErrorKind, Options, Sharing};
use socket2::{Domain, Socket, Type};

use crate::expected::{expected, first, has_ipv6, loopbacks};
use crate::traffic::{PATIENCE, at, close_before_client, count_accepted};

/// Three listeners on one address, or as many as the system admits.
fn members(ip: &str) -> Option<Vec<TcpListener>> {
    let mut members = vec![first(sameport::listen(ip))?];
    let to = at(&members[0]);
    for _ in 0..2 {
        members.push(expected().tcp.next(sameport::listen(to))?);
    }
    Some(members)
}

#[test]
fn the_members_of_a_group_receive_all_connections() {
    const CONNECTIONS: usize = 192;
    for ip in loopbacks() {
        let Some(members) = members(ip) else { continue };
        let to = at(&members[0]);
        expected().tcp.check(&count_accepted(&members, to, CONNECTIONS), CONNECTIONS);
    }
}

#[test]
fn a_member_receives_everything_after_the_others_have_closed() {
    for keep in 0..3 {
        let Some(mut members) = members("127.0.0.1:0") else { return };
        let to = at(&members[0]);
        let last = members.swap_remove(keep);
        drop(members);
        assert_eq!(count_accepted(&[last.try_clone().unwrap()], to, 16), [16]);
        drop(last);
        assert!(TcpStream::connect_timeout(&to, PATIENCE).is_err());
    }
}

#[test]
fn a_specific_listener_receives_the_connections_of_its_address() {
    let wildcard = Options::shared().listen("0.0.0.0:0");
    let Some(wildcard) = first(wildcard) else { return };
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, at(&wildcard).port()));
    let Some(specific) = expected().tcp.next(sameport::listen(to)) else { return };
    assert_eq!(count_accepted(&[wildcard, specific], to, 16), [0, 16]);
}

#[test]
fn each_family_has_listeners_of_its_own() {
    if !has_ipv6() {
        return;
    }
    // The port that is free in IPv6 can be in use in IPv4: then another one.
    let v6only = Options::shared().v6only(true);
    let pair = (0..16).find_map(|_| {
        let six = first(v6only.listen("[::]:0"))?;
        let four = sameport::listen((Ipv4Addr::UNSPECIFIED, at(&six).port())).ok()?;
        Some((six, four))
    });
    if sameport::support().sharing == Sharing::Unsupported {
        return assert!(pair.is_none());
    }
    let (six, four) = pair.expect("the same port in both families");
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, at(&six).port()));
    assert_eq!(count_accepted(&[six, four], to, 4), [0, 4]);
}

#[test]
fn a_free_port_can_be_joined() {
    let Some(listener) = first(sameport::listen("127.0.0.1:0")) else { return };
    assert_ne!(at(&listener).port(), 0);
    for _ in 0..3 {
        expected().tcp.next(sameport::listen(at(&listener)));
    }
}

#[test]
fn a_shared_listener_restarts_over_closing_connections() {
    let Some(listener) = first(sameport::listen("127.0.0.1:0")) else { return };
    let to = close_before_client(listener);
    let again = sameport::listen(to).unwrap();
    assert_eq!(count_accepted(&[again], to, 2), [2]);
}

#[test]
fn options_on_a_callers_socket() {
    let Some(shared) = first(sameport::listen("127.0.0.1:0")) else { return };
    let address = at(&shared);
    let make = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    assert!(make().bind(&address.into()).is_err(), "without the option, bind must fail");

    let joined = make();
    Options::shared().apply_to_listener(&joined, address).unwrap();
    let bound = joined.bind(&address.into()).and_then(|()| joined.listen(16));
    match expected().tcp {
        crate::expected::Join::RefusedByWine => assert!(bound.is_err()),
        join => {
            bound.unwrap();
            join.check(&count_accepted(&[shared, joined.into()], address, 96), 96);
        }
    }
}

#[test]
fn balancing_can_be_required() {
    let result = Options::shared().require_balanced(true).listen("127.0.0.1:0");
    match sameport::support().sharing {
        Sharing::Balanced => drop(result.unwrap()),
        _ => assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported),
    }
    let error = Options::exclusive().require_balanced(true).listen("127.0.0.1:0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAddress, "{error}");
}
