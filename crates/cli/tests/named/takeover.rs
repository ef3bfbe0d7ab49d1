//! Workers whose supervisor was killed: the next run of the name takes them over, `stop` ends them.

use std::collections::BTreeSet;

use crate::harness::named_run::{
    NamedRun, RunSetup, connect, has_exited, request_over, responder, while_clients_served,
};
use crate::harness::{
    Exited, User, c_program, eventually, executable, find_program, is_root, kill, skip,
    spawn_process,
};

fn drains() -> Vec<String> {
    let program = c_program("drains", &[]).into_os_string().into_string().unwrap();
    vec![program, "{port}".to_owned()]
}

/// The same name, port and directory again.
fn again(setup: &RunSetup) -> RunSetup {
    let RunSetup { user, name, port, dir } = setup;
    RunSetup { user: *user, name: name.clone(), port: *port, dir: dir.clone() }
}

/// Starts workers and kills their supervisor.
#[track_caller]
fn orphans(
    user: User,
    options: &[&str],
    command: &[String],
    count: usize,
) -> (RunSetup, BTreeSet<i32>) {
    let run = RunSetup::new(user).run(options, command);
    let workers = run.wait_for_ready(count);
    let NamedRun { setup, supervisor } = run;
    supervisor.signal(libc::SIGKILL);
    assert_eq!(supervisor.wait().code, 128 + 9);
    (setup, workers)
}

#[track_caller]
fn wait_until_gone(workers: &BTreeSet<i32>, context: &str) {
    let gone = eventually(|| workers.iter().all(|pid| has_exited(*pid)).then_some(()));
    assert!(gone.is_some(), "{workers:?} live on: {context}");
}

/// Whether every thread of a process is stopped.
fn is_stopped(pid: i32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut stats = threads.map(|it| std::fs::read_to_string(it.path().join("stat")).unwrap());
    stats.all(|stat| stat.contains(") T "))
}

fn verb(setup: &RunSetup, words: &[&str]) -> Exited {
    let words: Vec<&str> =
        [words[0], &setup.name].into_iter().chain(words[1..].iter().copied()).collect();
    spawn_process(setup.command(&words)).wait()
}

/// No client notices that the supervisor is killed and another one replaces its workers.
#[test]
fn a_takeover_loses_no_connection() {
    for (user, copies) in User::all().iter().flat_map(|user| [(*user, 1), (*user, 3)]) {
        let number = copies.to_string();
        let options = ["-n", &number];
        let run = RunSetup::new(user).run(&options, &drains());
        let before = run.wait_for_ready(copies);
        let address = run.setup.address();
        let next = while_clients_served(&run, address, || {
            run.supervisor.signal(libc::SIGKILL);
            let next = again(&run.setup).run_command(&options, &drains());
            let gone = eventually(|| has_exited(run.supervisor.pid()).then_some(()));
            assert!(gone.is_some());
            let next = NamedRun { setup: again(&run.setup), supervisor: spawn_process(next) };
            next.supervisor.wait_for_stderr("takes over its workers: pid ");
            wait_until_gone(&before, &next.supervisor.stderr());
            assert!(next.wait_for_ready(copies).is_disjoint(&before));
            next
        });
        let stderr = next.supervisor.stderr();
        assert!(stderr.contains(&run.supervisor.pid().to_string()), "{stderr}");
        for pid in &before {
            assert!(stderr.contains(&format!("pid {pid}")), "{stderr}");
        }
        // The order of the members is known, so that the next restart steers.
        let steered = next.verb("status", &[]).stdout;
        assert!(!steered.contains("not known"), "{steered}");
        while_clients_served(&next, address, || next.verb("restart", &[]));
        next.stop();
    }
}

