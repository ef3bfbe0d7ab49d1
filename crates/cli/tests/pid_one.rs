//! `run` as the first process of a pid namespace, as in a container: docs/guides/container.md.
#![cfg(target_os = "linux")]

mod harness;
#[path = "harness/sandbox.rs"]
#[allow(dead_code, reason = "this executable uses a part of it")]
mod sandbox;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use harness::{
    Process, SOCKET_TIMEOUT, User, ask, command_for, descendants, eventually, find_program,
    free_port, in_test_dir, is_root, kill, sameport, skip, spawn_process, start_command,
    wait_until_answering,
};
use sandbox::{refused_by, with_pre_exec};

/// Answers; `/slow` when the file exists; `/orphans` leaves 500 children of a child, which end.
const SERVER: &str = "
import http.server, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/slow':
            print('slow begins', flush=True)
            while not os.path.exists(sys.argv[2]): time.sleep(0.01)
        if self.path == '/orphans':
            child = os.fork()
            if child == 0:
                for number in range(500):
                    if os.fork() == 0:
                        time.sleep(number % 10 / 50)
                        os.write(1, b'orphan ends\\n')
                        os._exit(0)
                os._exit(0)
            os.waitpid(child, 0)
        body = b'answer'
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
";

/// A run that is process 1 of its namespace.
struct Container {
    unshare: Process,
    /// The run, as seen from here.
    first: i32,
    address: SocketAddr,
    release: PathBuf,
}

impl Container {
    fn start(test: &str, options: &[&str]) -> Option<Self> {
        let Some(python) = find_program("python3") else {
            skip(test, "no python3");
            return None;
        };
        let mut words = vec!["--pid", "--fork", "--mount-proc", "--kill-child"];
        if !is_root() {
            words.push("--map-root-user");
        }
        let probe = [&words[..], &["true"]].concat();
        let probe = start_command(User::Current, "unshare", &probe).wait();
        if probe.code != 0 {
            skip(test, &format!("no pid namespace: {}", probe.stderr.trim_end()));
            return None;
        }
        let port = free_port();
        let dir = in_test_dir(test);
        std::fs::create_dir(&dir).unwrap();
        let release = dir.join("release");
        let mut command = command_for(User::Current, "unshare", &words);
        command.arg(sameport()).arg("run").args(options).arg("--").arg(python);
        command.args(["-c", SERVER, &port.to_string()]).arg(&release);
        command.env("XDG_RUNTIME_DIR", &dir);
        let unshare = spawn_process(command);
        let address = ([127, 0, 0, 1], port).into();
        wait_until_answering(address);
        let children = format!("/proc/{0}/task/{0}/children", unshare.pid());
        let children = std::fs::read_to_string(children).unwrap();
        let first = children.trim().parse().unwrap();
        Some(Self { unshare, first, address, release })
    }

    /// A connection with this request.
    fn request(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        stream
    }
}

fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// The signal of `docker stop`: requests in hand are answered, then everything ends.
#[test]
fn sigterm_drains() {
    let options = ["--name", "web", "-n", "2", "--ready", "tcp"];
    let Some(container) = Container::start("pid-one-drains", &options) else { return };
    for worker in [1, 2] {
        let is_ready = eventually(|| {
            let lines = container.unshare.stderr();
            let begin = format!("worker {worker} (pid ");
            lines
                .lines()
                .any(|line| line.contains(&begin) && line.ends_with(" is ready"))
                .then_some(())
        });
        assert!(is_ready.is_some(), "{}", container.unshare.stderr());
    }
    let mut slow = container.request("/slow");
    container.unshare.wait_for_stdout("slow begins");
    kill(container.first, libc::SIGTERM);
    container.unshare.wait_for_stderr(" drains");
    std::fs::write(&container.release, "").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    let exited = container.unshare.wait();
    assert!(
        answer.starts_with("HTTP/1.0 200") && answer.ends_with("answer"),
        "{answer} {exited:?}"
    );
    assert_eq!(exited.code, 0, "{exited:?}");
    assert!(TcpStream::connect(container.address).is_err());
}

