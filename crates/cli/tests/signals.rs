//! Exit codes and signals of `sameport run`, and that it leaves no process.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "terminals have no safe wrapper among the dev-dependencies")]

mod harness;

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use harness::terminal::at_terminal;
use harness::{
    Process, User, c_program, command_for, descendants, eventually, executable, free_port,
    in_test_dir, kill, sameport, spawn_process, start_run, wait_until_answering,
};

static SIGNALS: LazyLock<PathBuf> = LazyLock::new(|| c_program("trap_signals", &[]));
static WHO: LazyLock<PathBuf> = LazyLock::new(|| c_program("who", &["-static"]));

/// Whether the process exists, possibly as a zombie.
fn exists(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[track_caller]
fn assert_gone(pids: &[i32]) {
    assert!(!pids.is_empty());
    let left: Vec<i32> = pids.iter().copied().filter(|pid| exists(*pid)).collect();
    assert!(left.is_empty(), "{left:?} live on");
}

/// The numbers after `word` at the beginning of a line of stdout.
fn numbers(run: &Process, word: &str) -> Vec<i32> {
    let text = run.stdout();
    text.lines().filter_map(|line| line.strip_prefix(word)?.trim().parse().ok()).collect()
}

/// The descendants of the run, once there are `count`.
#[track_caller]
fn processes(run: &Process, count: usize) -> Vec<i32> {
    let found = eventually(|| {
        let found = descendants(run.pid());
        (found.len() == count).then_some(found)
    });
    found.unwrap_or_else(|| panic!("not {count} processes: {:?}", descendants(run.pid())))
}

#[test]
fn exit_code_is_that_of_the_command() {
    let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
    let plain_file = in_test_dir("not-executable");
    std::fs::write(&plain_file, "echo started\n").unwrap();
    let plain_file = text(plain_file);
    let no_interpreter = text(executable("no-interpreter-line", "echo started $1\nexit 5\n"));
    let dir = in_test_dir("").into_os_string().into_string().unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["sh", "-c", "exit 0"], 0, ""),
        (&["sh", "-c", "exit 3"], 3, ""),
        (&["sh", "-c", "exit 255"], 255, ""),
        (&["sh", "-c", "kill -TERM $$"], 128 + 15, ""),
        (&["sh", "-c", "kill -KILL $$"], 128 + 9, ""),
        (&["sh", "-c", "kill -SEGV $$"], 128 + 11, ""),
        (&["no-such-program-anywhere"], 127, ""),
        (&["./no-such-program"], 127, ""),
        (&[""], 127, ""),
        (&[&plain_file], 126, ""),
        (&[&dir], 126, ""),
        // execvp(3) runs it by a shell.
        (&[&no_interpreter, "with"], 5, "started with\n"),
    ];
    for user in User::all() {
        for (command, code, stdout) in cases {
            let exited = start_run(*user, &[], command).wait();
            assert_eq!(
                (exited.code, exited.stdout.as_str()),
                (*code, *stdout),
                "{command:?} {exited:?}"
            );
            let is_ours = matches!(code, 126 | 127);
            assert_eq!(exited.stderr.starts_with("error: "), is_ours, "{command:?} {exited:?}");
        }
    }
}

