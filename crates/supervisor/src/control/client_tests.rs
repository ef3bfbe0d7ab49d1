//! Clients of a supervisor that answers, of one that hangs, and of a dead one.

use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Command, Stdio};

use sameport_sys::run_files::{ConnectError, NameClaim};

use super::*;
use crate::control::codec;
use crate::control::fixtures::{ControlFixture, NAME, about, change};
use crate::control::protocol::{FaultKind, WorkerPhase};
use crate::control::record::RunInfo;

fn runs(folder: &Path) -> Client {
    Client { folders: vec![folder.to_owned()], timeout: Duration::from_secs(10), owner: None }
}

fn web() -> RunName {
    NAME.parse().unwrap()
}

fn no_changes(change: &WorkerUpdate) {
    panic!("{change:?}")
}

#[test]
fn a_supervisor_answers() {
    let fixture = ControlFixture::willing();
    let runs = runs(&fixture.folder());
    assert_eq!(runs.status(&web()).unwrap().command, about().command);
    let mut heard = Vec::new();
    let restart = ControlRequest::Restart { surge: Some(3), now: false };
    runs.change(&web(), restart, &mut |change| heard.push(change.clone())).unwrap();
    assert_eq!(heard, [1, 2, 3].map(change));
    match runs.change(&web(), ControlRequest::Scale { copies: 9 }, &mut no_changes) {
        Err(ClientError::Failed { fault: FaultKind::Other, error, hint }) => {
            assert_eq!((&*error, hint.as_deref()), ("Scale { copies: 9 }", Some("next")));
        }
        other => panic!("{other:?}"),
    }
    let all = runs.list();
    assert!(matches!(&all[..], [run] if run.name == web() && run.answer.is_ok()), "{all:?}");
    // The last reply arrives, although the supervisor ends at once.
    runs.change(&web(), ControlRequest::Stop, &mut no_changes).unwrap();
    fixture.ended();
    assert!(runs.list().is_empty());
}