/// A plain run passes the signal on at once: what a program then has in hand is its own affair.
#[test]
fn sigterm_ends_a_plain_run() {
    let Some(container) = Container::start("pid-one-plain", &["-n", "2"]) else { return };
    kill(container.first, libc::SIGTERM);
    let exited = container.unshare.wait();
    assert_eq!(exited.code, 128 + libc::SIGTERM, "{exited:?}");
    assert!(TcpStream::connect(container.address).is_err());
}

/// Process 1 gets the orphans of its namespace, 500 at once. No zombie stays, and the run serves on.
#[test]
fn orphans_are_reaped() {
    for (test, options) in
        [("pid-one-orphans", &["--name", "web"][..]), ("pid-one-orphans-plain", &["-n", "2"])]
    {
        let Some(container) = Container::start(test, options) else { return };
        let mut answer = String::new();
        container.request("/orphans").read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("answer"), "{answer}");
        let ended = eventually(|| {
            let output = container.unshare.stdout();
            (output.matches("orphan ends").count() == 500).then_some(())
        });
        assert!(ended.is_some(), "{test}: {}", container.unshare.stdout().len());
        let found = eventually(|| {
            let zombies = descendants(container.first).into_iter().filter(|pid| is_zombie(*pid));
            (zombies.count() == 0).then_some(())
        });
        assert!(found.is_some(), "{test}: zombies: {:?}", descendants(container.first));
        assert!(ask(container.address, b"GET / HTTP/1.0\r\n\r\n").is_ok(), "{test}");
        kill(container.first, libc::SIGTERM);
        container.unshare.wait();
    }
}

/// Process 1 ignores a signal without a handler; the run has one for each of these.
#[test]
fn signals_to_process_1() {
    for (signal, name, code) in [
        (libc::SIGINT, Some("web"), 0),
        (libc::SIGTERM, Some("web"), 0),
        (libc::SIGHUP, None, 128 + libc::SIGHUP),
        (libc::SIGINT, None, 128 + libc::SIGINT),
    ] {
        let test = format!("pid-one-signal-{signal}-{}", name.is_some());
        let options = name.map_or(vec![], |name| vec!["--name", name]);
        let Some(container) = Container::start(&test, &options) else { return };
        // The server of Python ignores no signal, and has no handler of its own but that of SIGINT.
        kill(container.first, signal);
        let exited = container.unshare.wait();
        let expected = if name.is_none() && signal == libc::SIGINT { [code, 1] } else { [code; 2] };
        assert!(expected.contains(&exited.code), "{test}: {exited:?}");
        assert!(TcpStream::connect(container.address).is_err(), "{test}");
    }
}

/// The exit code of the container is that of the command.
#[test]
fn exit_code_is_that_of_the_command() {
    let words = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let mut words = words.to_vec();
    words.extend((!is_root()).then_some("--map-root-user"));
    let run = |command: &[&str]| {
        let sameport = sameport().to_str().unwrap();
        let line = [&words[..], &[sameport, "run", "--"], command].concat();
        start_command(User::Current, "unshare", &line).wait()
    };
    let first = run(&["sh", "-c", "exit 7"]);
    if first.stderr.starts_with("unshare: ") {
        return skip("pid-one-code", &first.stderr);
    }
    assert_eq!(first.code, 7, "{first:?}");
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]).code, 128 + libc::SIGKILL);
    assert_eq!(run(&["/no/such"]).code, 127);
}

/// A root directory with the least: read-only, no `/tmp`, no `/run`, no `/etc`, processes of others hidden.
const BARE_ROOT: &str = r#"
set -e
root=$1
shift
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
mkdir "$root/usr" "$root/proc" "$root/dev" "$root/own"
mount --rbind /usr "$root/usr"
for dir in lib lib64 bin; do
    [ ! -e /$dir ] || { mkdir "$root/$dir" && mount --rbind /$dir "$root/$dir"; }
