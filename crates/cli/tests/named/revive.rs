//! `restart` of a run whose supervisor was killed.

use std::path::PathBuf;

use serde_json::Value;

use crate::harness::named_run::{NamedRun, RunSetup, has_exited, only_run, responder};
use crate::harness::{
    Exited, User, c_program, eventually, executable, find_program, kill, skip, spawn_process,
};

/// Answers with its pid, its directory and MODE; writes a line to both of its outputs.
const SERVER: &str = r#"#!/usr/bin/env python3
import http.server, os, signal, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = "%d %s %s" % (os.getpid(), os.getcwd(), os.environ.get("MODE"))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("out", os.getpid(), flush=True)
print("err", os.getpid(), file=sys.stderr, flush=True)
server.serve_forever()
server.server_close()
"#;

/// A supervisor that no process of the test is the parent of. Ends it when dropped.
struct Detached {
    setup: RunSetup,
    pid: i32,
}

impl Detached {
    /// The supervisor that has the name now.
    #[track_caller]
    fn of(setup: RunSetup) -> Self {
        let pid = i32::try_from(status(&setup)["pid"].as_i64().unwrap()).unwrap();
        Self { setup, pid }
    }

    fn stop(self) {
        let stopped = verb(&self.setup, &["stop"]);
        assert_eq!(stopped.code, 0, "{stopped:?}");
        assert!(eventually(|| has_exited(self.pid).then_some(())).is_some());
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if !has_exited(self.pid) {
            kill(self.pid, libc::SIGTERM);
        }
    }
}

fn verb(setup: &RunSetup, words: &[&str]) -> Exited {
    let words: Vec<&str> =
        [words[0], &setup.name].into_iter().chain(words[1..].iter().copied()).collect();
    spawn_process(setup.command(&words)).wait()
}

#[track_caller]
fn status(setup: &RunSetup) -> Value {
    let exited = verb(setup, &["status", "--json"]);
    assert_eq!(exited.code, 0, "{exited:?}");
    only_run(&exited.stdout)
}

/// The run goes on as it was: number of workers, command, directory, environment and output.
#[test]
fn restart_revives_a_run_as_it_was() {
    const TEST: &str = "restart_revives_a_run_as_it_was";
    if find_program("python3").is_none() {
        return skip(TEST, "no python3");
    }
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let [first, second]: [PathBuf; 2] = ["v1", "v2"].map(|name| setup.dir.join(name));
        [&first, &second].into_iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
        let server = executable("revived-server", SERVER);
        let words = [server.to_str().unwrap(), "{port}"];
        let options = ["-n", "1", "--directory", first.to_str().unwrap(), "--drain", "none"];
        let mut command = setup.run_command(&options, &words);
        command.env("MODE", "kept");
        let run = NamedRun { setup, supervisor: spawn_process(command) };
        run.wait_until_reachable();
        run.wait_for_ready(1);
        run.verb("scale", &["2"]);
        run.verb("upgrade", &["--directory", second.to_str().unwrap()]);
        let before = run.wait_for_ready(2);
        let NamedRun { setup, supervisor } = run;
        kill(supervisor.pid(), libc::SIGKILL);
        assert!(eventually(|| has_exited(supervisor.pid()).then_some(())).is_some());

        let restarted = verb(&setup, &["restart"]);
        assert_eq!(restarted.code, 0, "{restarted:?}");
        assert!(restarted.stderr.contains("takes its place"), "{restarted:?}");
        assert!(restarted.stderr.ends_with("is restarted\n"), "{restarted:?}");
        let run = Detached::of(setup);
        let now = status(&run.setup);
        assert_eq!(now["copies"], 2, "{now}");
        assert_eq!(now["directory"], *second.to_str().unwrap(), "{now}");
        assert_eq!(now["workers"].as_array().unwrap().len(), 2, "{now}");
        let gone = eventually(|| before.iter().all(|pid| has_exited(*pid)).then_some(()));
        assert!(gone.is_some(), "{before:?}");
        let answer = responder(run.setup.address()).unwrap();
        assert!(answer.ends_with(&format!(" {} kept", second.display())), "{answer}");
        let pid = answer.split(' ').next().unwrap();
        supervisor.wait_for_stdout(&format!("out {pid}"));
        supervisor.wait_for_stderr(&format!("err {pid}"));
        // The terminal of the client does not matter to it.
        let session = std::fs::read_to_string(format!("/proc/{}/stat", run.pid)).unwrap();
        let session = session.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap().to_owned();
        assert_eq!(session, run.pid.to_string());
        run.stop();
    }
}

/// A run without workers starts too; one that cannot start says so.
#[test]
fn restart_without_workers() {
    let program = c_program("drains", &[]);
    let copy = crate::harness::in_test_dir("revived-drains");
    std::fs::copy(&program, &copy).unwrap();
    let setup = RunSetup::new(User::Current);
    let run = setup.run(&["-n", "2"], &[copy.to_str().unwrap(), "{port}"]);
    let workers = run.wait_for_ready(2);
    let NamedRun { setup, supervisor } = run;
    supervisor.signal(libc::SIGKILL);
    supervisor.wait();
    workers.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
    assert!(eventually(|| workers.iter().all(|pid| has_exited(*pid)).then_some(())).is_some());
    // The program is missing for a while.
    let away = copy.with_extension("away");
    std::fs::rename(&copy, &away).unwrap();
    let failed = verb(&setup, &["restart"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    let name = &setup.name;
    let error = format!("error: the new supervisor of {name} does not start: {}", copy.display());
    let hint = format!("\nhint: when that is repaired: sameport restart {name}\n");
    assert!(failed.stderr.starts_with(&error), "{failed:?}");
    assert!(failed.stderr.contains(": command not found\n"), "{failed:?}");
    assert!(failed.stderr.ends_with(&hint), "{failed:?}");
    std::fs::rename(&away, &copy).unwrap();

    let restarted = verb(&setup, &["restart", "--json"]);
    assert_eq!(restarted.code, 0, "{restarted:?}");
    assert!(restarted.stdout.ends_with("{\"event\":\"done\"}\n"), "{restarted:?}");
    let run = Detached::of(setup);
    assert!(eventually(|| responder(run.setup.address()).ok()).is_some());
    run.stop();
}

/// Replacements that do not become ready leave the old workers in service.
#[test]
fn restart_that_replaces_nothing_says_so() {
    let gate = "#!/bin/sh\n[ -e \"$1\" ] && exit 3\nexec \"$2\" \"$3\"\n";
    let gate = executable("revive-gate", gate);
    let setup = RunSetup::new(User::Current);
    let closed = setup.dir.join("closed");
    let program = c_program("drains", &[]);
    let words =
        [gate.to_str().unwrap(), closed.to_str().unwrap(), program.to_str().unwrap(), "{port}"];
    let run = setup.run(&[], &words);
    let workers = run.wait_for_ready(1);
    let NamedRun { setup, supervisor } = run;
    supervisor.signal(libc::SIGKILL);
    supervisor.wait();
    std::fs::write(&closed, "").unwrap();
    let failed = verb(&setup, &["restart"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stderr.contains("not"), "{failed:?}");
    assert!(failed.stderr.contains("sameport status"), "{failed:?}");
    let run = Detached::of(setup);
    assert!(workers.iter().all(|pid| !has_exited(*pid)));
    responder(run.setup.address()).unwrap();
    std::fs::remove_file(&closed).unwrap();
    let restarted = verb(&run.setup, &["restart"]);
    assert_eq!(restarted.code, 0, "{restarted:?}");
    assert!(workers.iter().all(|pid| has_exited(*pid)));
    run.stop();
}
