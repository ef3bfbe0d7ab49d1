//! What can be seen of sockets that this process made itself.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use sameport_rules::sockets::Member;
use socket2::{Domain, Socket, Type};

use super::*;
use crate::turns::alone;

fn own_pid() -> i32 {
    std::process::id().try_into().unwrap()
}

/// The one socket of this protocol at this address: other tests use the same ports elsewhere.
fn at(protocol: Protocol, address: SocketAddr) -> Option<Member> {
    let query = Query::only(protocol).on(address.port());
    let mut found = members(&query).unwrap().members;
    found.retain(|member| member.socket.address.socket == address);
    assert!(found.len() <= 1, "{found:?}");
    found.pop()
}

#[test]
fn a_listener_is_seen_with_its_process_queue_and_flag() {
    let _alone = alone();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(7).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let _waiting = std::net::TcpStream::connect(address).unwrap();

    let member = at(Protocol::Tcp, address).unwrap();

    assert_eq!((member.socket.queue, member.socket.backlog), (1, 7));
    assert_eq!(member.socket.uid, rustix::process::getuid().as_raw());
    assert_eq!(member.processes.iter().map(|p| p.pid).collect::<Vec<_>>(), [own_pid()]);
    assert!(!member.processes[0].program.is_empty());
    assert_eq!(member.shared, Some(true));
}

#[test]
fn a_closed_listener_is_gone() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.77.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert!(at(Protocol::Tcp, address).is_some());
    drop(listener);
    assert_eq!(at(Protocol::Tcp, address), None);
}

#[test]
fn the_query_chooses_protocol_and_port() {
    let _alone = alone();
    let udp = UdpSocket::bind("127.0.77.2:0").unwrap();
    let address = udp.local_addr().unwrap();
    let port = address.port();
    let other = if port == u16::MAX { port - 1 } else { port + 1 };
    let cases = [
        (Query::everything(), true),
        (Query::everything().on(port), true),
        (Query::everything().on(other), false),
        (Query::only(Protocol::Udp), true),
        (Query::only(Protocol::Tcp), false),
        (Query::only(Protocol::Tcp).on(port), false),
        (Query { tcp: false, udp: false, port: None }, false),
    ];
    for (query, expected) in cases {
        let found = members(&query).unwrap().members;
        let seen = found.iter().any(|member| member.socket.address.socket == address);
        assert_eq!(seen, expected, "{query:?}");
    }
    let member = at(Protocol::Udp, address).unwrap();
    assert_eq!(member.shared, Some(false));
    assert_eq!((member.socket.queue, member.socket.backlog), (0, 0));
}

#[test]
fn a_udp_queue_is_counted_in_bytes() {
    let _alone = alone();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", address).unwrap();
    assert!(at(Protocol::Udp, address).unwrap().socket.queue >= 5);
}

#[test]
fn only_a_wildcard_is_called_v6only() {
    let _alone = alone();
    for (ip, v6only) in [
        (Ipv6Addr::UNSPECIFIED, true),
        (Ipv6Addr::UNSPECIFIED, false),
        (Ipv6Addr::LOCALHOST, false),
        (Ipv6Addr::LOCALHOST, true),
    ] {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
        socket.set_only_v6(v6only).unwrap();
        socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let seen = at(Protocol::Udp, address).unwrap().socket.address;
        assert_eq!(seen.v6only, v6only && ip.is_unspecified(), "{ip} {v6only}");
    }
}

#[test]
fn a_device_is_named() {
    let _alone = alone();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.bind_device(Some(b"lo")).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let seen = at(Protocol::Udp, address).unwrap().socket.address;
    assert_eq!(seen.device.as_deref(), Some("lo"));
}

#[test]
fn hundreds_of_sockets_are_all_there() {
    let _alone = alone();
    let sockets: Vec<_> = (0..800).map(|_| UdpSocket::bind("127.0.77.3:0").unwrap()).collect();
    let seen = members(&Query::only(Protocol::Udp)).unwrap().members;
    for socket in &sockets {
        let address = socket.local_addr().unwrap();
        let found: Vec<_> = seen.iter().filter(|m| m.socket.address.socket == address).collect();
        assert_eq!(found.len(), 1, "{address}");
        assert_eq!(found[0].processes.iter().map(|p| p.pid).collect::<Vec<_>>(), [own_pid()]);
    }
}

