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

/// A member of a group, in this process.
struct Listener {
    socket: Socket,
    worker: WorkerSocket,
    cookie: u64,
}

fn listener(address: &str) -> Listener {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.bind(&address.into()).unwrap();
    socket.listen(4096).unwrap();
    let worker = WorkerSocket::from_fd(socket.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let cookie = worker.cookie().unwrap();
    Listener { socket, worker, cookie }
}

fn key(port: u16) -> TrafficKey {
    TrafficKey { netns: own_cookie().unwrap(), protocol: Protocol::Tcp, port }
}

fn plan(policy: TrafficPolicy, listeners: &[Listener]) -> TrafficPlan {
    let members = listeners.iter().map(|it| {
        let id = SocketId { inode: it.worker.inode(), cookie: Some(it.cookie) };
        let socket = it.socket.local_addr().unwrap().as_socket().unwrap();
        let address = Address { protocol: Protocol::Tcp, socket, device: None, v6only: true };
        TrafficMember::new(id, address)
    });
    let facts = TrafficFacts::new(Protocol::Tcp, members.collect());
    decide(&facts, &TrafficRules::new(policy), SteeringTier::Extended).unwrap()
}

fn install(plan: &TrafficPlan, port: u16, listeners: &[Listener]) -> TrafficState {
    let sockets: Vec<_> = listeners.iter().map(|it| &it.worker).collect();
    TrafficState::install(key(port), TrafficOrder { record: "{}", plan, sockets: &sockets }, false)
        .unwrap()
}

/// Opens this many connections, one after the other, and counts those of each listener, which stay open.
fn connect(to: &str, times: usize, listeners: &[Listener]) -> Vec<usize> {
    let mut counts = vec![0; listeners.len()];
    for it in listeners {
        it.socket.set_nonblocking(true).unwrap();
    }
    for _ in 0..times {
        let client = TcpStream::connect(to).unwrap();
        let taker = listeners.iter().position(|it| it.socket.accept().is_ok()).unwrap();
        counts[taker] += 1;
        drop(client);
    }
    counts
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
        listeners.remove(0);
        let counts = connect(address, 300, &listeners);
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
        assert_eq!((state.snapshot().members.len(), state.snapshot().missed), (3, 0));
        let sockets: Vec<_> = listeners.iter().map(|it| &it.worker).collect();
        state.remove(&sockets).unwrap();
        assert!(TrafficState::find(key(31000)).unwrap().is_none());
    });
}
