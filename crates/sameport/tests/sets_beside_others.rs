//! Sets that cannot be opened, or not steered: wrong options, held addresses, other sockets on the
//! address. Linux only.
#![cfg(any(target_os = "linux", target_os = "android"))]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sameport::{ErrorKind, Member, Members, Options, Steering};

const PATIENCE: Duration = Duration::from_secs(60);

/// Opens connections and returns how many each listener accepts.
fn connections<'a>(
    listeners: impl IntoIterator<Item = &'a TcpListener>,
    to: SocketAddr,
    number: usize,
) -> Vec<usize> {
    let _clients: Vec<_> =
        (0..number).map(|_| TcpStream::connect_timeout(&to, PATIENCE).unwrap()).collect();
    let accepted = |listener: &TcpListener| {
        listener.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| listener.accept().ok()).count()
    };
    listeners.into_iter().map(accepted).collect()
}

fn listeners(members: &Members<TcpListener>) -> impl Iterator<Item = &TcpListener> {
    members.iter().map(|member| &**member)
}

#[test]
fn contradictory_sets_are_refused() {
    let shared = Options::shared;
    for (options, n, kind, text) in [
        (shared(), 0, ErrorKind::BadAddress, "at least one member"),
        (Options::exclusive(), 0, ErrorKind::BadAddress, "at least one member"),
        (shared(), usize::MAX, ErrorKind::Unsupported, "at most 32768 members"),
        (
            Options::exclusive().steering(Steering::Program),
            1,
            ErrorKind::BadAddress,
            "an exclusive address has one socket",
        ),
        (
            Options::exclusive().steering(Steering::Hash),
            1,
            ErrorKind::BadAddress,
            "an exclusive address has one socket",
        ),
        (
            shared().require_balanced(true).steering(Steering::OneQueue),
            2,
            ErrorKind::BadAddress,
            "one queue is not balanced",
        ),
        (
            Options::exclusive().require_balanced(true),
            2,
            ErrorKind::BadAddress,
            "nothing to balance",
        ),
        (
            shared().steering(Steering::IncomingCpu),
            1 << 20,
            ErrorKind::BadAddress,
            "a member without a processor",
        ),
        (shared().device("nosuchdevice"), 2, ErrorKind::AddressNotHere, "nosuchdevice"),
        (shared().v6only(true), 2, ErrorKind::BadAddress, "v6only is for IPv6"),
    ] {
        let error = options.listen_n("127.0.0.1:0", n).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        let error = options.bind_udp_n("127.0.0.1:0", n).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    let error = sameport::listen_n("nonsense", 2).unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::BadAddress, "address"));
    let error = sameport::per_core("192.0.2.1:0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressNotHere);
}

#[test]
fn a_held_address_is_refused_as_for_one_listener() {
    let held = sameport::listen_exclusive("127.0.0.1:0").unwrap();
    let error = sameport::listen_n(held.local_addr().unwrap(), 3).unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::InUse, "bind"), "{error}");
    let set = sameport::listen_n("127.0.0.1:0", 2).unwrap();
    let error = Options::exclusive().listen_n(set.local_addr(), 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    drop(set);
}

#[test]
fn clones_share_one_queue_and_one_address() {
    let members = Options::exclusive().listen_n("127.0.0.1:0", 4).unwrap();
    assert_eq!((members.steering(), members.others()), (Steering::OneQueue, None));
    let to = members.local_addr();
    assert_eq!(sameport::listen(to).unwrap_err().kind(), ErrorKind::InUse);
    // The member that accepts first gets all connections.
    assert_eq!(connections(listeners(&members), to, 8), [8, 0, 0, 0]);
    let error = members.get(0).unwrap().withdraw().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    // Each of them can close: the queue stays until the last one.
    let _queued = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    let mut members = members.into_iter();
    let last = members.next().unwrap();
    for member in members {
        drop(member);
    }
    let mut drain = last.drain(Duration::ZERO);
    assert!(!drain.is_withdrawn());
    assert!(drain.next().is_some_and(|accepted| accepted.is_ok()));
    assert!(drain.next().is_none() && drain.next().is_none());
    sameport::listen_exclusive("127.0.0.1:0").unwrap();
}

