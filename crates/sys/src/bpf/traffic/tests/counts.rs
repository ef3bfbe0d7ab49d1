//! Counts of connections, against the kernel's own list.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use super::*;
use crate::netlink::list_established;

const ADDRESS: &str = "127.0.0.1:31002";
const PORT: u16 = 31002;

/// What `ss` says of the port: ESTABLISHED and CLOSE-WAIT, accepted or not.
fn listed() -> usize {
    list_established(&BTreeSet::from([PORT])).unwrap().len()
}

fn counted(state: &TrafficState) -> usize {
    state.snapshot().members.iter().map(|it| usize::try_from(it.open).unwrap()).sum()
}

/// A processor that is busy handles the last segment later, between the two lists.
fn assert_agree(state: &TrafficState, context: usize) {
    let agree = || counted(state) == listed();
    let waited = (0..1000).any(|_| {
        agree() || {
            std::thread::sleep(Duration::from_millis(5));
            false
        }
    });
    assert!(waited, "{context}: counted {}, listed {}", counted(state), listed());
}

fn reset(connection: Connection) {
    socket2::SockRef::from(&connection._client).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn counts_follow_every_end_of_a_connection() {
    in_netns("traffic-counts", || {
        let listeners: Vec<_> = (0..3).map(|_| listener(ADDRESS)).collect();
        let state = install(&plan(TrafficPolicy::Random, &listeners), PORT, &listeners);
        let mut open = keep(ADDRESS, 60, &listeners);
        let per_member: Vec<_> =
            state.snapshot().members.iter().map(|it| usize::try_from(it.open).unwrap()).collect();
        assert_eq!(per_member, by_member(&open, &listeners));
        let mut half_closed = Vec::new();
        for (turn, mut connection) in open.drain(..40).enumerate() {
            match turn % 4 {
                // The client ends: CLOSE-WAIT, which counts, and then nothing.
                0 => {
                    connection._client.shutdown(Shutdown::Write).unwrap();
                    half_closed.push(connection);
                }
                // The server ends: FIN-WAIT, which does not.
                1 => {
                    connection._server.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(connection._client.read(&mut [0]).unwrap(), 0);
                }
                2 => reset(connection),
                _ => {
                    connection._client.write_all(b"x").unwrap();
                    drop(connection);
                }
            }
            assert_agree(&state, turn);
        }
        assert_eq!(counted(&state), 30);
        // Connections that nobody has accepted count; one that was reset in the queue does not.
        let queued: Vec<_> = (0..10).map(|_| TcpStream::connect(ADDRESS).unwrap()).collect();
        assert_eq!((counted(&state), listed()), (40, 40));
        for client in queued {
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        }
        assert_eq!((counted(&state), listed()), (30, 30));
        drop((open, half_closed));
        assert_eq!((counted(&state), listed()), (0, 0));
        let pending: u32 = state.snapshot().members.iter().map(|it| it.pending).sum();
        assert_eq!(pending, 0);
        state.remove(&workers(&listeners)).unwrap();
    });
}

#[test]
fn connections_that_were_there_before_are_counted() {
    in_netns("traffic-existing", || {
        let listeners: Vec<_> = (0..2).map(|_| listener(ADDRESS)).collect();
        let mut open = keep(ADDRESS, 20, &listeners);
        let mut plan = plan(TrafficPolicy::LeastConnections, &listeners);
        plan.members[0].pid = Some(std::process::id().cast_signed());
        let state = install(&plan, PORT, &listeners);
        assert_eq!((counted(&state), listed()), (20, 20));
        // A second controller does not count them again.
        assert_eq!(state.count_existing().unwrap(), 0);
        // All were counted for the first: the second gets the next ones.
        let more = keep(ADDRESS, 10, &listeners);
        assert_eq!(by_member(&more, &listeners), [0, 10]);
        open.truncate(5);
        assert_eq!((counted(&state), listed()), (15, 15));
        drop((open, more));
        assert_eq!((counted(&state), listed()), (0, 0));
        state.remove(&workers(&listeners)).unwrap();
    });
}

#[test]
fn queued_connections_move_to_a_living_member_and_are_counted_there() {
    in_netns("traffic-migration", || {
        let mut listeners: Vec<_> = (0..3).map(|_| listener(ADDRESS)).collect();
        let mut plan = plan(TrafficPolicy::Random, &listeners);
        plan.members[1].admitted = false;
        plan.members[2].admitted = false;
        let state = install(&plan, PORT, &listeners);
        let mut clients: Vec<_> = (0..12).map(|_| TcpStream::connect(ADDRESS).unwrap()).collect();
        plan.members[1].admitted = true;
        state.apply(&plan, &[]).unwrap();
        let number = state.snapshot().members[1].number;
        listeners.remove(0).close();
        let members = state.snapshot().members;
        assert_eq!(members.iter().find(|it| it.number == number).unwrap().open, 12);
        assert_eq!((counted(&state), listed()), (12, 12));
        // Every one is served.
        listeners[0].socket.set_nonblocking(true).unwrap();
        for _ in 0..12 {
            let (server, _) = listeners[0].socket.accept().unwrap();
            server.send(b"!").unwrap();
        }
        for client in &mut clients {
            assert_eq!(client.read(&mut [0]).unwrap(), 1);
        }
        drop(clients);
        assert_eq!((counted(&state), listed()), (0, 0));
        state.remove(&workers(&listeners)).unwrap();
    });
}
