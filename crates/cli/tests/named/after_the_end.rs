//! `status` of runs that have ended, of runs whose workers ended, and for monitoring.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::Value;

use crate::harness::named_run::{NamedRun, RunSetup, only_run, rogue_command};
use crate::harness::{Exited, User, chown_to, eventually, kill, spawn_process};

/// `status NAME OPTIONS` after the end of the supervisor.
fn status(setup: &RunSetup, options: &[&str]) -> Exited {
    let words: Vec<&str> =
        ["status", &setup.name].into_iter().chain(options.iter().copied()).collect();
    spawn_process(setup.command(&words)).wait()
}

fn json(setup: &RunSetup) -> Value {
    let exited = status(setup, &["--json"]);
    assert_eq!(exited.code, 1, "{exited:?}");
    only_run(&exited.stdout)
}

/// The same names, after the run itself has ended.
fn again(setup: &RunSetup) -> RunSetup {
    RunSetup {
        user: setup.user,
        name: setup.name.clone(),
        port: setup.port,
        dir: setup.dir.clone(),
    }
}

#[test]
fn a_stopped_run_leaves_a_report() {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let later = again(&setup);
        let run = setup.run(&["-n", "2"], &rogue_command("good"));
        run.wait_for_ready(2);
        run.stop();
        let exited = status(&later, &[]);
        assert_eq!(exited.code, 1, "{exited:?}");
        assert!(exited.stderr.contains("has ended: stopped by `sameport stop`"), "{exited:?}");
        assert!(exited.stderr.contains("\nhint: start it again: "), "{exited:?}");
        assert!(exited.stdout.contains(&format!("127.0.0.1:{}", later.port)), "{exited:?}");
        let told = json(&later);
        assert_eq!(told["ended"]["exit_code"], 0, "{told}");
        assert_eq!(told["run"]["workers"].as_array().map(Vec::len), Some(2), "{told}");
        let report = later.dir.join("sameport").join(format!("{}.ended", later.name));
        assert_eq!(std::fs::metadata(&report).unwrap().mode() & 0o777, 0o600);
        // It is no run.
        let list = spawn_process(later.command(&["status", "--json"])).wait();
        let name = format!("\"name\":\"{}\"", later.name);
        assert!(list.code == 0 && !list.stdout.contains(&name), "{list:?}");
        // The next run of the name removes it.
        let run = again(&later).run(&[], &rogue_command("good"));
        assert!(!report.exists());
        run.supervisor.signal(libc::SIGINT);
        run.wait_for_exit(0);
        let why = json(&later)["ended"]["why"].clone();
        assert_eq!(why, "stopped by SIGINT");
    }
}

#[test]
fn a_run_that_gave_up_leaves_its_reason_and_its_output() {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let later = again(&setup);
        let log = setup.dir.join("log");
        let options = ["--max-restarts", "2", "--log", log.to_str().unwrap()];
        let script =
            "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i; done; echo oops >&2; exit 7";
        let run = setup.run(&options, &["sh", "-c", script]);
        let exited = run.wait_for_exit(7);
        // The output goes to the file only.
        assert!(!exited.stderr.contains("oops") && exited.stdout.is_empty(), "{exited:?}");
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(text.matches("oops").count(), 3, "{text}");
        assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o640);
        let told = json(&later);
        let why = "every worker was given up (--max-restarts), the last one: exited with 7";
        assert_eq!(told["ended"]["why"], why, "{told}");
        assert_eq!(told["ended"]["exit_code"], 7, "{told}");
        let worker = &told["run"]["workers"][0];
        assert_eq!(worker["last_exit"], "exited with 7", "{told}");
        let output = worker["output"].as_array().unwrap();
        assert_eq!((output.len(), &output[8], &output[9]), (10, &"line 30".into(), &"oops".into()));
        assert!(status(&later, &[]).stdout.contains("\n  | oops\n"));
    }
}

