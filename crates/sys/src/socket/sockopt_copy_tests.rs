//! Every settable option, copied from a new socket to a held one and back to the default.

use std::net::{SocketAddr, TcpStream};

use sameport_policy::classic_bpf::Instruction;
use socket2::{Domain, Protocol, Socket, Type};

use super::*;
use crate::socket::own_sockets::{duplicate, tcp_info};
use crate::socket::raw_option::SockOpt;

/// Values to try: at least one is valid for the option and is not its default.
fn candidates(option: &CopiedOption) -> Vec<Vec<u8>> {
    let numbers = [1_i32, 7, 2, 3, 0, 100, 3000].map(|n| n.to_ne_bytes().to_vec());
    match option.text {
        "TCP_CONGESTION" => vec![b"reno".to_vec(), b"cubic".to_vec()],
        "SO_LINGER" => vec![[1, 7].map(i32::to_ne_bytes).concat()],
        "SO_RCVTIMEO" | "SO_SNDTIMEO" => vec![[2_i64, 500_000].map(i64::to_ne_bytes).concat()],
        "SO_MAX_PACING_RATE" => vec![1_000_000_u64.to_ne_bytes().to_vec()],
        "SO_RCVBUF" | "SO_SNDBUF" => vec![20_000_i32.to_ne_bytes().to_vec()],
        _ => numbers.to_vec(),
    }
}

/// Sets a value that is not the default. `false` if the socket refuses all of them.
fn unusual(option: &CopiedOption, socket: &WorkerSocket) -> bool {
    let before = option.read(socket);
    before.is_some()
        && candidates(option).iter().any(|value| {
            raw_option::set(socket.as_fd(), option.name, value).is_ok()
                && option.read(socket) != before
        })
}

/// A new socket and a bound one, which listens if it is TCP.
fn pair(domain: Domain, kind: Type) -> (WorkerSocket, WorkerSocket) {
    let [new, held] = [(); 2].map(|()| Socket::new(domain, kind, None).unwrap());
    let any = if domain == Domain::IPV4 { "127.0.0.1:0" } else { "[::1]:0" };
    // The kernel sets IPV6_V6ONLY at a bind to such an address.
    if domain == Domain::IPV6 {
        new.set_only_v6(true).unwrap();
    }
    held.bind(&any.parse::<SocketAddr>().unwrap().into()).unwrap();
    if kind == Type::STREAM {
        held.listen(5).unwrap();
    }
    (duplicate(&new), duplicate(&held))
}

const KINDS: [(Domain, Type); 4] = [
    (Domain::IPV4, Type::STREAM),
    (Domain::IPV6, Type::STREAM),
    (Domain::IPV4, Type::DGRAM),
    (Domain::IPV6, Type::DGRAM),
];

/// Options that a listener cannot reset.
const ONE_WAY: &str = "TCP_WINDOW_CLAMP";

fn differing(new: &WorkerSocket, held: &WorkerSocket) -> Vec<&'static str> {
    COPIED_OPTIONS
        .iter()
        .filter(|option| option.differs(new, held))
        .map(|option| option.text)
        .collect()
}

#[test]
fn new_and_held_sockets_have_the_same_defaults() {
    for (domain, kind) in KINDS {
        let (new, held) = pair(domain, kind);
        assert_eq!(differing(&new, &held), [""; 0], "{domain:?} {kind:?}");
        assert_eq!(new.copy_options_to(&held, NonBlocking::Same), Ok(()));
    }
}