done
cp "$1" "$root/own/sameport"
shift
mount -t proc -o hidepid=2 proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev"
mkdir "$root/dev/shm"
chmod 1777 "$root/dev/shm"
: >"$root/dev/null"
mount --bind /dev/null "$root/dev/null"
mount -o remount,ro "$root/dev" && mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -o remount,ro "$root"
exec chroot "$root" /usr/bin/env -i /usr/bin/setpriv --reuid 4321 --regid 4321 --clear-groups \
    --bounding-set -all --inh-caps -all --no-new-privs "$@"
"#;

/// A user without an entry and without capabilities, in a container without a directory that it may write to,
/// HOME or PATH: files of the run are in `/dev/shm`.
#[test]
fn a_container_with_the_least_is_enough() {
    let test = "pid-one-bare";
    let python = Path::new("/usr/bin/python3");
    if !is_root() || !python.exists() || !Path::new("/usr/bin/setpriv").exists() {
        return skip(test, "needs root, /usr/bin/python3 and setpriv");
    }
    let (port, dir) = (free_port(), in_test_dir(test));
    std::fs::create_dir(&dir).unwrap();
    let words = ["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", BARE_ROOT, "sh"];
    let mut command = command_for(User::Current, "unshare", &words);
    command.arg(&dir).arg(sameport()).args(["/own/sameport", "run", "--name", "web", "-n", "2"]);
    command.args(["--ready", "http:/", "--"]).arg(python).args([
        "-c",
        SERVER,
        &port.to_string(),
        "-",
    ]);
    let unshare = spawn_process(command);
    unshare.wait_for_stderr("worker 1 (pid ");
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    wait_until_answering(address);
    let children = format!("/proc/{0}/task/{0}/children", unshare.pid());
    let first: i32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let inside = |words: &[&str]| {
        let target = first.to_string();
        let enter =
            ["--target", &target, "--mount", "--pid", "--root", "--wd", "-S", "4321", "-G", "4321"];
        start_command(User::Current, "nsenter", &[&enter[..], &["/own/sameport"], words].concat())
            .wait()
    };
    let ready = eventually(|| {
        inside(&["status", "web", "--check"]).stdout.contains("2 of 2 workers ready").then_some(())
    });
    assert!(ready.is_some(), "{:?} {}", inside(&["status", "web"]), unshare.stderr());
    assert!(!unshare.stderr().contains("preload"), "{}", unshare.stderr());
    let files = format!("/proc/{first}/root/dev/shm/sameport-4321/web.sock");
    assert!(Path::new(&files).exists(), "{files}");
    assert_eq!(inside(&["restart", "web"]).code, 0, "{}", unshare.stderr());
    kill(first, libc::SIGTERM);
    let exited = unshare.wait();
    assert_eq!(exited.code, 0, "{exited:?}");
}

/// The default profile of Docker refuses `pidfd_getfd` without CAP_SYS_PTRACE.
#[test]
fn profile_of_a_container_leaves_preload() {
    let Some(python) = find_program("python3") else {
        return skip("pid-one-profile", "no python3");
    };
    let port = free_port();
    let mut command = command_for(User::Current, sameport(), &["run", "-n", "2", "--"]);
    command.arg(python).args(["-c", SERVER, &port.to_string(), "-"]);
    let refused = || refused_by(libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned());
    let run = spawn_process(with_pre_exec(command, refused));
    run.wait_for_stderr(
        "using preload, because seccomp cannot: a system call filter refuses pidfd_getfd",
    );
    run.wait_for_stderr("permit pidfd_getfd in the seccomp profile of the container or sandbox");
    run.wait_for_stderr("is now shared by 2");
    let answer = ask(([127, 0, 0, 1], port).into(), b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(answer.ends_with(b"answer"));
    assert_eq!(run.terminate().code, 128 + libc::SIGTERM);
}
