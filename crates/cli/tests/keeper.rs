//! The end of a test executable: the keeper of the harness ends what tests have left running, and
//! removes their files, whatever ended the executable.
#![cfg(target_os = "linux")]

mod harness;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{
    Process, User, eventually, in_test_dir, kill, spawn_process, start_command, start_run,
};

const LEAVES: &str = "SAMEPORT_TEST_LEAVES";

/// Two processes that leave their parent and session; the second clears its environment too.
const DAEMONS: &str = "\
setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo left $!
env -i setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo left $!";

/// No test of its own: what [`executable_that_leaves`] runs.
#[test]
fn leaves_processes() {
    let Some(end) = std::env::var_os(LEAVES) else { return };
    let started = start_command(User::Current, "sh", &["-c", DAEMONS]).wait();
    println!("{}directory {}", started.stdout, in_test_dir("").display());
    if end != "exit" {
        std::thread::sleep(std::time::Duration::from_secs(1000));
    }
}

/// This executable, with the processes and the directory that it leaves.
fn executable_that_leaves(end: &str) -> (Process, Vec<i32>, PathBuf) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "leaves_processes", "--nocapture"]).env(LEAVES, end);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let executable = spawn_process({
        command.process_group(0);
        command
    });
    executable.wait_for_stdout("directory ");
    let stdout = executable.stdout();
    let words = |word: &'static str| stdout.lines().filter_map(move |it| it.strip_prefix(word));
    let left: Vec<i32> = words("left ").map(|pid| pid.parse().unwrap()).collect();
    let dir = PathBuf::from(words("directory ").next().unwrap());
    assert!(left.len() == 2 && dir.exists(), "{stdout}");
    (executable, left, dir)
}

#[track_caller]
fn assert_nothing_left(context: &str, left: &[i32], dir: &Path) {
    let runs = |pid: &i32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.starts_with(b"sleep\0")
    };
    let gone = eventually(|| (!left.iter().any(runs) && !dir.exists()).then_some(()));
    assert!(gone.is_some(), "{context}: {left:?}, {}", dir.display());
}

#[test]
fn after_a_normal_exit_they_are_a_failure() {
    let (executable, left, dir) = executable_that_leaves("exit");
    let exited = executable.wait();
    assert_eq!(exited.code, 101, "{exited:?}");
    let (_, list) = exited.stderr.split_once("error: tests left processes running:\n").unwrap();
    for pid in &left {
        assert!(list.contains(&format!("{pid} sleep 1000")), "{exited:?}");
    }
    assert_eq!(list.trim().lines().count(), 2, "{exited:?}");
    assert_nothing_left("exit", &left, &dir);
}

#[test]
fn after_a_signal_they_are_ended() {
    for signal in [libc::SIGKILL, libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let (executable, left, dir) = executable_that_leaves("wait");
        executable.signal(signal);
        let exited = executable.wait();
        assert_eq!(exited.code, 128 + signal, "{exited:?}");
        assert_nothing_left(&format!("signal {signal}"), &left, &dir);
    }
}

/// Ctrl-C ends the foreground process group.
#[test]
fn after_a_signal_to_the_group_they_are_ended() {
    let (executable, left, dir) = executable_that_leaves("wait");
    kill_group(executable.pid());
    let exited = executable.wait();
    assert_eq!(exited.code, 128 + libc::SIGINT, "{exited:?}");
    assert_nothing_left("Ctrl-C", &left, &dir);
}

fn kill_group(of: i32) {
    let group = format!("-{of}");
    let done = Command::new("/bin/kill").args(["-s", "INT", "--", &group]).status().unwrap();
    assert!(done.success());
}

/// A shell of someone who looks at the directory is no process of the tests.
#[test]
fn a_process_at_another_terminal_stays() {
    let (executable, left, dir) = executable_that_leaves("wait");
    let mut shell = Command::new("sleep");
    shell.arg("1000").current_dir(&dir).stdout(Stdio::null()).stderr(Stdio::null());
    let _terminal = harness::terminal::at_terminal(&mut shell);
    let mut shell = spawn_process(shell);
    kill(executable.pid(), libc::SIGKILL);
    executable.wait();
    assert_nothing_left("a shell", &left, &dir);
    assert!(shell.is_running());
}

/// The report of an ended run is in the directory that the keeper removes.
#[test]
fn a_run_leaves_its_files_there() {
    for user in User::all() {
        let name = format!("kept-{}-{user:?}", std::process::id());
        let exited = start_run(*user, &["--name", &name, "--max-restarts", "0"], &["true"]).wait();
        let file = format!("sameport/{name}.ended");
        assert!(harness::runtime_dir(*user).join(&file).exists(), "{exited:?}");
    }
}