#[test]
fn every_option_is_copied_alone_and_reset() {
    let mut carried = Vec::new();
    for (domain, kind) in KINDS {
        for option in COPIED_OPTIONS.iter().filter(|option| option.text != ONE_WAY) {
            let (new, held) = pair(domain, kind);
            if !unusual(option, &new) {
                continue;
            }
            let what = format!("{} of {domain:?} {kind:?}", option.text);
            assert!(differing(&new, &held).contains(&option.text), "{what}");
            assert_eq!(new.copy_options_to(&held, NonBlocking::Same), Ok(()), "{what}");
            assert_eq!(differing(&new, &held), [""; 0], "{what}");
            let (plain, _) = pair(domain, kind);
            assert_eq!(plain.copy_options_to(&held, NonBlocking::Same), Ok(()), "{what}");
            assert_eq!(differing(&plain, &held), [""; 0], "{what}");
            carried.push(option.text);
        }
    }
    // Options that every supported kernel lets unprivileged processes set.
    for name in [
        "IP_TOS",
        "IP_TTL",
        "IP_PKTINFO",
        "IP_RECVTOS",
        "IP_MTU_DISCOVER",
        "IP_MULTICAST_TTL",
        "IPV6_TCLASS",
        "IPV6_RECVPKTINFO",
        "IPV6_UNICAST_HOPS",
        "SO_KEEPALIVE",
        "SO_BROADCAST",
        "SO_PRIORITY",
        "SO_LINGER",
        "SO_RCVTIMEO",
        "SO_SNDTIMEO",
        "SO_RCVLOWAT",
        "SO_RCVBUF",
        "SO_SNDBUF",
        "SO_INCOMING_CPU",
        "SO_TIMESTAMP",
        "TCP_NODELAY",
        "TCP_KEEPIDLE",
        "TCP_KEEPINTVL",
        "TCP_KEEPCNT",
        "TCP_SYNCNT",
        "TCP_LINGER2",
        "TCP_DEFER_ACCEPT",
        "TCP_CONGESTION",
        "TCP_USER_TIMEOUT",
        "TCP_FASTOPEN",
        "TCP_NOTSENT_LOWAT",
        "TCP_MAXSEG",
    ] {
        assert!(carried.contains(&name), "{name} was not tried: {carried:?}");
    }
}

#[test]
fn all_options_are_copied_together() {
    for (domain, kind) in KINDS {
        let (new, held) = pair(domain, kind);
        let set = COPIED_OPTIONS.iter().filter(|option| unusual(option, &new)).count();
        assert!(set > 15, "{set} of {domain:?} {kind:?}");
        assert_eq!(new.copy_options_to(&held, NonBlocking::Same), Ok(()), "{domain:?} {kind:?}");
        assert_eq!(differing(&new, &held), [""; 0], "{domain:?} {kind:?}");
    }
}

#[test]
fn options_that_a_listener_keeps_are_errors() {
    let (new, held) = pair(Domain::IPV4, Type::STREAM);
    let clamp = COPIED_OPTIONS.iter().find(|option| option.text == ONE_WAY).unwrap();
    assert!(unusual(clamp, &new));
    assert_eq!(new.copy_options_to(&held, NonBlocking::Same), Ok(()));
    let (plain, _) = pair(Domain::IPV4, Type::STREAM);
    let refused = plain.copy_options_to(&held, NonBlocking::Same);
    assert_eq!(refused, Err(CopyError::Refused(ONE_WAY, Errno::INVAL)));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "TCP_WINDOW_CLAMP cannot be set: Invalid argument (os error 22)"
    );
}

/// A connection that the held socket accepts inherits the copied options.
#[test]
fn accepted_connections_have_the_options() {
    let listener = crate::socket::own_sockets::listener("127.0.0.1:0");
    let held = duplicate(&listener);
    let new = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    new.set_tcp_nodelay(true).unwrap();
    new.set_keepalive(true).unwrap();
    new.set_recv_buffer_size(30_000).unwrap();
    duplicate(&new).copy_options_to(&held, NonBlocking::Same).unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    assert!(accepted.nodelay().unwrap());
    let accepted = socket2::SockRef::from(&accepted);
    assert_eq!(
        (accepted.keepalive().unwrap(), accepted.recv_buffer_size().unwrap()),
        (true, 60_000)
    );
    assert_eq!(tcp_info(&*accepted)[0], 1);
}

#[test]
fn options_of_mptcp_sockets_are_copied() {
    let mptcp = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP));
    let (Ok(new), Ok(held), Ok(plain)) = (mptcp(), mptcp(), mptcp()) else {
        return sameport_skips::skip("carrying-mptcp", "this kernel has no such sockets");
    };
    held.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    held.listen(5).unwrap();
    let (new, held, plain) = (duplicate(&new), duplicate(&held), duplicate(&plain));
    assert_eq!(differing(&new, &held), [""; 0]);
    let set: Vec<_> = COPIED_OPTIONS.iter().filter(|o| unusual(o, &new)).map(|o| o.text).collect();
    assert!(set.contains(&"SO_KEEPALIVE") && set.contains(&"TCP_NODELAY"), "{set:?}");
    assert_eq!(new.copy_options_to(&held, NonBlocking::Same), Ok(()), "{set:?}");
    // This option cannot be set on MPTCP sockets.
    let differ = |new| differing(new, &held).into_iter().find(|name| *name != "SO_BUF_LOCK");
    assert_eq!(differ(&new), None);
    assert_eq!(plain.copy_options_to(&held, NonBlocking::Same), Ok(()), "{set:?}");
    assert_eq!(differ(&plain), None);
    let tcp = duplicate(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
    let other = CopyError::Differs("protocol");
    assert_eq!(tcp.copy_options_to(&held, NonBlocking::Same), Err(other));
}

