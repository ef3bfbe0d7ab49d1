//! What `run`, `audit` and `guard` say about each class of holder, and that each command which they print
//! does what it says.
#![cfg(target_os = "linux")]

#[path = "harness/mod.rs"]
mod harness;

use std::net::SocketAddr;

use harness::named_run::RunSetup;
use harness::{
    Process, User, command_for, copy_of, eventually, executable, find_program, free_port,
    in_test_dir, is_root, kill, sameport, skip, spawn_process, start, start_command, start_run,
    wait_until_answering,
};
use serde_json::Value;

/// Listens on 127.0.0.1, and answers with its pid. `rp`: with SO_REUSEPORT.
const SERVER: &str = "\
import os, socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if 'rp' in sys.argv:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind(('127.0.0.1', int(sys.argv[1])))
s.listen(64)
while True:
    c, _ = s.accept()
    c.sendall(str(os.getpid()).encode())
    c.close()
";

/// A script of its own, so that two of them are two programs.
fn script(name: &str) -> String {
    let file = in_test_dir(format!("advice-{name}.py"));
    std::fs::write(&file, SERVER).unwrap();
    file.to_str().unwrap().to_owned()
}

fn python() -> Option<String> {
    let found = find_program("python3").map(|path| path.to_str().unwrap().to_owned());
    if found.is_none() {
        skip("advice", "python3 is not installed");
    }
    found
}

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// The error and the hint of `run` for a server on this port.
fn refusal(port: u16) -> (String, String) {
    let own = script("refused");
    let run = start_run(User::Current, &[], &["python3", own.as_str(), &port.to_string()]);
    let exited = run.wait();
    let line = |start: &str| {
        let found = exited.stderr.lines().find_map(|line| line.strip_prefix(start));
        found.unwrap_or_else(|| panic!("{exited:?}")).to_owned()
    };
    (line("sameport: error: "), line("sameport: hint: "))
}

/// The command of a hint: `sameport why …` in backquotes.
fn why_of(hint: &str) -> String {
    let command = hint.split('`').find(|part| part.starts_with("sameport why"));
    command.unwrap_or_else(|| panic!("{hint}")).to_owned()
}

/// Runs a printed command line.
fn shell(command: &str) -> harness::Exited {
    let directory = sameport().parent().unwrap().to_str().unwrap().to_owned();
    let path = format!("PATH={directory}:$PATH; {command}");
    start_command(User::Current, "/bin/sh", &["-c", &path]).wait()
}

/// `why` gives the refusal that `run` pointed to it for.
fn assert_why_explains(hint: &str, holder: &str) {
    let answer = shell(&why_of(hint));
    assert_eq!(answer.code, 1, "{hint}: {answer:?}");
    assert!(answer.stdout.starts_with("no: "), "{answer:?}");
    assert!(answer.stdout.contains(holder), "{holder}: {answer:?}");
}

#[test]
fn run_shares_with_a_plain_program_as_its_hint_says() {
    if python().is_none() {
        return;
    }
    let port = free_port();
    let (file, text) = (script("plain"), port.to_string());
    let holder = start_command(User::Current, "python3", &[&file, &text]);
    wait_until_answering(at(port));
    let (error, hint) = refusal(port);
    let pid = holder.pid();
    assert!(error.starts_with(&format!("port {port} is held by python3 (pid {pid}, ")), "{error}");
    let command = format!("`sameport run -- python3 {file} {text}`, and this run with --join");
    assert!(hint.starts_with(&format!("share it: pid {pid} started again")), "{hint}");
    assert!(hint.contains(&command), "{hint}");
    assert_why_explains(&hint, &format!("pid {pid} "));

    holder.terminate();
    let holder = start_run(User::Current, &[], &["python3", &file, &text]);
    wait_until_answering(at(port));
    let own = script("refused");
    let joined = start_run(User::Current, &["--join"], &["python3", &own, &text]);
    joined.wait_for_stderr(&format!("127.0.0.1:{port}/tcp is now shared by 2: "));
    joined.terminate();
    holder.terminate();
}

#[test]
fn run_names_the_worker_of_a_named_run() {
    if python().is_none() {
        return;
    }
    let setup = RunSetup::new(User::Current);
    let port = setup.port;
    let file = script("named");
    let run = setup.run(&[], &["python3", file.as_str(), &port.to_string()]);
    let worker = run.wait_for_worker(1);
    let (error, hint) = refusal(port);
    let named = format!(
        "pid {worker} (python3, run run-{port}, worker 1), started by `sameport run --name run-{port} -- "
    );
    assert!(error.contains(&named), "{error}");
    assert_eq!(hint, "give both runs the same --group, or --join to share it all the same");
    run.stop();
}

