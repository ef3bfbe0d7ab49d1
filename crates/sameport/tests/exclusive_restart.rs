//! An exclusive TCP listener restarts over connections in TIME-WAIT, and admits no other socket:
//! other users, every mix of options, every overlapping address, before and after. Linux only. The
//! tests with other users need root, and run in a network namespace of their thread.
#![cfg(target_os = "linux")]
// Reason: no safe binding switches the user or the network namespace of one thread.
#![allow(unsafe_code)]

mod own_network;

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use own_network::{in_own_network, ip};
use sameport::{ErrorKind, Options};
use socket2::{Domain, Protocol, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(60);
const RESTARTS: usize = 20;
const USERS: [u32; 3] = [0, 1000, 65534];

/// `IPPROTO_MPTCP`.
const MPTCP: i32 = 262;

fn addresses(port: u16) -> Vec<(SocketAddr, bool)> {
    let at = |ip: IpAddr| SocketAddr::new(ip, port);
    vec![
        (at(Ipv4Addr::LOCALHOST.into()), false),
        (at(Ipv4Addr::UNSPECIFIED.into()), false),
        (at(Ipv6Addr::LOCALHOST.into()), false),
        (at(Ipv6Addr::UNSPECIFIED.into()), false),
        (at(Ipv6Addr::UNSPECIFIED.into()), true),
        (at(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()), false),
    ]
}

fn options(address: SocketAddr, v6only: bool) -> Options {
    match address.is_ipv6() {
        true => Options::exclusive().v6only(v6only),
        false => Options::exclusive(),
    }
}

/// The address at which a client reaches a listener of `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip().to_canonical() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// Accepts a connection and closes it, so that it is in TIME-WAIT at the listener's port.
fn leave_time_wait(listener: &TcpListener) {
    let to = reachable(listener.local_addr().unwrap());
    let mut client = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    drop(listener.accept().unwrap());
    client.read_to_end(&mut Vec::new()).unwrap();
}

/// A socket with these options as this user: another program's.
#[derive(Debug, Clone, Copy)]
struct Joiner {
    uid: u32,
    reuse_address: bool,
    reuse_port: bool,
    device: bool,
    protocol: Option<i32>,
}

impl Joiner {
    /// Every user with every mix of options.
    fn all() -> Vec<Self> {
        let bits = |user: usize| (0..16).map(move |mix: u8| (USERS[user], mix));
        (0..USERS.len())
            .flat_map(bits)
            .map(|(uid, mix)| Self {
                uid,
                reuse_address: mix & 1 != 0,
                reuse_port: mix & 2 != 0,
                device: mix & 4 != 0,
                protocol: (mix & 8 != 0).then_some(MPTCP),
            })
            .collect()
    }

    /// None if the kernel has no MPTCP, or refuses the bind.
    fn bind(self, address: SocketAddr, v6only: bool) -> Option<Socket> {
        as_user(self.uid, || {
            let domain = Domain::for_address(address);
            let protocol = self.protocol.map(Protocol::from);
            let socket = Socket::new(domain, Type::STREAM, protocol).ok()?;
            socket.set_reuse_address(self.reuse_address).unwrap();
            socket.set_reuse_port(self.reuse_port).unwrap();
            if address.is_ipv6() {
                socket.set_only_v6(v6only).unwrap();
            }
            if self.device {
                // MPTCP has the option since Linux 5.18; a refusal is one mix less.
                socket.bind_device(Some(b"lo")).ok()?;
            }
            socket.bind(&address.into()).ok()?;
            Some(socket)
        })
    }
}

fn set_user(call: libc::c_long, uid: u32) {
    // SAFETY: the call has no pointer arguments. As a raw system call, it changes this thread only.
    let result = unsafe { libc::syscall(call, -1, uid, -1) };
    assert_eq!(result, 0);
}

/// Runs `action` with another effective user of this thread.
fn as_user<T>(uid: u32, action: impl FnOnce() -> T) -> T {
    set_user(libc::SYS_setresuid, uid);
    let result = action();
    set_user(libc::SYS_setresuid, 0);
    result
}

/// Whether the kernel lists sockets that are bound and do not listen: Linux 6.8.
fn lists_bound_sockets() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    (numbers.next(), numbers.next()) >= (Some(6_u32), Some(8))
}

