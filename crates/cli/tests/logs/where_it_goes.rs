//! Output that is not kept: `logs` says where it goes, and what to do.

use crate::harness::named_run::RunSetup;
use crate::harness::{User, spawn_process};
use crate::run_with_kept_output::{KeptRun, user};

const SERVER: &str = "echo hello; exec sleep 1000";

#[test]
fn a_run_in_the_foreground_keeps_nothing() {
    let run = RunSetup::new(user()).run(&["--ready-timeout", "20m"], &["sh", "-c", SERVER]);
    run.supervisor.wait_for_stdout("hello\n");
    let exited = run.try_verb("logs", &[]);
    assert_eq!(exited.code, 1, "{exited:?}");
    let pid = run.supervisor.pid();
    let message = format!("runs in the foreground (pid {pid}): its workers write to the program");
    assert!(exited.stderr.contains(&message) && exited.stderr.contains("--detach"), "{exited:?}");
    run.verb("stop", &["--now"]);
    let exited = run.try_verb("logs", &[]);
    assert_eq!(exited.code, 1, "{exited:?}");
    assert!(exited.stderr.contains("its output was not kept"), "{exited:?}");
}

#[test]
fn a_file_of_the_user_is_read_without_workers() {
    let setup = RunSetup::new(user());
    let file = setup.dir.join("log");
    let options = ["--ready-timeout", "20m", "--log", file.to_str().unwrap()];
    let run = setup.run(&options, &["sh", "-c", SERVER]);
    let found = crate::harness::eventually(|| {
        let exited = run.try_verb("logs", &[]);
        (exited.code == 0 && exited.stdout == "hello\n").then_some(())
    });
    assert!(found.is_some(), "{:?}", run.try_verb("logs", &[]));
    let exited = run.try_verb("logs", &["--worker", "1"]);
    assert_eq!(exited.code, 2, "{exited:?}");
    assert!(exited.stderr.contains("--worker"), "{exited:?}");
    let follower = spawn_process(run.setup.command(&["logs", &run.setup.name, "-f"]));
    follower.wait_for_stdout("hello\n");
    run.verb("stop", &["--now"]);
    let followed = follower.wait();
    assert_eq!(followed.code, 0, "{followed:?}");
    let exited = spawn_process(run.setup.command(&["logs", &run.setup.name])).wait();
    assert_eq!((exited.code, exited.stdout.as_str()), (0, "hello\n"));
}

#[test]
fn a_name_that_is_mistyped_is_answered_with_the_nearest() {
    let run = KeptRun::start(&[], SERVER);
    run.wait_for("hello");
    let name = format!("{}x", run.setup.name);
    let mut command = run.setup.command(&["logs", &name]);
    command.env("XDG_STATE_HOME", &run.setup.dir).env_remove("LOGS_DIRECTORY");
    let exited = spawn_process(command).wait();
    assert_eq!(exited.code, 1, "{exited:?}");
    let hint = format!("did you mean `sameport logs {}`?", run.setup.name);
    assert!(exited.stderr.contains(&hint), "{exited:?}");
}

/// The sizes of files that nothing writes would be ignored.
#[test]
fn sizes_of_files_are_for_runs_in_the_background() {
    let setup = RunSetup::new(User::Current);
    for (option, value) in [("--log-size", "1M"), ("--log-files", "3")] {
        let command = setup.run_command(&[option, value], &["sh", "-c", "exit 9"]);
        let exited = spawn_process(command).wait();
        assert_eq!(exited.code, 2, "{exited:?}");
        let why = format!("error: {option} is for --detach");
        assert!(exited.stderr.contains(&why) && exited.stderr.contains("hint: "), "{exited:?}");
        let words = ["install-service", "--dry-run", "web", option, value, "--", "true"];
        let exited = spawn_process(setup.command(&words)).wait();
        assert!(exited.code == 2 && exited.stderr.contains("the journal"), "{exited:?}");
    }
}