#[test]
fn failed_worker_decides_the_exit_code() {
    for user in User::all() {
        // Each worker takes the first free number.
        let dir = in_test_dir(format!("turns-{user:?}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o777)).unwrap();
        let script =
            "cd \"$1\"; mkdir 1 2>/dev/null && exit 0; mkdir 2 2>/dev/null && exit 7; exit 0";
        let command = ["sh", "-c", script, "sh", dir.to_str().unwrap()];
        let exited = start_run(*user, &["-n", "3"], &command).wait();
        assert_eq!(exited.code, 7, "{exited:?}");
        assert!(dir.join("2").exists());

        let exited = start_run(*user, &["-n", "4"], &["sh", "-c", "echo here"]).wait();
        assert_eq!((exited.code, exited.stdout.as_str()), (0, "here\nhere\nhere\nhere\n"));
    }
}

#[test]
fn signals_reach_every_worker_once() {
    const PASSED_ON: [(i32, &str); 8] = [
        (libc::SIGHUP, "got HUP"),
        (libc::SIGINT, "got INT"),
        (libc::SIGQUIT, "got QUIT"),
        (libc::SIGTERM, "got TERM"),
        (libc::SIGUSR1, "got USR1"),
        (libc::SIGUSR2, "got USR2"),
        (libc::SIGWINCH, "got WINCH"),
        (libc::SIGALRM, "got ALRM"),
    ];
    for user in User::all() {
        for copies in [1, 3] {
            let run = start_run(*user, &["-n", &copies.to_string()], &[&*SIGNALS]);
            let ready = eventually(|| (numbers(&run, "ready ").len() == copies).then_some(()));
            assert!(ready.is_some(), "{}", run.stdout());
            let workers = numbers(&run, "ready ");
            for (number, line) in PASSED_ON {
                run.signal(number);
                let received = || run.stdout().lines().filter(|it| *it == line).count();
                assert!(eventually(|| (received() == copies).then_some(())).is_some(), "{line}");
            }
            let exited = run.wait();
            assert_eq!(exited.code, 0, "{exited:?}");
            assert_eq!(exited.stdout.lines().count(), copies * (1 + PASSED_ON.len()), "{exited:?}");
            assert_gone(&workers);
        }
    }
}

/// A run with its own controlling terminal, and the master end.
fn run_at_terminal(user: User, command: &[&str]) -> (File, Process) {
    let mut run = command_for(user, sameport(), &[&["run", "--"], command].concat());
    let ours = at_terminal(&mut run);
    (ours, spawn_process(run))
}

#[test]
fn terminal_signals_arrive_once() {
    use std::io::Write as _;
    for user in User::all() {
        let (mut terminal, run) = run_at_terminal(*user, &[SIGNALS.to_str().unwrap()]);
        run.wait_for_stdout("ready ");
        let worker = numbers(&run, "ready ")[0];
        for (key, line) in [(b"\x03", "got INT\n"), (b"\x1c", "got QUIT\n")] {
            terminal.write_all(key).unwrap();
            run.wait_for_stdout(line);
        }
        let size = libc::winsize { ws_row: 10, ws_col: 20, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads one `winsize` through the pointer.
        let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(done, 0);
        run.wait_for_stdout("got WINCH\n");
        // Hang up.
        drop(terminal);
        run.wait_for_stdout("got HUP\n");
        // A second signal would have arrived by now: the supervisor forwards signals in order.
        run.signal(libc::SIGALRM);
        let exited = run.wait();
        let expected = format!("ready {worker}\ngot INT\ngot QUIT\ngot WINCH\ngot HUP\ngot ALRM\n");
        assert_eq!((exited.code, exited.stdout), (0, expected), "{}", exited.stderr);
        assert_gone(&[worker]);
    }
}

#[test]
fn daemon_is_followed_and_stopped() {
    for user in User::all() {
        let port = free_port();
        let who = WHO.to_str().unwrap();
        let mut run =
            start_run(*user, &[], &[who, "tcp", "127.0.0.1", &port.to_string(), "daemon"]);
        run.wait_for_stderr("sameport stays until they end");
        wait_until_answering(([127, 0, 0, 1], port).into());
        let daemon = processes(&run, 1);
        assert!(run.is_running());
        let exited = run.terminate();
        assert_eq!(exited.code, 0, "the command itself ended well: {exited:?}");
        assert_gone(&daemon);
    }
}

#[test]
fn exit_of_a_daemon_ends_the_run() {
    for user in User::all() {
        // SIGTERM ends it.
        let gate = in_test_dir(format!("daemon-ends-{user:?}"));
        let script = "setsid sh -c 'while [ ! -e \"$0\" ]; do sleep 0.05; done; exit 9' \"$0\" & \
                      echo daemon $!";
        let run = start_run(*user, &[], &["sh", "-c", script, gate.to_str().unwrap()]);
        run.wait_for_stderr("sameport stays until they end");
        // Another thread reads stdout: the line may come after the one on stderr.
        run.wait_for_stdout("daemon ");
        let daemon = numbers(&run, "daemon ");
        std::fs::write(&gate, "").unwrap();
        let exited = run.wait();
        assert_eq!(exited.code, 0, "{exited:?}");
        assert_gone(&daemon);
    }
}

#[test]
fn orphans_of_a_killed_worker_are_stopped() {
    for user in User::all() {
        let port = free_port();
        let who = WHO.to_str().unwrap();
        let run = start_run(*user, &[], &[who, "tcp", "127.0.0.1", &port.to_string(), "fork"]);
        wait_until_answering(([127, 0, 0, 1], port).into());
        let all = processes(&run, 3);
        kill(all[0], libc::SIGKILL);
        let exited = run.wait();
        assert_eq!(exited.code, 128 + libc::SIGKILL, "{exited:?}");
        assert!(exited.stderr.contains("ending what the command left behind"), "{exited:?}");
        assert_gone(&all);
        std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free again");
    }
}

#[test]
fn orphan_that_ignores_sigterm_is_killed() {
    for user in User::all() {
        let script = "(trap '' TERM; sleep 300) & echo orphan $!; trap '' TERM; sleep 300 & \
                      echo orphan $!; kill -KILL $$";
        let began = Instant::now();
        let run = start_run(*user, &[], &["sh", "-c", script]);
        let found = eventually(|| Some(numbers(&run, "orphan ")).filter(|pids| pids.len() == 2));
        let orphans = found.expect("two orphans");
        let exited = run.wait();
        assert_eq!(exited.code, 128 + libc::SIGKILL, "{exited:?}");
        assert!(began.elapsed() > Duration::from_secs(4), "no time to end well: {exited:?}");
        assert_gone(&orphans);
    }
}

/// A worker may ignore SIGTERM, as without `run`.
#[test]
fn worker_can_ignore_sigterm() {
    for user in User::all() {
        let script = "trap '' TERM; echo worker $$; sleep 300";
        let mut run = start_run(*user, &[], &["sh", "-c", script]);
        run.wait_for_stdout("worker ");
        let all = processes(&run, 2);
        run.signal(libc::SIGTERM);
        std::thread::sleep(Duration::from_millis(300));
        assert!(run.is_running());
        kill(all[0], libc::SIGKILL);
        let exited = run.wait();
        assert_eq!(exited.code, 128 + libc::SIGKILL, "{exited:?}");
        assert_gone(&all);
    }
}

#[test]
fn killed_worker_leaves_the_others() {
    for user in User::all() {
        let mut run = start_run(*user, &["-n", "3"], &[&*SIGNALS]);
        let ready = eventually(|| Some(numbers(&run, "ready ")).filter(|pids| pids.len() == 3));
        let workers = ready.expect("three workers");
        kill(workers[1], libc::SIGKILL);
        run.wait_for_stderr("killed by SIGKILL; 2 still running");
        assert!(run.is_running() && exists(workers[0]) && exists(workers[2]));
        run.signal(libc::SIGALRM);
        let exited = run.wait();
        assert_eq!(exited.code, 128 + libc::SIGKILL, "{exited:?}");
        assert_gone(&workers);
    }
}

/// The supervisor reaps orphans.
#[test]
fn no_zombie_remains() {
    for user in User::all() {
        let script = "for i in 1 2 3 4 5 6 7 8; do (sh -c 'echo orphan $$' &); done; sleep 300";
        let run = start_run(*user, &[], &["sh", "-c", script]);
        let found = eventually(|| Some(numbers(&run, "orphan ")).filter(|pids| pids.len() == 8));
        let orphans = found.expect("eight orphans");
        let reaped = eventually(|| orphans.iter().all(|pid| !exists(*pid)).then_some(()));
        assert!(reaped.is_some(), "zombies: {:?}", descendants(run.pid()));
        let all = processes(&run, 2);
        run.terminate();
        assert_gone(&all);
    }
}
