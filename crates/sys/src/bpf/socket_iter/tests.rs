//! The iterator's records of sockets of this process.

#![expect(unsafe_code, reason = "unshare has no safe form")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::process::{Command, Stdio};

use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use sameport_policy::model::{SocketOptions, SocketState};
use sameport_policy::traffic::steering::OrderedGroup;
use socket2::{Domain, SockFilter, Socket, Type};

use super::*;
use crate::inspect::{SocketQuery, StateFilter, list_sockets, options};
use crate::int_hash::IntSet;
use crate::proc::fd_scan;
use crate::serial::{run_exclusive, run_shared};
use crate::socket::worker_access::SocketAccess;
use crate::socket::worker_socket::WorkerSocket;

const UNCONNECTED: IterFilter = IterFilter { states: 1 << 10 | 1 << 7, port: None, quickly: true };

/// Whether the walk works here; otherwise the test is skipped, and says so.
fn iterates(test: &str) -> bool {
    let Err(why) = crate::inspect::iterator_available() else { return true };
    crate::bpf::skip_test(test, &why);
    false
}

fn bound(kind: Type, address: &str, set: impl Fn(&Socket) -> io::Result<()>) -> Socket {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), kind, None).unwrap();
    set(&socket).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

fn inode(socket: impl AsFd) -> u64 {
    rustix::fs::fstat(socket).unwrap().st_ino
}

fn listening(kind: Type, address: &str, set: impl Fn(&Socket) -> io::Result<()>) -> Socket {
    let socket = bound(kind, address, set);
    socket.listen(8).unwrap();
    socket
}

fn shared(address: &str) -> Socket {
    listening(Type::STREAM, address, |socket| socket.set_reuse_port(true))
}

#[test]
fn the_walk_finds_what_proc_and_a_duplicate_show() {
    if !iterates("iterator-against-proc") {
        return;
    }
    let _alone = run_exclusive();
    let everything = [SockFilter::new(6, 0, 0, u32::MAX)];
    let sockets = [
        listening(Type::STREAM, "127.0.78.1:0", |_| Ok(())),
        shared("127.0.78.1:0"),
        shared("[::1]:0"),
        listening(Type::STREAM, "[::]:0", |socket| socket.set_reuse_address(true)),
        bound(Type::STREAM, "127.0.78.2:0", |_| Ok(())),
        bound(Type::DGRAM, "127.0.78.1:0", |socket| socket.set_reuse_port(true)),
        bound(Type::DGRAM, "[::]:0", |socket| socket.attach_filter(&everything)),
    ];
    let passed_on = Stdio::from(std::os::fd::OwnedFd::from(sockets[1].try_clone().unwrap()));
    let mut child = Command::new("sleep").arg("60").stdin(passed_on).spawn().unwrap();
    let wanted: IntSet<u64> = sockets.iter().map(inode).collect();

    let mut walked = walk(UNCONNECTED).unwrap();
    let scanned = fd_scan::scan_all(&wanted);
    let asked = options::read_options(&scanned.of, &[]);
    child.kill().unwrap();
    child.wait().unwrap();

    assert!(walked.holders.all_read);
    walked.holders.of.retain(|inode, _| wanted.contains(inode));
    assert_eq!(walked.holders.of, scanned.of);
    let pids: Vec<_> = scanned.of[&inode(&sockets[1])].iter().map(|holder| holder.pid).collect();
    assert!(pids.contains(&child.id().cast_signed()) && pids.len() == 2, "{pids:?}");
    assert_eq!(walked.names[&child.id().cast_signed()], "sleep");
    for pid in pids {
        // The walk tells of the first thread, and this test runs in another.
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", std::process::id())).unwrap();
        assert!(pid == child.id().cast_signed() || walked.names[&pid] == comm.trim_end());
    }
    for socket in &sockets {
        let inode = inode(socket);
        let SocketFacts { reuse_port, reuse_address, filter, position, group_program } =
            walked.facts[&inode];
        let found = SocketOptions { reuse_port, reuse_address, filter, ..SocketOptions::default() };
        assert_eq!(found, asked[&inode], "{socket:?}");
        // Who shares is in a group, be it alone.
        let first = GroupPosition { index: 0, of: 1, steered: false };
        assert_eq!(group_program, None);
        assert_eq!(position, reuse_port.then_some(first), "{socket:?}");
    }
}

