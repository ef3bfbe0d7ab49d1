//! How workers are executed: `--user`, `--directory`, `--env`, and the changes of an upgrade.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::harness::named_run::{
    NamedRun, RunSetup, queue_reaches_next_worker, responder, while_clients_served,
};
use crate::harness::{
    User, executable, find_program, is_root, kill, skip, spawn_process, start_run,
};

/// Answers with its directory, its uids, and the values of HOME and MODE.
const SERVER: &str = r#"#!/usr/bin/env python3
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = "%s %s %s %s" % (os.getcwd(), os.getresuid(), os.environ.get("HOME"),
                                os.environ.get("MODE", "unset"))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
import signal, threading
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
"#;

/// Two releases of a program in directories of their own, and a link to the first.
fn releases(setup: &RunSetup) -> [PathBuf; 3] {
    let [first, second, current] = ["v1", "v2", "current"].map(|name| setup.dir.join(name));
    for release in [&first, &second] {
        std::fs::create_dir(release).unwrap();
        std::fs::copy(executable("launch-server", SERVER), release.join("server")).unwrap();
    }
    symlink("v1", &current).unwrap();
    [first, second, current]
}

fn has_python(test: &str) -> bool {
    let found = find_program("python3").is_some();
    if !found {
        skip(test, "no python3");
    }
    found
}

#[track_caller]
fn assert_answers(run: &NamedRun, parts: &[&str]) {
    let answer = responder(run.setup.address()).unwrap();
    assert!(parts.iter().all(|part| answer.contains(part)), "{answer:?} {parts:?}");
}

/// Each start follows the link anew. The program's path is relative to the directory.
#[test]
fn a_restart_follows_the_link_to_the_directory() {
    if !has_python("a_restart_follows_the_link_to_the_directory") {
        return;
    }
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let [first, second, current] = releases(&setup).map(|path| path.display().to_string());
        let run = setup.run(
            &["-n", "2", "--directory", &current, "--env", "MODE=", "--env", "HOME=/h"],
            &["./server", "{port}"],
        );
        run.wait_for_ready(2);
        assert_answers(&run, &[&format!("{first} "), " /h"]);
        assert_eq!(run.status()["directory"], *current);
        std::fs::remove_file(&current).unwrap();
        symlink("v2", &current).unwrap();
        while_clients_served(&run, run.setup.address(), || run.verb("restart", &[]));
        assert_answers(&run, &[&format!("{second} ")]);
        // A crash starts the worker in the same way.
        let crashed = *run.wait_for_ready(2).first().unwrap();
        kill(crashed, libc::SIGKILL);
        run.supervisor.wait_for_stderr("has ended");
        run.wait_for_ready(2);
        assert_answers(&run, &[&format!("{second} ")]);
        run.stop();
    }
}

