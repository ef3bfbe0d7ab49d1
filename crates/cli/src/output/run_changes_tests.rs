//! What is said of changes, and of supervisors that could not be asked.

use sameport_supervisor::control::client::Error;
use sameport_supervisor::control::{About, Record};

use super::*;

fn change(state: State) -> Change {
    Change { at: 7, worker: 2, pid: Some(41), state, why: None, connections: None }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn each_change_is_a_sentence() {
    let cases = [
        (change(State::Starting), "worker 2: pid 41 starts"),
        (change(State::Ready), "worker 2: pid 41 is ready"),
        (
            Change { connections: Some(12), ..change(State::Draining) },
            "worker 2: pid 41 drains, 12 connections open",
        ),
        (
            Change { connections: Some(1), ..change(State::Draining) },
            "worker 2: pid 41 drains, 1 connection open",
        ),
        (change(State::Draining), "worker 2: pid 41 drains"),
        (
            Change { why: Some("exit code 1".into()), ..change(State::Gone) },
            "worker 2: pid 41 has ended: exit code 1",
        ),
        (
            Change { pid: None, why: Some("signal 9".into()), ..change(State::Waiting) },
            "worker 2: it crashed, and is started again after a while: signal 9",
        ),
        (
            Change { pid: None, ..change(State::GivenUp) },
            "worker 2: it crashed too often, and is not started again",
        ),
        (
            Change { why: Some("a\u{1b}[2Jb\n".into()), ..change(State::Gone) },
            "worker 2: pid 41 has ended: a\\u{1b}[2Jb\\n",
        ),
    ];
    for (change, told) in cases {
        assert_eq!(plain(&line(&change)), told);
    }
    assert!(line(&change(State::Ready)).contains("\u{1b}[32mis ready\u{1b}[0m"));
}

#[test]
fn only_a_new_count_of_a_draining_worker_is_no_news() {
    let draining = |at, count| Change { at, connections: Some(count), ..change(State::Draining) };
    assert!(differ_in_connections(&draining(1, 5), &draining(2, 4)));
    assert!(!differ_in_connections(&draining(1, 5), &Change { worker: 3, ..draining(1, 5) }));
    assert!(!differ_in_connections(&draining(1, 5), &Change { pid: None, ..draining(1, 5) }));
    assert!(!differ_in_connections(&draining(1, 5), &change(State::Gone)));
    assert!(!differ_in_connections(&change(State::Ready), &change(State::Ready)));
}

#[test]
fn events_keep_their_shape() {
    let ready = change(State::Ready);
    let told = json(&Event::Change(ToldChange::new(&ready)));
    let expected = concat!(
        r#"{"event":"change","at_ms":7,"worker":2,"pid":41,"state":"ready","why":null,"#,
        r#""connections":null}"#,
        "\n"
    );
    assert_eq!(told, expected);
    assert_eq!(json(&Event::Done), "{\"event\":\"done\"}\n");
    let failed = Event::Failed { error: "no", hint: None };
    assert_eq!(json(&failed), "{\"event\":\"failed\",\"error\":\"no\",\"hint\":null}\n");
}

fn told(error: &Error) -> (Kind, String, String) {
    let failure = failure(&"web".parse().unwrap(), error);
    (failure.kind, failure.message, failure.hint.unwrap_or_default())
}

fn gone(running: &[i32]) -> Error {
    let about = About {
        command: ["node", "it's.js", "a b", "", "--x=1"].map(Into::into).into(),
        directory: "/".into(),
        since: 0,
    };
    let mut record = Record::of_ourselves(&about, &[]);
    record.pid = 33;
    Error::Gone(Gone { record: Some(record), running: running.to_vec() })
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
            Error::Gone(Gone { record: None, running: Vec::new() }),
            "the supervisor of web is gone, and has left no record of its workers",
            "`sameport ls` shows who is on its ports".to_owned(),
        ),
    ];
    for (error, message, hint) in cases {
        assert_eq!(told(&error), (Kind::CouldNotBeDone, message.to_owned(), hint));
    }
    let many: Vec<i32> = (100..200).collect();
    let (_, message, hint) = told(&gone(&many));
    assert!(message.contains("115 and 84 more") && hint.contains(" 199;"), "{message} {hint}");
}

#[test]
fn other_errors_name_the_supervisor_and_the_next_step() {
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let failed = |fault| Error::Failed {
        fault,
        error: "x\n: command not found".into(),
        hint: Some("y".into()),
    };
    let cases = [
        (Error::NoSuchRun(names(&[])), "no run named web, nor any other", "run --name web"),
        (Error::NoSuchRun(names(&["a", "b"])), "there is no run named web", "there is a, b"),
        (Error::Silent(33), "(pid 33) does not answer", "kill -CONT 33"),
        (Error::Ended(33), "(pid 33) ended before it was done", "sameport status web"),
        (Error::Unreachable(ConnectError::Busy), "another connection", "try again"),
        (Error::Unreachable(ConnectError::Foreign(7)), "user 7 listens in the place of", ""),
        (failed(Fault::Other), "x\\n: command not found", "y"),
    ];
    for (error, message, hint) in cases {
        let (kind, said, next) = told(&error);
        assert!(said.contains(message) && next.contains(hint), "{said}; {next}");
        assert_eq!(kind, Kind::CouldNotBeDone);
    }
    assert_eq!(told(&failed(Fault::NotFound)).0, Kind::NotFound);
    assert_eq!(told(&failed(Fault::NotExecutable)).0, Kind::NotExecutable);
}
