//! The lines of `run` about programs that share an address: each process once, each sharer once, under
//! every interposer.
#![cfg(target_os = "linux")]

#[path = "harness/mod.rs"]
mod harness;

use harness::named_run::RunSetup;
use harness::{Process, User, find_program, free_port, is_root, skip, start_run};

/// Binds, listens after a second, and waits. `two`: twice on one address.
const SERVER: &str = "\
import socket, sys, time
def bound(at):
    it = socket.socket()
    if 'two' in sys.argv:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    it.bind(('127.0.0.1', at))
    return it
port = int(sys.argv[1])
all = [bound(port) for _ in range(2 if 'two' in sys.argv else 1)]
if 'late' in sys.argv:
    time.sleep(1)
for it in all:
    it.listen()
time.sleep(1000)
";

/// The interposers that this machine has for any program.
fn interposers() -> Vec<&'static str> {
    if is_root() { vec!["seccomp", "preload", "cgroup"] } else { vec!["seccomp", "preload"] }
}

fn lines(run: &Process) -> Vec<String> {
    let is_shared = |line: &&str| line.contains(" is now shared by ");
    run.stderr().lines().filter(is_shared).map(str::to_owned).collect()
}

/// Starts two copies and returns the first line about them.
fn first_line(via: &str, port: u16, more: &str) -> String {
    let port_text = port.to_string();
    let command = ["python3", "-c", SERVER, &port_text, more];
    let run = start_run(User::Current, &["--via", via, "-n", "2"], &command);
    run.wait_for_stderr(" is now shared by ");
    let line = lines(&run).remove(0);
    run.terminate();
    line
}

#[test]
fn a_socket_that_listens_late_is_reported_by_every_interposer() {
    if find_program("python3").is_none() {
        return skip("sharing-late", "python3 is not installed");
    }
    for via in interposers() {
        let port = free_port();
        let line = first_line(via, port, "late");
        let expected = format!("sameport: 127.0.0.1:{port}/tcp is now shared by 2: pid ");
        assert!(line.starts_with(&expected), "{via}: {line}");
    }
}

#[test]
fn a_process_with_two_sockets_is_named_once() {
    if find_program("python3").is_none() {
        return skip("sharing-once", "python3 is not installed");
    }
    for via in ["seccomp", "preload"] {
        let port = free_port();
        let line = first_line(via, port, "two");
        assert!(line.contains(" is now shared by 2: pid "), "{via}: {line}");
        assert_eq!(line.matches("pid ").count(), 2, "{via}: {line}");
    }
}

#[test]
fn a_restart_repeats_nothing() {
    if find_program("python3").is_none() {
        return skip("sharing-restart", "python3 is not installed");
    }
    for via in ["seccomp", "preload"] {
        let setup = RunSetup::new(User::Current);
        let port = setup.address().port().to_string();
        let command = ["python3", "-m", "http.server", &port, "--bind", "127.0.0.1"];
        let run = setup.run(&["--via", via, "-n", "2"], &command);
        let first = run.wait_for_ready(2);
        run.supervisor.wait_for_stderr(" is now shared by 2: ");
        let line = lines(&run.supervisor).remove(0);
        assert!(line.contains(&format!("127.0.0.1:{port}/tcp ")), "{line}");
        for worker in [1, 2] {
            assert!(line.contains(&format!("worker {worker})")), "{via}: {line}");
        }
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(2).is_disjoint(&first));
        // A third worker is news. Its line comes after those of the restart.
        run.verb("scale", &["3"]);
        run.supervisor.wait_for_stderr(" is now shared by 3: ");
        assert_eq!(lines(&run.supervisor).len(), 2, "{via}: {}", run.supervisor.stderr());
        run.stop();
    }
}
