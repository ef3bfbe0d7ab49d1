//! Shared UDP sockets.

use std::net::{Ipv4Addr, SocketAddr};

use crate::expected::{expected, first, loopbacks};
use crate::traffic::count_received;

#[test]
fn the_members_of_a_group_receive_all_datagrams() {
    const DATAGRAMS: usize = 192;
    for ip in loopbacks() {
        let Some(one) = first(sameport::bind_udp(ip)) else { continue };
        let to = one.local_addr().unwrap();
        let next = || expected().udp.next(sameport::bind_udp(to));
        let (Some(two), Some(three)) = (next(), next()) else { continue };
        let counts = count_received(&[&one, &two, &three], to, DATAGRAMS);
        expected().udp.check(&counts, DATAGRAMS);
    }
}

#[test]
fn a_member_receives_everything_after_the_others_have_closed() {
    for keep in 0..2 {
        let Some(one) = first(sameport::bind_udp("127.0.0.1:0")) else { return };
        let to = one.local_addr().unwrap();
        let Some(two) = expected().udp.next(sameport::bind_udp(to)) else { return };
        let (last, closed) = if keep == 0 { (one, two) } else { (two, one) };
        drop(closed);
        assert_eq!(count_received(&[&last], to, 16), [16]);
    }
}

#[test]
fn a_specific_socket_receives_the_datagrams_of_its_address() {
    let Some(wildcard) = first(sameport::bind_udp("0.0.0.0:0")) else { return };
    let port = wildcard.local_addr().unwrap().port();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Some(specific) = expected().udp.next(sameport::bind_udp(to)) else { return };
    assert_eq!(count_received(&[&wildcard, &specific], to, 16), [0, 16]);
    drop(specific);
    assert_eq!(count_received(&[&wildcard], to, 4), [4]);
}

#[test]
fn a_free_port_can_be_joined() {
    let Some(socket) = first(sameport::bind_udp("127.0.0.1:0")) else { return };
    assert_ne!(socket.local_addr().unwrap().port(), 0);
    for _ in 0..3 {
        expected().udp.next(sameport::bind_udp(socket.local_addr().unwrap()));
    }
}