#[test]
fn families_and_devices_are_those_of_one_listener() {
    let members = sameport::listen_n(":0", 3).unwrap();
    let port = members.local_addr().port();
    for ip in ["127.0.0.1", "::1"] {
        let to = SocketAddr::new(ip.parse().unwrap(), port);
        let counts = connections(listeners(&members), to, 64);
        assert!(counts.iter().sum::<usize>() == 64 && counts.iter().all(|&count| count > 2));
    }
    let members = Options::shared().v6only(true).listen_n("[::]:0", 2).unwrap();
    for member in &members {
        assert!(socket2::SockRef::from(&**member).only_v6().unwrap());
    }
    // The option does not concern an IPv4 address of a name.
    Options::shared().v6only(true).listen_n(["[::1]:0", "127.0.0.1:0"], 2).unwrap();
    let members = Options::shared().device("lo").bind_udp_n("0.0.0.0:0", 2).unwrap();
    for member in &members {
        let device = socket2::SockRef::from(&**member).device().unwrap();
        assert_eq!(device.as_deref(), Some(&b"lo"[..]));
    }
    let members = Options::shared().nonblocking(true).backlog(1).per_core("[::1]:0").unwrap();
    assert!(listeners(&members).all(|listener| listener.accept().is_err()));
}

#[test]
fn a_program_is_not_attached_beside_others() {
    let other = sameport::listen("127.0.0.1:0").unwrap();
    let to = other.local_addr().unwrap();
    let error = Options::shared().steering(Steering::Program).per_core(to).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SharedByOthers, "{error}");
    let members = sameport::listen_n(to, 2).unwrap();
    assert_eq!(members.others(), Some(1));
    let error = members.get(0).unwrap().withdraw().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SharedByOthers, "{error}");
    assert!(error.to_string().contains("other sockets have the address"), "{error}");
    let io: std::io::Error = error.into();
    assert_eq!(io.kind(), std::io::ErrorKind::AddrInUse);
    drop(other);
    members.get(0).unwrap().withdraw().unwrap();

    let udp = sameport::bind_udp("127.0.0.1:0").unwrap();
    let to = udp.local_addr().unwrap();
    let error = Options::shared().steering(Steering::Program).bind_udp_per_core(to).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SharedByOthers, "{error}");
    assert_eq!(sameport::bind_udp_n(to, 2).unwrap().others(), Some(1));
}

#[test]
fn a_program_does_not_outlive_the_set() {
    for leaves_by in ["drop", "into_inner", "failed conversion"] {
        let steered = Options::shared().steering(Steering::Program).listen_n("127.0.0.1:0", 1);
        let mut steered = steered.unwrap();
        let to = steered.local_addr();
        let others = [sameport::listen(to).unwrap(), sameport::listen(to).unwrap()];
        // The program selects members of its set only.
        let counts = connections(&others, to, 16);
        assert_eq!(counts, [0, 0]);
        let member = steered.remove(0).unwrap();
        let _kept = match leaves_by {
            "drop" => {
                drop(member);
                None
            }
            "into_inner" => Some(member.into_inner().unwrap()),
            _ => {
                let failed = std::io::Error::from(std::io::ErrorKind::Other);
                member.try_map::<TcpListener>(|_| Err(failed)).unwrap_err();
                None
            }
        };
        let counts = connections(&others, to, 96);
        assert!(counts.iter().all(|&count| count > 8), "{leaves_by}: {counts:?}");
    }
}