/// Connections that wait in the queue of an orphan reach the replacement when the orphan dies.
#[test]
fn the_queue_of_an_orphan_survives_it() {
    const CLIENTS: usize = 20;
    for user in User::all() {
        let (setup, workers) = orphans(*user, &[], &drains(), 1);
        let orphan = *workers.first().unwrap();
        kill(orphan, libc::SIGSTOP);
        // A thread that still runs accepts.
        let stopped = eventually(|| is_stopped(orphan).then_some(()));
        assert!(stopped.is_some());
        let address = setup.address();
        let waiting: Vec<_> = (0..CLIENTS).map(|_| connect(address).unwrap()).collect();
        let words = drains();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        setup.close_gate();
        let command = setup.gated_command(&words);
        let next = setup.run(&[], &command);
        kill(orphan, libc::SIGKILL);
        next.supervisor.wait_for_stderr("has ended: its exit status is not known");
        next.setup.open_gate();
        let served = waiting.into_iter().filter_map(|client| request_over(client).ok()).count();
        assert_eq!(served, CLIENTS, "{}", next.supervisor.stderr());
        next.wait_for_ready(1);
        next.stop();
    }
}

/// Neither a command that cannot be executed nor one that does not become ready ends an orphan.
#[test]
fn a_takeover_that_fails_leaves_the_orphans() {
    for user in User::all() {
        let (setup, workers) = orphans(*user, &["-n", "2"], &drains(), 2);
        let wrong = again(&setup).run_command(&[], &["./no-such-program"]);
        let exited = spawn_process(wrong).wait();
        assert_eq!(exited.code, 127, "{exited:?}");
        responder(setup.address()).unwrap();
        // The record is still there.
        let status = verb(&setup, &["status"]);
        for worker in &workers {
            assert!(status.stderr.contains(&worker.to_string()), "{status:?}");
        }

        let next = setup.run(&["-n", "2"], &["false"]);
        next.supervisor.wait_for_stderr("was not replaced");
        assert!(workers.iter().all(|pid| !has_exited(*pid)));
        responder(next.setup.address()).unwrap();
        assert_eq!(next.wait_for_ready(2), workers);
        // An upgrade to a command that works replaces them.
        let (program, port) = (drains().remove(0), next.setup.port.to_string());
        next.verb("upgrade", &["--", &program, &port]);
        wait_until_gone(&workers, &next.supervisor.stderr());
        next.stop();
    }
}

/// More orphans than workers, and fewer.
#[test]
fn the_number_of_workers_may_change() {
    for (before, after) in [(3, 1), (1, 3)] {
        let (setup, workers) =
            orphans(User::Current, &["-n", &before.to_string()], &drains(), before);
        let next = setup.run(&["-n", &after.to_string()], &drains());
        wait_until_gone(&workers, &next.supervisor.stderr());
        assert!(next.wait_for_ready(after).is_disjoint(&workers));
        next.stop();
    }
}

/// Sockets of `--listen`, which workers inherit, and other options of the run.
#[test]
fn passed_sockets_and_udp_are_taken_over() {
    let Some(_) = find_program("python3") else {
        return skip("passed_sockets_and_udp_are_taken_over", "no python3");
    };
    // A worker accepts from the one queue until SIGTERM: it answers the connection in hand before it ends.
    const SERVER: &str = "#!/usr/bin/env python3\n\
        import os, select, signal, socket, sys\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n\
        tcp = socket.socket(fileno=3)\n\
        tcp.setblocking(False)\n\
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        udp.bind(('127.0.0.1', int(sys.argv[1])))\n\
        while signal.SIGTERM not in signal.sigpending():\n\
        \x20   if not select.select([tcp], [], [], 0.02)[0]: continue\n\
        \x20   try: client, _ = tcp.accept()\n\
        \x20   except BlockingIOError: continue\n\
        \x20   client.setblocking(True)\n\
        \x20   client.recv(1000)\n\
        \x20   client.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n%d' % os.getpid())\n\
        \x20   client.close()\n";
    let server = executable("passed-server", SERVER).into_os_string().into_string().unwrap();
    let command = [server, "{port}".to_owned()];
    let options = ["-n", "2", "--listen", "127.0.0.1:{port}"];
    let (setup, workers) = orphans(User::Current, &options, &command, 2);
    let address = setup.address();
    let next = setup.run(&options, &command);
    while_clients_served(&next, address, || {
        wait_until_gone(&workers, &next.supervisor.stderr());
    });
    next.wait_for_ready(2);
    let listed = next.status();
    let of = |protocol: &'static str| {
        let all = listed["addresses"].as_array().unwrap();
        let sockets = all.iter().filter(|it| it["proto"] == protocol).map(|it| &it["members"]);
        sockets.cloned().collect::<Vec<_>>()
    };
    // One socket for all workers, not one of each supervisor.
    assert_eq!(of("tcp"), [1], "{listed}");
    assert_eq!(of("udp").len(), 1, "{listed}");
    next.stop();
}

