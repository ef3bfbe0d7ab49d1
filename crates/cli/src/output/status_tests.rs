//! The tables and the JSON of named runs.

use sameport_supervisor::control::client::DeadSupervisor;
use sameport_supervisor::control::{RunHistory, RunInfo, RunRecord};

use sameport_supervisor::control::counters::RunCounters;
use sameport_supervisor::control::protocol::WorkerTreatment;

use super::*;

const NOW: u64 = 1_700_000_000_000;

fn worker(ordinal: u16, pid: Option<i32>, state: WorkerPhase) -> WorkerStatus {
    WorkerStatus {
        ordinal,
        canary: false,
        pid,
        state,
        since: NOW - 5_000,
        restarts: 0,
        why: None,
        connections: Some(12),
        addresses: vec!["127.0.0.1:8080".into()],
        history: WorkerHistory::default(),
    }
}

fn status() -> RunStatus {
    RunStatus {
        name: "web".into(),
        pid: 33,
        version: "0.1.0".into(),
        since: NOW - 7_200_000,
        command: vec!["node".into(), "server.js".into()],
        directory: "/srv/web".into(),
        via: "seccomp".into(),
        copies: 3,
        workers: vec![
            WorkerStatus {
                restarts: 2,
                history: WorkerHistory {
                    last_end: Some("killed by SIGSEGV".into()),
                    last_end_at: Some(NOW - 300_000),
                    ..WorkerHistory::default()
                },
                ..worker(1, Some(41), WorkerPhase::Ready)
            },
            worker(2, Some(42), WorkerPhase::Draining),
            worker(2, Some(43), WorkerPhase::Starting),
            WorkerStatus {
                restarts: 4,
                why: Some("exited with 1".into()),
                history: WorkerHistory {
                    next_start: Some(NOW + 6_400),
                    last_end: Some("exited with 1".into()),
                    last_end_at: Some(NOW - 5_000),
                    output: vec!["Traceback:".into(), "  \u{1b}[2Jerror".into()],
                },
                connections: None,
                addresses: Vec::new(),
                ..worker(3, None, WorkerPhase::Waiting)
            },
        ],
        addresses: vec![
            ListenStatus {
                protocol: "tcp".into(),
                address: "127.0.0.1:8080".into(),
                members: 3,
                queue: 2,
                backlog: 384,
                held: Ok(()),
                steered: Err("nginx (pid 9) is in the group too".into()),
            },
            ListenStatus {
                protocol: "udp".into(),
                address: "[::]:53".into(),
                members: 1,
                queue: 0,
                backlog: 0,
                held: Ok(()),
                steered: Ok(()),
            },
        ],
        remarks: vec!["the record could not be written: no space left".into()],
        treatment: WorkerTreatment {
            counters: RunCounters::default(),
            traffic: Vec::new(),
            drain: Some("busy".into()),
            drains_itself: false,
            log: Some("/var/log/web.log".into()),
            service: None,
            canary: None,
            start: None,
            leaving: None,
        },
    }
}

