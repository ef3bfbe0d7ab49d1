//! States of real groups, in network namespaces of the tests.

#![expect(unsafe_code, reason = "unshare has no safe form")]

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::thread::UnshareFlags;
use sameport_policy::model::{Address, Protocol};
use sameport_policy::traffic::facts::{SocketId, TrafficFacts, TrafficMember};
use sameport_policy::traffic::model::{SteeringTier, TrafficPolicy, TrafficRules};
use sameport_policy::traffic::plan::{TrafficPlan, decide};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::netns::own_cookie;
use crate::serial::run_shared;
use crate::socket::worker_socket::WorkerSocket;

/// Runs in a thread with a network namespace of its own, whose loopback interface is up.
pub(super) fn in_netns<T: Send>(test: &str, act: impl FnOnce() -> T + Send) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        crate::bpf::skip_test(test, &"not root");
        return None;
    }
    let inside = || {
        // SAFETY: the thread ends in its new network namespace; descriptors stay shared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        {
            let _turn = run_shared();
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
        }
        act()
    };
    let result = std::thread::scope(|scope| scope.spawn(inside).join());
    Some(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// A member of a group, in this process. Its sockets on several addresses are one member.
struct Listener {
    socket: Socket,
    worker: WorkerSocket,
    cookie: u64,
}

fn listener(address: &str) -> Listener {
    let listener = bound(address);
    listener.socket.listen(4096).unwrap();
    listener
}

/// The same before it listens.
fn bound(address: &str) -> Listener {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.bind(&address.into()).unwrap();
    let worker = WorkerSocket::from_fd(socket.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let cookie = worker.cookie().unwrap();
    Listener { socket, worker, cookie }
}

fn key(port: u16) -> TrafficKey {
    TrafficKey { netns: own_cookie().unwrap(), protocol: Protocol::Tcp, port }
}

impl Listener {
    fn id(&self) -> SocketId {
        SocketId { inode: self.worker.inode(), cookie: Some(self.cookie) }
    }

    fn close(self) {
        drop((self.socket, self.worker));
    }
}

/// Every listener is a member.
fn plan(policy: TrafficPolicy, listeners: &[Listener]) -> TrafficPlan {
    let members = listeners.iter().map(|it| {
        let socket = it.socket.local_addr().unwrap().as_socket().unwrap();
        let address = Address { protocol: Protocol::Tcp, socket, device: None, v6only: true };
        TrafficMember::new(it.id(), address)
    });
    let facts = TrafficFacts::new(Protocol::Tcp, members.collect());
    let mut plan = decide(&facts, &TrafficRules::new(policy), SteeringTier::Extended).unwrap();
    // In the order of the listeners.
    plan.members
        .sort_by_key(|member| listeners.iter().position(|it| member.sockets.contains(&it.id())));
    plan
}

fn workers(listeners: &[Listener]) -> Vec<&WorkerSocket> {
    listeners.iter().map(|it| &it.worker).collect()
}

fn install(plan: &TrafficPlan, port: u16, listeners: &[Listener]) -> TrafficState {
    let sockets = workers(listeners);
    TrafficState::install(key(port), TrafficOrder { record: "{}", plan, sockets: &sockets }, false)
        .unwrap()
}

/// A connection and the index of the listener that it went to.
struct Connection {
    _client: TcpStream,
    _server: Socket,
    member: usize,
}

fn connect_from(from: &str, to: &str, listeners: &[Listener]) -> Connection {
    let to: SocketAddr = to.parse().unwrap();
    let client = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    client.set_reuse_address(true).unwrap();
    let from: SocketAddr = from.parse().unwrap();
    client.bind(&from.into()).unwrap();
    client.connect(&to.into()).unwrap();
    accepted(client.into(), listeners)
}

/// Loopback finishes the handshake within `connect`, so the connection is in a queue.
fn accepted(client: TcpStream, listeners: &[Listener]) -> Connection {
    let mut found = listeners.iter().enumerate().filter_map(|(member, it)| {
        it.socket.set_nonblocking(true).unwrap();
        Some((member, it.socket.accept().ok()?.0))
    });
    let (member, server) = found.next().expect("no member has it");
    Connection { _client: client, _server: server, member }
}

/// Opens this many connections, one after the other, each closed by a reset before the next.
fn connect(to: &str, times: usize, listeners: &[Listener]) -> Vec<usize> {
    let mut counts = vec![0; listeners.len()];
    for _ in 0..times {
        let connection = accepted(TcpStream::connect(to).unwrap(), listeners);
        counts[connection.member] += 1;
        let client = socket2::SockRef::from(&connection._client);
        client.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
    counts
}

/// Opens this many connections, which stay open.
fn keep(to: &str, times: usize, listeners: &[Listener]) -> Vec<Connection> {
    (0..times).map(|_| accepted(TcpStream::connect(to).unwrap(), listeners)).collect()
}

fn by_member(connections: &[Connection], listeners: &[Listener]) -> Vec<usize> {
    let of = |member| connections.iter().filter(|it| it.member == member).count();
    (0..listeners.len()).map(of).collect()
}

/// Whether these are counts of independent draws with these weights: within five standard deviations, which
/// one in a million is not.
#[track_caller]
fn assert_drawn(counts: &[usize], weights: &[u32]) {
    let (total, sum) = (counts.iter().sum::<usize>(), weights.iter().sum::<u32>());
    for (count, weight) in counts.iter().zip(weights) {
        let [count, total] = [*count, total].map(|n| f64::from(u32::try_from(n).unwrap()));
        let share = f64::from(*weight) / f64::from(sum);
        let deviation = (total * share * (1.0 - share)).sqrt();
        assert!((count - total * share).abs() <= 5.0 * deviation, "{counts:?} of {weights:?}");
    }
}

#[test]
fn random_and_two_choices_choose_members_and_a_newcomer_is_adopted() {
    in_netns("traffic-first", || {
        let address = "127.0.0.1:31000";
        let mut listeners: Vec<_> = (0..3).map(|_| listener(address)).collect();
        for policy in [TrafficPolicy::Random, TrafficPolicy::TwoChoices] {
            let plan = plan(policy, &listeners);
            let state = install(&plan, 31000, &listeners);
            let counts = connect(address, 300, &listeners);
            assert!(counts.iter().all(|count| *count > 50), "{policy:?}: {counts:?}");
            assert_eq!(state.snapshot().missed, 0);
        }
        // Nobody tells the state of it.
        listeners.push(listener(address));
        let counts = connect(address, 400, &listeners);
        let state = TrafficState::find(key(31000)).unwrap().unwrap();
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
        assert_eq!(state.snapshot().members.len(), 4);
        listeners.remove(0).close();
        let counts = connect(address, 300, &listeners);
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
        assert_eq!((state.snapshot().members.len(), state.snapshot().missed), (3, 0));
        let sockets = workers(&listeners);
        state.remove(&sockets).unwrap();
        assert!(TrafficState::find(key(31000)).unwrap().is_none());
    });
}

mod changes;
mod counts;
mod failures;
mod layouts;
mod policies;
mod queues;
