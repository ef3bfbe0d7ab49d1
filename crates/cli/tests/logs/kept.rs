//! Lines, their order and their bytes, rotation, and following.

use serde_json::Value;

use crate::harness::named_run::RunSetup;
use crate::harness::terminal::terminal;
use crate::harness::{eventually, spawn_process};
use crate::run_with_kept_output::{KeptRun, user};

#[test]
fn lines_of_both_outputs_have_a_time_the_run_and_the_worker() {
    let run = KeptRun::start(
        &["-n", "2"],
        "echo out $SAMEPORT_WORKER; echo err >&2; printf half; exec sleep 1000",
    );
    run.wait_for(".1 + half");
    let all = run.wait_for(".2 + half");
    let name = &run.setup.name;
    for worker in [1, 2] {
        let of_worker = run.logs(&["--worker", &worker.to_string()]);
        let texts: Vec<&str> =
            of_worker.lines().map(|line| line.split_once(' ').expect("a time").1).collect();
        let expected = ["| out #", "| err", "+ half"]
            .map(|text| format!("{name}.{worker} {}", text.replace('#', &worker.to_string())));
        assert_eq!(texts, expected, "{all}");
    }
    let time = all.split(' ').next().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    // The choices.
    assert_eq!(run.logs(&["-n", "1", "--worker", "2"]).lines().count(), 1);
    assert_eq!(run.logs(&["-n", "0"]), "");
    assert!(run.logs(&["--since", "10m"]).contains("out 1"));
    assert_eq!(run.logs(&["--since", "2200-01-01T00:00:00Z"]), "");
    let json = run.logs(&["--json", "-n", "1", "--worker", "1"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["run"], &json["worker"], &json["text"], &json["complete"]),
        (&name.as_str().into(), &1.into(), &"half".into(), &false.into())
    );
    // The run's own messages are there too, also of its end; a run that has ended still has its lines.
    let follower = run.follow(&[]);
    follower.wait_for_stdout("half");
    assert_eq!(run.verb("stop", &[]).code, 0);
    let followed = follower.wait();
    assert_eq!(followed.code, 0, "{followed:?}");
    assert!(followed.stderr.contains("has ended: stopped by `sameport stop`"), "{followed:?}");
    let after = run.logs(&[]);
    assert!(after.contains(&format!("{name} | sameport: worker 1")), "{after}");
    assert!(after.contains("out 2"), "{after}");
    assert_eq!(run.follow(&["-n", "0"]).wait().code, 0);
}

/// The bytes that the worker wrote, from the records.
fn joined(records: &[u8], label: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in records.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b' ') else { continue };
        let Some(rest) = line[at + 1..].strip_prefix(label.as_bytes()) else { continue };
        bytes.extend_from_slice(&rest[3..]);
        bytes.extend((rest[1] == b'|').then_some(b'\n'));
    }
    bytes
}

#[test]
fn every_byte_is_kept_and_a_terminal_executes_none() {
    let script = r"printf 'a\000b\033[31m\377\t\rc\n'; head -c 100000 /dev/zero; printf 'x\n\ny'";
    let run = KeptRun::start(&[], &format!("{script}; printf z; exec sleep 1000"));
    run.wait_for("+ yz");
    let output = run.command("logs", &["--worker", "1"]).output().unwrap();
    let mut expected = b"a\0b\x1b[31m\xff\t\rc\n".to_vec();
    expected.resize(expected.len() + 100_000, 0);
    expected.extend_from_slice(b"x\n\nyz");
    let found = joined(&output.stdout, &format!("{}.1", run.setup.name));
    assert!(found == expected, "{} bytes in place of {}", found.len(), expected.len());
    // A terminal.
    let mut command = run.command("logs", &["--worker", "1"]);
    command.env("NO_COLOR", "1");
    let (mut terminal, theirs) = terminal();
    command.stdout(theirs);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut shown = Vec::new();
    let _ = std::io::Read::read_to_end(&mut terminal, &mut shown);
    assert!(child.wait().unwrap().success());
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains(r"a\u{0}b\u{1b}[31m"), "{}", &shown[..200.min(shown.len())]);
    assert!(!shown.contains('\x1b'));
}

#[test]
fn a_follower_misses_no_line_of_files_that_are_replaced() {
    let run = KeptRun::start(
        &["--log-size", "64K", "--log-files", "1000"],
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; exec sleep 1000",
    );
    let follower = run.follow(&["-n", "1000000"]);
    follower.wait_for_stdout("line 20000\n");
    assert_eq!(run.verb("stop", &[]).code, 0);
    let followed = follower.wait();
    let lines: Vec<&str> = followed
        .stdout
        .lines()
        .filter_map(|line| line.split_once(".1 | line "))
        .map(|it| it.1)
        .collect();
    let expected: Vec<String> = (1..=20_000).map(|it| it.to_string()).collect();
    assert_eq!(lines.len(), expected.len(), "{}", followed.stderr);
    assert_eq!(lines, expected);
    let files = std::fs::read_dir(run.directory()).unwrap().count();
    assert!(files > 5, "{files} files");
    assert_eq!(run.texts(1).len(), 20_000);
}

#[test]
fn old_files_are_removed_and_the_rest_is_shown() {
    let run = KeptRun::start(
        &["--log-size", "64K", "--log-files", "2"],
        "i=0; while [ $i -lt 9000 ]; do i=$((i+1)); echo line $i; done; exec sleep 1000",
    );
    run.wait_for("line 9000\n");
    let gone = eventually(|| {
        let names = std::fs::read_dir(run.directory()).unwrap().flatten();
        (names.count() == 3).then_some(())
    });
    assert!(gone.is_some(), "current, log.N and lock");
    let texts = run.texts(1);
    assert!(texts.len() < 9000 && texts.last().unwrap() == "line 9000", "{}", texts.len());
}

#[test]
fn status_has_the_last_words_of_a_worker_that_crashed() {
    let run = KeptRun { setup: RunSetup::new(user()) };
    let command = run.start_command(&["--max-restarts", "0"], "echo last words >&2; exit 3");
    // The run may end before the process that has started it learns that it has begun.
    drop(spawn_process(command).wait());
    let ended = eventually(|| {
        let status = run.verb("status", &[]);
        (status.code == 1 && status.stdout.contains("last words")).then_some(status)
    });
    assert!(ended.is_some(), "{:?}", run.verb("status", &[]));
    let logs = run.logs(&[]);
    assert!(logs.contains(".1 | last words"), "{logs}");
    let followed = run.follow(&[]).wait();
    assert_eq!(followed.code, 0);
    assert!(followed.stderr.contains("--max-restarts"), "{followed:?}");
}

#[test]
fn a_reader_that_has_enough_ends_logs() {
    let run = KeptRun::start(&[], "while echo y; do :; done");
    let mut command = run.command("logs", &["-f"]);
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = [0; 100];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    drop(child.stdout.take());
    let exited = eventually(|| child.try_wait().unwrap());
    assert_eq!(exited.and_then(|status| status.code()), Some(0));
    drop(spawn_process(run.command("stop", &["--now"])).wait());
}
