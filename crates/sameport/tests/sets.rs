//! Sets of listeners and UDP sockets: selection by hash and by processor, members that leave, other
//! sockets on the address. Linux only.
#![cfg(any(target_os = "linux", target_os = "android"))]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use sameport::{ErrorKind, Member, Members, Options, Steering};

const PATIENCE: Duration = Duration::from_secs(60);

/// Accepts or receives everything that arrives at the members, from `send` on, and returns the number
/// for each.
fn counts<S>(
    members: &[&Member<S>],
    expected: usize,
    mut take: impl FnMut(&S) -> bool,
) -> Vec<usize> {
    let deadline = Instant::now() + PATIENCE;
    let mut counts = vec![0; members.len()];
    while counts.iter().sum::<usize>() < expected {
        assert!(Instant::now() < deadline, "{counts:?} of {expected}");
        for (count, member) in counts.iter_mut().zip(members) {
            *count += usize::from(take(member));
        }
    }
    counts
}

fn connections(members: &[&Member<TcpListener>], to: SocketAddr, number: usize) -> Vec<usize> {
    for member in members {
        member.set_nonblocking(true).unwrap();
    }
    let _clients: Vec<_> =
        (0..number).map(|_| TcpStream::connect_timeout(&to, PATIENCE).unwrap()).collect();
    counts(members, number, |listener| listener.accept().is_ok())
}

fn datagrams(members: &[&Member<UdpSocket>], to: SocketAddr, number: usize) -> Vec<usize> {
    for member in members {
        member.set_nonblocking(true).unwrap();
    }
    let from = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    for _ in 0..number {
        UdpSocket::bind(from).unwrap().send_to(b"x", to).unwrap();
    }
    counts(members, number, |socket| socket.recv(&mut [0; 4]).is_ok())
}

fn all<S>(members: &Members<S>) -> Vec<&Member<S>> {
    members.iter().collect()
}

/// The processors of this thread.
fn processors() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Calls `work` on one processor.
fn on<T: Send>(processor: usize, work: impl FnOnce() -> T + Send) -> T {
    let pinned = move || {
        let mut set = CpuSet::new();
        set.set(processor);
        sched_setaffinity(None, &set).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(pinned).join().unwrap())
}

#[test]
fn a_set_shares_one_address_by_hash() {
    let members = sameport::listen_n("127.0.0.1:0", 4).unwrap();
    assert_eq!((members.len(), members.steering()), (4, Steering::Hash));
    assert_eq!((members.others(), members.cpu(0)), (Some(0), None));
    for member in &members {
        assert_eq!(member.local_addr().unwrap(), members.local_addr());
    }
    let counts = connections(&all(&members), members.local_addr(), 128);
    assert!(counts.iter().all(|&count| count >= 8), "{counts:?}");

    let members = sameport::bind_udp_n("[::1]:0", 3).unwrap();
    let counts = datagrams(&all(&members), members.local_addr(), 96);
    assert!(counts.iter().all(|&count| count >= 8), "{counts:?}");
}

#[test]
fn a_member_gets_the_connections_of_its_processor() {
    let all_cpus = processors();
    let set = |steering: Option<Steering>| {
        let options = Options::shared();
        steering.map_or(options.clone(), |steering| options.steering(steering))
    };
    for steering in [None, Some(Steering::IncomingCpu), Some(Steering::Program)] {
        let tcp = set(steering).per_core("127.0.0.1:0").unwrap();
        let udp = set(steering).bind_udp_per_core("127.0.0.1:0").unwrap();
        if steering.is_some() && tcp.len() > 1 {
            assert_eq!((Some(tcp.steering()), Some(udp.steering())), (steering, steering));
        }
        if tcp.steering() == Steering::Hash {
            continue; // A control group grants fewer processors.
        }
        let cpus: Vec<_> = (0..tcp.len()).map(|index| tcp.cpu(index).unwrap()).collect();
        // A control group can grant fewer.
        assert_eq!(cpus, all_cpus[..tcp.len()]);
        for (index, cpu) in cpus.into_iter().enumerate() {
            let mut expected = vec![0; tcp.len()];
            expected[index] = 24;
            let got = on(cpu, || connections(&all(&tcp), tcp.local_addr(), 24));
            assert_eq!(got, expected, "{steering:?} TCP on {cpu}");
            let got = on(cpu, || datagrams(&all(&udp), udp.local_addr(), 24));
            assert_eq!(got, expected, "{steering:?} UDP on {cpu}");
        }
    }
}