#[test]
fn a_run_is_told_whole() {
    let expected = "\
web: pid 33, 1 of 3 workers ready, since 2 h, by seccomp
command: node server.js
directory: /srv/web
drain: busy
log: /var/log/web.log

WORKER  PID  STATE     SINCE  RESTARTS  ADDRESS         CONNS
1       41   ready     5 s    2         127.0.0.1:8080  12
2       42   draining  5 s    0         127.0.0.1:8080  12
2       43   starting  5 s    0         127.0.0.1:8080  12
3       -    waiting   5 s    4         -               -

PROTO  ADDRESS         SOCKETS  QUEUE  HELD  STEERED
tcp    127.0.0.1:8080  3        2/384  yes   no
udp    [::]:53         1        0      yes   yes

note: worker 1: killed by SIGSEGV 5 min ago
note: worker 3: exited with 1; starts again in 7 s
  | Traceback:
  |   \\u{1b}[2Jerror
note: 127.0.0.1:8080 is not steered: nginx (pid 9) is in the group too
note: the record could not be written: no space left
";
    assert_eq!(text(&status(), Some(100), NOW), expected);
}

#[test]
fn nothing_to_say_is_not_said() {
    let bare = RunStatus { workers: vec![], addresses: vec![], remarks: vec![], ..status() };
    // The clock was set back.
    assert_eq!(text(&bare, Some(100), 0).lines().count(), 5);
    assert!(text(&bare, Some(100), 0).contains("since 0 s"));
    assert_eq!(list(&[], true, Some(100), NOW), "");
}

#[test]
fn what_others_chose_does_not_steer_the_terminal() {
    let bad = "\u{1b}[2J\n\u{202e}".to_owned();
    let mut status = status();
    status.command = vec![bad.clone().into()];
    status.directory = bad.clone().into();
    status.name.clone_from(&bad);
    status.remarks = vec![bad.clone()];
    status.workers[0].why = Some(bad.clone());
    status.workers[0].addresses = vec![bad];
    let told = text(&status, Some(100), NOW);
    assert!(!told.contains(['\u{1b}', '\u{202e}']), "{told}");
}

fn runs() -> Vec<RunEntry> {
    let about = RunInfo {
        command: vec!["db".into(), "-x y".into()],
        directory: "/".into(),
        since: 0,
        service: None,
        detached: false,
    };
    let mut record = RunRecord::new(&about, &[], RunHistory::default());
    record.pid = 7;
    let gone = DeadSupervisor { record: Some(record), running_workers: vec![8, 9] };
    vec![
        entry("db", Err(ClientError::SupervisorDead(Box::new(gone)))),
        entry("mail", Err(ClientError::NoAnswer(5))),
        entry("web", Ok(Box::new(status()))),
    ]
}

fn entry(name: &str, answer: Result<Box<RunStatus>, ClientError>) -> RunEntry {
    RunEntry { name: name.parse().unwrap(), user: "ann".into(), answer }
}

#[test]
fn every_run_is_one_row() {
    let expected = "\
NAME  PID  WORKERS  SINCE   ADDRESS                 COMMAND
db    7    2        gone    -                       db '-x y'
mail  5    -        silent  -                       -
web   33   1/3      2 h     127.0.0.1:8080 [::]:53  node server.js
";
    assert_eq!(list(&runs(), false, Some(100), NOW), expected);
    let all = list(&runs(), true, None, NOW);
    assert!(all.starts_with("NAME  USER  PID  WORKERS "), "{all}");
    assert!(all.contains("\nweb   ann   33   1/3 "), "{all}");
}

#[test]
fn json_keeps_its_shape() {
    let short = RunStatus {
        workers: vec![worker(1, Some(41), WorkerPhase::GivenUp)],
        addresses: status().addresses[..1].to_vec(),
        ..status()
    };
    let run = concat!(
        r#""name":"web","user":"ann","pid":33,"sameport":"0.1.0","since":1699992800,"#,
        r#""command":["node","server.js"],"directory":"/srv/web","via":"seccomp","copies":3,"drain":"busy","#,
        r#""drains_itself":false,"#,
        r#""workers":[{"worker":1,"canary":false,"pid":41,"state":"given-up","since":1699999995,"restarts":0,"#,
        r#""why":null,"next_start":null,"last_exit":null,"last_exit_at":null,"output":[],"#,
        r#""connections":12,"addresses":["127.0.0.1:8080"]}],"#,
        r#""addresses":[{"proto":"tcp","address":"127.0.0.1:8080","members":3,"queue":2,"#,
        r#""backlog":384,"held":true,"not_held":null,"steered":false,"#,
        r#""not_steered":"nginx (pid 9) is in the group too"}],"#,
        r#""remarks":["the record could not be written: no space left"],"#,
        r#""traffic":[],"counters":{"starts":0,"restarts":0,"ends":[],"refused":0,"cut":0,"changes":[]},"#,
        r#""canary":null,"leaving":false,"stops_at":null,"log":"/var/log/web.log""#
    );
    let one = list_json(&[entry("web", Ok(Box::new(short.clone())))]);
    assert_eq!(one, format!("{{\"version\":1,\"runs\":[{{{run}}}]}}\n"));

    let [dead, ..] = <[RunEntry; 3]>::try_from(runs()).unwrap();
    let told = list_json(&[dead, entry("web", Ok(Box::new(short)))]);
    let start = r#"{"version":1,"runs":[{"name":"db","user":"ann","error":"the supervisor of db (pid 7) is gone"#;
    assert!(told.starts_with(start), "{told}");
    assert!(
        told.contains(r#""running":[8,9],"ended":null,"run":{"since":0,"command":["db","-x y"]"#),
        "{told}"
    );
    assert!(told.ends_with(&format!(r#"}},{{{run}}}]}}{}"#, "\n")), "{told}");
    assert_eq!(list_json(&[]), "{\"version\":1,\"runs\":[]}\n");
}
