//! Workers that misbehave: the supervisor survives each, other workers serve, and a message names
//! the worker.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::named_run::{
    NamedRun, RunSetup, connect, queue_reaches_next_worker, responder, rogue_command, send_request,
    while_clients_served,
};
use crate::harness::{User, descendants, eventually, find_program, skip};

/// Sends requests to both workers until worker 2 answers one.
#[track_caller]
fn assert_other_worker_serves(run: &NamedRun) {
    let other = run.wait_for_worker(2).to_string();
    let mut clients: Vec<(TcpStream, String)> = Vec::new();
    let mut attempts = 0;
    let answered = eventually(|| {
        // All of the first clients can be in the queue of worker 1, if worker 2 listens later.
        attempts += 1;
        for _ in clients.len()..(24 + attempts / 20).min(100) {
            let client = send_request(connect(run.setup.address()).ok()?);
            client.set_read_timeout(Some(Duration::from_millis(1))).ok()?;
            clients.push((client, String::new()));
        }
        clients.iter_mut().find_map(|(client, text)| {
            let _ = client.read_to_string(text);
            text.ends_with(&format!("\r\n\r\n{other}\n")).then_some(())
        })
    });
    assert!(answered.is_some(), "worker 2 does not answer\n{}", run.supervisor.stderr());
}

/// Worker 1 misbehaves, worker 2 serves. Then both are replaced, and the run stops.
fn survives(how: &str, options: &[&str], message: fn(pid: i32) -> String) {
    for user in User::all() {
        let run = NamedRun::start_rogue(*user, options, how);
        if how == "closes" {
            // The run does not expect a listener that a worker closes before the worker is ready.
            run.wait_for_ready(2);
        }
        assert_other_worker_serves(&run);
        run.supervisor.wait_for_stderr(&message(run.wait_for_worker(1)));
        assert_other_worker_serves(&run);
        let other = run.wait_for_worker(2);
        run.verb("restart", &[]);
        assert_ne!(run.wait_for_worker(2), other, "{how}: it was replaced");
        assert_other_worker_serves(&run);
        run.stop();
    }
}

/// Worker 1 misbehaves without harm: every request is answered, during restarts too.
fn is_harmless(how: &str) {
    for user in User::all() {
        let run = NamedRun::start_rogue(*user, &[], how);
        let before = run.wait_for_ready(2);
        let address = run.setup.address();
        for _ in 0..20 {
            responder(address)
                .unwrap_or_else(|error| panic!("{how}: {error}\n{}", run.supervisor.stderr()));
        }
        while_clients_served(&run, address, || run.verb("restart", &[]));
        assert!(run.wait_for_ready(2).is_disjoint(&before), "{how}");
        run.stop();
    }
}

#[test]
fn worker_that_never_listens_is_named() {
    survives("silent", &["--grace", "1s"], |pid| {
        format!("worker 1 (pid {pid}) is starting: listens on no address yet")
    });
}

#[test]
fn worker_that_never_accepts_is_named() {
    survives("stuck", &["--drain-timeout", "500ms"], |pid| {
        format!("warning: worker 1 (pid {pid}) does not accept connections")
    });
}

#[test]
fn worker_that_closes_every_descriptor_is_named() {
    survives("closes", &["--drain-timeout", "1s"], |pid| {
        format!("warning: worker 1 (pid {pid}) has closed 127.0.0.1:")
    });
}

#[test]
fn worker_that_changes_its_network_namespace_is_named() {
    survives("unshares", &["--grace", "1s"], |pid| {
        format!("worker 1 (pid {pid}) is starting: listens on no address yet")
    });
}

#[test]
fn worker_that_ignores_sigterm_is_killed() {
    for user in User::all() {
        let run = NamedRun::start_rogue(*user, &["--grace", "1s"], "deaf");
        run.wait_for_ready(2);
        let pid = run.wait_for_worker(1);
        while_clients_served(&run, run.setup.address(), || run.verb("restart", &[]));
        let message = format!("worker 1 (pid {pid}) drains: did not exit in time and is killed");
        run.supervisor.wait_for_stderr(&message);
        run.stop();
    }
}

