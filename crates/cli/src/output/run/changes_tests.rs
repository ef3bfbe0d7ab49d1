//! The lines and the JSON of changes.

use super::*;

fn change(state: WorkerPhase) -> WorkerUpdate {
    WorkerUpdate {
        at: 7,
        canary: false,
        worker: 2,
        pid: Some(41),
        state,
        why: None,
        connections: None,
        in_hand: None,
        next_start: None,
    }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn each_change_is_a_sentence() {
    let cases = [
        (change(WorkerPhase::Starting), "worker 2 (pid 41) starts"),
        (change(WorkerPhase::Ready), "worker 2 (pid 41) is ready"),
        (
            WorkerUpdate { connections: Some(12), ..change(WorkerPhase::Draining) },
            "worker 2 (pid 41) drains, 12 connections open",
        ),
        (
            WorkerUpdate { connections: Some(1), ..change(WorkerPhase::Draining) },
            "worker 2 (pid 41) drains, 1 connection open",
        ),
        (change(WorkerPhase::Draining), "worker 2 (pid 41) drains"),
        (
            WorkerUpdate { why: Some("exit code 1".into()), ..change(WorkerPhase::Gone) },
            "worker 2 (pid 41) has ended: exit code 1",
        ),
        (
            WorkerUpdate {
                pid: None,
                why: Some("signal 9".into()),
                next_start: Some(6_407),
                ..change(WorkerPhase::Waiting)
            },
            "worker 2 starts again in 7 s: signal 9",
        ),
        (
            WorkerUpdate { pid: None, ..change(WorkerPhase::GivenUp) },
            "worker 2 crashed repeatedly and is not started again",
        ),
        (
            WorkerUpdate { why: Some("a\u{1b}[2Jb\n".into()), ..change(WorkerPhase::Gone) },
            "worker 2 (pid 41) has ended: a\\u{1b}[2Jb\\n",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(plain(&colored_sentence(&change)), expected);
    }
    assert!(colored_sentence(&change(WorkerPhase::Ready)).contains("\u{1b}[32mis ready\u{1b}[0m"));
}

#[test]
fn only_the_count_of_a_draining_worker_is_a_recount() {
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
    let change = change_json(&ready);
    let expected = concat!(
        r#"{"event":"change","at_ms":7,"worker":2,"canary":false,"pid":41,"state":"ready","why":null,"#,
        r#""connections":null,"in_hand":null,"next_start_ms":null}"#,
        "\n"
    );
    assert_eq!(change, expected);
    assert_eq!(done_json(), "{\"event\":\"done\"}\n");
    let failed = failed_json(&Failure::failed("no"));
    assert_eq!(failed, "{\"event\":\"failed\",\"error\":\"no\",\"hint\":null}\n");
}

/// A restart reports other workers between two counts of a worker that drains.
#[test]
fn a_worker_drains_once_in_a_log() {
    let drains = |pid, connections| WorkerUpdate {
        pid: Some(pid),
        connections,
        ..change(WorkerPhase::Draining)
    };
    let starts = WorkerUpdate { worker: 2, pid: Some(50), ..change(WorkerPhase::Starting) };
    for (is_terminal, again) in [(false, ChangeLine::Omitted), (true, ChangeLine::Again)] {
        let mut changes = RunChanges { json: false, is_terminal, draining: vec![], last: None };
        let lines = [
            (drains(41, None), ChangeLine::New),
            (drains(41, Some(1)), again),
            (starts.clone(), ChangeLine::New),
            (drains(41, Some(0)), ChangeLine::Omitted),
            // Another instance, and the same pid in another phase.
            (drains(42, Some(1)), ChangeLine::New),
            (WorkerUpdate { pid: Some(41), ..change(WorkerPhase::Gone) }, ChangeLine::New),
            (drains(41, Some(1)), ChangeLine::New),
        ];
        for (change, expected) in lines {
            assert_eq!(changes.line(&change), expected, "{change:?}");
        }
    }
}