#[test]
fn processors_follow_the_affinity_of_the_thread() {
    let last = *processors().last().unwrap();
    on(last, || {
        let members = sameport::per_core("127.0.0.1:0").unwrap();
        assert_eq!((members.len(), members.cpu(0)), (1, Some(last)));
        // A single UDP socket on port 0 is in no group yet.
        let alone = Options::shared().steering(Steering::Program).bind_udp_per_core("127.0.0.1:0");
        assert_eq!(alone.unwrap().steering(), Steering::Hash);
        // A program maps all processors to the members there are.
        let members = Options::shared().steering(Steering::Program).listen_n("127.0.0.1:0", 1);
        assert_eq!(members.unwrap().cpu(0), Some(last));
        let error = Options::shared().steering(Steering::Program).listen_n("127.0.0.1:0", 2);
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadAddress);
        assert!(error.to_string().contains("2 members and 1 processors"), "{error}");
    });
}

#[test]
fn a_withdrawn_member_gets_no_connection() {
    for ip in ["127.0.0.1:0", "[::1]:0", ":0", "[::ffff:127.0.0.1]:0"] {
        let mut members = sameport::listen_n(ip, 5).unwrap();
        let port = members.local_addr().port();
        let to = SocketAddr::new(
            if ip.starts_with("[::1") { "::1" } else { "127.0.0.1" }.parse().unwrap(),
            port,
        );
        // The kernel moves the last member into each gap: the positions change every time.
        for index in [1, 0, 2] {
            let leaving = members.remove(index).unwrap();
            leaving.withdraw().unwrap();
            leaving.withdraw().unwrap();
            let mut present = all(&members);
            let others = present.len();
            present.push(&leaving);
            let counts = connections(&present, to, 96);
            assert_eq!(counts[others], 0, "{counts:?}");
            assert!(counts[..others].iter().all(|&count| count >= 4), "{counts:?}");
            drop(leaving);
            let counts = connections(&all(&members), to, 96);
            assert!(counts.iter().all(|&count| count >= 4), "{counts:?}");
        }
        let last = members.remove(0).unwrap();
        drop(members);
        let error = last.withdraw().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(connections(&[&last], to, 4), [4]);
    }
}

#[test]
fn several_members_are_withdrawn_at_once() {
    let mut members = sameport::bind_udp_n("127.0.0.1:0", 6).unwrap();
    let to = members.local_addr();
    let leaving: Vec<_> = [4, 0, 2].map(|index| members.remove(index).unwrap()).into();
    for member in &leaving {
        member.withdraw().unwrap();
    }
    let present: Vec<_> = members.iter().chain(&leaving).collect();
    let counts = datagrams(&present, to, 96);
    assert_eq!(counts[3..], [0, 0, 0], "{counts:?}");
    assert!(counts[..3].iter().all(|&count| count >= 4), "{counts:?}");
    for member in leaving {
        drop(member);
        let counts = datagrams(&all(&members), to, 48);
        assert!(counts.iter().all(|&count| count >= 2), "{counts:?}");
    }
}

#[test]
fn a_member_of_a_processor_is_withdrawn() {
    for steering in [Steering::IncomingCpu, Steering::Program] {
        let mut members = Options::shared().steering(steering).per_core("127.0.0.1:0").unwrap();
        if members.len() < 2 {
            return;
        }
        let (to, cpu) = (members.local_addr(), members.cpu(0).unwrap());
        let leaving = members.remove(0).unwrap();
        leaving.withdraw().unwrap();
        let mut present = all(&members);
        present.push(&leaving);
        let counts = on(cpu, || connections(&present, to, 32));
        assert_eq!(counts.last(), Some(&0), "{counts:?}");
        drop(leaving);
        for member in &members {
            let mut expected = vec![0; members.len()];
            let index = members.iter().position(|m| m.cpu() == member.cpu()).unwrap();
            expected[index] = 16;
            let got = on(member.cpu().unwrap(), || connections(&all(&members), to, 16));
            assert_eq!(got, expected, "{steering}");
        }
    }
}

