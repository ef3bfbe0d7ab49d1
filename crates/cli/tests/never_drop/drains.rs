//! Programs that do not drain themselves: keep-alive connections, requests that take long, sessions.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::clients::answer_length;
use crate::harness::named_run::{NamedRun, RunSetup};
use crate::harness::{
    SOCKET_TIMEOUT, SetAtEnd, TIMEOUT, User, eventually, find_program, script, skip, spawn_process,
};

/// A client that keeps its connection, and opens another one when the server has closed it.
struct KeepAliveClient {
    server: SocketAddr,
    connection: Option<TcpStream>,
    /// Whether the connection has answered a request.
    is_used: bool,
    answered: u64,
}

impl KeepAliveClient {
    fn new(server: SocketAddr) -> Self {
        Self { server, connection: None, is_used: false, answered: 0 }
    }

    /// Sends a request. A connection that a server closes between two requests ends without a byte,
    /// and the client repeats the request on another one (RFC 9112, 9.3.1). All else is a loss.
    fn request(&mut self, path: &str) -> Result<(), String> {
        for _ in 0..3 {
            match self.try_request(path) {
                Ok(true) => {
                    self.is_used = true;
                    self.answered += 1;
                    return Ok(());
                }
                Ok(false) if self.is_used => (self.connection, self.is_used) = (None, false),
                Ok(false) => return Err(format!("{path}: closed without an answer")),
                Err(error) => return Err(format!("{path}: {error}")),
            }
        }
        Err(format!("{path}: closed again and again"))
    }

    /// `false`: the server has closed the connection without an answer.
    fn try_request(&mut self, path: &str) -> std::io::Result<bool> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let connection = TcpStream::connect(self.server)?;
                connection.set_read_timeout(Some(SOCKET_TIMEOUT))?;
                self.connection.insert(connection)
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        match connection.write_all(request.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            other => other?,
        }
        let (mut answer, mut buffer) = (Vec::new(), [0; 2048]);
        loop {
            let read = connection.read(&mut buffer)?;
            answer.extend_from_slice(&buffer[..read]);
            if answer.is_empty() {
                return Ok(false);
            }
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if answer_length(&answer)? == Some(answer.len()) {
                return Ok(true);
            }
        }
    }
}

/// The paths of the requests that workers have read.
fn seen(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

fn node(test: &str) -> Option<(String, String)> {
    let Some(node) = find_program("node") else {
        skip(test, "no node");
        return None;
    };
    let text = |path: std::path::PathBuf| path.into_os_string().into_string().unwrap();
    Some((text(node), text(script("drain_server.js"))))
}

fn start_node(test: &str, options: &[&str]) -> Option<NamedRun> {
    let (node, server) = node(test)?;
    let setup = RunSetup::new(User::Current);
    let mut command = setup.run_command(options, &[node.as_str(), &server, "{port}"]);
    command.env("SEEN", setup.dir.join("seen"));
    let supervisor = spawn_process(command);
    let run = NamedRun { setup, supervisor };
    run.wait_until_reachable();
    Some(run)
}

#[test]
fn keep_alive_clients_and_long_requests_of_node_lose_nothing() {
    const QUICK: usize = 12;
    const SLOW: usize = 4;
    let Some(run) = start_node("keep_alive_clients_of_node", &["-n", "2"]) else { return };
    run.wait_for_ready(2);
    let (address, over) = (run.setup.address(), &AtomicBool::new(false));
    let client = move |number: usize| {
        let mut client = KeepAliveClient::new(address);
        let kind = if number < SLOW { "slow" } else { "quick" };
        let mut requests = 0;
        while !over.load(Ordering::Relaxed) {
            client.request(&format!("/{kind}/{number}/{requests}"))?;
            requests += 1;
            thread::sleep(Duration::from_millis(20 + 7 * number as u64));
        }
        Ok::<u64, String>(client.answered)
    };
    let answers = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..QUICK + SLOW).map(|number| scope.spawn(move || client(number))).collect();
        let ended = SetAtEnd(over);
        thread::sleep(Duration::from_millis(500));
        for _ in 0..2 {
            let restart = spawn_process(run.setup.command(&["restart", &run.setup.name]));
            // Up to the drain timeout, and the machine is busy.
            let restarted = restart.wait_within(6 * TIMEOUT);
            assert_eq!(restarted.code, 0, "{restarted:?}");
            assert!(!restarted.stderr.contains("cut"), "{restarted:?}");
        }
        drop(ended);
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let lost: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(lost.is_empty(), "{lost:?}\n{}", run.supervisor.stderr());
    let answered: u64 = answers.into_iter().flatten().sum();
    // No worker has read a request that it did not answer.
    let seen = seen(&run.setup.dir.join("seen"));
    assert_eq!(seen.len() as u64, answered);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len());
    run.stop();
}

/// A session of lines.
struct LineSession(BufReader<TcpStream>);

