//! Facts of Linux about shared and exclusive sockets on one machine. Facts of every system are in
//! `portable`.
#![cfg(any(target_os = "linux", target_os = "android"))]

// This executable uses a part of it.
#[allow(dead_code)]
#[path = "portable/traffic.rs"]
mod traffic;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use sameport::{ErrorKind, Options};
use socket2::{Domain, Socket, Type};

use traffic::{PATIENCE, at, close_before_client, count_accepted};

#[test]
fn six_listeners_share_one_port() {
    // A port that is free in both families, with specific and wildcard listeners of each.
    let mut listeners = vec![sameport::listen("[::]:0").unwrap()];
    let port = at(&listeners[0]).port();
    let texts = ["0.0.0.0", "127.0.0.1", "127.0.0.1", "[::1]", "[::1]"];
    listeners.extend(texts.map(|ip| sameport::listen(format!("{ip}:{port}")).unwrap()));
    assert_eq!(listeners.len(), 6);
    // A specific listener receives the traffic of its address.
    for (to, receivers) in [
        (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), 2..4),
        (SocketAddr::from((Ipv6Addr::LOCALHOST, port)), 4..6),
        (SocketAddr::from(([127, 0, 0, 2], port)), 1..2),
    ] {
        let counts = count_accepted(&listeners, to, 64);
        for (index, count) in counts.iter().enumerate() {
            assert_eq!(receivers.contains(&index), *count > 0, "{to}: {counts:?}");
        }
    }
}

#[test]
fn all_members_get_connections() {
    let first = Options::shared().require_balanced(true).listen("127.0.0.1:0").unwrap();
    let to = at(&first);
    let listeners = [first, sameport::listen(to).unwrap(), sameport::listen(to).unwrap()];
    let counts = count_accepted(&listeners, to, 96);
    assert!(counts.iter().all(|&count| count >= 8), "{counts:?}");
}

#[test]
fn one_server_stops_and_the_other_answers() {
    let serve = |listener: TcpListener, name: &'static str| {
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let deadline = Instant::now() + Duration::from_secs(60);
            while Instant::now() < deadline && stopped.try_recv().is_err() {
                if let Ok((mut stream, _)) = listener.accept() {
                    stream.write_all(name.as_bytes()).unwrap();
                } else {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        (stop, thread)
    };
    let first = sameport::listen("127.0.0.1:0").unwrap();
    let to = at(&first);
    let second = sameport::listen(to).unwrap();
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let (stop_first, first) = serve(first, "first");
    let (stop_second, second) = serve(second, "second");
    let answers: HashSet<String> = (0..64).map(|_| ask()).collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    stop_first.send(()).unwrap();
    first.join().unwrap();
    assert!((0..32).all(|_| ask() == "second"));
    stop_second.send(()).unwrap();
    second.join().unwrap();
    assert!(TcpStream::connect_timeout(&to, PATIENCE).is_err());
}

#[test]
fn exclusive_and_shared_refuse_each_other() {
    for ip in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
        let cases: [(Options, Options); 3] = [
            (Options::shared(), Options::exclusive()),
            (Options::exclusive(), Options::shared()),
            (Options::exclusive(), Options::exclusive()),
        ];
        for (first, second) in cases {
            let held = first.listen(ip).unwrap();
            let error = second.listen(at(&held)).unwrap_err();
            assert_eq!((error.kind(), error.call()), (ErrorKind::InUse, "bind"), "{ip}: {error}");
            assert_eq!(error.address(), at(&held).to_string());
            assert_eq!(error.owner_uid(), Some(fsuid()), "{error}");
            let held = first.bind_udp(ip).unwrap();
            let error = second.bind_udp(held.local_addr().unwrap()).unwrap_err();
            assert_eq!(
                (error.kind(), error.owner_uid()),
                (ErrorKind::InUse, Some(fsuid())),
                "{error}"
            );
            assert!(error.to_string().ends_with("in use by the same user, and not shared"));
        }
    }
}

fn fsuid() -> u32 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    uids.split_whitespace().nth(3).unwrap().parse().unwrap()
}

#[test]
fn an_exclusive_wildcard_refuses_every_overlap() {
    let held = sameport::listen_exclusive(0).unwrap();
    let port = at(&held).port();
    for (ip, call) in
        [("127.0.0.1", "bind"), ("[::1]", "bind"), ("0.0.0.0", "bind"), ("[::]", "bind")]
    {
        let error = sameport::listen(format!("{ip}:{port}")).unwrap_err();
        assert_eq!((error.kind(), error.call()), (ErrorKind::InUse, call), "{ip}");
    }
}

#[test]
fn a_bare_port_takes_both_families_whatever_the_default() {
    let listener = sameport::listen(":0").unwrap();
    let port = at(&listener).port();
    assert!(!socket2::SockRef::from(&listener).only_v6().unwrap());
    for ip in ["127.0.0.1", "::1"] {
        let to = SocketAddr::new(ip.parse().unwrap(), port);
        assert_eq!(count_accepted(&[listener.try_clone().unwrap()], to, 2), [2]);
    }
    let socket = sameport::bind_udp(0).unwrap();
    let port = socket.local_addr().unwrap().port();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for (from, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let client = UdpSocket::bind(from).unwrap();
        client.send_to(b"hello", SocketAddr::new(to.parse().unwrap(), port)).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 5);
    }
}

