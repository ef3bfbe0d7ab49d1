//! What the tests of other libraries and runtimes say about reuse, of this crate: a table.
//!
//! Each row names a project and its test, and expresses the behaviour anew. Most of these tests require a
//! system that balances; `portable` has the facts of every system.
#![cfg(any(target_os = "linux", target_os = "android"))]

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use sameport::{ErrorKind, Options};
use socket2::{Domain, SockRef, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the peer's assertion holds here.
enum Verdict {
    Same,
    /// It does not, for this reason. The row asserts what holds instead.
    Differs(&'static str),
}

use Verdict::{Differs, Same};

type Row = (&'static str, &'static str, fn() -> Verdict);

const ROWS: &[Row] = &[
    ("greuse TestNewReusablePortListener", "six listeners on one port, of both families", six),
    (
        "greuse TestNewReusablePortServers",
        "two servers answer; one closes, the other answers",
        servers,
    ),
    ("greuse BenchmarkNewReusablePortListener", "the same port, opened again and again", again),
    ("go-reuseport TestStreamListenSamePort", "three listeners on each kind of address", streams),
    ("go-reuseport TestPacketListenSamePort", "three UDP sockets on each kind of address", packets),
    ("go-reuseport TestStreamListenDialSamePort", "dial from a listener's address", dial),
    ("go-reuseport TestStreamListenDialSamePortStressManyNodes", "each node dials each", nodes),
    ("go-reuseport TestPacketListenDialSamePort", "a UDP socket dials from its address", dial_udp),
    ("go-reuseport TestDialRespectsTimeout", "dial ends after its timeout", timeout),
    ("go-reuseport TestUnixNotSupported", "a path is no address", no_path),
    ("node test-net-reuseport", "two servers on 127.0.0.1 and on ::", node_servers),
    ("node test-dgram-reuseport", "two sockets, the second by the port alone", node_sockets),
    ("node test-net-bind-twice", "without the option, EADDRINUSE", plain_is_refused),
    ("Deno netTcpListenReusePort", "both listeners get connections", deno_tcp),
    ("Deno netUdpReuseAddr", "a datagram arrives at one of two sockets", deno_datagram),
    ("Deno netUdpNoReuseAddr", "the second socket is AddrInUse", deno_udp),
    ("Bun net-bind-twice-reuseport", "two servers, no error", node_servers),
    (
        "CPython CreateServerTest.test_reuse_port",
        "the option is set if asked for, and only then",
        cpython,
    ),
    (
        "CPython test_create_datagram_endpoint_sockopts",
        "SO_REUSEPORT without SO_REUSEADDR",
        cpython_udp,
    ),
    ("mio set_reuseport, of tokio's TcpSocket", "set, read back, bind and listen", set_reuseport),
    ("socket2 reuse_port", "off by default, set, read back", socket2_port),
    ("socket2 reuse_address", "set, read back", socket2_address),
];

/// The rows that differ.
const DIFFERENT: &[&str] = &["socket2 reuse_address"];

#[test]
fn the_tests_of_peers_hold() {
    let mut different = Vec::new();
    for (peer, behaviour, run) in ROWS {
        match run() {
            Same => println!("{peer}: {behaviour}: the same"),
            Differs(reason) => {
                println!("{peer}: {behaviour}: differs: {reason}");
                different.push(*peer);
            }
        }
    }
    assert_eq!(different, DIFFERENT);
    let names: HashSet<_> = ROWS.iter().map(|(peer, ..)| peer).collect();
    assert_eq!(names.len(), ROWS.len());
}

fn at(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().unwrap()
}

/// Loopback and wildcard addresses of both families, with port 0.
const KINDS: [&str; 4] = ["0.0.0.0:0", "[::]:0", "127.0.0.1:0", "[::1]:0"];

/// Accepts on both listeners until each has had a connection.
fn both_accept(listeners: &[TcpListener; 2]) {
    let mut had = [false; 2];
    for listener in listeners {
        listener.set_nonblocking(true).unwrap();
    }
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, at(&listeners[0]).port()));
    for _ in 0..400 {
        let _client = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        while !listeners.iter().zip(&mut had).any(|(it, had)| {
            let accepted = it.accept().is_ok();
            *had |= accepted;
            accepted
        }) {
            std::thread::yield_now();
        }
        if had == [true; 2] {
            return;
        }
    }
    panic!("one listener got all of 400 connections");
}