/// `status` shows the output of a worker that ended badly, also if it was not ready in time, and not
/// that of a worker that a restart replaced.
#[test]
fn status_shows_the_last_output() {
    let setup = RunSetup::new(User::Current);
    let log = setup.dir.join("log");
    let script = "echo begins $$; exec \"$0\" \"$@\"";
    let words: Vec<String> =
        ["sh", "-c", script].map(str::to_owned).into_iter().chain(rogue_command("good")).collect();
    let run = setup.run(&["--log", log.to_str().unwrap()], &words);
    let pid = run.wait_for_ready(1).pop_first().unwrap();
    run.verb("restart", &[]);
    let second = run.wait_for_ready(1).pop_first().unwrap();
    assert_ne!(pid, second);
    let worker = run.status()["workers"][0].clone();
    assert_eq!((&worker["output"], &worker["last_exit"]), (&Value::Array(vec![]), &Value::Null));
    kill(second, libc::SIGSEGV);
    let output = eventually(|| {
        let output = run.status()["workers"][0]["output"].as_array()?.clone();
        (!output.is_empty()).then_some(output)
    });
    // Not the output of other instances.
    assert_eq!(output, Some(vec![Value::from(format!("begins {second}"))]));
    let text = run.try_verb("status", &[]).stdout;
    assert!(text.contains(&format!("log: {}", log.display())), "{text}");
    assert!(text.contains(&format!("\n  | begins {second}\n")), "{text}");
    run.stop();
}

/// A file that cannot be the log is refused before the start; later it is a failure like others.
#[test]
fn a_log_that_cannot_be_opened() {
    let setup = RunSetup::new(User::Current);
    let link = setup.dir.join("link");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    for path in [link.to_str().unwrap(), "/dev/null", "/", "no/such/directory"] {
        let command = setup.run_command(&["--log", path], &["sleep", "60"]);
        let exited = spawn_process(command).wait();
        assert_eq!(exited.code, 2, "{path}: {exited:?}");
        let named = std::path::absolute(path).unwrap();
        let named = named.file_name().unwrap_or_default().to_str().unwrap().to_owned();
        let message = format!("{named}: ");
        assert!(exited.stderr.starts_with("error: --log /"), "{path}: {exited:?}");
        assert!(exited.stderr.lines().next().unwrap().contains(&message), "{path}: {exited:?}");
    }
    let log = setup.dir.join("log");
    let run = setup.run(&["--log", log.to_str().unwrap()], &rogue_command("good"));
    let pid = run.wait_for_ready(1).pop_first().unwrap();
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    kill(pid, libc::SIGSEGV);
    run.supervisor.wait_for_stderr(": cannot be started: log file: ");
    std::fs::remove_dir(&log).unwrap();
    run.wait_for_ready(1);
    run.stop();
}

/// After SIGKILL of the supervisor the record tells what is known.
#[test]
fn a_killed_supervisor_leaves_its_record() {
    let setup = RunSetup::new(User::Current);
    let later = again(&setup);
    let run = setup.run(&[], &rogue_command("good"));
    let pid = run.wait_for_ready(1).pop_first().unwrap();
    kill(pid, libc::SIGSEGV);
    let next =
        eventually(|| run.wait_for_ready(1).pop_first().filter(|next| *next != pid)).unwrap();
    // The record is written some time after the change.
    let record = later.dir.join("sameport").join(format!("{}.json", later.name));
    let has_end = || std::fs::read_to_string(&record).ok()?.contains("SIGSEGV").then_some(());
    assert!(eventually(has_end).is_some(), "{}", run.supervisor.stderr());
    run.supervisor.signal(libc::SIGKILL);
    let NamedRun { supervisor, .. } = run;
    supervisor.wait();
    let exited = status(&later, &[]);
    assert_eq!(exited.code, 1, "{exited:?}");
    assert!(exited.stdout.contains("the supervisor was killed"), "{exited:?}");
    assert!(exited.stdout.contains("killed by SIGSEGV"), "{exited:?}");
    assert!(exited.stderr.contains(" is gone; its worker"), "{exited:?}");
    kill(next, libc::SIGKILL);
}