/// A worker that may not be read is not shared with silently.
#[test]
fn what_cannot_be_taken_over_is_refused() {
    const TEST: &str = "what_cannot_be_taken_over_is_refused";
    if !is_root() || find_program("python3").is_none() {
        return skip(TEST, "needs root and python3");
    }
    const SERVER: &str = "#!/usr/bin/env python3\n\
        import ctypes, http.server, sys\n\
        server = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), \
        http.server.SimpleHTTPRequestHandler)\n\
        ctypes.CDLL(None).prctl(4, 0)\n\
        server.serve_forever()\n";
    let server = executable("secret-server", SERVER).into_os_string().into_string().unwrap();
    let command = [server, "{port}".to_owned()];
    let (setup, workers) = orphans(User::Nobody, &[], &command, 1);
    let refused = spawn_process(setup.run_command(&[], &command)).wait();
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("sameport stop NAME"), "{refused:?}");
    responder(setup.address()).unwrap();
    // The advice works.
    let stopped = verb(&setup, &["stop"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    wait_until_gone(&workers, &stopped.stderr);
    let next = setup.run(&[], &command);
    next.wait_for_ready(1);
    next.stop();
}

/// `stop` drains the orphans, ends them, and leaves no file.
#[test]
fn stop_ends_the_workers_of_a_killed_supervisor() {
    for user in User::all() {
        for options in [&["stop"][..], &["stop", "--json"], &["stop", "--now"]] {
            // The program drains itself.
            let run = ["-n", "2", "--drain", "none"];
            let (setup, workers) = orphans(*user, &run, &drains(), 2);
            let client = connect(setup.address()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(100));
            let stopping = {
                let words: Vec<&str> = [options[0], &*setup.name]
                    .into_iter()
                    .chain(options[1..].iter().copied())
                    .collect();
                spawn_process(setup.command(&words))
            };
            // The connection in hand is answered.
            request_over(client).unwrap();
            let stopped = stopping.wait();
            assert_eq!(stopped.code, 0, "{options:?}: {stopped:?}");
            wait_until_gone(&workers, &stopped.stderr);
            match options.contains(&"--json") {
                true => assert!(stopped.stdout.ends_with("{\"event\":\"done\"}\n"), "{stopped:?}"),
                false => assert!(stopped.stderr.contains("has stopped"), "{stopped:?}"),
            }
            // Only the report about the end is left.
            let left = std::fs::read_dir(setup.dir.join("sameport")).unwrap().flatten();
            let left: Vec<_> = left.map(|file| file.file_name()).collect();
            let ended = std::ffi::OsString::from(format!("{}.ended", setup.name));
            assert_eq!(left, [ended], "{options:?}");
            let status = verb(&setup, &["status"]);
            let text = format!("{}{}", status.stdout, status.stderr);
            assert!(text.contains("stopped by `sameport stop`"), "{status:?}");
        }
    }
}

/// Without workers, `stop` removes the record.
#[test]
fn stop_without_workers_removes_the_record() {
    let (setup, workers) = orphans(User::Current, &[], &drains(), 1);
    workers.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
    wait_until_gone(&workers, "killed");
    let stopped = verb(&setup, &["stop"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    let status = verb(&setup, &["status"]);
    assert!(status.stderr.contains("there is no run"), "{status:?}");
}
