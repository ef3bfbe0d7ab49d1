//! UDP: flows that stay while members come and go, and connection ids.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;

use sameport_policy::model::{Address, Protocol};
use sameport_policy::traffic::facts::{SocketId, TrafficFacts, TrafficMember};
use sameport_policy::traffic::model::{SteeringTier, TrafficPolicy, TrafficRules};
use sameport_policy::traffic::plan::{TrafficPlan, decide};
use socket2::{Domain, Socket, Type};

use super::tests::in_netns;
use super::*;
use crate::netns::own_cookie;
use crate::socket::worker_socket::WorkerSocket;

/// A member of a group of UDP, in this process.
struct Receiver {
    socket: UdpSocket,
    worker: WorkerSocket,
    id: SocketId,
    admitted: bool,
}

fn receiver(address: &str) -> Receiver {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.bind(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let worker = WorkerSocket::from_fd(socket.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let id = SocketId { inode: worker.inode(), cookie: Some(worker.cookie().unwrap()) };
    Receiver { socket: socket.into(), worker, id, admitted: true }
}

fn plan(policy: TrafficPolicy, receivers: &[Receiver]) -> TrafficPlan {
    let members = receivers.iter().map(|it| {
        let socket = it.socket.local_addr().unwrap();
        let address = Address { protocol: Protocol::Udp, socket, device: None, v6only: true };
        TrafficMember { admitted: it.admitted, ..TrafficMember::new(it.id, address) }
    });
    let facts = TrafficFacts::new(Protocol::Udp, members.collect());
    let rules = TrafficRules { connection_ids: true, ..TrafficRules::new(policy) };
    decide(&facts, &rules, SteeringTier::Extended).unwrap()
}

fn install(policy: TrafficPolicy, port: u16, receivers: &[Receiver]) -> TrafficState {
    let key = TrafficKey { netns: own_cookie().unwrap(), protocol: Protocol::Udp, port };
    let plan = plan(policy, receivers);
    let sockets: Vec<_> = receivers.iter().map(|it| &it.worker).collect();
    let order = TrafficOrder { record: "{}", plan: &plan, sockets: &sockets };
    TrafficState::install(key, order, false).unwrap()
}

/// Makes the plan of the receivers hold.
fn apply(state: &TrafficState, policy: TrafficPolicy, receivers: &[Receiver]) {
    let sockets: Vec<_> = receivers.iter().map(|it| &it.worker).collect();
    state.apply(&plan(policy, receivers), &sockets).unwrap();
}

/// The receiver of one datagram. On the loopback interface it is there when the call returns.
fn receiver_of(client: &UdpSocket, datagram: &[u8], receivers: &[Receiver]) -> SocketId {
    client.send(datagram).unwrap();
    let has_it = |it: &&Receiver| it.socket.recv(&mut [0; 64]).is_ok();
    receivers.iter().find(has_it).expect("a receiver").id
}

fn clients(count: usize, to: &str) -> Vec<UdpSocket> {
    let from = if to.starts_with('[') { "[::1]:0" } else { "127.0.0.1:0" };
    let client = |_| {
        let client = UdpSocket::bind(from).unwrap();
        client.connect(to).unwrap();
        client
    };
    (0..count).map(client).collect()
}

/// A packet of QUIC with this socket's name in its id: with a short header, or the first one.
fn quic(first: bool, id: SocketId) -> Vec<u8> {
    let mut packet = match first {
        true => vec![0xC0, 0, 0, 0, 1, 8, 0],
        false => vec![0x40, 0],
    };
    packet.extend(id.name().unwrap().to_be_bytes());
    packet.extend([9; 24]);
    packet
}

/// The first packet of a connection, with an id that the client has made up.
fn opening() -> Vec<u8> {
    quic(true, SocketId { inode: 0, cookie: Some(0xFFFF_FFFF) })
}

#[test]
fn a_flow_keeps_its_member_while_others_come_and_go() {
    in_netns("traffic-flows", || {
        for (address, port) in [("127.0.0.1:33500", 33500), ("[::1]:33501", 33501)] {
            let mut receivers: Vec<_> = (0..4).map(|_| receiver(address)).collect();
            let state = install(TrafficPolicy::RoundRobin, port, &receivers);
            let clients = clients(40, address);
            let before: Vec<_> =
                clients.iter().map(|it| receiver_of(it, b"first", &receivers)).collect();
            for member in &receivers {
                let chosen = before.iter().filter(|it| **it == member.id).count();
                assert!((5..=15).contains(&chosen), "{chosen} of 40");
            }
            let check = |receivers: &[Receiver], what: &str| {
                for (client, before) in clients.iter().zip(&before) {
                    let now = receiver_of(client, b"next", receivers);
                    let lives = receivers.iter().any(|it| it.id == *before);
                    assert!(!lives || now == *before, "{what}");
                }
            };
            check(&receivers, "the same members");
            receivers.push(receiver(address));
            apply(&state, TrafficPolicy::RoundRobin, &receivers);
            check(&receivers, "one more");
            receivers[0].admitted = false;
            apply(&state, TrafficPolicy::RoundRobin, &receivers);
            check(&receivers, "one gets nothing new");
            let drained = receivers[0].id;
            for client in self::clients(20, address) {
                assert_ne!(receiver_of(&client, b"new", &receivers), drained);
            }
            receivers.remove(1);
            check(&receivers, "one is closed");
            let snapshot = state.snapshot();
            assert_eq!((snapshot.members.len(), snapshot.missed), (4, 0));
            let sockets: Vec<_> = receivers.iter().map(|it| &it.worker).collect();
            state.remove(&sockets).unwrap();
        }
    });
}

#[test]
fn a_connection_id_names_its_member() {
    in_netns("traffic-ids", || {
        let address = "127.0.0.1:33502";
        let mut receivers: Vec<_> = (0..4).map(|_| receiver(address)).collect();
        let state = install(TrafficPolicy::Sticky, 33502, &receivers);
        receivers[0].admitted = false;
        apply(&state, TrafficPolicy::Sticky, &receivers);
        for client in clients(20, address) {
            for target in receivers.iter().map(|it| it.id) {
                for first in [false, true] {
                    assert_eq!(receiver_of(&client, &quic(first, target), &receivers), target);
                }
            }
            let policy = receiver_of(&client, &opening(), &receivers);
            assert_ne!(policy, receivers[0].id);
            // Too short for an id, and ids that name nobody: the flow.
            let unnamed = SocketId { inode: 0, cookie: Some(0xFFFF_FFF0) };
            for datagram in [&b"?"[..], &[], &[0x40; 10], &quic(false, unnamed)] {
                assert_eq!(receiver_of(&client, datagram, &receivers), policy);
            }
        }
        // The name of a closed socket names nobody.
        let gone = receivers.pop().unwrap().id;
        for client in clients(8, address) {
            receiver_of(&client, &quic(false, gone), &receivers);
        }
        assert_eq!(state.snapshot().members.len(), 3);
        let sockets: Vec<_> = receivers.iter().map(|it| &it.worker).collect();
        state.remove(&sockets).unwrap();
    });
}