/// An upgrade changes the directory and variables that it names. A failed one changes none.
#[test]
fn an_upgrade_changes_directory_and_environment() {
    if !has_python("an_upgrade_changes_directory_and_environment") {
        return;
    }
    let setup = RunSetup::new(User::Current);
    let [first, second, _] = releases(&setup).map(|path| path.display().to_string());
    let options = ["--directory", &first, "--env", "MODE=one", "--env", "HOME=/h"];
    let run = setup.run(&options, &["./server", "{port}"]);
    run.wait_for_ready(1);
    assert_answers(&run, &[&first, "/h one"]);
    while_clients_served(&run, run.setup.address(), || {
        run.verb("upgrade", &["--directory", &second, "--env", "MODE=two"]);
    });
    assert_answers(&run, &[&second, "/h two"]);
    assert_eq!(run.status()["directory"], *second);
    // Neither a failed upgrade nor a reexec changes the values.
    let failed = run.try_verb("upgrade", &["--env", "MODE=three", "--", "false"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    for (arguments, code, text) in [
        (&["--directory", "/no/such"][..], 1, "/no/such"),
        (&["--directory", &second, "--", "./none"], 127, "./none: command not found"),
        (&[], 2, "COMMAND"),
        (&["--env", "A", "--", "true"], 2, "NAME=VALUE"),
    ] {
        let refused = run.try_verb("upgrade", arguments);
        assert_eq!(refused.code, code, "{refused:?}");
        assert!(refused.stderr.contains(text), "{refused:?}");
    }
    run.verb("reexec", &[]);
    run.verb("restart", &[]);
    assert_answers(&run, &[&second, "/h two"]);
    run.verb("upgrade", &["--env", "MODE=four", "--", "./server", &run.setup.port.to_string()]);
    assert_answers(&run, &[&second, "/h four"]);
    run.stop();
}

/// Workers of another user restart, crash and keep their queue, and have no right beyond the user's.
#[test]
fn workers_run_as_the_user() {
    const TEST: &str = "workers_run_as_the_user";
    if !has_python(TEST) {
        return;
    }
    if !is_root() {
        return skip(TEST, "needs root");
    }
    let setup = RunSetup::new(User::Current);
    let server = executable("launch-server", SERVER);
    let command = setup.gated_command(&[server.to_str().unwrap(), "{port}"]);
    let run = setup.run(&["--user", "nobody"], &command);
    run.wait_for_ready(1);
    assert_answers(&run, &["(65534, 65534, 65534)", "/nonexistent"]);
    while_clients_served(&run, run.setup.address(), || run.verb("restart", &[]));
    queue_reaches_next_worker(&run, run.setup.address(), TEST);
    run.verb("scale", &["2"]);
    run.wait_for_ready(2);
    assert_answers(&run, &["(65534, 65534, 65534)"]);
    // The control socket is root's.
    let name = run.setup.name.clone();
    let mut other = run.setup.command(&["stop", &name]);
    std::os::unix::process::CommandExt::uid(&mut other, 65534);
    let refused = spawn_process(other).wait();
    assert_eq!(refused.code, 1, "{refused:?}");
    run.stop();
}

/// The identity of a user is whole: no group, no capability and no directory of root stays.
#[test]
fn nothing_of_root_is_left() {
    const TEST: &str = "nothing_of_root_is_left";
    if !is_root() {
        return skip(TEST, "needs root");
    }
    let script = "grep -E '^(Uid|Gid|Groups|Cap(Inh|Prm|Eff|Amb))' /proc/self/status; \
                  echo $USER ${XDG_RUNTIME_DIR-none}";
    for via in ["seccomp", "preload", "cgroup"] {
        let options = ["--via", via, "--user", "nobody:65533"];
        let exited = start_run(User::Current, &options, &["sh", "-c", script]).wait();
        if exited.code == 3 && via == "cgroup" {
            skip(TEST, "no cgroup programs");
            continue;
        }
        let text = exited.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        let zero = "0000000000000000";
        assert!(text.contains("Uid: 65534 65534 65534 65534"), "{via}: {exited:?}");
        assert!(text.contains("Gid: 65533 65533 65533 65533 Groups: 65533"), "{via}: {exited:?}");
        for set in ["Inh", "Prm", "Eff", "Amb"] {
            assert!(text.contains(&format!("Cap{set}: {zero}")), "{via}: {exited:?}");
        }
        assert!(text.ends_with("nobody none"), "{via}: {exited:?}");
    }
}

/// A low port is the supervisor's to open, not the worker's.
#[test]
fn a_user_binds_no_low_port() {
    const TEST: &str = "a_user_binds_no_low_port";
    if !is_root() || !has_python(TEST) {
        return skip(TEST, "needs root and python3");
    }
    let bind = "import socket, sys\ntry: socket.socket().bind(('127.0.0.1', 7))\n\
                except PermissionError: sys.exit(42)";
    let options = ["--user", "nobody", "--map", "8=7"];
    for options in [&options[..2], &options] {
        let exited = start_run(User::Current, options, &["python3", "-c", bind]).wait();
        assert_eq!(exited.code, 42, "{exited:?}");
    }
}