/// The files of a killed run are in the runtime directory of the user.
#[test]
fn run_names_the_worker_of_a_killed_run() {
    if python().is_none() {
        return;
    }
    // Refused as outside the group, and by the kernel, because that socket is not shared.
    for options in [&[][..], &["--port", "1"]] {
        let setup = RunSetup::new(User::Current);
        let (port, dir) = (setup.port, setup.dir.clone());
        let file = script("killed");
        let run = setup.run(options, &["python3", file.as_str(), &port.to_string()]);
        let worker = run.wait_for_worker(1);
        wait_until_answering(at(port));
        run.supervisor.signal(libc::SIGKILL);
        let stat = format!("/proc/{}/stat", run.supervisor.pid());
        let is_over = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
        eventually(|| is_over().then_some(())).unwrap();
        let words = ["run", "--", "python3", &file, &port.to_string()];
        let mut command = command_for(User::Current, sameport(), &words);
        command.env("XDG_RUNTIME_DIR", &dir);
        let exited = spawn_process(command).wait();
        kill(worker, libc::SIGKILL);
        let (pid, name) = (format!("pid {worker}"), format!("run run-{port}, worker 1"));
        for part in [pid.as_str(), &name, "whose supervisor was killed"] {
            assert!(exited.stderr.contains(part), "{part}: {exited:?}");
        }
    }
}

#[test]
fn run_names_the_container_behind_a_proxy() {
    let Some(python) = python() else { return };
    let port = free_port();
    let text = port.to_string();
    let proxy = copy_of(&python, "docker-proxy");
    let file = script("proxy");
    let words = [file.as_str(), &text, "-container-ip", "172.17.0.2", "-container-port", "80"];
    let more = ["-proto", "tcp", "-host-port", &text];
    let holder = start_command(User::Current, proxy, &[&words[..], &more].concat());
    wait_until_answering(at(port));
    let (error, hint) = refusal(port);
    assert!(error.contains("docker container at 172.17.0.2:80"), "{error}");
    let stop = format!("docker stop $(docker ps --quiet --filter publish={port}); ");
    assert!(hint.starts_with(&stop), "{hint}");
    assert_why_explains(&hint, "docker container at 172.17.0.2:80");
    holder.terminate();
}

#[test]
fn run_tells_a_connection_from_a_listener() {
    if python().is_none() {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let port = free_port();
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    client.bind(&at(port).into()).unwrap();
    client.connect(&listener.local_addr().unwrap().into()).unwrap();
    let (error, hint) = refusal(port);
    assert!(error.ends_with(": its end of a connection, not a listener"), "{error}");
    assert_why_explains(&hint, "has a connection from");
}

#[test]
fn run_waits_for_closed_connections() {
    if python().is_none() {
        return;
    }
    let port = free_port();
    let listener = std::net::TcpListener::bind(at(port)).unwrap();
    let client = std::net::TcpStream::connect(at(port)).unwrap();
    drop(listener.accept().unwrap());
    drop((client, listener));
    let own = in_test_dir("advice-no-reuse.py");
    std::fs::write(&own, SERVER.replace("SO_REUSEADDR, 1", "SO_REUSEADDR, 0")).unwrap();
    let text = port.to_string();
    let run = start_run(User::Current, &[], &["python3", own.to_str().unwrap(), &text]).wait();
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("is held by a closed connection (TIME_WAIT)"), "{run:?}");
    assert!(
        run.stderr.contains("in the program, if that of the closed connection had it too"),
        "{run:?}"
    );
    // The remedy.
    let own = script("with-reuse");
    let run = start_run(User::Current, &[], &["python3", own.as_str(), &text]);
    wait_until_answering(at(port));
    run.terminate();
}

/// The only finding on the port, once `audit` has seen it.
fn finding(port: u16) -> Value {
    let words = ["audit", &format!("{port}/tcp"), "--json"];
    let found = eventually(|| {
        let exited = start(User::Current, &words).wait();
        let report: Value = serde_json::from_str(&exited.stdout).ok()?;
        let findings = report["findings"].as_array()?.clone();
        (findings.len() == 1).then(|| findings[0].clone())
    });
    found.unwrap_or_else(|| panic!("no finding on {port}"))
}

fn stranger(port: u16) -> Process {
    let file = script("stranger");
    start_command(User::Current, "python3", &[&file, &port.to_string(), "rp"])
}

