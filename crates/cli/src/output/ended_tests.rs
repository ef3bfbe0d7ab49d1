//! The text and the JSON of runs that have ended.

use sameport_supervisor::control::RunRecord;
use sameport_supervisor::control::client::DeadSupervisor;

use super::*;

const NOW: u64 = 1_700_000_000_000;

fn info() -> RunInfo {
    let command = vec!["./server".into(), "8080".into()];
    let directory = "/srv".into();
    RunInfo { command, directory, since: NOW - 7_500_000, service: None, detached: false }
}

fn history() -> RunHistory {
    let worker = EndedWorker {
        ordinal: 1,
        restarts: 5,
        last_end: Some("exited with 1".into()),
        last_end_at: Some(NOW - 300_000),
        addresses: vec!["tcp 0.0.0.0:80".into(), "udp [::]:53".into()],
        output: vec!["\u{1b}[2Jerror".into()],
    };
    let workers = vec![worker, EndedWorker { ordinal: 2, ..EndedWorker::default() }];
    RunHistory { log: Some("/var/log/web.log".into()), workers, ..RunHistory::default() }
}

fn ended() -> ClientError {
    ClientError::Ended(Box::new(EndedRun {
        pid: 33,
        info: info(),
        ended: NOW - 300_000,
        why: "stopped by SIGTERM".into(),
        exit_code: 0,
        start_line: None,
        history: history(),
    }))
}

fn dead() -> ClientError {
    let mut record = RunRecord::new(&info(), &[], history());
    record.pid = 33;
    ClientError::SupervisorDead(Box::new(DeadSupervisor {
        record: Some(record),
        running_workers: vec![8],
    }))
}

const REST: &str = "\
command: ./server 8080
directory: /srv
log: /var/log/web.log

WORKER  RESTARTS  ENDED      HOW            ADDRESS
1       5         5 min ago  exited with 1  0.0.0.0:80 udp [::]:53
2       0         -          -              -

last output of worker 1:
  | \\u{1b}[2Jerror
";

#[test]
fn the_end_of_a_run() {
    let name: RunName = "web".parse().unwrap();
    let first = "web: ended 5 min ago, after 2 h: stopped by SIGTERM; exit code 0\n";
    assert_eq!(text(&name, &ended(), Some(100), NOW), format!("{first}{REST}"));
    let first = "web: the supervisor was killed; started 2 h ago\n";
    assert_eq!(text(&name, &dead(), Some(100), NOW), format!("{first}{REST}"));
    assert_eq!(text(&name, &ClientError::NoSuchRun(Vec::new()), Some(100), NOW), "");
}

#[test]
fn json_of_an_ended_run() {
    let name: RunName = "web".parse().unwrap();
    let run = concat!(
        r#""run":{"since":1699992500,"command":["./server","8080"],"directory":"/srv","#,
        r#""log":"/var/log/web.log","workers":[{"worker":1,"restarts":5,"#,
        r#""last_exit":"exited with 1","last_exit_at":1699999700,"#,
        r#""addresses":["tcp 0.0.0.0:80","udp [::]:53"],"output":["\u001b[2Jerror"]},"#,
    );
    let json = |error: &ClientError| serde_json::to_string(&view(&name, "ann", error)).unwrap();
    let told = json(&ended());
    let end = r#""ended":{"at":1699999700,"why":"stopped by SIGTERM","exit_code":0,"pid":33},"#;
    assert!(told.starts_with(r#"{"name":"web","user":"ann","error":"web has ended: "#), "{told}");
    assert!(told.contains(&format!("{end}{run}")), "{told}");
    let told = json(&dead());
    assert!(told.contains(&format!(r#""ended":null,{run}"#)), "{told}");
    let told = json(&ClientError::NoSuchRun(Vec::new()));
    assert!(told.ends_with("\"running\":[],\"ended\":null,\"run\":null}"), "{told}");
}
