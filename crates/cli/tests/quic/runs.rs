//! `run --connection-id`, as every user: which connections survive a client that changes its port, and a
//! rolling restart.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use crate::client::QuicClient;
use crate::harness::named_run::RunSetup;
use crate::harness::{
    SOCKET_TIMEOUT, User, command_for, eventually, free_port, sameport, spawn_process,
};
use crate::server::{RANDOM_IDS, SERVES};

pub(crate) const CLIENTS: usize = 16;

/// The command of a worker.
pub(crate) fn server() -> [String; 4] {
    let program = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    [program, "--exact".to_owned(), "server::serves_quic".to_owned(), "--nocapture".to_owned()]
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

pub(crate) async fn connect(count: usize, to: SocketAddr) -> Vec<QuicClient> {
    let mut clients = vec![];
    for _ in 0..count {
        clients.push(QuicClient::connect(to).await.unwrap());
    }
    clients
}

pub(crate) fn pids(clients: &[QuicClient]) -> BTreeSet<i32> {
    clients.iter().map(|client| client.pid).collect()
}

/// The clients without an answer of their process within this time, after each has changed its port.
pub(crate) async fn lost(clients: &[QuicClient], limit: Duration) -> Vec<String> {
    let mut asked = tokio::task::JoinSet::new();
    for client in clients {
        client.migrate();
        let (client, pid) = (client.clone(), client.pid);
        asked.spawn(async move { (client.request_within(limit).await, pid) });
    }
    let mut lost = vec![];
    while let Some(answer) = asked.join_next().await {
        match answer.unwrap() {
            (Ok(pid), before) if pid == before => {}
            (other, before) => lost.push(format!("{other:?} instead of {before}")),
        }
    }
    lost
}

/// Four workers of a plain run with these options, and the loss of clients that change their port.
fn lost_by(user: User, address: &str, options: &[&str], random: bool, limit: Duration) -> usize {
    let to: SocketAddr = address.replace("{port}", &free_port().to_string()).parse().unwrap();
    let words = ["run", "-n", "4"].into_iter().chain(options.iter().copied()).chain(["--"]);
    let words: Vec<String> = words.map(str::to_owned).chain(server()).collect();
    let mut command = command_for(user, sameport(), &words);
    command.env(SERVES, to.to_string());
    if random {
        command.env(RANDOM_IDS, "1");
    }
    let run = spawn_process(command);
    let all = eventually(|| (run.stdout().matches("serves").count() == 4).then_some(()));
    assert!(all.is_some(), "{}", run.stderr());
    let lost = block_on(async {
        let clients = connect(CLIENTS, to).await;
        assert!(pids(&clients).len() > 1, "the policy gives every connection to one worker");
        let lost = lost(&clients, limit).await;
        println!("{options:?} {random}: {lost:?}");
        lost.len()
    });
    assert!(!run.stderr().contains("policy"), "{}", run.stderr());
    lost
}

#[test]
fn a_connection_that_changes_its_port_stays_with_its_worker() {
    for user in User::all() {
        assert_eq!(
            lost_by(*user, "127.0.0.1:{port}", &["--connection-id"], false, SOCKET_TIMEOUT),
            0
        );
    }
    let sticky = &["--policy", "random", "--connection-id"];
    assert_eq!(lost_by(User::Current, "[::1]:{port}", sticky, false, SOCKET_TIMEOUT), 0);
}

/// What the test above would find if it did nothing.
#[test]
fn without_connection_ids_such_connections_are_lost() {
    let limit = Duration::from_secs(2);
    for (options, random) in [(&["--policy", "random"][..], false), (&["--connection-id"], true)] {
        assert!(lost_by(User::Current, "127.0.0.1:{port}", options, random, limit) > 0);
    }
}

#[test]
fn in_a_rolling_restart_connections_stay_until_they_end() {
    let user = *User::all().last().unwrap();
    let setup = RunSetup::new(user);
    let (to, name) = (setup.address(), setup.name.clone());
    let mut command =
        setup.run_command(&["-n", "2", "--connection-id", "--grace", "10m"], &server());
    command.env(SERVES, to.to_string());
    let run = setup.start(command);
    let before = run.wait_for_ready(2);
    block_on(async {
        let clients = connect(CLIENTS, to).await;
        assert_eq!(pids(&clients), before);
        let restart = spawn_process(run.setup.command(&["restart", &name]));
        let after = eventually(|| {
            let status = run.status();
            let ready = status["workers"].as_array()?.iter().filter(|it| it["state"] == "ready");
            let pids: BTreeSet<i32> =
                ready.filter_map(|it| i32::try_from(it["pid"].as_i64()?).ok()).collect();
            (pids.len() == 2 && pids.is_disjoint(&before)).then_some(pids)
        });
        let after = after.unwrap_or_else(|| panic!("{}", run.supervisor.stderr()));
        for round in 0..3 {
            let lost = lost(&clients, SOCKET_TIMEOUT).await;
            assert!(lost.is_empty(), "round {round}: {lost:?}\n{}", run.supervisor.stderr());
        }
        let new = connect(CLIENTS, to).await;
        assert!(pids(&new).is_subset(&after), "{new:?} of {after:?}, not {before:?}");
        assert_eq!(lost(&new, SOCKET_TIMEOUT).await, [] as [String; 0]);
        for client in clients.into_iter().chain(new) {
            client.close().await;
        }
        assert_eq!(restart.wait().code, 0);
    });
    run.stop();
}
