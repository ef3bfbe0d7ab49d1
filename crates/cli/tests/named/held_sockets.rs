//! Which sockets a run holds, and when: programs that bind without listening, that leave out `listen`,
//! that close what they opened.

use crate::harness::named_run::{
    NamedRun, RunSetup, connect, queue_reaches_next_worker, responder,
};
use crate::harness::{User, c_program, find_program, skip};

/// Starts one worker of a Python program, which gets the port as its argument, behind a gate.
/// `None`: there is no Python.
fn python(user: User, options: &[&str], program: &str) -> Option<NamedRun> {
    let python = find_program("python3")?;
    let setup = RunSetup::new(user);
    let command = setup.gated_command(&[python.to_str().unwrap(), "-c", program, "{port}"]);
    Some(setup.run(options, &command))
}

/// A user without privileges, if the test can become one.
fn user() -> User {
    User::all().last().copied().unwrap_or(User::Current)
}

/// A server on the sockets in `listeners`, for the end of a program.
const SERVE: &str = "
import os, select, threading
def answer(client):
    client.setblocking(True)
    client.recv(4096)
    client.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n%d\\n' % os.getpid())
    client.close()
while True:
    for ready in select.select(listeners, [], [])[0]:
        threading.Thread(target=answer, args=[ready.accept()[0]]).start()
";

/// gunicorn and haproxy leave out `listen` where SO_ACCEPTCONN is set after their bind.
#[test]
fn a_program_may_test_whether_its_socket_listens() {
    const PROGRAM: &str = "
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', int(sys.argv[1])))
if not s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
    s.listen(64)
listeners = [s]
";
    for options in [&[][..], &["--queue", "shared"], &["--listen", "127.0.0.1:{port}"]] {
        let program = [PROGRAM, SERVE].concat();
        let Some(run) = python(user(), options, &program) else {
            return skip("named-accepting", "no python3");
        };
        let address = run.setup.address();
        queue_reaches_next_worker(&run, address, "first");
        let before = run.wait_for_ready(1);
        run.verb("restart", &[]);
        let after = run.wait_for_ready(1);
        assert!(after.is_disjoint(&before), "{options:?}");
        queue_reaches_next_worker(&run, address, "second");
        assert_eq!(run.status()["addresses"][0]["held"], true, "{options:?}");
        run.stop();
    }
}

/// granian reserves its port with a socket that never listens. No connection must wait there.
#[test]
fn a_bind_that_never_listens_holds_no_queue() {
    const PROGRAM: &str = "
import socket, sys
def bound():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(('127.0.0.1', int(sys.argv[1])))
    return s
reserved = bound()
listeners = [bound(), bound()]
for s in listeners: s.listen(64)
";
    let program = [PROGRAM, SERVE].concat();
    let Some(run) = python(user(), &[], &program) else {
        return skip("named-reserving", "no python3");
    };
    let address = run.setup.address();
    for round in ["first", "second"] {
        queue_reaches_next_worker(&run, address, round);
        run.verb("restart", &[]);
        for _ in 0..20 {
            responder(address).unwrap();
        }
    }
    run.stop();
}

/// What a program sets between `bind` and `listen` is there after `listen`.
#[test]
fn options_set_before_listen_stay() {
    const PROGRAM: &str = "
import fcntl, os, socket, sys
s = socket.socket()
s.bind(('127.0.0.1', int(sys.argv[1])))
s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
s.setblocking(False)
os.set_inheritable(s.fileno(), True)
s.listen(33)
assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
assert s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
assert s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
assert s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 131072
assert fcntl.fcntl(s, fcntl.F_GETFL) & os.O_NONBLOCK and os.get_inheritable(s.fileno())
listeners = [s]
";
    let program = [PROGRAM, SERVE].concat();
    let Some(run) = python(user(), &[], &program) else {
        return skip("named-options", "no python3");
    };
    queue_reaches_next_worker(&run, run.setup.address(), "after a crash");
    assert_eq!(run.status()["addresses"][0]["backlog"], 33);
    run.stop();
}

/// A socket that is watched, or open twice, before it listens cannot be replaced: it serves itself, and
/// `status` gives the reason.
#[test]
fn a_watched_socket_is_not_replaced() {
    const WATCHED: &str = "
import select, socket, sys
s = socket.socket()
s.bind(('127.0.0.1', int(sys.argv[1])))
e = select.epoll()
e.register(s, select.EPOLLIN)
s.listen(64)
import os
while True:
    e.poll()
    client = s.accept()[0]
    client.recv(4096)
    client.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n%d\\n' % os.getpid())
    client.close()
";
    let twice = [
        "
import socket, sys
s = socket.socket()
s.bind(('127.0.0.1', int(sys.argv[1])))
listeners = [s.dup()]
s.listen(64)
",
        SERVE,
    ]
    .concat();
    for (program, reason) in [(WATCHED, "epoll"), (&twice, "twice")] {
        let Some(run) = python(user(), &[], program) else {
            return skip("named-watched", "no python3");
        };
        let before = run.wait_for_ready(1);
        crate::harness::kill(*before.first().unwrap(), libc::SIGKILL);
        let after = crate::harness::eventually(|| {
            let after = run.wait_for_ready(1);
            after.is_disjoint(&before).then_some(after)
        });
        let answer = responder(run.setup.address()).unwrap();
        assert_eq!(answer, after.unwrap().first().unwrap().to_string());
        let status = run.status();
        let why = status["addresses"][0]["not_held"].to_string();
        assert!(why.contains(reason) && why.contains("before it calls listen"), "{status}");
        run.stop();
    }
}