#[test]
fn a_command_arrives_byte_for_byte() {
    let words = ["node", "", "--x=\u{1b}\n\"é\"", "[1,2]"].map(OsString::from);
    let bytes = OsString::from_vec((1..=255).collect());
    let command: Vec<_> = words.into_iter().chain([bytes]).collect();
    let fixture = ControlFixture::willing();
    let upgrade = ControlRequest::Upgrade { command };
    match runs(&fixture.folder()).change(&web(), upgrade.clone(), &mut no_changes) {
        Err(ClientError::Failed { error, .. }) => assert_eq!(error, format!("{upgrade:?}")),
        other => panic!("{other:?}"),
    }
    let endless = ControlRequest::Upgrade { command: vec!["x".repeat(1 << 20).into()] };
    match runs(&fixture.folder()).change(&web(), endless, &mut no_changes) {
        Err(ClientError::TooLong(bytes, most)) => assert!(bytes > 1 << 20 && most < bytes),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_not_there_is_told_from_who_is() {
    let fixture = ControlFixture::willing();
    match runs(&fixture.folder()).status(&"other".parse().unwrap()) {
        Err(ClientError::NoSuchRun(names)) => assert_eq!(names, [web()]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_supervisor_that_ends_on_the_way_is_no_success() {
    let fixture = ControlFixture::new(|door, mut calls| async move {
        let call = calls.recv().await.unwrap();
        call.responder.send_update(&change(1));
        drop((call, calls));
        door.close().await;
    });
    let mut heard = Vec::new();
    let result = runs(&fixture.folder())
        .change(&web(), ControlRequest::Stop, &mut |change| heard.push(change.clone()));
    assert!(
        matches!(&result, Err(ClientError::Failed { error, .. }) if error.contains("ended before")),
        "{result:?}"
    );
    assert_eq!(heard, [change(1)]);
    fixture.ended();
}

/// A stopped process, for example: the kernel completes the connection, and no code reads it.
#[test]
fn a_supervisor_that_does_not_answer_is_named() {
    let room = tempfile::tempdir().unwrap();
    let folder = room.path().join("sameport");
    let claim = NameClaim::take(&web(), std::slice::from_ref(&folder)).unwrap();
    let listener = claim.listen().unwrap();
    let hasty = Client { timeout: Duration::from_millis(50), ..runs(&folder) };
    let ours = std::process::id().cast_signed();
    assert!(matches!(hasty.status(&web()), Err(ClientError::NoAnswer(pid)) if pid == ours));
    // Until no more connections fit.
    let full = (0..1000).map(|_| hasty.status(&web())).find_map(|answer| match answer {
        Err(ClientError::NoAnswer(_)) => None,
        Err(other) => Some(other),
        Ok(status) => panic!("{status:?}"),
    });
    assert!(matches!(full, Some(ClientError::Unreachable(ConnectError::Busy))), "{full:?}");
    drop(listener);
}

#[test]
fn somebody_else_in_its_place_is_no_supervisor() {
    let room = tempfile::tempdir().unwrap();
    let folder = room.path().join("sameport");
    let claim = NameClaim::take(&web(), std::slice::from_ref(&folder)).unwrap();
    let listener = claim.listen().unwrap();
    listener.set_nonblocking(false).unwrap();
    let answers: [(&[u8], &str); 6] = [
        (b"", "Ended"),
        (b"HTT", "Ended"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "TooLong(1213486160)"),
        (b"\x7f\xff\xff\xff{", "TooLong(2147483647)"),
        (b"\0\0\0\x06\"done\"", "out of turn"),
        (b"\0\0\0\x02{}", "Invalid"),
    ];
    for (answer, expected) in answers {
        std::thread::scope(|scope| {
            scope.spawn(|| listener.accept().unwrap().0.write_all(answer).unwrap());
            let error = format!("{:?}", runs(&folder).status(&web()).unwrap_err());
            assert!(error.contains(expected), "{error}");
        });
    }
}

#[test]
fn of_a_dead_supervisor_its_record_and_its_workers_are_left() {
    let room = tempfile::tempdir().unwrap();
    let folder = room.path().join("sameport");
    let claim = NameClaim::take(&web(), std::slice::from_ref(&folder)).unwrap();
    let mut sleepers = [(); 2].map(|()| {
        Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().expect("sleep is everywhere")
    });
    let pids = sleepers.each_ref().map(|child| child.id().cast_signed());
    let about = RunInfo { since: 5, ..about() };
    let record = RunRecord::new(
        &about,
        &[pids[0], pids[1], i32::MAX, -1],
        crate::control::RunHistory::default(),
    );
    drop(claim.listen().unwrap());
    let dead = |running: &[i32]| match runs(&folder).status(&web()) {
        Err(ClientError::SupervisorDead(dead)) => {
            let DeadSupervisor { record: Some(found), running_workers: found_running } = *dead
            else {
                panic!("no record");
            };

            assert_eq!((&found, &found_running[..]), (&record, running));
        }
        other => panic!("{other:?}"),
    };
    assert!(matches!(
        runs(&folder).status(&web()),
        Err(ClientError::SupervisorDead(dead)) if dead.record.is_none()
    ));
    claim.write_record(&serde_json::to_vec(&record).unwrap()).unwrap();
    dead(&pids);
    sleepers[0].kill().and_then(|()| sleepers[0].wait()).unwrap();
    dead(&pids[1..]);
    sleepers[1].kill().and_then(|()| sleepers[1].wait()).unwrap();
    dead(&[]);
    // An unreadable record, such as one of another version.
    claim.write_record(b"{\"pid\":").unwrap();
    assert!(matches!(
        runs(&folder).status(&web()),
        Err(ClientError::SupervisorDead(dead)) if dead.record.is_none()
    ));
    let all = runs(&folder).list();
    assert!(
        matches!(&all[..], [RunEntry { answer: Err(ClientError::SupervisorDead(_)), .. }]),
        "{all:?}"
    );
}

#[test]
fn every_message_is_read_as_it_was_written() {
    let there_and_back = |reply: ControlReply| {
        let bytes = codec::encode(&reply, codec::MAX_REPLY).unwrap();
        let read: Option<ControlReply> = codec::read(&mut &bytes[..], codec::MAX_REPLY).unwrap();
        assert_eq!(read, Some(reply));
    };
    there_and_back(ControlReply::Accepted);
    there_and_back(ControlReply::Done);
    there_and_back(ControlReply::Update(WorkerUpdate {
        state: WorkerPhase::GivenUp,
        pid: None,
        ..change(3)
    }));
    let status = crate::control::fixtures::status();
    there_and_back(ControlReply::Status(Box::new(RunStatus {
        command: vec!["x".into()],
        ..status
    })));
    let most = codec::MAX_REPLY;
    assert!(codec::read::<ControlReply>(&mut &b"\xff\xff\xff\xff"[..], most).is_err());
    assert!(codec::read::<ControlReply>(&mut &b""[..], most).unwrap().is_none());
}