/// A worker that forks and exits is followed to its child.
#[test]
fn daemons_are_workers() {
    for how in ["forks", "setsid"] {
        for user in User::all() {
            let run = NamedRun::start_rogue(*user, &["--grace", "1s"], how);
            run.supervisor.wait_for_stderr("worker 1: pid ");
            let stderr = run.supervisor.stderr();
            assert!(stderr.contains(" exited with 0 and left pid "), "{how}: {stderr}");
            run.wait_for_ready(2);
            let address = run.setup.address();
            let before = descendants(run.supervisor.pid());
            while_clients_served(&run, address, || run.verb("restart", &[]));
            let left = eventually(|| {
                let now = descendants(run.supervisor.pid());
                before.iter().all(|pid| !now.contains(pid)).then_some(())
            });
            assert!(
                left.is_some(),
                "{how}: the daemon before is there\n{}",
                run.supervisor.stderr()
            );
            run.stop();
        }
    }
}

#[test]
fn one_address_bound_twice() {
    is_harmless("twice");
}

#[test]
fn flood_of_binds() {
    is_harmless("flood");
}

#[test]
fn arguments_that_change_during_the_call() {
    is_harmless("swaps");
}

#[test]
fn options_of_a_held_socket_changed() {
    is_harmless("toggles");
}

#[test]
fn held_socket_shut_down() {
    is_harmless("shuts");
}

/// Its socket cannot be replaced, and `status` gives the reason.
#[test]
fn epoll_before_bind_is_not_held() {
    for user in User::all() {
        let run = NamedRun::start_rogue(*user, &[], "epoll");
        run.wait_for_ready(2);
        let first = run.wait_for_worker(1);
        crate::harness::kill(first, libc::SIGKILL);
        let next = eventually(|| (run.wait_for_worker(1) != first).then_some(()));
        assert!(next.is_some(), "{}", run.supervisor.stderr());
        run.wait_for_ready(2);
        let status = run.status();
        let reason = status["addresses"][0]["not_held"].as_str().unwrap_or_default();
        assert!(reason.contains("epoll"), "{status}");
        let message = run.verb("status", &[]).stdout;
        assert!(
            message.contains(" is not held: the program watches its socket (epoll)"),
            "{message}"
        );
        let (address, pid) = (run.setup.address(), run.wait_for_worker(1).to_string());
        let serves = eventually(|| (responder(address).ok()? == pid).then_some(()));
        assert!(serves.is_some(), "{}", run.supervisor.stderr());
        run.stop();
    }
}

/// Both sockets are held, and the next worker gets each of them.
#[test]
fn single_worker_with_two_sockets() {
    let setup = RunSetup::new(User::Current);
    let command = rogue_command("twice");
    let command = setup.gated_command(&[&command[0], "twice", "{port}"]);
    let run = setup.run(&[], &command);
    let address = run.setup.address();
    queue_reaches_next_worker(&run, address, "twice");
    let status = run.status();
    assert_eq!(status["addresses"][0]["members"], 2, "{status}");
    run.stop();
}

/// nginx with `daemon on`, whose master leaves the first process, its session and its environment.
#[test]
fn nginx_as_a_daemon() {
    for user in User::all() {
        let Some(nginx) = find_program("nginx") else {
            return skip("named-nginx-daemon", "no nginx");
        };
        let setup = RunSetup::new(*user);
        let dir = setup.dir.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {dir}/{name};\n"))
            .concat();
        let file = setup.dir.join("nginx.conf");
        let configuration = format!(
            "worker_processes 2; error_log {dir}/errors; pid {dir}/pid;
             events {{}}
             http {{
                 access_log off; {temporary}
                 server {{ listen 127.0.0.1:{}; location / {{ return 200 \"$pid\\n\"; }} }}
             }}\n",
            setup.port,
        );
        std::fs::write(&file, configuration).unwrap();
        let dir = setup.dir.to_str().unwrap();
        let words = [nginx.to_str().unwrap(), "-e", "stderr", "-p", dir, "-c"];
        let words = words.map(str::to_owned).into_iter().chain([file.display().to_string()]);
        let words: Vec<String> = words.collect();
        let run = setup.run(&["--grace", "3s"], &words);
        run.supervisor.wait_for_stderr(" exited with 0 and left pid ");
        let address = run.setup.address();
        assert!(eventually(|| responder(address).ok()).is_some(), "{}", run.supervisor.stderr());
        let before = descendants(run.supervisor.pid());
        run.verb("restart", &[]);
        let after = descendants(run.supervisor.pid());
        assert!(before.iter().all(|pid| !after.contains(pid)), "{}", run.supervisor.stderr());
        responder(address).unwrap();
        let exited = run.stop();
        assert!(!exited.stderr.contains("crashed"), "{exited:?}");
    }
}
