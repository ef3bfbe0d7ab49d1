//! Bare ports: one socket for both families, or one socket for each.

use std::net::{Ipv4Addr, SocketAddr};

use sameport::{DualStack, ErrorKind, Options};

use crate::expected::{expected, has_ipv6};
use crate::traffic::{at, count_accepted, count_received};

/// The addresses at which a bare port is reached.
fn targets(port: u16) -> Vec<SocketAddr> {
    let ips: &[&str] = if has_ipv6() { &["127.0.0.1", "::1"] } else { &["127.0.0.1"] };
    ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect()
}

#[test]
fn listeners_on_a_bare_port_receive_both_families() {
    let all = Options::exclusive().listen_all(0).unwrap();
    // An exclusive group is never balanced: FreeBSD needs no second socket for it.
    let one = sameport::support().dual_stack == DualStack::OneSocketNotBalanced;
    assert_eq!(all.len(), if one { 1 } else { expected().sockets_of_a_port });
    let port = at(&all[0]).port();
    assert!(all.iter().all(|listener| at(listener).port() == port));
    for to in targets(port) {
        assert_eq!(count_accepted(&all, to, 2).iter().sum::<usize>(), 2, "{to}");
    }
}

#[test]
fn sockets_on_a_bare_port_receive_both_families() {
    let all = Options::exclusive().bind_udp_all(0).unwrap();
    let port = all[0].local_addr().unwrap().port();
    let members: Vec<_> = all.iter().collect();
    for to in targets(port) {
        assert_eq!(count_received(&members, to, 2).iter().sum::<usize>(), 2, "{to}");
    }
}

#[test]
fn a_bare_port_is_shared_in_both_families() {
    let Some(all) = crate::expected::first(sameport::bind_udp_all(0)) else { return };
    assert_eq!(all.len(), expected().sockets_of_a_port);
    let port = all[0].local_addr().unwrap().port();
    let Some(more) = expected().udp.next(sameport::bind_udp_all(port)) else { return };
    let members: Vec<_> = all.iter().chain(&more).collect();
    for to in targets(port) {
        assert_eq!(count_received(&members, to, 8).iter().sum::<usize>(), 8, "{to}");
    }
}

#[test]
fn one_socket_for_both_families_where_the_system_has_it() {
    let result = Options::exclusive().listen(":0");
    if sameport::support().dual_stack == DualStack::TwoSockets && has_ipv6() {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        return assert!(error.to_string().contains("listen_all"), "{error}");
    }
    let listener = result.unwrap();
    for to in targets(at(&listener).port()) {
        assert_eq!(count_accepted(&[listener.try_clone().unwrap()], to, 2), [2], "{to}");
    }
}

#[test]
fn an_ipv4_address_written_as_ipv6_takes_its_traffic() {
    if sameport::support().dual_stack == DualStack::TwoSockets || !has_ipv6() {
        return;
    }
    let mapped = sameport::listen_exclusive("[::ffff:127.0.0.1]:0").unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, at(&mapped).port()));
    assert_eq!(count_accepted(&[mapped], to, 2), [2]);
}
