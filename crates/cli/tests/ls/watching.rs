//! `ls --watch`: the output for a pipe and for a terminal, and the exit.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;
use socket2::Type;

use crate::harness::skip;
use crate::serialize;
use crate::sockets::{PLAIN, SocketHolder, address, bound, eventually, port};

/// Longer than any wait of a passing test.
const TIMEOUT: Duration = Duration::from_secs(200);

/// `sameport ls --watch`, killed on drop.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn start(args: &[&str]) -> Self {
        let mut child = command(args).spawn().unwrap();
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Self { child, lines }
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(TIMEOUT).expect("a line")
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sameport"));
    command.env_clear().args(["ls", "--watch"]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn signal(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: kill(2) takes two numbers. The child is ours, and no wait has reaped it.
    #[allow(unsafe_code, reason = "no safe wrapper among the dev-dependencies")]
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0);
}

#[test]
fn pipe_gets_a_line_for_each_change() {
    let _lock = serialize();
    let socket = bound(Type::STREAM, "127.0.0.1:0", &PLAIN);
    let at = address(&socket);
    let watch = Watch::start(&["--tcp", &at.to_string()]);
    let there = watch.line();
    assert!(there.starts_with(&format!("there    tcp {at} waiting, pid ")), "{there}");

    let heir = SocketHolder::of(&socket, None);
    let changed = watch.line();
    let added = format!(",{}", heir.0.id());
    assert!(changed.starts_with(&format!("changed  tcp {at} waiting, pid ")), "{changed}");
    assert!(changed.contains(": pids ") || changed.contains(", pids "), "{changed}");
    assert!(changed.contains(&added) || heir.0.id() < std::process::id(), "{changed}");

    drop(heir);
    assert!(watch.line().starts_with("changed  "));
    drop(socket);
    let went = watch.line();
    assert!(went.starts_with(&format!("went     tcp {at} waiting, pid ")), "{went}");
    let _again = TcpListener::bind(at).unwrap();
    let appeared = watch.line();
    assert!(appeared.starts_with(&format!("came     tcp {at} waiting, pid ")), "{appeared}");
}

#[test]
fn json_has_a_line_for_each_change() {
    let _lock = serialize();
    let socket = bound(Type::STREAM, "127.0.0.1:0", &PLAIN);
    let watch = Watch::start(&["--json", "--tcp", &address(&socket).to_string()]);
    let there = watch.json();
    assert_eq!((&there["version"], &there["event"]), (&1.into(), &"there".into()));
    assert_eq!(there["address"], address(&socket).to_string());
    assert_eq!(there["member"]["pids"], serde_json::json!([std::process::id()]));
    assert!(there["at"].as_u64().unwrap() > 1_600_000_000, "{there}");

    // A second listen(2) changes the backlog.
    socket.listen(3).unwrap();
    let changed = watch.json();
    assert_eq!(changed["event"], "changed", "{changed}");
    assert_eq!((&changed["was"]["backlog"], &changed["member"]["backlog"]), (&7.into(), &3.into()));
    assert_eq!(changed["was"]["cookie"], changed["member"]["cookie"]);
    drop(socket);
    let went = watch.json();
    assert_eq!((&went["event"], &went["member"]["backlog"]), (&"went".into(), &3.into()));
}

#[test]
fn unchanged_sockets_print_nothing() {
    let _lock = serialize();
    let socket = bound(Type::STREAM, "127.0.0.1:0", &PLAIN);
    let watch = Watch::start(&["--tcp", &address(&socket).to_string()]);
    assert!(watch.line().starts_with("there "));
    // A queue that grows and shrinks is not a change. `ls` polls twice in between.
    let _waiting = std::net::TcpStream::connect(address(&socket)).unwrap();
    let silence = watch.lines.recv_timeout(Duration::from_millis(2500));
    assert_eq!(silence, Err(RecvTimeoutError::Timeout));
}

#[test]
fn exits_on_closed_pipe_and_on_signals() {
    let _lock = serialize();
    let socket = bound(Type::STREAM, "127.0.0.1:0", &PLAIN);
    let first_line = |stdout: &mut ChildStdout| {
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap();
    };
    // The list does not change, so `ls` never writes again.
    let mut watch = command(&["--tcp", &port(&socket)]).spawn().unwrap();
    let mut stdout = watch.stdout.take().unwrap();
    first_line(&mut stdout);
    drop(stdout);
    let exited = eventually(|| watch.try_wait().unwrap());
    assert_eq!(exited.code(), Some(0));

    for number in [libc::SIGINT, libc::SIGTERM] {
        let mut watch = command(&["--tcp", &port(&socket)]).spawn().unwrap();
        let mut stdout = watch.stdout.take().unwrap();
        first_line(&mut stdout);
        signal(&watch, number);
        let exited = eventually(|| watch.try_wait().unwrap());
        assert_eq!(exited.signal(), Some(number), "{exited:?}");
    }
}

#[test]
fn full_disk_ends_the_watch() {
    let _lock = serialize();
    let socket = bound(Type::STREAM, "127.0.0.1:0", &PLAIN);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut watch = command(&["--tcp", &port(&socket)]);
    let exited = watch.stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(exited.status.code(), Some(1), "{exited:?}");
    assert!(crate::text(&exited.stderr).starts_with("error: write to stdout: "), "{exited:?}");
}

#[test]
fn terminal_shows_the_current_list() {
    let _lock = serialize();
    let socket = bound(Type::STREAM, "127.0.0.1:0", &PLAIN);
    let line = format!("{} ls --watch --tcp {}", env!("CARGO_BIN_EXE_sameport"), port(&socket));
    let mut script = Command::new("script");
    script.args(["-q", "-f", "-e", "-c", &line, "/dev/null"]);
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match script.spawn() {
        Ok(child) => child,
        Err(error) => return skip("ls-watch-on-a-terminal", &format!("script: {error}")),
    };
    let (send, bytes) = channel();
    let mut stdout = child.stdout.take().unwrap();
    std::thread::spawn(move || {
        let mut some = [0; 4096];
        while let Ok(length @ 1..) = stdout.read(&mut some) {
            let _ = send.send(some[..length].to_vec());
        }
    });
    let mut shown = String::new();
    let mut wait_for = |what: &str, count: usize| {
        while shown.matches(what).count() < count {
            let more = bytes.recv_timeout(TIMEOUT).expect("more on the terminal");
            shown.push_str(&String::from_utf8_lossy(&more));
        }
    };
    // The screen is drawn three times, with the header and the socket.
    wait_for("\u{1b}[HPROTO", 3);
    wait_for(&address(&socket).to_string(), 3);
    // The terminal interprets the typed character as Ctrl-C.
    child.stdin.as_mut().unwrap().write_all(&[3]).unwrap();
    let exited = eventually(|| child.try_wait().unwrap());
    assert_ne!(exited.code(), Some(0), "by SIGINT");
}