/// The open descriptors of a process.
fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Ports that a worker opens and closes again, before it is ready and after, stay neither open nor the
/// run's.
#[test]
fn ports_that_are_closed_again_are_released() {
    const PROGRAM: &str = "
import os, socket, sys
port = int(sys.argv[1])
def churn():
    last = None
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) * 150:
        while True:
            s = socket.socket(socket.AF_INET, kind)
            last = 10000 + (last or port) % 20000 + 1
            try: s.bind(('127.0.0.1', last))
            except OSError: continue
            break
        if kind == socket.SOCK_STREAM: s.listen(5)
        s.close()
    return last
closed = [churn()]
t = socket.socket()
t.bind(('127.0.0.1', port))
t.listen(50)
while True:
    client = t.accept()[0]
    client.recv(4096)
    closed.append(churn())
    client.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n%d %d %d\\n' % (os.getpid(), closed[0], closed[-1]))
    client.close()
";
    let Some(run) = python(user(), &[], PROGRAM) else {
        return skip("named-churn", "no python3");
    };
    let before = run.wait_for_ready(1);
    let usual = descriptors(run.supervisor.pid());
    let answer = responder(run.setup.address()).unwrap();
    let closed: Vec<u16> = answer.split(' ').skip(1).map(|port| port.parse().unwrap()).collect();
    for port in closed {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let refused = crate::harness::eventually(|| connect(address).is_err().then_some(()));
        assert!(refused.is_some(), "{port} is open: {}", run.status());
    }
    let is_usual = || (descriptors(run.supervisor.pid()) <= usual + 16).then_some(());
    assert!(crate::harness::eventually(is_usual).is_some(), "{usual} before: {}", run.status());
    let only_one = || (run.status()["addresses"].as_array().unwrap().len() == 1).then_some(());
    assert!(crate::harness::eventually(only_one).is_some(), "{}", run.status());
    run.verb("restart", &[]);
    assert!(run.wait_for_ready(1).is_disjoint(&before));
    let exited = run.stop();
    assert!(!exited.stderr.contains("warning"), "{}", exited.stderr);
}

/// A resolver binds a random UDP port for each query, from its start on. None becomes the run's.
#[test]
fn ports_of_queries_are_not_held() {
    const PROGRAM: &str = "
import random, socket, sys, threading, time
port = int(sys.argv[1])
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(('127.0.0.1', port))
t = socket.socket()
t.bind(('127.0.0.1', port))
t.listen(50)
listeners = [t]
def queries():
    open = []
    while True:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try: s.bind(('127.0.0.1', random.randint(10000, 30000)))
        except OSError: continue
        # One that gets no answer is open for long.
        if random.random() < 0.5: s.connect(('127.0.0.1', port))
        open.append(s)
        if len(open) > 4: open.pop(0).close()
        time.sleep(0.002)
threading.Thread(target=queries, daemon=True).start()
";
    let program = [PROGRAM, SERVE].concat();
    let Some(run) = python(user(), &[], &program) else {
        return skip("named-queries", "no python3");
    };
    for _ in 0..3 {
        let before = run.wait_for_ready(1);
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(1).is_disjoint(&before));
        let status = run.status();
        let addresses = status["addresses"].as_array().unwrap();
        let servers =
            addresses.iter().filter(|at| at["address"] == run.setup.address().to_string());
        assert_eq!(servers.count(), 2, "{status}");
    }
    let only_servers = || (run.status()["addresses"].as_array().unwrap().len() == 2).then_some(());
    assert!(crate::harness::eventually(only_servers).is_some(), "{}", run.status());
    let exited = run.stop();
    assert!(!exited.stderr.contains("warning"), "{}", exited.stderr);
}

/// A port that a program chose can be one of those that the kernel gives to clients.
#[test]
fn a_worker_on_an_ephemeral_port_becomes_ready() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let program = c_program("drains", &[]);
    for options in [&["--no-hold"][..], &["--via", "preload"], &["--via", "cgroup"], &[]] {
        let setup = RunSetup { port, ..RunSetup::new(User::Current) };
        let run = setup.run(options, &[program.to_str().unwrap(), "{port}"]);
        if options == ["--via", "cgroup"] && run.try_verb("status", &[]).code != 0 {
            skip("named-ephemeral-cgroup", "no eBPF at cgroups");
            continue;
        }
        let before = run.wait_for_ready(1);
        run.verb("restart", &[]);
        assert!(run.wait_for_ready(1).is_disjoint(&before), "{options:?}");
        run.stop();
    }
}

/// A worker that ends listening for every user of the held socket, or makes it exclusive, harms neither the
/// other workers nor the next one.
#[test]
fn a_worker_that_disables_its_socket_is_repaired() {
    const PROGRAM: &str = "
import ctypes, os, socket, sys, threading, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', int(sys.argv[1])))
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
s.listen(64)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
def disconnect():
    time.sleep(0.5)
    # sa_family = AF_UNSPEC
    if os.environ['SAMEPORT_WORKER'] == '1':
        assert ctypes.CDLL(None).connect(s.fileno(), bytes(16), 16) == 0
threading.Thread(target=disconnect, daemon=True).start()
listeners = [s]
";
    let program = [PROGRAM, SERVE].concat();
    let Some(run) = python(user(), &["-n", "2"], &program) else {
        return skip("named-disabled", "no python3");
    };
    run.supervisor.wait_for_stderr("it listens again");
    let before = run.wait_for_ready(2);
    let address = run.setup.address();
    for _ in 0..30 {
        responder(address).unwrap();
    }
    let status = run.status();
    assert_eq!(status["addresses"][0]["members"], 2, "{status}");
    assert_eq!(status["addresses"][0]["held"], true, "{status}");
    run.verb("restart", &[]);
    assert!(run.wait_for_ready(2).is_disjoint(&before));
    run.stop();
}