#[test]
fn o_nonblock_is_copied_or_only_set() {
    for (before, new_has, how, after) in [
        (false, true, NonBlocking::Same, true),
        (true, false, NonBlocking::Same, false),
        (true, true, NonBlocking::Same, true),
        (false, true, NonBlocking::OnlySet, true),
        (true, false, NonBlocking::OnlySet, true),
        (false, false, NonBlocking::OnlySet, false),
    ] {
        let [new, held] = [new_has, before].map(|set| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(set).unwrap();
            socket
        });
        duplicate(&new).copy_options_to(&duplicate(&held), how).unwrap();
        assert_eq!(held.nonblocking().unwrap(), after, "{before} {new_has} {how:?}");
    }
}

/// A name server sets IP_PKTINFO after its bind; its predecessor reads the same socket meanwhile.
#[test]
fn an_option_of_a_socket_in_use_is_not_cleared() {
    for (before, new_has, how, after) in [
        (true, false, NonBlocking::Same, false),
        (true, false, NonBlocking::OnlySet, true),
        (false, true, NonBlocking::OnlySet, true),
        (false, false, NonBlocking::OnlySet, false),
    ] {
        let [new, held] = [new_has, before].map(|set| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.set_broadcast(set).unwrap();
            socket
        });
        duplicate(&new).copy_options_to(&duplicate(&held), how).unwrap();
        assert_eq!(held.broadcast().unwrap(), after, "{before} {new_has} {how:?}");
    }
}

#[test]
fn sockets_of_different_kinds_are_refused() {
    let of = |domain, kind| Socket::new(domain, kind, None).unwrap();
    let (stream, v6) = (of(Domain::IPV4, Type::STREAM), of(Domain::IPV6, Type::STREAM));
    let only = of(Domain::IPV6, Type::STREAM);
    only.set_only_v6(true).unwrap();
    let on_lo = of(Domain::IPV4, Type::STREAM);
    on_lo.bind_device(Some(b"lo")).unwrap();
    let udp = of(Domain::IPV4, Type::DGRAM);
    for (new, held, what) in [
        (&stream, &v6, "family"),
        (&stream, &udp, "protocol"),
        (&v6, &only, "IPV6_V6ONLY"),
        (&only, &v6, "IPV6_V6ONLY"),
        (&stream, &on_lo, "device"),
        (&on_lo, &stream, "device"),
    ] {
        let outcome = duplicate(new).copy_options_to(&duplicate(held), NonBlocking::Same);
        assert_eq!(outcome, Err(CopyError::Differs(what)));
    }
}

/// With datagram sockets: a filter on TCP needs CAP_NET_ADMIN.
#[test]
fn a_new_sockets_filter_is_refused_and_a_held_ones_removed() {
    let everything = [Instruction { code: 0x06, if_true: 0, if_false: 0, k: u32::MAX }];
    let (new, held) = pair(Domain::IPV4, Type::DGRAM);
    raw_option::attach(new.as_fd(), libc::SO_ATTACH_FILTER, &everything).unwrap();
    assert_eq!(new.copy_options_to(&held, NonBlocking::Same), Err(CopyError::Filter));
    assert_eq!(held.copy_options_to(&new, NonBlocking::Same), Ok(()));
    assert_eq!(new.has_filter(), Ok(false));

    raw_option::attach(new.as_fd(), libc::SO_ATTACH_FILTER, &everything).unwrap();
    let lock = SockOpt { level: libc::SOL_SOCKET, number: libc::SO_LOCK_FILTER };
    raw_option::set(new.as_fd(), lock, &1_i32.to_ne_bytes()).unwrap();
    let refused = CopyError::Refused("SO_DETACH_FILTER", Errno::PERM);
    assert_eq!(held.copy_options_to(&new, NonBlocking::Same), Err(refused));
}

#[test]
fn a_socket_that_sends_signals_is_refused() {
    let (new, held) = pair(Domain::IPV4, Type::DGRAM);
    let flags = rustix::fs::fcntl_getfl(&new).unwrap();
    let signals = OFlags::from_bits_retain(libc::O_ASYNC.cast_unsigned());
    rustix::fs::fcntl_setfl(&new, flags | signals).unwrap();
    assert_eq!(new.copy_options_to(&held, NonBlocking::Same), Err(CopyError::Signals));
}
