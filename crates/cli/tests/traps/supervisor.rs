//! The supervisor stopped, killed, or with a blocked stderr.

use std::process::Stdio;
use std::time::Duration;

use super::harness::{
    Process, User, ask, command_for, descendants, eventually, in_test_dir, kill, sameport,
    spawn_process, start_command, start_run,
};
use super::{command, lines};
use crate::harness::relative_time::is_within_factor;

/// `trap_waits` under `run`, with its pid and port.
fn waiting_worker(user: User) -> (Process, i32, u16) {
    let command = command("trap_waits", &["PORT"]);
    let run = start_run(user, &[], &command);
    run.wait_for_stdout("serving 0 yes\n");
    let pid = descendants(run.pid())[0];
    (run, pid, command[1].parse().unwrap())
}

#[track_caller]
fn answers(port: u16, pid: i32) {
    let answer = ask(([127, 0, 0, 1], port).into(), b"").unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), format!("{pid}\n"));
}

#[test]
fn stopped_supervisor_only_delays_binds() {
    for user in User::all() {
        let (run, worker, port) = waiting_worker(*user);
        run.signal(libc::SIGSTOP);
        let stopped = eventually(|| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", run.pid())).ok()?;
            stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
        });
        assert!(stopped.is_some());
        kill(worker, libc::SIGUSR1);
        std::thread::sleep(Duration::from_millis(300));
        assert!(!run.stdout().contains("bound"), "bound unseen: {}", run.stdout());
        answers(port, worker);
        run.signal(libc::SIGCONT);
        run.wait_for_stdout("bound 0 yes\n");
        run.terminate();
    }
}

#[test]
fn worker_of_a_killed_supervisor_serves_and_cannot_bind() {
    for user in User::all() {
        let (run, worker, port) = waiting_worker(*user);
        run.signal(libc::SIGKILL);
        let gone = eventually(|| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", run.pid())).ok()?;
            stat.rsplit_once(") ")?.1.starts_with('Z').then_some(())
        });
        assert!(gone.is_some());
        answers(port, worker);
        kill(worker, libc::SIGUSR1);
        run.wait_for_stdout("bound ENOSYS no\n");
        answers(port, worker);
        kill(worker, libc::SIGKILL);
        assert_eq!(run.wait().code, 128 + libc::SIGKILL);
    }
}

#[test]
fn binds_succeed_with_a_blocked_stderr() {
    for user in User::all() {
        let many_addresses = command("trap_many_addresses", &["shared", "400", "PORT"]);
        let all: Vec<&str> =
            ["run", "--"].into_iter().chain(many_addresses.iter().map(String::as_str)).collect();

        // A full pipe: 400 addresses print a line each, which names the members.
        let mut piped = command_for(*user, sameport(), &all);
        let (reader, writer) = std::io::pipe().unwrap();
        fill(&writer);
        piped.stderr(writer);
        let full = spawn_process(piped).wait();
        drop(reader);
        assert_eq!(lines(&full), ["shared 0 yes", "after 0 yes"], "full, {user:?}");
        assert_eq!(full.code, 0, "full, {user:?}");

        // A pipe without a reader, which is the worker's stderr too.
        let mut piped = command_for(*user, sameport(), &all);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        piped.stderr(writer);
        let broken = spawn_process(piped).wait();
        assert_eq!(lines(&broken), ["shared 0 yes", "after 0 yes"], "broken, {user:?}");
        assert_eq!(broken.code, 0, "broken, {user:?}");

        let mut full_device = command_for(*user, sameport(), &all);
        full_device.stderr(Stdio::from(std::fs::File::create("/dev/full").unwrap()));
        let device = spawn_process(full_device).wait();
        assert_eq!((device.code, lines(&device)[0]), (0, "shared 0 yes"), "device, {user:?}");
    }
}

/// Fills a pipe, so that the next write blocks.
fn fill(pipe: &std::io::PipeWriter) {
    use std::io::Write as _;
    let socket = socket2::SockRef::from(pipe);
    socket.set_nonblocking(true).unwrap();
    let mut pipe = pipe;
    while pipe.write(&[b'x'; 4096]).is_ok() {}
    while pipe.write(b"x").is_ok() {}
    socket.set_nonblocking(false).unwrap();
}

#[test]
fn stdout_of_a_worker_is_unchanged() {
    // Every byte value, no newline at the end, and binds that `sameport` reports.
    let text: String = (0..=255u8).map(|byte| format!("\\{byte:03o}")).collect();
    for user in User::all() {
        let [heard, bytes] = ["heard", "bytes"].map(|name| in_test_dir(format!("{name}-{user:?}")));
        let many_addresses = ["shared", "3", "PORT", heard.to_str().unwrap()];
        let many_addresses = command("trap_many_addresses", &many_addresses).join(" ");
        let script = format!("printf '{text}'; {many_addresses} >&2; printf '{text}'");
        let all = ["run", "-n", "1", "--", "sh", "-c", &script];
        let mut run = command_for(*user, sameport(), &all);
        run.stdout(std::fs::File::create(&bytes).unwrap());
        let run = spawn_process(run);
        run.wait_for_stderr("is now shared by 2");
        std::fs::write(&heard, "").unwrap();
        let exited = run.wait();
        assert_eq!(exited.code, 0, "{user:?}: {exited:?}");
        let expected: Vec<u8> = (0..=255).chain(0..=255).collect();
        assert_eq!(std::fs::read(&bytes).unwrap(), expected, "{user:?}");
    }
}

#[test]
fn worker_that_exits_at_once_ends_the_run() {
    for user in User::all() {
        let bare = || assert_eq!(start_command(*user, "true", &[""; 0]).wait().code, 0);
        let under_run = || assert_eq!(start_run(*user, &[], &["true"]).wait().code, 0);
        assert!(is_within_factor(bare, 100, under_run), "{user:?}: over 100 times as long as bare");
    }
}