#[test]
fn an_exclusive_listener_restarts_at_once() {
    for (address, v6only) in addresses(0) {
        let mut listener = options(address, v6only).listen(address).unwrap();
        let held = listener.local_addr().unwrap();
        for restart in 0..RESTARTS {
            leave_time_wait(&listener);
            drop(listener);
            // Control: without the option, the address is in use.
            let plain = Socket::new(Domain::for_address(held), Type::STREAM, None).unwrap();
            assert!(plain.bind(&held.into()).is_err(), "{held}");
            listener = options(held, v6only)
                .listen(held)
                .unwrap_or_else(|error| panic!("restart {restart}: {error}"));
        }
        let error = sameport::listen(held).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    }
}

/// Clients that connect all the time, also before the first `listen`.
#[test]
fn starts_under_load_leave_no_connection_that_blocks_the_next_one() {
    for start in 0..RESTARTS {
        // A port without TIME-WAIT.
        let held = sameport::listen_exclusive("127.0.0.1:0").unwrap().local_addr().unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        if let Ok(mut client) = TcpStream::connect_timeout(&held, PATIENCE) {
                            let _ = client.read_to_end(&mut Vec::new());
                        }
                    }
                });
            }
            let open = |when: &str| {
                let listener = sameport::listen_exclusive(held);
                if listener.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                listener.unwrap_or_else(|error| panic!("{when}, start {start}: {error}"))
            };
            for when in ["first", "again", "and again"] {
                let listener = open(when);
                (0..10).for_each(|_| drop(listener.accept().unwrap()));
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn no_joiner_listens_beside_a_restarted_listener() {
    in_own_network("no_joiner_listens_beside_a_restarted_listener", || {
        for (index, (address, v6only)) in addresses(21_100).into_iter().enumerate() {
            let mut address = address;
            address.set_port(address.port() + u16::try_from(index).unwrap());
            let fresh = options(address, v6only).listen(address).unwrap();
            let refused = refusals(&fresh, v6only);
            leave_time_wait(&fresh);
            drop(fresh);
            let again = options(address, v6only).listen(address).unwrap();
            assert_eq!(refusals(&again, v6only), refused, "{address}");
        }
    });
}

/// The number of joiners on overlapping addresses. Each of them is refused.
fn refusals(held: &TcpListener, v6only: bool) -> usize {
    let address = held.local_addr().unwrap();
    let mut refused = 0;
    for (theirs, their_v6only) in addresses(address.port()) {
        if !overlaps((address, v6only), (theirs, their_v6only)) {
            continue;
        }
        for joiner in Joiner::all() {
            let bound = joiner.bind(theirs, their_v6only);
            assert!(bound.is_none(), "{joiner:?} on {theirs} beside {address}");
            refused += 1;
        }
    }
    assert!(refused > 0);
    refused
}

fn overlaps(one: (SocketAddr, bool), other: (SocketAddr, bool)) -> bool {
    let address = |(socket, v6only)| sameport_addr::Address {
        v6only,
        ..sameport_addr::Address::new(sameport_addr::Protocol::Tcp, socket)
    };
    address(one).overlaps(&address(other))
}

#[test]
fn a_socket_bound_before_a_restart_is_found() {
    in_own_network("a_socket_bound_before_a_restart_is_found", || {
        let (mut found, mut port) = (0, 22_000);
        for (index, (_, v6only)) in addresses(0).into_iter().enumerate() {
            // Every mix on a specific and on the dual-stack address, one on each of the others.
            let is_one = |it: &Joiner| it.uid == 1000 && it.reuse_address && it.protocol.is_none();
            let all = Joiner::all().into_iter();
            for joiner in all.filter(|joiner| [0, 3].contains(&index) || is_one(joiner)) {
                port += 1;
                let address = addresses(port)[index].0;
                let first = options(address, v6only).listen(address).unwrap();
                leave_time_wait(&first);
                drop(first);
                // Between the two listeners.
                let Some(bound) = joiner.bind(address, v6only) else { continue };
                assert!(joiner.reuse_address, "{joiner:?}");
                let again = options(address, v6only).listen(address);
                if lists_bound_sockets() {
                    let error = again.as_ref().unwrap_err();
                    let expected = match joiner.uid {
                        0 => ErrorKind::InUse,
                        _ => ErrorKind::InUseByAnotherUser,
                    };
                    assert_eq!((error.kind(), error.call()), (expected, "listen"), "{joiner:?}");
                    assert_eq!(error.owner_uid(), Some(joiner.uid));
                    // The port is free for the joiner alone.
                    bound.listen(1).unwrap();
                } else {
                    assert!(bound.listen(1).is_err() && again.is_ok(), "{joiner:?}");
                }
                found += 1;
            }
        }
        assert!(found > 0);
    });
}

/// What a bound socket with `SO_REUSEADDR` can do beside a listener with the option: it takes the
/// connection of a client whose address and port it knows in advance. An exclusive listener is not
/// opened beside it.
#[test]
fn a_bound_socket_takes_the_connection_that_it_guesses() {
    in_own_network("a_bound_socket_takes_the_connection_that_it_guesses", || {
        ip("link add quiet type veth peer name far");
        ip("link set far up");
        ip("link set quiet up");
        ip("address add 192.0.2.1/24 dev quiet");
        // A client that is not there yet: what is sent to it is lost.
        ip("neighbor add 192.0.2.2 lladdr 02:00:00:00:00:02 dev quiet");
        let server: SocketAddr = "192.0.2.1:21300".parse().unwrap();
        let client: SocketAddr = "192.0.2.2:21301".parse().unwrap();

        let first = sameport::listen_exclusive(server).unwrap();
        leave_time_wait(&first);
        drop(first);
        let joiner = Joiner {
            uid: 65534,
            reuse_address: true,
            reuse_port: false,
            device: false,
            protocol: None,
        };
        let thief = joiner.bind(server, false).unwrap();
        // Control: a listener as std opens it.
        let plain = TcpListener::bind(server).unwrap();
        thief.set_nonblocking(true).unwrap();
        assert!(thief.connect(&client.into()).is_err());
        ip("address add 192.0.2.2/32 dev lo");
        let victim = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        victim.bind(&client.into()).unwrap();
        victim.connect_timeout(&server.into(), PATIENCE).unwrap();
        victim.send(b"secret").unwrap();
        thief.set_nonblocking(false).unwrap();
        thief.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut taken = [0; 6];
        (&thief).read_exact(&mut taken).unwrap();
        assert_eq!(&taken, b"secret");
        drop(plain);

        let error = sameport::listen_exclusive(server).unwrap_err();
        assert_eq!(error.owner_uid(), Some(65534), "{error}");
    });
}

/// Each of two that start at once can find the other one's bound socket, and both give up. They never both
/// listen, and one of the next attempts succeeds.
#[test]
fn two_starters_never_both_win() {
    let mut listener = sameport::listen_exclusive("127.0.0.1:0").unwrap();
    let held = listener.local_addr().unwrap();
    for _ in 0..RESTARTS {
        leave_time_wait(&listener);
        drop(listener);
        let start = || sameport::listen_exclusive(held);
        let winner = (0..100).find_map(|_| {
            let (one, other) = std::thread::scope(|scope| {
                let other = scope.spawn(start);
                (start(), other.join().unwrap())
            });
            assert!(one.is_err() || other.is_err(), "{one:?} {other:?}");
            one.or(other).ok()
        });
        listener = winner.expect("100 attempts, and none succeeded");
    }
}
