//! SIGHUP: a closed terminal ends a run in the foreground; `kill -HUP` reloads the workers.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use crate::harness::named_run::{NamedRun, RunSetup, connect, request_over, responder};
use crate::harness::terminal::{at_terminal, terminal};
use crate::harness::{
    User, c_program, command_for, eventually, executable, find_program, sameport, skip,
    spawn_process,
};

/// Drains on SIGTERM, ends on SIGHUP.
fn drains() -> String {
    c_program("drains", &[]).into_os_string().into_string().unwrap()
}

/// Writes each SIGHUP to a file, and serves on.
const RELOADS: &str = "#!/bin/sh\n\"$1\" \"$2\" & child=$!\n\
                       trap 'echo reloaded >> \"$3\"' HUP\ntrap 'kill $child' TERM\n\
                       while kill -0 $child 2>/dev/null; do wait $child; done\n";

/// A run that leads the session of a terminal.
fn run_at_terminal(setup: RunSetup, options: &[&str]) -> (File, NamedRun) {
    let mut command = setup.run_command(options, &[&*drains(), "{port}"]);
    let ours = at_terminal(&mut command);
    let run = NamedRun { setup, supervisor: spawn_process(command) };
    run.wait_until_reachable();
    (ours, run)
}

/// The run drains as for SIGTERM: what is in hand is answered.
#[test]
fn a_closed_terminal_drains_the_run() {
    for user in User::all() {
        let (terminal, run) = run_at_terminal(RunSetup::new(*user), &["-n", "2"]);
        run.wait_for_ready(2);
        let client = connect(run.setup.address()).unwrap();
        // The worker accepts it.
        std::thread::sleep(Duration::from_millis(100));
        drop(terminal);
        run.supervisor.wait_for_stderr(" drains");
        request_over(client).unwrap();
        run.wait_for_exit(0);
    }
}

/// Nothing can be written to a terminal that is gone; the run ends all the same.
#[test]
fn output_to_the_closed_terminal_is_no_obstacle() {
    let setup = RunSetup::new(User::Current);
    let (ours, theirs) = terminal();
    let mut command = setup.run_command(&["-n", "2"], &[&*drains(), "{port}"]);
    let controlling = at_terminal(&mut command);
    command.stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let run = NamedRun { setup, supervisor: spawn_process(command) };
    run.wait_until_reachable();
    run.wait_for_ready(2);
    drop((ours, controlling));
    run.wait_for_exit(0);
}

/// bash sends SIGHUP to its jobs by kill(2), and the kernel sends another one at the end of bash.
#[test]
fn a_foreground_job_of_a_shell_drains() {
    let Some(bash) = find_program("bash") else {
        return skip("a_foreground_job_of_a_shell_drains", "no bash");
    };
    let setup = RunSetup::new(User::Current);
    let mut command = command_for(User::Current, bash, &["--norc", "--noprofile", "-i"]);
    let mut ours = at_terminal(&mut command);
    command.stderr(Stdio::null());
    command.env("XDG_RUNTIME_DIR", &setup.dir);
    let shell = spawn_process(command);
    let line = format!(
        "{} run --name {} -n 2 -- {} {}\n",
        sameport().display(),
        setup.name,
        drains(),
        setup.port
    );
    ours.write_all(line.as_bytes()).unwrap();
    let run = NamedRun { setup, supervisor: shell };
    let address = run.setup.address();
    assert!(eventually(|| responder(address).ok()).is_some());
    run.wait_for_ready(2);
    let client = connect(address).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    drop(ours);
    request_over(client).unwrap();
    let over = eventually(|| (run.try_verb("status", &[]).code == 1).then_some(()));
    assert!(over.is_some(), "the run lives on");
}

/// The workers get the signal of `kill -HUP`, with and without a terminal, and the run goes on.
#[test]
fn kill_hup_is_a_reload() {
    for with_terminal in [false, true] {
        let setup = RunSetup::new(User::Current);
        let log = setup.dir.join("log");
        let reloads = executable("reloads", RELOADS);
        let words = [reloads.to_str().unwrap(), &drains(), "{port}", log.to_str().unwrap()];
        let mut command = setup.run_command(&[], &words);
        let terminal = with_terminal.then(|| at_terminal(&mut command));
        let run = NamedRun { setup, supervisor: spawn_process(command) };
        run.wait_until_reachable();
        let before = run.wait_for_ready(1);
        for count in 1..=2 {
            run.supervisor.signal(libc::SIGHUP);
            let reloads = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
            let reloaded = eventually(|| (reloads() == count).then_some(()));
            assert!(reloaded.is_some(), "{}", run.supervisor.stderr());
        }
        assert_eq!(run.wait_for_ready(1), before);
        responder(run.setup.address()).unwrap();
        run.stop();
        drop(terminal);
    }
}

/// A run under `nohup` outlives its terminal.
#[test]
fn nohup_outlives_the_terminal() {
    let setup = RunSetup::new(User::Current);
    let inner = setup.run_command(&[], &[&*drains(), "{port}"]);
    let mut command = command_for(User::Current, "nohup", &[inner.get_program()]);
    command.args(inner.get_args()).env("XDG_RUNTIME_DIR", &setup.dir);
    let mut terminal = at_terminal(&mut command);
    let run = NamedRun { setup, supervisor: spawn_process(command) };
    run.wait_until_reachable();
    let before = run.wait_for_ready(1);
    // The terminal has nothing to say, and does not block.
    drop(terminal.read(&mut []));
    drop(terminal);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(run.wait_for_ready(1), before);
    responder(run.setup.address()).unwrap();
    run.stop();
}
