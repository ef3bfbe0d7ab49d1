//! Connections from the local address of a listener.
#![cfg(any(target_os = "linux", target_os = "android"))]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use sameport::ErrorKind;
use socket2::{Domain, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn from_the_port_of_a_listener() {
    for ip in ["127.0.0.1:0", "[::1]:0"] {
        let near = sameport::listen(ip).unwrap();
        let from = near.local_addr().unwrap();
        let far = TcpListener::bind(ip).unwrap();
        let to = far.local_addr().unwrap();
        let mut stream = sameport::connect(from, to).unwrap();
        assert_eq!((stream.local_addr().unwrap(), stream.peer_addr().unwrap()), (from, to));
        let (mut accepted, peer) = far.accept().unwrap();
        assert_eq!(peer, from);
        accepted.write_all(b"hello").unwrap();
        drop(accepted);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        // The listener still accepts connections.
        std::net::TcpStream::connect_timeout(&from, PATIENCE).unwrap();
        near.accept().unwrap();
    }
}

#[test]
fn from_the_port_of_a_dual_stack_listener() {
    let near = sameport::listen(0).unwrap();
    let port = near.local_addr().unwrap().port();
    for ip in ["127.0.0.1:0", "[::1]:0"] {
        let far = TcpListener::bind(ip).unwrap();
        let stream = sameport::connect(port, far.local_addr().unwrap()).unwrap();
        assert_eq!(stream.local_addr().unwrap().port(), port);
        assert_eq!(far.accept().unwrap().1, stream.local_addr().unwrap());
        // As Go does, `[::]` can be the local address for both families.
        let far = TcpListener::bind(ip).unwrap();
        let stream = sameport::connect(format!("[::]:{port}"), far.local_addr().unwrap()).unwrap();
        assert_eq!(stream.local_addr().unwrap().port(), port);
        assert_eq!(far.accept().unwrap().1, stream.local_addr().unwrap());
    }
}

#[test]
fn a_pair_of_addresses_is_connected_once() {
    let near = sameport::listen("127.0.0.1:0").unwrap();
    let from = near.local_addr().unwrap();
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = far.local_addr().unwrap();
    let _first = sameport::connect(from, to).unwrap();
    let error = sameport::connect(from, to).unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::InUse, "connect"), "{error}");
    assert_eq!(error.to_string(), format!("connect {from} to {to}: already connected"));
}

#[test]
fn an_exclusive_port_is_refused() {
    let near = sameport::listen_exclusive("127.0.0.1:0").unwrap();
    let from = near.local_addr().unwrap();
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = sameport::connect(from, far.local_addr().unwrap()).unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::InUse, "bind"), "{error}");
}

#[test]
fn refusals_and_timeouts_name_both_sides() {
    // Bound but not listening: no other socket listens there, and no connection gets this port.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let unserved = silent.local_addr().unwrap().as_socket().unwrap();
    let error = sameport::connect("127.0.0.1:0", unserved).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.to_string(), format!("connect 127.0.0.1:0 to {unserved}: refused"));

    // A listener with a full queue does not answer.
    let full = sameport::Options::shared().backlog(0).listen("127.0.0.1:0").unwrap();
    let to = full.local_addr().unwrap();
    let _queued = std::net::TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    let started = Instant::now();
    let wait = Duration::from_millis(200);
    let error = sameport::connect_timeout("127.0.0.1:0", to, wait).unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::TimedOut, "connect"), "{error}");
    // The timeout is truncated to whole milliseconds.
    let waited = started.elapsed() + Duration::from_millis(2);
    assert!(waited >= wait && waited < PATIENCE, "{waited:?}");

    let error = sameport::connect("[::1]:0", "127.0.0.1:9").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAddress);
    assert!(error.to_string().contains("no address of the same family"), "{error}");
    let itself = sameport::listen("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = sameport::connect(itself, itself).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAddress, "{error}");
    let error = sameport::connect("192.0.2.1:0", to).unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::AddressNotHere, "bind"), "{error}");
}

#[test]
fn udp_from_a_shared_address() {
    for ip in ["127.0.0.1:0", "[::1]:0"] {
        let near = sameport::bind_udp(ip).unwrap();
        let from = near.local_addr().unwrap();
        let peer = UdpSocket::bind(ip).unwrap();
        let other_peer = UdpSocket::bind(ip).unwrap();
        let to: SocketAddr = peer.local_addr().unwrap();
        let connected = sameport::connect_udp(from, to).unwrap();
        assert_eq!((connected.local_addr().unwrap(), connected.peer_addr().unwrap()), (from, to));
        for socket in [&near, &peer, &connected] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        connected.send(b"knock").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(peer.recv_from(&mut buffer).unwrap(), (5, from));
        // The connected socket receives the peer's datagrams, the other socket all others.
        for _ in 0..16 {
            peer.send_to(b"peer", from).unwrap();
            assert_eq!(connected.recv(&mut buffer).unwrap(), 4);
            other_peer.send_to(b"other", from).unwrap();
            assert_eq!(near.recv_from(&mut buffer).unwrap(), (5, other_peer.local_addr().unwrap()));
        }
    }
}