fn six() -> Verdict {
    let first = sameport::listen("localhost:0").unwrap();
    let port = at(&first).port();
    // Go's "tcp6" sets IPV6_V6ONLY.
    let only_v6 = Options::shared().v6only(true);
    let _others = [
        sameport::listen((Ipv4Addr::LOCALHOST, port)).unwrap(),
        only_v6.listen(format!("[::]:{port}")).unwrap(),
        only_v6.listen(port).unwrap(),
        sameport::listen((Ipv4Addr::UNSPECIFIED, port)).unwrap(),
        sameport::listen(port).unwrap(),
    ];
    Same
}

/// Answers connections with `name`, until the listener is shut down by the returned value.
fn serve(listener: TcpListener, name: &'static str) -> impl FnOnce() {
    listener.set_nonblocking(true).unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_millis(1)).is_err() {
            if let Ok((mut stream, _)) = listener.accept() {
                stream.write_all(name.as_bytes()).unwrap();
            }
        }
    });
    move || {
        stop.send(()).unwrap();
        thread.join().unwrap();
    }
}

fn ask(to: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn servers() -> Verdict {
    let one = sameport::listen("127.0.0.1:0").unwrap();
    let to = at(&one);
    let two = sameport::listen(to).unwrap();
    let (stop_one, stop_two) = (serve(one, "1"), serve(two, "2"));
    assert!((0..8).all(|_| ["1", "2"].contains(&ask(to).as_str())));
    stop_two();
    assert!((0..8).all(|_| ask(to) == "1"));
    stop_one();
    Same
}

fn again() -> Verdict {
    let holder = sameport::listen("127.0.0.1:0").unwrap();
    for _ in 0..200 {
        sameport::listen(at(&holder)).unwrap();
    }
    Same
}

fn streams() -> Verdict {
    for kind in KINDS {
        let one = sameport::listen(kind).unwrap();
        let two = sameport::listen(at(&one)).unwrap();
        let three = sameport::listen(at(&two)).unwrap();
        assert_eq!((at(&one), at(&one)), (at(&two), at(&three)));
    }
    Same
}

fn packets() -> Verdict {
    for kind in KINDS {
        let one = sameport::bind_udp(kind).unwrap();
        let address = one.local_addr().unwrap();
        let two = sameport::bind_udp(address).unwrap();
        let three = sameport::bind_udp(two.local_addr().unwrap()).unwrap();
        assert_eq!([two.local_addr().unwrap(), three.local_addr().unwrap()], [address; 2]);
    }
    Same
}

fn echo(mut stream: &TcpStream, far: &TcpListener) {
    let (mut accepted, _) = far.accept().unwrap();
    stream.write_all(b"hello world").unwrap();
    let mut text = [0; 11];
    accepted.read_exact(&mut text).unwrap();
    accepted.write_all(&text).unwrap();
    stream.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello world");
}

fn dial() -> Verdict {
    for (from, to) in
        [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0"), ("[::]:0", "[::1]:0")]
    {
        let (near, far) = (sameport::listen(from).unwrap(), sameport::listen(to).unwrap());
        let stream = sameport::connect(at(&near), at(&far)).unwrap();
        assert_eq!(stream.local_addr().unwrap().port(), at(&near).port());
        assert_eq!(stream.peer_addr().unwrap(), at(&far));
        echo(&stream, &far);
    }
    Same
}

fn nodes() -> Verdict {
    const NODES: usize = 16;
    let nodes: Vec<_> = (0..NODES).map(|_| sameport::listen("127.0.0.1:0").unwrap()).collect();
    let mut streams = Vec::new();
    for (number, near) in nodes.iter().enumerate() {
        for far in &nodes[..number] {
            let stream = sameport::connect(at(near), at(far)).unwrap();
            echo(&stream, far);
            streams.push(stream);
        }
    }
    assert_eq!(streams.len(), NODES * (NODES - 1) / 2);
    Same
}

fn dial_udp() -> Verdict {
    for kind in ["127.0.0.1:0", "[::1]:0"] {
        let (near, far) = (sameport::bind_udp(kind).unwrap(), sameport::bind_udp(kind).unwrap());
        let [from, to] = [&near, &far].map(|socket| socket.local_addr().unwrap());
        let socket = sameport::connect_udp(from, to).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(b"hello world").unwrap();
        let mut text = [0; 16];
        assert_eq!(far.recv_from(&mut text).unwrap(), (11, from));
        far.send_to(&text[..11], from).unwrap();
        assert_eq!(socket.recv(&mut text).unwrap(), 11);
    }
    Same
}

fn timeout() -> Verdict {
    // The peer dials an address of another network. A full queue does not answer either.
    let full = Options::shared().backlog(0).listen("127.0.0.1:0").unwrap();
    let mut queued = Vec::new();
    let error = loop {
        let wait = Duration::from_millis(50);
        match sameport::connect_timeout("127.0.0.1:0", at(&full), wait) {
            Ok(stream) => queued.push(stream),
            Err(error) => break error,
        }
        assert!(queued.len() < 512);
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    Same
}

fn no_path() -> Verdict {
    let error = sameport::listen("/tmp/foo").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAddress);
    Same
}

fn node_servers() -> Verdict {
    for kind in ["127.0.0.1:0", "[::]:0"] {
        let one = sameport::listen(kind).unwrap();
        sameport::listen(at(&one)).unwrap();
    }
    Same
}

fn node_sockets() -> Verdict {
    let one = sameport::bind_udp("0.0.0.0:0").unwrap();
    let port = one.local_addr().unwrap().port();
    sameport::bind_udp((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    Same
}

fn plain_is_refused() -> Verdict {
    let one = sameport::listen_exclusive("127.0.0.1:0").unwrap();
    let error = sameport::listen_exclusive(at(&one)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    // A listener of std, which sets SO_REUSEADDR, is refused too.
    assert!(TcpListener::bind(at(&one)).is_err());
    Same
}

fn deno_tcp() -> Verdict {
    let one = sameport::listen("0.0.0.0:0").unwrap();
    let two = sameport::listen(at(&one)).unwrap();
    both_accept(&[one, two]);
    Same
}

fn deno_datagram() -> Verdict {
    let one = sameport::bind_udp("127.0.0.1:0").unwrap();
    let to = one.local_addr().unwrap();
    let members = [one, sameport::bind_udp(to).unwrap()];
    for member in &members {
        member.set_nonblocking(true).unwrap();
    }
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[1, 2, 3], to).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let receive = || members.iter().any(|member| member.recv(&mut [0; 8]).is_ok_and(|n| n == 3));
    while !receive() {
        assert!(Instant::now() < deadline, "no socket received");
        std::thread::yield_now();
    }
    Same
}

fn deno_udp() -> Verdict {
    let one = sameport::bind_udp_exclusive("127.0.0.1:0").unwrap();
    let error = sameport::bind_udp_exclusive(one.local_addr().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    Same
}

fn cpython() -> Verdict {
    let plain = sameport::listen_exclusive("localhost:0").unwrap();
    let shared = sameport::listen("localhost:0").unwrap();
    let option = |listener: &TcpListener| SockRef::from(listener).reuse_port().unwrap();
    assert_eq!((option(&plain), option(&shared)), (false, true));
    Same
}

fn cpython_udp() -> Verdict {
    let socket = sameport::bind_udp("127.0.0.1:0").unwrap();
    let options = SockRef::from(&socket);
    assert!(options.reuse_port().unwrap() && !options.reuse_address().unwrap());
    Same
}

fn set_reuseport() -> Verdict {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Options::shared().apply_to_listener(&socket, address).unwrap();
    assert!(socket.reuse_port().unwrap());
    socket.bind(&address.into()).unwrap();
    socket.listen(128).unwrap();
    Same
}

fn socket2_port() -> Verdict {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    assert!(!socket.reuse_port().unwrap());
    Options::shared().apply_to_listener(&socket, "127.0.0.1:0".parse().unwrap()).unwrap();
    assert!(socket.reuse_port().unwrap());
    Same
}

fn socket2_address() -> Verdict {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    SockRef::from(&socket).set_reuse_address(true).unwrap();
    Options::shared().apply_to_listener(&socket, socket.local_addr().unwrap()).unwrap();
    assert!(!SockRef::from(&socket).reuse_address().unwrap());
    Differs("SO_REUSEADDR is cleared: with it, a UDP socket of any user could take the datagrams")
}
