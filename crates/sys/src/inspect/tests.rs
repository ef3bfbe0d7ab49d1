//! Listing sockets of this process.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use sameport_policy::model::{Member, Protocol, SocketOptions, SocketState};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::netlink::AddressProbe;
use crate::serial::run_exclusive;

fn own_pid() -> i32 {
    std::process::id().try_into().unwrap()
}

/// The one socket of this protocol at this address: other tests use the same ports elsewhere.
fn at(protocol: Protocol, address: SocketAddr) -> Option<Member> {
    let query = SocketQuery::only(protocol).on(address.port());
    let mut found = list_sockets(&query).unwrap().members;
    found.retain(|member| member.socket.address.socket == address);
    assert!(found.len() <= 1, "{found:?}");
    found.pop()
}

#[test]
fn a_listener_is_seen_with_its_process_queue_and_flag() {
    let _alone = run_exclusive();
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
    let _alone = run_exclusive();
    let listener = TcpListener::bind("127.0.77.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert!(at(Protocol::Tcp, address).is_some());
    drop(listener);
    assert_eq!(at(Protocol::Tcp, address), None);
}

#[test]
fn the_query_chooses_protocol_and_port() {
    let _alone = run_exclusive();
    let udp = UdpSocket::bind("127.0.77.2:0").unwrap();
    let address = udp.local_addr().unwrap();
    let port = address.port();
    let other = if port == u16::MAX { port - 1 } else { port + 1 };
    let cases = [
        (SocketQuery::everything(), true),
        (SocketQuery::everything().on(port), true),
        (SocketQuery::everything().on(other), false),
        (SocketQuery::only(Protocol::Udp), true),
        (SocketQuery::only(Protocol::Tcp), false),
        (SocketQuery::only(Protocol::Tcp).on(port), false),
        (SocketQuery { tcp: false, udp: false, ..SocketQuery::everything() }, false),
    ];
    for (query, expected) in cases {
        let found = list_sockets(&query).unwrap().members;
        let seen = found.iter().any(|member| member.socket.address.socket == address);
        assert_eq!(seen, expected, "{query:?}");
    }
    let member = at(Protocol::Udp, address).unwrap();
    assert_eq!(member.shared, Some(false));
    assert_eq!((member.socket.queue, member.socket.backlog), (0, 0));
}

#[test]
fn a_udp_queue_is_counted_in_bytes() {
    let _alone = run_exclusive();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", address).unwrap();
    assert!(at(Protocol::Udp, address).unwrap().socket.queue >= 5);
}

#[test]
fn only_a_wildcard_is_called_v6only() {
    let _alone = run_exclusive();
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
    let _alone = run_exclusive();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.bind_device(Some(b"lo")).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let seen = at(Protocol::Udp, address).unwrap().socket.address;
    assert_eq!(seen.device.as_deref(), Some("lo"));
}

#[test]
fn hundreds_of_sockets_are_all_there() {
    let _alone = run_exclusive();
    let sockets: Vec<_> = (0..800).map(|_| UdpSocket::bind("127.0.77.3:0").unwrap()).collect();
    let seen = list_sockets(&SocketQuery::only(Protocol::Udp)).unwrap().members;
    for socket in &sockets {
        let address = socket.local_addr().unwrap();
        let found: Vec<_> = seen.iter().filter(|m| m.socket.address.socket == address).collect();
        assert_eq!(found.len(), 1, "{address}");
        assert_eq!(found[0].processes.iter().map(|p| p.pid).collect::<Vec<_>>(), [own_pid()]);
    }
}

#[test]
fn complete_means_that_everybody_is_named() {
    let _alone = run_exclusive();
    let nothing =
        list_sockets(&SocketQuery { tcp: false, udp: false, ..SocketQuery::everything() }).unwrap();
    assert_eq!(
        nothing,
        Snapshot { members: Vec::new(), complete: true, bound: true, iterated: false }
    );

    let _somebody = TcpListener::bind("127.0.0.1:0").unwrap();
    let seen = list_sockets(&SocketQuery::only(Protocol::Tcp)).unwrap();
    let unnamed = seen.members.iter().any(|member| member.processes.is_empty());
    assert!(!(seen.complete && unnamed), "{seen:?}");
}

#[test]
fn where_a_process_listens_is_found_and_nothing_the_kernel_gave_away() {
    let _turn = crate::serial::run_exclusive();
    let ourselves = std::process::id().cast_signed();
    let fixed =
        (10_000..30_000).find_map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok());
    let fixed = fixed.unwrap();
    let given = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = |pids: &[i32]| -> Vec<u16> {
        listen_addresses(pids).unwrap().iter().map(Address::port).collect()
    };
    let seen = ports(&[ourselves]);
    assert!(seen.contains(&fixed.local_addr().unwrap().port()), "{seen:?}");
    assert!(!seen.contains(&given.local_addr().unwrap().port()), "{seen:?}");
    assert_eq!(ports(&[]), []);
}

#[test]
fn what_nobody_waits_on_is_told_in_one_step() {
    let _alone = run_exclusive();
    let mut probe = AddressProbe::default();
    let mut taken =
        |protocol, address: SocketAddr| probe.may_be_taken(&Address::new(protocol, address));
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
    assert!(taken(Protocol::Udp, at("fe80::1", 1)));
    assert!(probe.may_be_taken(&on_lo));
}

