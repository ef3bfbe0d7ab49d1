//! What is said of changes, and of supervisors that could not be asked.

use sameport_supervisor::control::client::ClientError;
use sameport_supervisor::control::{RunInfo, RunRecord};

use super::*;

fn change(state: WorkerPhase) -> WorkerUpdate {
    WorkerUpdate { at: 7, worker: 2, pid: Some(41), state, why: None, connections: None }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn each_change_is_a_sentence() {
    let cases = [
        (change(WorkerPhase::Starting), "worker 2: pid 41 starts"),
        (change(WorkerPhase::Ready), "worker 2: pid 41 is ready"),
        (
            WorkerUpdate { connections: Some(12), ..change(WorkerPhase::Draining) },
            "worker 2: pid 41 drains, 12 connections open",
        ),
        (
            WorkerUpdate { connections: Some(1), ..change(WorkerPhase::Draining) },
            "worker 2: pid 41 drains, 1 connection open",
        ),
        (change(WorkerPhase::Draining), "worker 2: pid 41 drains"),
        (
            WorkerUpdate { why: Some("exit code 1".into()), ..change(WorkerPhase::Gone) },
            "worker 2: pid 41 has ended: exit code 1",
        ),
        (
            WorkerUpdate {
                pid: None,
                why: Some("signal 9".into()),
                ..change(WorkerPhase::Waiting)
            },
            "worker 2: it crashed, and is started again after a while: signal 9",
        ),
        (
            WorkerUpdate { pid: None, ..change(WorkerPhase::GivenUp) },
            "worker 2: it crashed too often, and is not started again",
        ),
        (
            WorkerUpdate { why: Some("a\u{1b}[2Jb\n".into()), ..change(WorkerPhase::Gone) },
            "worker 2: pid 41 has ended: a\\u{1b}[2Jb\\n",
        ),
    ];
    for (change, told) in cases {
        assert_eq!(plain(&line(&change)), told);
    }
    assert!(line(&change(WorkerPhase::Ready)).contains("\u{1b}[32mis ready\u{1b}[0m"));
}

#[test]
fn only_a_new_count_of_a_draining_worker_is_no_news() {
    let draining =
        |at, count| WorkerUpdate { at, connections: Some(count), ..change(WorkerPhase::Draining) };
    assert!(differ_in_connections(&draining(1, 5), &draining(2, 4)));
    assert!(!differ_in_connections(&draining(1, 5), &WorkerUpdate { worker: 3, ..draining(1, 5) }));
    assert!(!differ_in_connections(&draining(1, 5), &WorkerUpdate { pid: None, ..draining(1, 5) }));
    assert!(!differ_in_connections(&draining(1, 5), &change(WorkerPhase::Gone)));
    assert!(!differ_in_connections(&change(WorkerPhase::Ready), &change(WorkerPhase::Ready)));
}

#[test]
fn events_keep_their_shape() {
    let ready = change(WorkerPhase::Ready);
    let told = json(&RunChangeEvent::Change(ToldChange::new(&ready)));
    let expected = concat!(
        r#"{"event":"change","at_ms":7,"worker":2,"pid":41,"state":"ready","why":null,"#,
        r#""connections":null}"#,
        "\n"
    );
    assert_eq!(told, expected);
    assert_eq!(json(&RunChangeEvent::Done), "{\"event\":\"done\"}\n");
    let failed = RunChangeEvent::Failed { error: "no", hint: None };
    assert_eq!(json(&failed), "{\"event\":\"failed\",\"error\":\"no\",\"hint\":null}\n");
}

fn told(error: &ClientError) -> (ExitKind, String, String) {
    let failure = failure(&"web".parse().unwrap(), error);
    (failure.kind, failure.message, failure.hint.unwrap_or_default())
}

fn gone(running: &[i32]) -> ClientError {
    let about = RunInfo {
        command: ["node", "it's.js", "a b", "", "--x=1"].map(Into::into).into(),
        directory: "/".into(),
        since: 0,
    };
    let mut record = RunRecord::of_ourselves(&about, &[]);
    record.pid = 33;
    ClientError::Gone(DeadSupervisor { record: Some(record), running: running.to_vec() })
}

#[test]
fn a_dead_supervisor_is_explained_with_the_next_step() {
    let again = r"sameport run --name web … -- node 'it'\''s.js' 'a b' '' --x=1";
    let cases = [
        (
            gone(&[41, 42]),
            "the supervisor of web (pid 33) is gone; its workers (pids 41, 42) keep serving, and \
             can bind nothing new",
            format!("end them and start it again: kill 41 42; {again}"),
        ),
        (
            gone(&[41]),
            "the supervisor of web (pid 33) is gone; its worker (pid 41) keeps serving, and can \
             bind nothing new",
            format!("end it and start it again: kill 41; {again}"),
        ),
        (
            gone(&[]),
            "the supervisor of web (pid 33) is gone, and so are its workers",
            format!("start it again: {again}"),
        ),
        (
            ClientError::Gone(DeadSupervisor { record: None, running: Vec::new() }),
            "the supervisor of web is gone, and has left no record of its workers",
            "`sameport ls` shows who is on its ports".to_owned(),
        ),
    ];
    for (error, message, hint) in cases {
        assert_eq!(told(&error), (ExitKind::CouldNotBeDone, message.to_owned(), hint));
    }
    let many: Vec<i32> = (100..200).collect();
    let (_, message, hint) = told(&gone(&many));
    assert!(message.contains("115 and 84 more") && hint.contains(" 199;"), "{message} {hint}");
}

#[test]
fn other_errors_name_the_supervisor_and_the_next_step() {
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let failed = |fault| ClientError::Failed {
        fault,
        error: "x\n: command not found".into(),
        hint: Some("y".into()),
    };
    let cases = [
        (ClientError::NoSuchRun(names(&[])), "no run named web, nor any other", "run --name web"),
        (ClientError::NoSuchRun(names(&["a", "b"])), "there is no run named web", "there is a, b"),
        (ClientError::Silent(33), "(pid 33) does not answer", "kill -CONT 33"),
        (ClientError::Ended(33), "(pid 33) ended before it was done", "sameport status web"),
        (ClientError::Unreachable(ConnectError::Busy), "another connection", "try again"),
        (
            ClientError::Unreachable(ConnectError::OtherUser(7)),
            "user 7 listens in the place of",
            "",
        ),
        (failed(FaultKind::Other), "x\\n: command not found", "y"),
    ];
    for (error, message, hint) in cases {
        let (kind, said, next) = told(&error);
        assert!(said.contains(message) && next.contains(hint), "{said}; {next}");
        assert_eq!(kind, ExitKind::CouldNotBeDone);
    }
    assert_eq!(told(&failed(FaultKind::NotFound)).0, ExitKind::NotFound);
    assert_eq!(told(&failed(FaultKind::NotExecutable)).0, ExitKind::NotExecutable);
}
