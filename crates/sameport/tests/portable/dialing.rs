//! Connections from the local address of a listener.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use sameport::ErrorKind;
use socket2::{Domain, Socket, Type};

use crate::expected::{Join, expected, first, loopbacks};
use crate::traffic::{PATIENCE, at};

#[test]
fn from_the_port_of_a_listener() {
    for ip in loopbacks() {
        let Some(near) = first(sameport::listen(ip)) else { continue };
        let from = at(&near);
        let far = TcpListener::bind(ip).unwrap();
        let to = at(&far);
        let Some(mut stream) = expected().tcp.next(sameport::connect(from, to)) else { continue };
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
        TcpStream::connect_timeout(&from, PATIENCE).unwrap();
        near.accept().unwrap();
    }
}

#[test]
fn from_a_free_port() {
    for ip in loopbacks() {
        let far = TcpListener::bind(ip).unwrap();
        let stream = sameport::connect(ip, at(&far)).unwrap();
        assert_eq!(far.accept().unwrap().1, stream.local_addr().unwrap());
        let stream = sameport::connect_timeout(0, at(&far), PATIENCE).unwrap();
        assert_eq!(far.accept().unwrap().1, stream.local_addr().unwrap());
    }
}

#[test]
fn from_the_bare_port_of_a_listener() {
    let Some(all) = first(sameport::listen_all(0)) else { return };
    let port = at(&all[0]).port();
    for ip in loopbacks() {
        let far = TcpListener::bind(ip).unwrap();
        let connected = sameport::connect(port, at(&far));
        if let Some(stream) = expected().tcp.next(connected) {
            assert_eq!(stream.local_addr().unwrap().port(), port);
            assert_eq!(far.accept().unwrap().1, stream.local_addr().unwrap());
        }
        // As Go does, `[::]` can be the local address for both families.
        let far = TcpListener::bind(ip).unwrap();
        let connected = sameport::connect(format!("[::]:{port}"), at(&far));
        let Some(stream) = expected().tcp.next(connected) else { continue };
        assert_eq!(stream.local_addr().unwrap().port(), port);
        assert_eq!(far.accept().unwrap().1, stream.local_addr().unwrap());
    }
}

#[test]
fn a_pair_of_addresses_is_connected_once() {
    let Some(near) = first(sameport::listen("127.0.0.1:0")) else { return };
    let from = at(&near);
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = at(&far);
    let Some(_first) = expected().tcp.next(sameport::connect(from, to)) else { return };
    let error = sameport::connect(from, to).unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::InUse, "connect"), "{error}");
    assert_eq!(error.to_string(), format!("connect {from} to {to}: already connected"));
}

#[test]
fn an_exclusive_port_is_refused() {
    let near = sameport::listen_exclusive("127.0.0.1:0").unwrap();
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = sameport::connect(at(&near), at(&far)).unwrap_err();
    if expected().tcp == Join::Unsupported {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    } else {
        assert_eq!((error.kind(), error.call()), (ErrorKind::InUse, "bind"), "{error}");
    }
}

#[test]
fn refusals_name_both_sides() {
    // Bound but not listening: no other socket listens there, and no connection gets this port.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let unserved = silent.local_addr().unwrap().as_socket().unwrap();
    let error = sameport::connect("127.0.0.1:0", unserved).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.to_string(), format!("connect 127.0.0.1:0 to {unserved}: refused"));

    let error = sameport::connect("[::1]:0", "127.0.0.1:9").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAddress);
    assert!(error.to_string().contains("no address of the same family"), "{error}");
    let listener = sameport::listen_exclusive("127.0.0.1:0").unwrap();
    let error = sameport::connect(at(&listener), at(&listener)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAddress, "{error}");
}

#[test]
fn udp_from_a_shared_address() {
    for ip in loopbacks() {
        let Some(near) = first(sameport::bind_udp(ip)) else { continue };
        let from = near.local_addr().unwrap();
        let peer = UdpSocket::bind(ip).unwrap();
        let other_peer = UdpSocket::bind(ip).unwrap();
        let to: SocketAddr = peer.local_addr().unwrap();
        let connected = expected().udp.next(sameport::connect_udp(from, to)).unwrap();
        assert_eq!((connected.local_addr().unwrap(), connected.peer_addr().unwrap()), (from, to));
        for socket in [&near, &peer, &connected] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        connected.send(b"knock").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(peer.recv_from(&mut buffer).unwrap(), (5, from));
        if expected().udp == Join::Undefined {
            continue;
        }
        // The connected socket receives the peer's datagrams, the other socket all others.
        for _ in 0..16 {
            peer.send_to(b"peer", from).unwrap();
            assert_eq!(connected.recv(&mut buffer).unwrap(), 4);
            other_peer.send_to(b"other", from).unwrap();
            assert_eq!(near.recv_from(&mut buffer).unwrap(), (5, other_peer.local_addr().unwrap()));
        }
    }
}
