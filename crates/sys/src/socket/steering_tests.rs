//! Connections as the kernel distributes them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use sameport_policy::model::Protocol as Sort;
use sameport_policy::traffic::steering::{OrderedGroup, program, with_fixed_ports};
use socket2::{Domain, Protocol, Socket, Type};

use super::*;
use crate::serial::run_exclusive;
use crate::socket::own_sockets::{
    connecting, duplicate, listener, set_defer_accept, tcp_info, until,
};

/// The number of connections that each listener got. Closes the connections.
pub(super) fn counts(listeners: &[&TcpListener], connections: usize) -> Vec<usize> {
    let to = listeners[0].local_addr().unwrap();
    let clients: Vec<_> = (0..connections).map(|_| TcpStream::connect(to).unwrap()).collect();
    let mut counts = vec![0; listeners.len()];
    // The last packet of a handshake may not have arrived yet.
    until("all are accepted", || {
        for (listener, count) in listeners.iter().zip(&mut counts) {
            *count += std::iter::from_fn(|| accepted(listener)).count();
        }
        counts.iter().sum::<usize>() == clients.len()
    });
    counts
}

/// Accepts a queued connection.
pub(super) fn accepted(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    listener.set_nonblocking(true).unwrap();
    match listener.accept() {
        Ok(connection) => Some(connection),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

/// Listeners on one address, with a port that the kernel picks for the first.
pub(super) fn group<const COUNT: usize>(ip: &str) -> [TcpListener; COUNT] {
    let first = listener(&format!("{ip}:0"));
    let at = first.local_addr().unwrap().to_string();
    let mut first = Some(first);
    std::array::from_fn(|_| first.take().unwrap_or_else(|| listener(&at)))
}

#[test]
fn only_selected_members_get_connections() {
    let _alone = run_exclusive();
    for ip in ["127.0.0.1", "[::1]", "[::]"] {
        let [a, b, c] = group(ip);
        // Any member can attach the program, also one that it never selects.
        let one = duplicate(&b);
        for live in [vec![0, 2], vec![1], vec![0, 1, 2], vec![2]] {
            one.steer(&program(&live, 3).unwrap()).unwrap();
            let counts = counts(&[&a, &b, &c], 90);
            let some: Vec<_> = (0..3).filter(|index| counts[*index] > 0).collect();
            assert_eq!(some, live, "{counts:?} at {ip}");
        }
        one.stop_steering().unwrap();
        one.stop_steering().unwrap();
        assert!(counts(&[&a, &b, &c], 90).iter().all(|count| *count > 0));
    }
}

/// A bound client socket before `connect`, with its port.
fn client_of(ip: &str) -> (Socket, u16) {
    let at: SocketAddr = format!("{ip}:0").parse().unwrap();
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
    socket.bind(&at.into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

#[test]
fn the_source_port_selects_the_member() {
    for (at, from) in
        [("127.0.0.1", "127.0.0.1"), ("[::1]", "[::1]"), ("[::]", "[::1]"), ("[::]", "127.0.0.1")]
    {
        let listeners: [TcpListener; 3] = group(at);
        let port = listeners[0].local_addr().unwrap().port();
        let to: SocketAddr = format!("{from}:{port}").parse().unwrap();
        // All other connections reach the first member.
        let usual = program(&[0], 3).unwrap();
        let (clients, ports): (Vec<_>, Vec<_>) = (0..3).map(|_| client_of(from)).unzip();
        let aims = [(ports[0], 2), (ports[1], 1)];
        duplicate(&listeners[1]).steer(&with_fixed_ports(&aims, usual.clone())).unwrap();
        for (client, member) in clients.iter().zip([2, 1, 0]) {
            client.connect(&to.into()).unwrap();
            let own = client.local_addr().unwrap().as_socket().unwrap().port();
            until("it arrives where it is aimed at", || {
                accepted(&listeners[member]).is_some_and(|(_, peer)| peer.port() == own)
            });
        }
        assert_eq!(with_fixed_ports(&[], usual.clone()), usual);
    }
}

#[test]
fn members_have_the_kernels_order_and_the_program_outlives_its_socket() {
    let _alone = run_exclusive();
    let [a, b, c, d] = group("127.0.0.1");
    let mut order = OrderedGroup::default();
    "abcd".chars().for_each(|id| order.join(id));
    duplicate(&a).steer(&order.program(|id| *id != 'b').unwrap()).unwrap();

    // A new member gets nothing until the program selects it.
    let e = listener(&a.local_addr().unwrap().to_string());
    order.join('e');
    assert_eq!(counts(&[&b, &e, &a, &c, &d], 60)[..2], [0, 0]);

    duplicate(&c).steer(&order.program_while_leaving(&'a', |id| *id != 'b').unwrap()).unwrap();
    assert_eq!(counts(&[&a, &b, &e, &c, &d], 60)[..3], [0, 0, 0]);
    drop(a);
    order.leave(&'a');
    assert_eq!(counts(&[&b, &e, &c, &d], 60)[..2], [0, 0]);

    for only in "bcde".chars() {
        duplicate(&d).steer(&order.program(|id| *id == only).unwrap()).unwrap();
        let counts = counts(&[&b, &c, &d, &e], 20);
        let index = "bcde".find(only).unwrap();
        assert_eq!(counts[index], 20, "{only}: {counts:?}");
    }
}

/// MPTCP sockets lack the option (`mptcp_setsockopt`).
#[test]
fn sockets_that_cannot_be_steered_are_errors() {
    let _alone = run_exclusive();
    let alone = TcpListener::bind("127.0.0.1:0").unwrap();
    let any = program(&[0], 1).unwrap();
    assert_eq!(duplicate(&alone).steer(&any), Err(Errno::INVAL));
    assert!(duplicate(&alone).stop_steering().is_err());

    let Ok(mptcp) = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)) else {
        return sameport_skips::skip("steering-mptcp", "this kernel has no such sockets");
    };
    mptcp.set_reuse_port(true).unwrap();
    mptcp.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    mptcp.listen(8).unwrap();
    assert_eq!(duplicate(&mptcp).steer(&any), Err(Errno::OPNOTSUPP));
}

const SYN_SENT: u8 = 2;
const RETRANSMITS: usize = 2;

/// Sends a line from the client to the server and back.
fn talk(mut client: &TcpStream, mut server: &TcpStream) {
    let mut heard = [0; 3];
    client.write_all(b"hey").unwrap();
    server.read_exact(&mut heard).unwrap();
    server.write_all(&heard).unwrap();
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hey");
}

#[test]
fn a_gate_delays_new_connections_only() {
    let _alone = run_exclusive();
    for (at, from) in
        [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("[::]", "::1"), ("[::]", "127.0.0.1")]
    {
        let listener = listener(&format!("{at}:0"));
        let port = listener.local_addr().unwrap().port();
        let to = SocketAddr::new(from.parse().unwrap(), port);
        let held = duplicate(&listener);
        let mut order = OrderedGroup::default();
        order.join("held");

        let connected = TcpStream::connect(to).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let queued = TcpStream::connect(to).unwrap();
        set_defer_accept(&listener);
        let mut begun = TcpStream::connect(to).unwrap();

        held.steer(&order.program(|_| true).unwrap()).unwrap();
        let gate = held.open_gate().unwrap();
        gate.listen(0).unwrap();
        order.join("gate");
        held.steer(&order.program(|id| *id == "gate").unwrap()).unwrap();
        let late = connecting(to);
        until("the client tries again", || tcp_info(&late)[RETRANSMITS] > 0);
        assert_eq!(tcp_info(&late)[0], SYN_SENT);

        talk(&connected, &accepted);
        let (from_queue, _) = listener.accept().unwrap();
        talk(&queued, &from_queue);
        begun.write_all(b"!").unwrap();
        let (mut completed, _) = listener.accept().unwrap();
        completed.read_exact(&mut [0]).unwrap();
        talk(&begun, &completed);
        assert_eq!(held.accept_queue().unwrap().waiting, 0);

        held.steer(&order.program_while_leaving(&"gate", |_| true).unwrap()).unwrap();
        drop(gate);
        (&late).write_all(b"hey").unwrap();
        let (mut served, _) = listener.accept().unwrap();
        served.read_exact(&mut [0; 3]).unwrap();
        talk(&late, &served);
    }
}

#[test]
fn a_gate_has_the_properties_of_its_group() {
    let _alone = run_exclusive();
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.set_only_v6(true).unwrap();
    socket.bind_device(Some(b"lo")).unwrap();
    assert_eq!(duplicate(&socket).open_gate().err(), Some(Errno::NOTCONN));
    socket.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(8).unwrap();
    let held = duplicate(&socket);
    let gate = held.open_gate().unwrap();
    gate.listen(0).unwrap();
    assert_eq!(gate.bound_address(Sort::Tcp), held.bound_address(Sort::Tcp));
    assert_eq!(gate.owner(), held.owner());
    // In one group, connections that are steered to index 1 do not complete.
    held.steer(&program(&[1], 2).unwrap()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let late = connecting((std::net::Ipv6Addr::LOCALHOST, port).into());
    until("the client tries again", || tcp_info(&late)[RETRANSMITS] > 0);
    assert_eq!(tcp_info(&late)[0], SYN_SENT);

    let alone = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(duplicate(&alone).open_gate().err(), Some(Errno::ADDRINUSE));
}

#[test]
fn a_gate_in_another_users_group_needs_cap_chown() {
    let _alone = run_exclusive();
    if !rustix::process::geteuid().is_root() {
        return sameport_skips::skip("gate-of-another-user", "needs root");
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    rustix::fs::fchown(&socket, Some(Uid::from_raw(65534)), None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(8).unwrap();
    let held = duplicate(&socket);
    let gate = held.open_gate().unwrap();
    assert_eq!((gate.owner(), gate.listen(0)), (65534, Ok(())));
}
