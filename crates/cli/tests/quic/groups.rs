//! `steer PORT/udp --connection-id`, as root: programs that sameport did not start.

use std::net::SocketAddr;

use crate::client::QuicClient;
use crate::harness::{
    Process, SOCKET_TIMEOUT, User, command_for, free_port, is_root, sameport, skip, spawn_process,
};
use crate::runs::{CLIENTS, block_on, connect, lost, pids, server};
use crate::server::{SERVES, SHARES};

/// `sameport` with these arguments, which must succeed.
#[track_caller]
fn succeeds(words: &[&str]) -> String {
    let exited = spawn_process(command_for(User::Current, sameport(), words)).wait();
    assert_eq!(exited.code, 0, "{words:?}: {exited:?}");
    exited.stdout
}

/// A server that binds with SO_REUSEPORT itself.
fn start(to: SocketAddr) -> Process {
    let [program, words @ ..] = server();
    let mut command = command_for(User::Current, program, &words);
    command.env(SERVES, to.to_string()).env(SHARES, "1");
    let process = spawn_process(command);
    process.wait_for_stdout("serves");
    process
}

#[test]
fn connections_of_any_program_stay_while_the_group_changes() {
    let name = "quic-groups";
    if !is_root() {
        return skip(name, "needs root: eBPF");
    }
    let to: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let port = format!("{}/udp", to.port());
    let mut servers = vec![start(to), start(to)];
    succeeds(&["steer", &port, "random", "--connection-id"]);
    block_on(async {
        let clients = connect(CLIENTS, to).await;
        assert_eq!(pids(&clients).len(), 2);
        servers.push(start(to));
        // A datagram socket joins the choices by the next command.
        succeeds(&["steer", &port, "random", "--connection-id"]);
        let before = lost(&clients, SOCKET_TIMEOUT).await;
        assert!(before.is_empty(), "a member has joined: {before:?}");
        // The first one gets nothing new, and keeps its connections.
        let first = servers[0].pid();
        succeeds(&["drain", &port, &first.to_string()]);
        let new = connect(CLIENTS, to).await;
        assert!(!pids(&new).contains(&first) && pids(&new).len() == 2, "{new:?}, not {first}");
        let drained = lost(&clients, SOCKET_TIMEOUT).await;
        assert!(drained.is_empty(), "a member is drained: {drained:?}");
        // One leaves with its own connections only.
        let last = servers.pop().unwrap();
        let (gone, stay): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|client| client.pid == last.pid());
        last.signal(libc::SIGKILL);
        last.wait();
        let left: Vec<QuicClient> = clients.into_iter().chain(stay).collect();
        let lost = lost(&left, SOCKET_TIMEOUT).await;
        assert!(lost.is_empty() && !gone.is_empty(), "a member has ended: {lost:?}");
    });
    let status = succeeds(&["steer", &port, "--json"]);
    assert!(status.contains("\"connection_ids\":true"), "{status}");
    succeeds(&["steer", &port, "off"]);
}