#[test]
fn an_ipv4_address_written_as_ipv6_takes_its_traffic() {
    let mapped = sameport::listen("[::ffff:127.0.0.1]:0").unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, at(&mapped).port()));
    assert_eq!(count_accepted(&[mapped.try_clone().unwrap()], to, 2), [2]);
    let far = TcpListener::bind("[::ffff:127.0.0.1]:0").unwrap();
    let stream = sameport::connect(at(&mapped), at(&far)).unwrap();
    assert_eq!(stream.local_addr().unwrap(), at(&mapped));
}

#[test]
fn udp_on_a_wildcard_and_on_its_addresses() {
    let wildcard = sameport::bind_udp("0.0.0.0:0").unwrap();
    let port = wildcard.local_addr().unwrap().port();
    let specific = sameport::bind_udp((Ipv4Addr::LOCALHOST, port)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut buffer = [0; 16];
    for (to, owner, text) in [("127.0.0.1", &specific, b"near"), ("127.0.0.2", &wildcard, b"else")]
    {
        owner.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(text, (to, port)).unwrap();
        let (length, from) = owner.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&text[..], client.local_addr().unwrap()));
    }
}

#[test]
fn datagrams_are_balanced_without_reuse_address() {
    let first = sameport::bind_udp("127.0.0.1:0").unwrap();
    let to = first.local_addr().unwrap();
    let members = [first, sameport::bind_udp(to).unwrap()];
    for member in &members {
        let options = socket2::SockRef::from(member);
        assert!(options.reuse_port().unwrap() && !options.reuse_address().unwrap());
        member.set_nonblocking(true).unwrap();
    }
    for _ in 0..64 {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", to).unwrap();
    }
    let counts =
        members.each_ref().map(|m| std::iter::from_fn(|| m.recv(&mut [0; 4]).ok()).count());
    assert_eq!(counts.iter().sum::<usize>(), 64);
    assert!(counts.iter().all(|&count| count >= 8), "{counts:?}");
}

#[test]
fn a_shared_listener_restarts_over_closing_connections() {
    let listener = sameport::listen("127.0.0.1:0").unwrap();
    let to = close_before_client(listener);
    let error = sameport::listen_exclusive(to).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.to_string().contains("closing connections"), "{error}");
    let again = sameport::listen(to).unwrap();
    assert_eq!(count_accepted(&[again], to, 2), [2]);
}

#[test]
fn options_on_a_callers_socket() {
    let shared = sameport::listen("127.0.0.1:0").unwrap();
    let address = at(&shared);
    let make = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();

    let refused = make();
    assert!(refused.bind(&address.into()).is_err(), "without the option, bind must fail");
    let joined = make();
    joined.set_reuse_address(true).unwrap();
    Options::shared().nonblocking(true).apply_to_listener(&joined, address).unwrap();
    assert!(!joined.reuse_address().unwrap() && joined.nonblocking().unwrap());
    joined.bind(&address.into()).unwrap();
    joined.listen(16).unwrap();
    let counts = count_accepted(&[shared, joined.into()], address, 64);
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");

    // An exclusive socket loses the sharing option that the caller set.
    let alone = make();
    alone.set_reuse_port(true).unwrap();
    Options::exclusive().apply_to_listener(&alone, "127.0.0.1:0".parse().unwrap()).unwrap();
    assert!(!alone.reuse_port().unwrap());

    // UDP on port 0: bind first, then set the option.
    let zero: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    let error = Options::shared().apply_to_listener(&socket, zero).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAddress, "{error}");
    socket.bind(&zero.into()).unwrap();
    let got = socket.local_addr().unwrap().as_socket().unwrap();
    Options::shared().apply_to_listener(&socket, got).unwrap();
    sameport::bind_udp(got).unwrap();

    // A dual-stack socket of std.
    let socket = UdpSocket::bind("[::]:0").unwrap();
    Options::shared().apply_to_listener(&socket, socket.local_addr().unwrap()).unwrap();
    sameport::bind_udp(socket.local_addr().unwrap().port()).unwrap();
}

#[test]
fn absent_addresses_and_devices_are_errors() {
    // 192.0.2.0/24 is reserved for documentation: no machine has it.
    Options::shared().freebind(true).listen("192.0.2.1:0").unwrap();
    Options::shared().freebind(true).bind_udp("[2001:db8::1]:0").unwrap();
    for name in ["nosuchdevice", "longer-than-any-device"] {
        let error = Options::shared().device(name).listen("127.0.0.1:0").unwrap_err();
        assert_eq!((error.kind(), error.call()), (ErrorKind::AddressNotHere, "setsockopt(device)"));
        assert!(error.to_string().contains(name), "{error}");
    }
    let listener = Options::shared().device("lo").listen("0.0.0.0:0").unwrap();
    assert_eq!(socket2::SockRef::from(&listener).device().unwrap().as_deref(), Some(&b"lo"[..]));
}

#[test]
fn the_backlog_limits_the_queue() {
    let listener = Options::shared().backlog(1).listen("127.0.0.1:0").unwrap();
    let to = at(&listener);
    // Linux queues one connection more; the next one waits and is not refused.
    let queued: Vec<_> =
        (0..2).map(|_| TcpStream::connect_timeout(&to, PATIENCE).unwrap()).collect();
    let late = TcpStream::connect_timeout(&to, Duration::from_millis(200)).unwrap_err();
    assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
    drop(queued);
}