/// Every socket at this address, in any state, by what it does.
fn states_at(protocol: Protocol, address: SocketAddr, states: StateFilter) -> Vec<SocketState> {
    let query = SocketQuery::only(protocol).on(address.port()).in_states(states);
    let found = list_sockets(&query).unwrap().members.into_iter().map(|member| member.socket);
    let mut found: Vec<_> =
        found.filter(|it| it.address.socket == address).map(|it| it.state).collect();
    found.sort_unstable();
    found
}

#[test]
fn sockets_that_wait_for_nobody_are_seen_when_asked_for() {
    let _alone = run_exclusive();
    let local = |socket: &Socket| socket.local_addr().unwrap().as_socket().unwrap();
    for ip in ["127.0.77.6", "::1", "0.0.0.0", "::"] {
        let bound = Socket::new(Domain::for_address(at_port(ip, 0)), Type::STREAM, None).unwrap();
        bound.bind(&at_port(ip, 0).into()).unwrap();
        let address = local(&bound);
        let seen = |states| states_at(Protocol::Tcp, address, states);
        let other = SocketQuery::everything().on(1).in_states(StateFilter::Every);
        let others = list_without_owners(&other).unwrap();
        assert!(others.iter().all(|socket| socket.address.port() == 1), "{others:?}");
        let expected = if crate::netlink::sockets::lists_bound_sockets() {
            vec![SocketState::Bound]
        } else {
            vec![]
        };
        assert_eq!(seen(StateFilter::Waiting), [], "{ip}");
        assert_eq!(seen(StateFilter::Unconnected), expected, "{ip}");
        assert_eq!(seen(StateFilter::Every), expected, "{ip}");
        bound.listen(1).unwrap();
        assert_eq!(seen(StateFilter::Unconnected), [SocketState::Waiting], "{ip}");
    }

    // A client that has chosen its own port.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.bind(&at_port("127.0.77.7", 0).into()).unwrap();
    client.connect(&server.local_addr().unwrap().into()).unwrap();
    let seen = |states| states_at(Protocol::Tcp, local(&client), states);
    assert_eq!(seen(StateFilter::Unconnected), []);
    assert_eq!(seen(StateFilter::Every), [SocketState::Connected]);

    let datagrams = UdpSocket::bind("127.0.77.8:0").unwrap();
    let address = datagrams.local_addr().unwrap();
    let seen = |states| states_at(Protocol::Udp, address, states);
    assert_eq!(seen(StateFilter::Every), [SocketState::Waiting]);
    datagrams.connect("127.0.0.1:9").unwrap();
    assert_eq!(seen(StateFilter::Unconnected), []);
    assert_eq!(seen(StateFilter::Every), [SocketState::Connected]);
}

fn at_port(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

#[test]
fn whether_bound_sockets_were_looked_for_is_told() {
    let _alone = run_exclusive();
    let bound = |query: SocketQuery| list_sockets(&query.on(9)).unwrap().bound;
    let lists = crate::netlink::sockets::lists_bound_sockets();
    assert!(!bound(SocketQuery::everything()));
    assert_eq!(bound(SocketQuery::everything().in_states(StateFilter::Unconnected)), lists);
    assert_eq!(bound(SocketQuery::only(Protocol::Tcp).in_states(StateFilter::Every)), lists);
    assert!(bound(SocketQuery::only(Protocol::Udp)), "there are none of UDP");
}

#[test]
fn what_was_dropped_is_counted() {
    let _alone = run_exclusive();
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&at_port("127.0.77.9", 0).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let drops = |protocol, address| at(protocol, address).unwrap().socket.drops;
    assert_eq!(drops(Protocol::Tcp, address), Some(0));
    // One fits; the others are turned away, and their clients try again later.
    let _clients = [(); 3].map(|()| {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&address.into());
        client
    });
    crate::socket::until("the queue is full", || drops(Protocol::Tcp, address).unwrap() > 0);

    let udp = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    udp.set_recv_buffer_size(1).unwrap();
    udp.bind(&at_port("127.0.77.9", 0).into()).unwrap();
    let address = udp.local_addr().unwrap().as_socket().unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..20 {
        sender.send_to(&[0; 4000], address).unwrap();
    }
    crate::socket::until("datagrams were lost", || drops(Protocol::Udp, address).unwrap() > 0);
}

#[test]
fn options_and_details_are_those_of_the_socket_and_its_process() {
    let _alone = run_exclusive();
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_freebind_v6(true).unwrap();
    socket.bind(&at_port("::1", 0).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let member = |query: SocketQuery| {
        let found = list_sockets(&query.on(address.port())).unwrap().members;
        found.into_iter().find(|member| member.socket.address.socket == address).unwrap()
    };

    let plain = member(SocketQuery::only(Protocol::Udp));
    let expected =
        SocketOptions { reuse_address: true, freebind: true, ..SocketOptions::default() };
    assert_eq!((plain.options, plain.shared), (Some(expected), Some(false)));
    // Old kernels do not tell everybody.
    assert!(matches!(plain.socket.freebind, Some(true) | None), "{plain:?}");
    assert!(matches!(plain.socket.transparent, Some(false) | None), "{plain:?}");
    assert_eq!((&plain.processes[0].details, &plain.cgroup), (&None, &None));

    let known = member(SocketQuery::only(Protocol::Udp).with_details());
    let details = known.processes[0].details.as_ref().unwrap();
    assert_eq!(details.uid, Some(crate::effective_user()));
    assert_eq!(details.executable.as_deref(), std::env::current_exe().ok().as_deref());
    // The socket was made where we are; only where version 2 is not mounted nothing is known.
    assert_eq!(known.cgroup, details.cgroup);
}