/// A server of one member: answers until `stop` is set, then drains and ends.
fn serve(member: Member<TcpListener>, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) {
    let answer = |mut stream: TcpStream| {
        // A client that was reset is counted by the client.
        let _ = stream.set_nonblocking(false).and_then(|()| stream.write_all(b"ok"));
        answered.fetch_add(1, Ordering::Relaxed);
    };
    member.set_nonblocking(true).unwrap();
    while !stop.load(Ordering::Relaxed) {
        match member.accept() {
            Ok((stream, _)) => answer(stream),
            Err(_) => std::thread::sleep(Duration::from_micros(200)),
        }
    }
    let drain = member.drain(Duration::ZERO);
    assert!(drain.is_withdrawn());
    for stream in drain {
        answer(stream.unwrap().0);
    }
}

#[test]
fn draining_one_member_after_the_other_loses_nothing() {
    const MEMBERS: usize = 13;
    let mut members = sameport::listen_n("127.0.0.1:0", MEMBERS).unwrap();
    let (to, last) = (members.local_addr(), members.remove(0).unwrap());
    let done = AtomicBool::new(false);
    let answered = Arc::new(AtomicUsize::new(0));
    let (asked, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer == "ok" { Ok(()) } else { Err(std::io::Error::other("no answer")) }
    };
    std::thread::scope(|scope| {
        let servers: Vec<_> = members
            .into_iter()
            .map(|member| {
                let stop = Arc::new(AtomicBool::new(false));
                let (of_server, answered) = (stop.clone(), answered.clone());
                (stop, scope.spawn(move || serve(member, of_server, answered)))
            })
            .collect();
        let stop_last = Arc::new(AtomicBool::new(false));
        let (of_last, of_all) = (stop_last.clone(), answered.clone());
        scope.spawn(move || {
            last.set_nonblocking(true).unwrap();
            while !of_last.load(Ordering::Relaxed) {
                match last.accept() {
                    Ok((mut stream, _)) => {
                        let _ = stream.write_all(b"ok");
                        of_all.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => std::thread::sleep(Duration::from_micros(200)),
                }
            }
        });
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        asked.fetch_add(1, Ordering::Relaxed);
                        if ask().is_err() {
                            lost.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        for (stop, server) in servers {
            // Some load between two closings, however slow the machine is.
            let seen = asked.load(Ordering::Relaxed);
            let deadline = Instant::now() + PATIENCE;
            while asked.load(Ordering::Relaxed) < seen + 50 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            stop.store(true, Ordering::Relaxed);
            server.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
        stop_last.store(true, Ordering::Relaxed);
    });
    let asked = asked.into_inner();
    println!("{asked} connections, {} closings", MEMBERS - 1);
    assert!(asked >= 50 * (MEMBERS - 1));
    assert_eq!(lost.into_inner(), 0, "of {asked}");
}

#[test]
fn positions_are_right_after_members_left_at_once() {
    let mut members = sameport::bind_udp_n("127.0.0.1:0", 24).unwrap();
    let to = members.local_addr();
    // Half of them withdraw, and three quarters leave, in any sequence.
    std::thread::scope(|scope| {
        for number in 0..18 {
            let member = members.remove(number % 5).unwrap();
            scope.spawn(move || {
                if number % 3 != 0 {
                    member.withdraw().unwrap();
                }
                drop(member);
            });
        }
    });
    assert_eq!(members.len(), 6);
    let counts = datagrams(&all(&members), to, 96);
    assert!(counts.iter().all(|&count| count >= 4), "{counts:?}");
    for index in (0..6).rev().take(5) {
        let leaving = members.remove(index).unwrap();
        leaving.withdraw().unwrap();
        let present: Vec<_> = members.iter().chain([&leaving]).collect();
        let counts = datagrams(&present, to, 32);
        assert_eq!(counts.last(), Some(&0), "{counts:?}");
    }
}

#[test]
fn a_large_set_leaves_member_by_member() {
    let mut members = sameport::listen_n("127.0.0.1:0", 300).unwrap();
    let to = members.local_addr();
    // More withdrawn members than one byte of a jump could skip.
    let leaving: Vec<_> = (0..298).map(|_| members.remove(1).unwrap()).collect();
    for member in &leaving {
        member.withdraw().unwrap();
    }
    let counts = connections(&all(&members), to, 64);
    assert!(counts.iter().all(|&count| count >= 8), "{counts:?}");
    drop(leaving);
    let counts = connections(&all(&members), to, 64);
    assert!(counts.iter().all(|&count| count >= 8), "{counts:?}");
}