#[test]
fn complete_means_that_everybody_is_named() {
    let _alone = alone();
    let nothing = members(&Query { tcp: false, udp: false, port: None }).unwrap();
    assert_eq!(nothing, Seen { members: Vec::new(), complete: true });

    let _somebody = TcpListener::bind("127.0.0.1:0").unwrap();
    let seen = members(&Query::only(Protocol::Tcp)).unwrap();
    let unnamed = seen.members.iter().any(|member| member.processes.is_empty());
    assert!(!(seen.complete && unnamed), "{seen:?}");
}

#[test]
fn where_a_process_listens_is_found_and_nothing_the_kernel_gave_away() {
    let _turn = crate::turns::alone();
    let ourselves = std::process::id().cast_signed();
    let fixed =
        (10_000..30_000).find_map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok());
    let fixed = fixed.unwrap();
    let given = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ports =
        |pids: &[i32]| -> Vec<u16> { listening(pids).unwrap().iter().map(Address::port).collect() };
    let seen = ports(&[ourselves]);
    assert!(seen.contains(&fixed.local_addr().unwrap().port()), "{seen:?}");
    assert!(!seen.contains(&given.local_addr().unwrap().port()), "{seen:?}");
    assert_eq!(ports(&[]), []);
}

#[test]
fn what_nobody_waits_on_is_told_in_one_step() {
    let _alone = alone();
    let taken = |protocol, address: SocketAddr| may_be_taken(&Address::new(protocol, address));
    let at = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
    // Where each socket is, where it is found, and where it is not.
    let cases: [(&str, &[&str], &[&str]); 5] = [
        (
            "127.0.77.4",
            &["127.0.77.4", "::ffff:127.0.77.4"],
            &["127.0.77.5", "0.0.0.0", "::", "::1"],
        ),
        ("::ffff:127.0.77.4", &["127.0.77.4", "::ffff:127.0.77.4"], &["0.0.0.0", "::"]),
        ("0.0.0.0", &["0.0.0.0", "127.0.77.4"], &["::", "::1"]),
        ("::1", &["::1"], &["::", "0.0.0.0", "127.0.0.1"]),
        ("::", &["::", "::1", "0.0.0.0", "127.0.77.4", "::ffff:127.0.77.4"], &[]),
    ];
    for (ip, found, not_found) in cases {
        let datagrams = UdpSocket::bind(at(ip, 0)).unwrap();
        let (port, udp) = (datagrams.local_addr().unwrap().port(), Protocol::Udp);
        let socket = Socket::new(Domain::for_address(at(ip, 0)), Type::STREAM, None).unwrap();
        socket.bind(&at(ip, 0).into()).unwrap();
        let bound = socket.local_addr().unwrap().as_socket().unwrap().port();
        for there in found.iter().chain(not_found) {
            assert!(!taken(Protocol::Tcp, at(there, bound)), "{ip} from {there}, not listening");
        }
        socket.listen(1).unwrap();
        for (protocol, port) in [(udp, port), (Protocol::Tcp, bound)] {
            for there in found {
                assert!(taken(protocol, at(there, port)), "{protocol} {ip} from {there}");
            }
            for elsewhere in not_found {
                assert!(!taken(protocol, at(elsewhere, port)), "{protocol} {ip} from {elsewhere}");
            }
        }
        drop((datagrams, socket));
        assert!(found.iter().all(|there| !taken(udp, at(there, port))), "{ip}: closed");
    }
    // What has no answer in one step is not said to be free.
    let on_lo =
        Address { device: Some("lo".into()), ..Address::new(Protocol::Tcp, at("0.0.0.0", 1)) };
    assert!(may_be_taken(&on_lo));
    assert!(taken(Protocol::Udp, at("fe80::1", 1)));
}