#[test]
fn check_is_for_monitoring() {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let later = again(&setup);
        let flag = setup.dir.join("broken");
        chown_to(&setup.dir, *user);
        let script = format!("test -e {} && exit 9; exec \"$0\" \"$@\"", flag.display());
        let words: Vec<String> = ["sh", "-c", &script]
            .map(str::to_owned)
            .into_iter()
            .chain(rogue_command("good"))
            .collect();
        let run = setup.run(&["-n", "2"], &words);
        run.wait_for_ready(2);
        let exited = run.verb("status", &["--check"]);
        assert_eq!(exited.stdout, format!("{}: 2 of 2 workers ready\n", later.name));
        std::fs::write(&flag, "").unwrap();
        kill(run.wait_for_worker(2), libc::SIGSEGV);
        let failed = eventually(|| {
            let exited = run.try_verb("status", &["--check"]);
            (exited.code == 1 && exited.stdout.contains("exited with 9")).then_some(exited)
        });
        let failed = failed.unwrap_or_else(|| panic!("{}", run.supervisor.stderr()));
        let begin = format!("{}: 1 of 2 workers ready; worker 2: exited with 9", later.name);
        assert!(failed.stdout.starts_with(&begin), "{failed:?}");
        assert_eq!(failed.stdout.lines().count(), 1, "{failed:?}");
        run.stop();
        let exited = status(&later, &["--check"]);
        assert_eq!((exited.code, exited.stdout.as_str()), (1, ""), "{exited:?}");
        assert!(exited.stderr.contains("has ended"), "{exited:?}");
    }
}

/// The addresses of the last run of the same command decide when the first worker is ready.
#[test]
fn the_next_run_knows_the_addresses() {
    let setup = RunSetup::new(User::Current);
    let later = again(&setup);
    let other = crate::harness::free_port();
    let script = format!("\"$0\" good {other} & sleep $DELAY; exec \"$0\" \"$@\"");
    let words: Vec<String> =
        ["sh", "-c", &script].map(str::to_owned).into_iter().chain(rogue_command("good")).collect();
    let run = setup
        .run(&["--env", "DELAY=0", "--expect", &other.to_string(), "--expect", "{port}"], &words);
    run.wait_for_ready(1);
    run.stop();
    let run = later.run(&["--env", "DELAY=2"], &words);
    let ready = eventually(|| {
        let worker = run.status()["workers"][0].clone();
        (worker["state"] == "ready").then_some(worker)
    });
    let ready = ready.unwrap_or_else(|| panic!("{}", run.supervisor.stderr()));
    assert_eq!(ready["addresses"].as_array().map(Vec::len), Some(2), "{ready}");
    run.stop();
}

/// Every verb says that the run has ended, when, why, and the command line that starts it again.
#[test]
fn verbs_know_that_the_run_has_ended() {
    let setup = RunSetup::new(User::Current);
    let later = again(&setup);
    let port = later.port.to_string();
    let run = setup.run(&["-n", "2", "--expect", "{port}"], &rogue_command("good"));
    run.wait_for_ready(2);
    run.verb("scale", &["3"]);
    run.stop();
    let mut hint = String::new();
    for verb in [&["status"][..], &["restart"], &["stop"], &["reexec"], &["scale", "2"]] {
        let words: Vec<&str> =
            [verb[0], &later.name].into_iter().chain(verb[1..].to_vec()).collect();
        let exited = spawn_process(later.command(&words)).wait();
        assert_eq!(exited.code, 1, "{exited:?}");
        let error = format!("error: {} has ended: stopped by `sameport stop`, ", later.name);
        assert!(
            exited.stderr.starts_with(&error) && exited.stderr.contains(" s ago\n"),
            "{exited:?}"
        );
        hint = exited.stderr.lines().find_map(|it| it.strip_prefix("hint: ")).unwrap().to_owned();
    }
    // The hint is a command line for a shell in any directory.
    let line = hint.strip_prefix("start it again: ").unwrap();
    assert!(
        line.contains(&format!(" run -n3 --name {} --expect {port} -- ", later.name)),
        "{line}"
    );
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", &format!("{line} & wait")]).env("XDG_RUNTIME_DIR", &later.dir);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let shell = spawn_process(command);
    let status = || {
        let exited = status(&later, &["--check"]);
        (exited.code == 0).then_some(exited.stdout)
    };
    let text = eventually(status).unwrap_or_else(|| panic!("{}", shell.stderr()));
    assert_eq!(text, format!("{}: 3 of 3 workers ready\n", later.name));
    let stopped = spawn_process(later.command(&["stop", &later.name])).wait();
    assert_eq!(stopped.code, 0, "{stopped:?}");
    shell.wait();
}