#[test]
fn a_member_in_other_hands_ends_steering_and_withdrawals() {
    let mut members = sameport::listen_n("127.0.0.1:0", 4).unwrap();
    let to = members.local_addr();
    let withdrawn = members.remove(0).unwrap();
    withdrawn.withdraw().unwrap();
    let released = members.remove(0).unwrap().into_inner().unwrap();
    let error = members.get(0).unwrap().withdraw().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SharedByOthers);
    // By hash again, among all of them.
    let present = listeners(&members).chain([&*withdrawn, &released]);
    let counts = connections(present, to, 128);
    assert!(counts.iter().all(|&count| count > 8), "{counts:?}");
}

#[test]
fn a_converted_member_is_still_of_the_set() {
    let mut members = sameport::listen_n("127.0.0.1:0", 3).unwrap();
    let to = members.local_addr();
    let converted = members.remove(0).unwrap().try_map(Ok).unwrap();
    members.get(1).unwrap().withdraw().unwrap();
    let present = listeners(&members).chain([&*converted]);
    let counts = connections(present, to, 64);
    assert!(counts[0] > 8 && counts[1] == 0 && counts[2] > 8, "{counts:?}");
    drop(converted);
    assert_eq!(connections(listeners(&members), to, 8), [8, 0]);
}

#[test]
fn a_conversion_that_panics_is_a_departure() {
    let mut members = sameport::listen_n("127.0.0.1:0", 3).unwrap();
    let to = members.local_addr();
    members.get(1).unwrap().withdraw().unwrap();
    let leaving = members.remove(0).unwrap();
    let convert = move || leaving.try_map::<TcpListener>(|_| panic!("of the conversion"));
    assert!(std::thread::spawn(convert).join().is_err());
    // The last member has the position of the one that left.
    assert_eq!(connections(listeners(&members), to, 64), [0, 64]);
    assert!(members.get(0).unwrap().withdraw().is_ok());
}

/// The restart of a program: the members of a second set take over from those of the first.
#[test]
fn a_second_set_per_core_takes_over_without_a_loss() {
    let first = sameport::per_core("127.0.0.1:0").unwrap();
    if first.steering() != Steering::IncomingCpu {
        return; // Before Linux 6.2, and where a control group grants fewer processors.
    }
    let to = first.local_addr();
    let done = AtomicBool::new(false);
    let (asked, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer == "ok")
    };
    let serve = |member: Member<TcpListener>, stop: &AtomicBool| {
        member.set_nonblocking(true).unwrap();
        while !stop.load(Ordering::Relaxed) {
            match member.accept() {
                Ok((mut stream, _)) => drop(stream.write_all(b"ok")),
                Err(_) => std::thread::sleep(Duration::from_micros(200)),
            }
        }
        for accepted in member.drain(Duration::ZERO) {
            let _ = accepted.unwrap().0.write_all(b"ok");
        }
    };
    std::thread::scope(|scope| {
        let start = |set: Members<TcpListener>| {
            let stop = Arc::new(AtomicBool::new(false));
            let of_set = stop.clone();
            let server = scope.spawn(move || {
                std::thread::scope(|members| {
                    for member in set {
                        members.spawn(|| serve(member, &of_set));
                    }
                });
            });
            (stop, server)
        };
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        asked.fetch_add(1, Ordering::Relaxed);
                        if !ask().is_ok_and(|answered| answered) {
                            lost.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        let mut present = start(first);
        for _ in 0..10 {
            let seen = asked.load(Ordering::Relaxed);
            let deadline = Instant::now() + PATIENCE;
            while asked.load(Ordering::Relaxed) < seen + 50 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            let next = sameport::per_core(to).unwrap();
            assert_eq!(next.steering(), Steering::IncomingCpu);
            let (stop, server) = std::mem::replace(&mut present, start(next));
            stop.store(true, Ordering::Relaxed);
            server.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
        present.0.store(true, Ordering::Relaxed);
    });
    let asked = asked.into_inner();
    assert!(asked > 500, "{asked}");
    assert_eq!(lost.into_inner(), 0, "of {asked}");
}