impl LineSession {
    fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
        Self(BufReader::new(stream))
    }

    /// The pid of the process that answered.
    fn line(&mut self, text: &str) -> Result<i32, String> {
        let failed = |error: std::io::Error| error.to_string();
        self.0.get_mut().write_all(format!("{text}\n").as_bytes()).map_err(failed)?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).map_err(failed)?;
        let pid = answer.split_whitespace().next().and_then(|word| word.parse().ok());
        pid.ok_or_else(|| format!("no answer: {answer:?}"))
    }
}

/// The processes of sessions outlive the first process: they have the rest of the grace period.
#[test]
fn sessions_of_a_forking_server_survive_a_restart() {
    for mode in ["busy", "none", "all"] {
        let server = script("drain_lines.py").into_os_string().into_string().unwrap();
        let run = RunSetup::new(User::Current).run(
            &["--drain", mode, "--drain-timeout", "1s"],
            &["python3", &server, "forks", "{port}"],
        );
        let [first] = run.wait_for_ready(1).into_iter().collect::<Vec<_>>()[..] else { panic!() };
        let mut sessions: Vec<_> = (0..4).map(|_| LineSession::open(run.setup.address())).collect();
        for session in &mut sessions {
            session.line("begin").unwrap();
        }
        thread::scope(|scope| {
            let restart = scope.spawn(|| run.verb("restart", &[]));
            let ended = format!("worker 1 (pid {first}) drains");
            let is_past = || run.supervisor.stderr().contains("its children finish");
            let begun = eventually(|| is_past().then_some(()));
            assert!(begun.is_some(), "{mode}: {ended}\n{}", run.supervisor.stderr());
            for session in &mut sessions {
                assert_ne!(session.line("more").unwrap(), first, "{mode}");
            }
            let status = run.status();
            assert_eq!(status["workers"][0]["state"], "draining", "{mode}: {status}");
            assert_eq!(status["workers"][0]["connections"], 4, "{mode}: {status}");
            sessions.clear();
            let restarted = restart.join().unwrap();
            assert!(!restarted.stderr.contains("cut"), "{mode}: {}", restarted.stderr);
        });
        run.stop();
    }
}

/// With `--drain all` an open websocket delays the end of its worker, and nothing else.
#[test]
fn an_idle_websocket_survives_a_restart() {
    let Some(run) = start_node("an_idle_websocket", &["--drain", "all"]) else { return };
    let before = run.wait_for_ready(1);
    let mut socket = TcpStream::connect(run.setup.address()).unwrap();
    socket.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
    let upgrade = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\n\r\n";
    socket.write_all(upgrade.as_bytes()).unwrap();
    let mut head = [0; 512];
    let length = socket.read(&mut head).unwrap();
    assert!(head[..length].starts_with(b"HTTP/1.1 101"), "{head:?}");
    thread::scope(|scope| {
        let restart = scope.spawn(|| run.verb("restart", &[]));
        let replaced = eventually(|| {
            let status = run.status();
            let mut workers = status["workers"].as_array()?.iter();
            let is_new = |pid: &serde_json::Value| before.iter().all(|old| *pid != *old);
            workers.any(|it| it["state"] == "ready" && is_new(&it["pid"])).then_some(())
        });
        assert!(replaced.is_some(), "{}", run.supervisor.stderr());
        // Long after the requests in hand have ended: there are none.
        thread::sleep(Duration::from_millis(700));
        socket.write_all(b"frame").unwrap();
        let mut echo = [0; 5];
        socket.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"frame");
        assert!(!restart.is_finished());
        // The next change does not wait for the websocket.
        run.verb("scale", &["2"]);
        restart.join().unwrap();
        socket.write_all(b"again").unwrap();
        socket.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"again");
        drop(socket);
    });
    run.stop();
}

/// `stop` of one of two runs in a group: its clients reach the other run.
#[test]
fn a_run_that_leaves_a_group_loses_nothing() {
    const CLIENTS: usize = 8;
    let server = script("drain_lines.py").into_os_string().into_string().unwrap();
    let stays = RunSetup::new(User::Current);
    let (address, port) = (stays.address(), stays.port.to_string());
    let group = ["--group", &format!("leaving-{port}")];
    let command = ["python3", &server, "exits", &port];
    let stays = stays.run(&group, &command);
    stays.wait_for_ready(1);
    let over = &AtomicBool::new(false);
    let client = move || {
        while !over.load(Ordering::Relaxed) {
            LineSession::open(address).line("one")?;
        }
        Ok::<_, String>(())
    };
    let results = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let ended = SetAtEnd(over);
        for _ in 0..3 {
            let leaves = RunSetup::new(User::Current).run(&group, &command);
            leaves.wait_for_ready(1);
            let pid = leaves.wait_for_worker(1);
            let is_used = || (LineSession::open(address).line("one").ok()? == pid).then_some(());
            assert!(eventually(is_used).is_some(), "{}", leaves.supervisor.stderr());
            leaves.stop();
        }
        drop(ended);
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let lost: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(lost.is_empty(), "{lost:?}\n{}", stays.supervisor.stderr());
    stays.stop();
}
