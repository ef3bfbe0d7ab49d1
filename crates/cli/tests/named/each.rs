//! `--each`: a port for each worker, beside the shared one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::harness::named_run::{NamedRun, RunSetup, connect, request_over, while_clients_served};
use crate::harness::{
    User, eventually, executable, find_program, free_port, kill, skip, start_run,
};

/// Answers on both ports with its pid and the port that it asked for.
const SERVER: &str = r#"#!/usr/bin/env python3
import os, signal, socket, sys, threading
def serve(asked):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", asked))
    listener.listen(16)
    while True:
        client, _ = listener.accept()
        client.recv(1000)
        client.sendall(b"HTTP/1.0 200 OK\r\n\r\n%d %d" % (os.getpid(), asked))
        client.close()
for asked in map(int, sys.argv[1:]):
    threading.Thread(target=serve, args=[asked], daemon=True).start()
signal.pause()
"#;

/// A port at which as many follow that are free too.
fn ports(count: u16) -> u16 {
    let is_free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let first = eventually(|| {
        Some(free_port()).filter(|first| (0..count).all(|more| is_free(first + more)))
    });
    first.unwrap()
}

fn has_python(test: &str) -> bool {
    let found = find_program("python3").is_some();
    if !found {
        skip(test, "no python3");
    }
    found
}

fn answer(port: u16) -> std::io::Result<String> {
    connect(SocketAddr::from(([127, 0, 0, 1], port))).and_then(request_over)
}

/// The pid of each worker, by ordinal.
fn pids(run: &NamedRun) -> BTreeMap<u16, i64> {
    let status = run.status();
    let workers = status["workers"].as_array().unwrap().iter();
    let number = |value: &serde_json::Value| value.as_i64().unwrap();
    workers.map(|it| (number(&it["worker"]).try_into().unwrap(), number(&it["pid"]))).collect()
}

#[track_caller]
fn assert_each(run: &NamedRun, first: u16, workers: u16) {
    run.wait_for_ready(workers.into());
    let pids = pids(run);
    for (ordinal, pid) in &pids {
        let port = first + ordinal - 1;
        let found = eventually(|| {
            let found = answer(port).ok()?;
            (found == format!("{pid} {first}")).then_some(())
        });
        assert!(
            found.is_some(),
            "{port}: {:?} {pids:?}\n{}",
            answer(port),
            run.supervisor.stderr()
        );
    }
}

/// Worker k answers on the k-th port, after a restart, a crash, a `reexec` and a `scale`.
#[test]
fn each_worker_keeps_its_port() {
    if !has_python("each_worker_keeps_its_port") {
        return;
    }
    let server = executable("each-server", SERVER);
    for user in User::all() {
        let first = ports(4);
        let setup = RunSetup::new(*user);
        // `--port` limits what is shared between workers, not the ports of each.
        let shared = setup.port.to_string();
        let options = ["-n", "3", "--port", &shared, "--each", &first.to_string()];
        let run = setup.run(&options, &[server.to_str().unwrap(), "{port}", &first.to_string()]);
        assert_each(&run, first, 3);
        // The port of one worker answers all the time.
        let second = SocketAddr::from(([127, 0, 0, 1], first + 1));
        while_clients_served(&run, second, || run.verb("restart", &[]));
        assert_each(&run, first, 3);
        let crashed = pids(&run)[&2];
        kill(crashed.try_into().unwrap(), libc::SIGKILL);
        run.supervisor.wait_for_stderr("has ended: killed by SIGKILL");
        assert_each(&run, first, 3);
        run.verb("reexec", &[]);
        run.verb("scale", &["4"]);
        assert_each(&run, first, 4);
        let status = run.verb("status", &[]).stdout;
        assert!(status.contains(&format!("127.0.0.1:{}", first + 3)), "{status}");
        run.verb("scale", &["2"]);
        assert_each(&run, first, 2);
        // No worker uses the ports of the workers that have ended.
        let gone = eventually(|| {
            let status = run.verb("status", &[]).stdout;
            let is_held = |port: u16| status.contains(&format!("127.0.0.1:{port}"));
            (!is_held(first + 2) && !is_held(first + 3)).then_some(())
        });
        assert!(gone.is_some(), "{}", run.verb("status", &[]).stdout);
        run.stop();
    }
}

/// A run grows only as far as there are ports.
#[test]
fn scale_is_refused_above_the_last_port() {
    let run = RunSetup::new(User::Current).run(&["--each", "65535"], &["sleep", "60"]);
    let refused = run.try_verb("scale", &["2"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("--each 65535"), "{refused:?}");
    assert_eq!(run.status()["workers"].as_array().unwrap().len(), 1);
    run.stop();
}

/// Plain runs have ordinals too, by each interposer that can tell workers apart.
#[test]
fn each_copy_of_a_plain_run_has_a_port() {
    if !has_python("each_copy_of_a_plain_run_has_a_port") {
        return;
    }
    let server = executable("each-server", SERVER);
    for via in ["seccomp", "preload"] {
        let (shared, first) = (free_port(), ports(3));
        let options = ["-n", "3", "--via", via, "--each", &first.to_string()];
        let (shared_text, each) = (shared.to_string(), first.to_string());
        let command = [server.to_str().unwrap(), &shared_text, &each];
        let run = start_run(User::Current, &options, &command);
        let answers: Vec<String> = (first..first + 3)
            .map(|port| eventually(|| answer(port).ok()).unwrap_or_else(|| panic!("{via} {port}")))
            .collect();
        let pids: std::collections::BTreeSet<_> = answers.iter().collect();
        assert_eq!(pids.len(), 3, "{via}: {answers:?}");
        assert!(answer(shared).unwrap().ends_with(&format!(" {shared}")));
        run.terminate();
    }
}