#[test]
fn audit_names_the_worker_and_its_command() {
    if python().is_none() {
        return;
    }
    let setup = RunSetup::new(User::Current);
    let port = setup.port;
    let file = script("audited");
    let run = setup.run(&[], &["python3", file.as_str(), &port.to_string()]);
    let worker = run.wait_for_worker(1);
    let stranger = stranger(port);
    let found = finding(port);
    assert_eq!(found["victim"]["pid"], worker, "{found}");
    assert_eq!(found["victim"]["run"], format!("run-{port}"), "{found}");
    assert_eq!(found["victim"]["worker"], 1, "{found}");
    let fix = found["fix"].as_str().unwrap();
    let again = format!("sameport run --private --name run-{port} ");
    assert!(fix.contains(&again), "{fix}");
    assert!(fix.contains(&format!("sameport stop run-{port}")), "{fix}");
    assert!(fix.contains(&format!("kill {}", stranger.pid())), "{fix}");
    // Followed: one line for a shell, after which the group excludes the stranger.
    if is_root() {
        let dir = run.setup.dir.clone();
        let path = sameport();
        let path = path.parent().unwrap().display();
        // The last command takes the place of the shell.
        let (first, last) = fix.rsplit_once(" && ").unwrap_or_else(|| panic!("{fix}"));
        let line = format!("PATH={path}:$PATH; {first} && exec {last}");
        let mut again = harness::command_for(User::Current, "/bin/sh", &["-c", &line]);
        again.env("XDG_RUNTIME_DIR", &dir);
        let again = spawn_process(again);
        assert_eq!(stranger.wait().code, 128 + 15);
        assert_eq!(run.supervisor.wait().code, 0);
        wait_until_answering(at(port));
        let intruder = self::stranger(port).wait();
        assert!(intruder.stderr.contains("Address already in use"), "{intruder:?}");
        again.terminate();
    } else {
        run.stop();
    }
}

#[test]
fn a_guard_of_audit_keeps_the_victim_and_refuses_the_stranger() {
    let Some(python) = python() else { return };
    if !is_root() {
        return skip("advice-guard", "a guard needs root");
    }
    let setup = RunSetup::new(User::Current);
    let port = setup.port;
    // A native program: an interpreter says nothing about its script.
    let native = copy_of(&python, "advice-native").to_str().unwrap().to_owned();
    let file = script("guarded");
    let run = setup.run(&[], &[native.as_str(), file.as_str(), &port.to_string()]);
    let first = run.wait_for_worker(1);
    let stranger = stranger(port);
    let fix = finding(port)["fix"].as_str().unwrap().to_owned();
    let allow = format!("exe={native}");
    if fix != format!("sameport guard {port}/tcp --allow {allow}") {
        run.stop();
        // In a container that hides the root cgroup a guard is impossible, and not advised.
        assert!(!fix.contains("guard"), "{fix}");
        return skip("advice-guard", "the machine's root cgroup is not visible");
    }
    // Without the victim's rule `guard` refuses, and says what would keep it.
    let refused = shell(&format!("sameport guard {port}/tcp --allow uid=7 </dev/null"));
    let worker = format!("pid {first} (advice-native, run run-{port}, worker 1)");
    assert!(refused.stderr.contains(&worker), "{refused:?}");
    stranger.terminate();
    let refused = shell(&format!("sameport guard {port}/tcp --allow uid=7 </dev/null"));
    assert!(refused.stderr.contains(&format!("hint: --allow {allow}; or --force")), "{refused:?}");

    let set = shell(&fix);
    assert_eq!(set.code, 0, "{set:?}");
    let off = |()| assert_eq!(shell(&format!("sameport guard {port}/tcp --off")).code, 0);
    let kept = set.stderr.contains(&format!("{worker} keeps 127.0.0.1:{port}/tcp, and may bind"));
    // The next worker binds, and a stranger does not.
    let restarted = run.try_verb("restart", &[]);
    let intruder = self::stranger(port).wait();
    off(());
    assert!(kept, "{set:?}");
    assert_eq!(restarted.code, 0, "{restarted:?}");
    assert!(intruder.stderr.contains("Operation not permitted"), "{intruder:?}");
    run.stop();
}

/// Root reads advice with words that another user chose.
#[test]
fn words_of_another_user_are_no_options_and_no_commands_of_root() {
    let Some(python) = find_program("python3").filter(|_| is_root()) else {
        return skip("advice", "not root, or no python3");
    };
    let serve = |name: &str, words: &[&str]| {
        let text = format!("#!{}\n{SERVER}", python.display());
        let program = executable(name, &text);
        let port = free_port();
        let text = port.to_string();
        let words = [&[text.as_str()], words].concat();
        let process = spawn_process(command_for(User::Nobody, program.to_str().unwrap(), &words));
        wait_until_answering(at(port));
        (process, start(User::Current, &["why", &at(port).to_string()]).wait().stdout)
    };
    // `podman stop --all` would stop every container of the user.
    let (_proxy, text) = serve("conmon", &["-n", "--all"]);
    assert!(text.contains("an unknown podman container"), "{text}");
    assert!(!text.contains("podman stop"), "{text}");
    let (_program, text) = serve("advice-of-nobody", &[]);
    assert!(text.contains(" started again by user nobody in "), "{text}");
}
