//! One server as a named run: two restarts and a kill while its clients count.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::load::{Loss, Tally, while_served};
use crate::harness::named_run::{NamedRun, RunSetup};
use crate::harness::{
    Exited, Patience, TIMEOUT, User, find_program, is_root, kill, skip, spawn_process,
};
use crate::server::Server;

const RESTARTS: usize = 2;
/// The time of undisturbed load between two events.
const BETWEEN: Duration = Duration::from_millis(300);

/// Runs a server of a table. A restart loses no connection, with two limits that no server can avoid: the
/// end of an idle connection can cross the next request, which then gets an end or a reset (RFC 9112,
/// section 9.5), here at most once; and nothing shows that a worker has read a datagram and not answered yet, here at most one a restart.
/// A kill refuses no connection and loses at most one of each client.
#[track_caller]
pub(crate) fn assert_nothing_is_lost(servers: &[(&str, Server)], name: &str) {
    let (_, server) = servers.iter().find(|(it, _)| *it == name).unwrap();
    if let Some(reason) = missing(server) {
        return skip(&format!("servers-{name}"), &reason);
    }
    let run = start(server);
    wait_until_answered(&run, server);
    let began = Instant::now();
    let mut log = Vec::new();
    let ((), restarts) = while_served(server.clients, run.setup.address(), || {
        for _ in 0..RESTARTS {
            thread::sleep(BETWEEN);
            log.push(restart(&run));
        }
        thread::sleep(BETWEEN);
    });
    let took = began.elapsed();
    let mut killed = Tally::default();
    if server.kill {
        ((), killed) = while_served(server.clients, run.setup.address(), || {
            thread::sleep(BETWEEN);
            kill_worker(&run);
            thread::sleep(BETWEEN);
        });
    }
    let summary = format!(
        "{name}: {}; two restarts in {:.1} s: {}; kill: {}",
        restarts.answered + killed.answered,
        took.as_secs_f64(),
        described(&restarts),
        described(&killed),
    );
    eprintln!("{summary}");
    let context = format!("{summary}\n{}\n{}", log.join(""), run.supervisor.stderr());
    let is_crossed = |(loss, _): &&(Loss, String)| *loss == Loss::CutWhenIdle;
    let is_datagram =
        |(loss, client): &&(Loss, String)| *loss == Loss::TimedOut && client.starts_with("Query");
    let crossed = restarts.lost.iter().filter(is_crossed).count();
    let datagrams = restarts.lost.iter().filter(is_datagram).count();
    let others = restarts.lost.len() - crossed - datagrams;
    let is_kept = others == 0 && crossed <= 1 && datagrams <= RESTARTS;
    assert!(is_kept, "{:#?}\n{context}", restarts.lost);
    assert!(restarts.answered > 0, "{context}");
    // A question by a datagram is in hand once the worker has read it.
    let in_hand = |(loss, client): &&(Loss, String)| match loss {
        Loss::Refused | Loss::WrongAnswer => false,
        Loss::TimedOut => client.starts_with("Query"),
        Loss::Unanswered | Loss::CutWhenIdle | Loss::CutInHand => true,
    };
    assert!(killed.lost.iter().all(|lost| in_hand(&lost)), "{:#?}\n{context}", killed.lost);
    assert!(killed.lost.len() <= server.clients.len(), "{:#?}\n{context}", killed.lost);
    run.stop();
}

/// Why the server cannot run here.
fn missing(server: &Server) -> Option<String> {
    if server.root && !is_root() {
        return Some("needs root".to_owned());
    }
    let absent = server.needs.iter().find(|need| {
        if need.starts_with('/') {
            !std::path::Path::new(need).exists()
        } else {
            find_program(need).is_none()
        }
    });
    absent.map(|need| format!("no {need}: Debian package {}", server.package))
}

