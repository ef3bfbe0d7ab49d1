//! What the supervisor has of its caller: the directory, the umask and the environment, and nothing else.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::background::{
    Background, assert_nothing_left, detach_command, drains, stat_fields, status, status_field,
};
use crate::harness::named_run::{RunSetup, responder};
use crate::harness::terminal::{at_terminal, terminal};
use crate::harness::{User, command_for, eventually, spawn_process};

/// The words of a command as a shell script, after `before`.
fn shell(setup: &RunSetup, before: &str, command: &Command, after: &str) -> Command {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let line = format!("{before} {} {after}", words.join(" "));
    let mut shell = command_for(setup.user, "/bin/sh", &["-c", &line]);
    shell.env("XDG_RUNTIME_DIR", &setup.dir).env("XDG_STATE_HOME", &setup.dir);
    shell
}

/// A caller with ignored signals, a descriptor, a umask and a directory of its own.
#[test]
fn the_directory_and_the_umask_stay_and_nothing_else() {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let run = detach_command(&setup, &["-n", "2"], &[&*drains(), "{port}"]);
        let before = "trap '' HUP USR1 TERM; umask 027; exec 9>held;";
        let mut command = shell(&setup, before, &run, "");
        command.current_dir(&setup.dir).env("MODE", "kept");
        let started = spawn_process(command).wait();
        assert_eq!((started.code, &*started.stderr), (0, ""), "{started:?}");
        let run = Background::of(setup);
        let (pid, name) = (run.pid, &run.setup.name);
        let line = format!("{name} runs in the background (pid {pid}); ");
        assert!(started.stdout.starts_with(&line), "{started:?}");
        let next = format!("; follow it: sameport logs {name} -f\n");
        assert!(started.stdout.ends_with(&next), "{started:?}");
        assert_eq!(started.stdout.lines().count(), 1, "{started:?}");

        let workers = run.ready(2);
        let stat = stat_fields(pid);
        // It leads its group and its session, and has no terminal.
        assert_eq!(stat[2..5], [&*pid.to_string(), &*pid.to_string(), "0"], "{stat:?}");
        for pid in workers.iter().chain([&pid]) {
            let link = |name: String| std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
            assert_eq!(link("cwd".into()), run.setup.dir, "{pid}");
            assert_eq!(status_field(*pid, "Umask", 8), 0o027, "{pid}");
            assert_eq!(link("fd/0".into()), Path::new("/dev/null"), "{pid}");
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
            let open: Vec<_> = open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
            assert!(!open.contains(&run.setup.dir.join("held")), "{pid}: {open:?}");
            let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
            assert!(environment.contains("MODE=kept\0"), "{environment}");
        }
        for worker in &workers {
            let ignored = status_field(*worker, "SigIgn", 16);
            let (hup, usr1, term) = (1, 1 << 9, 1 << 14);
            assert_eq!(ignored & (hup | usr1 | term), 0, "{ignored:x}");
            assert_eq!(status_field(*worker, "SigBlk", 16), 0);
            let environment = std::fs::read_to_string(format!("/proc/{worker}/environ")).unwrap();
            assert!(!environment.contains("SAMEPORT_DETACHED"), "{environment}");
            assert!(!environment.contains("SAMEPORT_START_FD"), "{environment}");
        }
        run.stop();
    }
}

/// Neither a reader of the output waits for the run, nor the program that waits for its end of file (ssh).
#[test]
fn the_readers_of_the_output_see_its_end() {
    let setup = RunSetup::new(User::Current);
    let run = detach_command(&setup, &[], &[&*drains(), "{port}"]);
    let piped = spawn_process(shell(&setup, "", &run, "2>&1 | cat")).wait();
    assert_eq!(piped.code, 0, "{piped:?}");
    assert!(piped.stdout.contains(" runs in the background "), "{piped:?}");
    let run = Background::of(setup);
    run.ready(1);
    run.stop();
}

/// The closed terminal of the caller is no end of the run, and no SIGHUP reaches it.
#[test]
fn the_terminal_of_the_caller_closes() {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let run = detach_command(&setup, &["-n", "2"], &[&*drains(), "{port}"]);
        // The shell leads the session of the terminal, and waits.
        let mut command = shell(&setup, "", &run, "; echo started; read -r line");
        let (ours, theirs) = terminal();
        let controlling = at_terminal(&mut command);
        command.stderr(theirs);
        let shell = spawn_process(command);
        shell.wait_for_stdout("started");
        let run = Background::of(setup);
        let workers = run.ready(2);
        drop((controlling, ours));
        shell.wait();
        responder(run.setup.address()).unwrap();
        assert_eq!(run.ready(2), workers);
        run.stop();
    }
}

/// A stdout or a stderr that is closed is no obstacle; nor is a directory that was removed.
#[test]
fn a_caller_without_streams_or_directory() {
    for (before, after) in [
        ("", ">&- 2>&- <&-"),
        ("mkdir gone && cd gone && rmdir ../gone &&", ""),
        ("", ">/dev/full"),
    ] {
        let setup = RunSetup::new(User::Current);
        let run = detach_command(&setup, &[], &[&*drains(), "{port}"]);
        let mut command = shell(&setup, before, &run, after);
        command.current_dir(&setup.dir);
        let started = spawn_process(command).wait();
        assert_eq!(started.code, 0, "{before} {after}: {started:?}");
        let run = Background::of(setup);
        run.ready(1);
        run.stop();
    }
}

/// `--quiet` prints nothing.
#[test]
fn quiet_prints_nothing() {
    let setup = RunSetup::new(User::Current);
    let log = setup.dir.join("log");
    let options = ["--quiet", "--wait", "--log", log.to_str().unwrap()];
    let (run, started) = Background::start(setup, &options, &[&*drains(), "{port}"]);
    assert_eq!((&*started.stdout, &*started.stderr), ("", ""));
    run.stop();
    assert!(log.exists());
}

/// The front process is killed at any moment: the run goes on, or is not there.
#[test]
fn the_front_process_is_killed() {
    let mut began = 0;
    for pause in 0..12 {
        let setup = RunSetup::new(User::Current);
        let mut command = detach_command(&setup, &["--wait"], &[&*drains(), "{port}"]);
        command.process_group(0);
        let mut front = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(pause * 3));
        front.kill().unwrap();
        front.wait().unwrap();
        // A supervisor that is starting has no name yet.
        let settled = eventually(|| match status(&setup) {
            Some(_) => Some(true),
            None => crate::background::processes(&setup.name).is_empty().then_some(false),
        });
        match settled.expect("a run or none") {
            true => {
                began += 1;
                let run = Background::of(setup);
                run.ready(1);
                run.stop();
            }
            false => assert_nothing_left(&setup),
        }
    }
    assert!(began > 0);
}