#[test]
fn members_by_the_iterator_are_members_by_proc() {
    if !iterates("iterator-members") {
        return;
    }
    let _alone = run_exclusive();
    let socket = shared("127.0.78.3:0");
    let query =
        SocketQuery::everything().on(socket.local_addr().unwrap().as_socket().unwrap().port());
    let by_iterator = list_sockets(&query).unwrap();
    let by_proc = without_privilege(|| list_sockets(&query).unwrap());
    assert!(by_iterator.iterated && !by_proc.iterated);
    let mut expected = by_iterator.members;
    assert_eq!(expected.len(), 1, "{expected:?}");
    assert_eq!(expected[0].position, Some(GroupPosition { index: 0, of: 1, steered: false }));
    expected[0].position = None;
    assert_eq!(by_proc.members, expected);
}

/// In a thread that has given up what only root may.
fn without_privilege<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let unprivileged = || {
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, sets).unwrap();
        act()
    };
    std::thread::scope(|scope| scope.spawn(unprivileged).join().unwrap())
}

#[test]
fn without_privilege_there_is_no_walk() {
    let _beside = run_shared();
    let error = without_privilege(|| walk(UNCONNECTED).unwrap_err());
    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
}

#[test]
fn places_are_those_of_the_kernel() {
    if !iterates("iterator-places") {
        return;
    }
    let _alone = run_exclusive();
    let a = shared("127.0.78.4:0");
    let address = a.local_addr().unwrap().as_socket().unwrap().to_string();
    let [b, c, d] = [(); 3].map(|()| shared(&address));
    let place = |socket: &Socket| walk(UNCONNECTED).unwrap().facts[&inode(socket)].position;
    let at = |index, of, steered| Some(GroupPosition { index, of, steered });
    assert_eq!([&a, &b, &c, &d].map(place), [0, 1, 2, 3].map(|index| at(index, 4, false)));
    // The last one takes the place of the one that is gone.
    drop(b);
    assert_eq!([&a, &d, &c].map(place), [0, 1, 2].map(|index| at(index, 3, false)));
    let mut order = OrderedGroup::default();
    "adc".chars().for_each(|id| order.join(id));
    let Ok(SocketAccess::Socket(one)) = WorkerSocket::from_thread(own_pid(), c.as_raw_fd()) else {
        panic!()
    };
    one.steer(&order.program(|id| *id == 'a').unwrap()).unwrap();
    assert_eq!([&a, &d, &c].map(place), [0, 1, 2].map(|index| at(index, 3, true)));
    // More than are compared at a time, and more than the kernel first has room for.
    let more: Vec<_> = (3..200).map(|_| shared(&address)).collect();
    let found = walk(UNCONNECTED).unwrap();
    for (index, socket) in (3..).zip(&more) {
        assert_eq!(found.facts[&inode(socket)].position, at(index, 200, true));
    }
}

#[test]
fn every_member_of_a_group_beyond_the_short_search_has_a_position() {
    if !iterates("iterator-long-group") {
        return;
    }
    let _alone = run_exclusive();
    let first = shared("127.0.78.11:0");
    let address = first.local_addr().unwrap().as_socket().unwrap().to_string();
    let others = (0..SEARCH + 8).map(|_| shared(&address));
    let sockets: Vec<_> = [first].into_iter().chain(others.collect::<Vec<_>>()).collect();
    let facts = walk(UNCONNECTED).unwrap().facts;
    let indexes: Vec<_> =
        sockets.iter().map(|socket| facts[&inode(socket)].position.unwrap().index).collect();
    assert_eq!(indexes, (0..SEARCH + 9).collect::<Vec<_>>());
}

#[test]
fn states_and_port_are_chosen_in_the_kernel() {
    if !iterates("iterator-choice") {
        return;
    }
    let _alone = run_exclusive();
    let listener = shared("127.0.78.5:0");
    let address = listener.local_addr().unwrap();
    let port = address.as_socket().unwrap().port();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.connect(&address).unwrap();
    let (server, _) = listener.accept().unwrap();
    let found = |states, port| {
        let facts = walk(IterFilter { states, port, quickly: false }).unwrap().facts;
        [&listener, &client, &server].map(|socket| facts.contains_key(&inode(socket)))
    };
    assert_eq!(found(1 << 10, None), [true, false, false]);
    assert_eq!(found(1 << 1, None), [false, true, true]);
    assert_eq!(found(u32::MAX, None), [true, true, true]);
    assert_eq!(found(u32::MAX, Some(port)), [true, false, true]);
    assert_eq!(found(0, None), [false, false, false]);
}