fn start(server: &Server) -> NamedRun {
    let setup = RunSetup::new(User::Current);
    // Servers that run as another user write here.
    let fill = |text: &str| {
        text.replace("{port}", &setup.port.to_string())
            .replace("{dir}", setup.dir.to_str().unwrap())
    };
    for (file, text) in server.files {
        std::fs::write(setup.dir.join(file), fill(text)).unwrap();
    }
    for words in server.prepare {
        let words: Vec<String> = words.iter().map(|word| fill(word)).collect();
        let mut command = Command::new(program(&words[0]));
        command.args(&words[1..]).current_dir(&setup.dir).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut words: Vec<String> = server.command.iter().map(|word| fill(word)).collect();
    words[0] = program(&words[0]);
    let options: Vec<String> = server.options.iter().map(|word| fill(word)).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut command = setup.run_command(&options, &words);
    command.current_dir(&setup.dir).env("HOME", &setup.dir);
    let run = NamedRun { supervisor: spawn_process(command), setup };
    run.wait_until_reachable();
    run
}

fn program(name: &str) -> String {
    let found = find_program(name).filter(|_| !name.starts_with('/'));
    found.map_or(name.to_owned(), |path| path.into_os_string().into_string().unwrap())
}

/// Waits until the server answers its first client completely.
#[track_caller]
fn wait_until_answered(run: &NamedRun, server: &Server) {
    wait_until_settled(run);
    let patience = Patience::new(TIMEOUT);
    loop {
        let mut tally = Tally::default();
        server.clients[0].once(run.setup.address(), &AtomicBool::new(true), &mut tally);
        if tally.answered > 0 && tally.lost.is_empty() {
            return;
        }
        assert!(!patience.is_over(), "{:?}\n{}", tally.lost, run.supervisor.stderr());
        thread::sleep(Duration::from_millis(100));
    }
}

/// Restarts the run, waits until the old workers have ended, and returns the report.
#[track_caller]
fn restart(run: &NamedRun) -> String {
    let exited = verb(run, "restart");
    assert_eq!(exited.code, 0, "{exited:?}\n{}", run.supervisor.stderr());
    wait_until_settled(run);
    exited.stderr + &exited.stdout
}

fn verb(run: &NamedRun, verb: &str) -> Exited {
    // The drains of slow clients are within it.
    spawn_process(run.setup.command(&[verb, &run.setup.name])).wait_within(6 * TIMEOUT)
}

/// The states of the processes of the run, by pid.
fn states(run: &NamedRun) -> BTreeMap<i64, String> {
    let status: Value = run.status();
    let workers = status["workers"].as_array().cloned().unwrap_or_default();
    let state = |it: &Value| Some((it["pid"].as_i64()?, it["state"].as_str()?.to_owned()));
    workers.iter().filter_map(state).collect()
}

/// Waits until every worker is ready and none drains.
#[track_caller]
fn wait_until_settled(run: &NamedRun) {
    let patience = Patience::new(3 * TIMEOUT);
    loop {
        let states = states(run);
        if !states.is_empty() && states.values().all(|state| state == "ready") {
            return;
        }
        assert!(!patience.is_over(), "{states:?}\n{}", run.supervisor.stderr());
        thread::sleep(Duration::from_millis(50));
    }
}

/// SIGKILL of the first process of a worker. Returns when its successor is ready.
#[track_caller]
fn kill_worker(run: &NamedRun) {
    let before = states(run);
    let victim = i32::try_from(*before.keys().next().unwrap()).unwrap();
    kill(victim, libc::SIGKILL);
    let patience = Patience::new(TIMEOUT);
    while states(run).contains_key(&i64::from(victim)) && !patience.is_over() {
        thread::sleep(Duration::from_millis(20));
    }
    wait_until_settled(run);
}

fn described(tally: &Tally) -> String {
    let kinds = tally.kinds();
    if kinds.is_empty() {
        return "0 lost".to_owned();
    }
    let parts: Vec<String> =
        kinds.iter().map(|(loss, count)| format!("{count} {loss:?}")).collect();
    parts.join(", ")
}