#[test]
fn a_socket_that_lost_its_connection_and_kept_its_port_is_found_by_a_second_walk() {
    let query = SocketQuery::everything().in_states(StateFilter::Unconnected);
    if !iterates("iterator-lost-connection") || !list_sockets(&query).unwrap().bound {
        return;
    }
    let _alone = run_exclusive();
    let listener = shared("127.0.78.8:0");
    // Only a port that was asked for is kept.
    let free = bound(Type::STREAM, "127.0.78.9:0", |_| Ok(())).local_addr().unwrap();
    let client = bound(Type::STREAM, &free.as_socket().unwrap().to_string(), |_| Ok(()));
    client.connect(&listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(server);
    // The reset has arrived: loopback hands it over within `close`.
    let inode = inode(&client);
    assert!(!walk(UNCONNECTED).unwrap().facts.contains_key(&inode));

    let port = client.local_addr().unwrap().as_socket().unwrap().port();
    let seen = list_sockets(&query.on(port)).unwrap();
    let member = seen.members.iter().find(|member| member.socket.inode == inode).unwrap();
    assert_eq!(member.socket.state, SocketState::Bound);
    assert_eq!(member.processes.iter().map(|it| it.pid).collect::<Vec<_>>(), [own_pid()]);
    assert!(seen.iterated);
}

#[test]
fn another_network_namespace_is_another_world() {
    if !iterates("iterator-network") {
        return;
    }
    let _alone = run_exclusive();
    let outside = inode(shared("127.0.0.1:0"));
    let own = shared("127.0.0.1:0");
    let (inside, seen_inside) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            // SAFETY: the thread ends in its new network namespace; descriptors stay shared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
            // Nothing is up there: the wildcard is an address all the same.
            let inside = shared("0.0.0.0:0");
            let seen = walk(UNCONNECTED).unwrap().facts;
            (inside, seen)
        });
        other.join().unwrap()
    });
    let seen = walk(UNCONNECTED).unwrap().facts;
    assert!(seen_inside.contains_key(&inode(&inside)) && !seen_inside.contains_key(&inode(&own)));
    assert!(seen.contains_key(&inode(&own)) && !seen.contains_key(&inode(&inside)));
    // Closed.
    assert!(!seen.contains_key(&outside));
}

const CHILD: &str = "SAMEPORT_TEST_WALK";

/// Not a test of its own: what the next one starts in another pid namespace.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let socket = shared("127.0.78.6:0");
    let said = match walk(UNCONNECTED) {
        Ok(found) => {
            let holders = &found.holders.of[&inode(&socket)];
            let own = holders.iter().all(|it| it.pid.cast_unsigned() == std::process::id());
            format!("own {own} small {} all {}", std::process::id() < 10, found.facts.len() > 1)
        }
        Err(error) => format!("error {:?}", error.raw_os_error()),
    };
    let _ = writeln!(std::io::stdout(), "\nCHILD {said}");
}

#[test]
fn processes_have_their_numbers_of_our_pid_namespace() {
    if !iterates("iterator-pids") {
        return;
    }
    let _alone = run_exclusive();
    let _outside = shared("127.0.78.7:0");
    let inside = |options: &[&str]| {
        let output = Command::new("unshare")
            .args(["--pid", "--fork"])
            .args(options)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "bpf::socket_iter::tests::child", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let said = stdout.lines().find_map(|line| line.strip_prefix("CHILD ")).map(str::to_owned);
        said.unwrap_or(stdout)
    };
    // What is outside is not seen from there, as in its /proc.
    assert_eq!(inside(&["--mount-proc"]), "own true small true all false");
    // A /proc that numbers them otherwise: no walk.
    let not_here = format!("error {:?}", Some(libc::EOPNOTSUPP));
    assert_eq!(inside(&[]), not_here);
}
