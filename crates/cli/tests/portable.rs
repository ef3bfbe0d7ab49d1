//! The verbs of every system: `listen`, `dial`, `doctor` and help. `cargo xtask wine` runs these tests on
//! Windows' interface.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sameport"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end: exit code, stdout and stderr.
fn ended(arguments: &[&str]) -> (i32, String, String) {
    read(command(arguments).spawn().unwrap())
}

/// The exit code and the output of a program that ends, which is short.
fn read(mut child: Child) -> (i32, String, String) {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("a program that must end is still running: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A running `sameport listen`, which is ended with the test.
struct Listener {
    child: Child,
    lines: Receiver<String>,
}

impl Listener {
    fn start(arguments: &[&str]) -> Self {
        let mut child = command(&[&["listen"], arguments].concat()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line of `sameport listen`")
    }

    /// The address in `listening on ADDRESS (MODE)`.
    fn address(&self) -> String {
        let line = self.line();
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.split(' ').next());
        address.unwrap_or_else(|| panic!("{line}")).to_owned()
    }

    /// Waits for the end.
    fn end(mut self) -> (i32, String) {
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code().unwrap_or(-1), stderr)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects, and returns the local address.
fn connect(to: SocketAddr) -> SocketAddr {
    TcpStream::connect_timeout(&to, PATIENCE).unwrap().local_addr().unwrap()
}

fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

/// Whether a second shared TCP listener is possible. Wine 8 refuses it: `cargo xtask wine` shows the same of
/// a C program.
fn shares_tcp() -> bool {
    shares() && std::env::var_os("SAMEPORT_TEST_WINE").is_none()
}

fn shares() -> bool {
    sameport::support().sharing != sameport::Sharing::Unsupported
}

#[test]
fn each_connection_is_a_line() {
    let listener = Listener::start(&["127.0.0.1:0", "--exclusive", "--count", "2"]);
    let to: SocketAddr = listener.address().parse().unwrap();
    for _ in 0..2 {
        let from = connect(to);
        assert_eq!(listener.line(), format!("new connection {from}"));
    }
    assert_eq!(listener.end(), (0, String::new()));
}

#[test]
fn each_datagram_is_a_line() {
    let listener = Listener::start(&["127.0.0.1:0/udp", "--exclusive", "--count", "2"]);
    let to: SocketAddr = listener.address().parse().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let from = client.local_addr().unwrap();
    for (bytes, size) in [(&b"x"[..], "1 byte"), (b"hello", "5 bytes")] {
        client.send_to(bytes, to).unwrap();
        assert_eq!(listener.line(), format!("new datagram {from}, {size}"));
    }
    assert_eq!(listener.end(), (0, String::new()));
}

#[test]
fn json_has_one_object_a_line() {
    let listener = Listener::start(&["127.0.0.1:0", "--exclusive", "--count", "1", "--json"]);
    let value = |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap();
    let first = value(listener.line());
    let words = ["event", "mode", "proto"].map(|key| first[key].as_str().unwrap());
    assert_eq!(words, ["listening", "exclusive", "tcp"]);
    let from = connect(first["address"].as_str().unwrap().parse().unwrap());
    let second = value(listener.line());
    let words = ["event", "from"].map(|key| second[key].as_str().unwrap());
    assert_eq!(words, ["connection", &from.to_string()]);
    assert_eq!(listener.end(), (0, String::new()));
}

#[test]
fn a_second_listener_shares_the_address_where_the_system_does() {
    for protocol in ["", "/udp"] {
        let address = format!("127.0.0.1:0{protocol}");
        if !shares() {
            let (code, _, stderr) = ended(&["listen", &address]);
            assert_eq!(code, 3, "{stderr}");
            continue;
        }
        let first = Listener::start(&[&address]);
        let address = first.address();
        let second = Listener::start(&[&format!("{address}{protocol}")]);
        if protocol.is_empty() && !shares_tcp() {
            let (code, stderr) = second.end();
            assert_eq!(code, 1, "{stderr}");
            assert!(stderr.starts_with(&format!("error: bind {address}: held by ")), "{stderr}");
        } else {
            assert_eq!(second.address(), address);
        }
    }
}

#[test]
fn an_exclusive_listener_refuses_others() {
    for protocol in ["", "/udp"] {
        let first = Listener::start(&[&format!("127.0.0.1:0{protocol}"), "--exclusive"]);
        let address = format!("{}{protocol}", first.address());
        let (code, stdout, stderr) = ended(&["listen", &address, "--exclusive"]);
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        let lines: Vec<_> = stderr.lines().collect();
        assert!(lines[0].starts_with("error: ") && lines[1].starts_with("hint: "), "{stderr}");
    }
}

#[test]
fn a_bare_port_receives_both_families() {
    let listener = Listener::start(&["0", "--exclusive", "--json"]);
    let first: serde_json::Value = serde_json::from_str(&listener.line()).unwrap();
    let address: SocketAddr = first["address"].as_str().unwrap().parse().unwrap();
    let one_socket = sameport::support().dual_stack != sameport::DualStack::TwoSockets;
    let ipv6 = [SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()))];
    let ipv6 = ipv6.into_iter().filter(|_| has_ipv6() && one_socket);
    for to in [SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))].into_iter().chain(ipv6) {
        let from = connect(to);
        assert!(listener.line().contains(&format!("\"{from}\"")), "{to}");
    }
}

/// Runs `dial` with this input.
fn dial(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = command(&[&["dial"], arguments].concat());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    read(child)
}

#[test]
fn dial_copies_both_ways() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap().to_string();
    let echo = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = server.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        }
    });
    assert_eq!(dial(&[&to], "hello\n"), (0, "HELLO\n".into(), String::new()));
    let from = ["--from", "127.0.0.1:0", &to];
    assert_eq!(dial(&from, "again\n"), (0, "AGAIN\n".into(), String::new()));
    echo.join().unwrap();
}

#[test]
fn dial_sends_datagrams() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("{}/udp", server.local_addr().unwrap());
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; 64];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        server.send_to(&buffer[..length], from).unwrap();
    });
    assert_eq!(dial(&[&to], "hello"), (0, "hello".into(), String::new()));
    echo.join().unwrap();
}

#[test]
fn dial_from_the_port_of_a_listener() {
    if !shares() {
        return;
    }
    let listener = Listener::start(&["127.0.0.1:0"]);
    let from = listener.address();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap().to_string();
    if !shares_tcp() {
        let (code, _, stderr) = dial(&["--from", &from, &to], "");
        assert_eq!(code, 1, "{stderr}");
        return assert!(stderr.starts_with(&format!("error: bind {from}: held by ")), "{stderr}");
    }
    let accepted = std::thread::spawn(move || server.accept().unwrap().1.to_string());
    assert_eq!(dial(&["--from", &from, &to], ""), (0, String::new(), String::new()));
    assert_eq!(accepted.join().unwrap(), from);
}

#[test]
fn errors_have_a_message_and_an_exit_code() {
    // Bound but not listening.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let closed = silent.local_addr().unwrap().as_socket().unwrap().to_string();
    for (arguments, expected, message) in [
        (&["dial", &closed][..], 1, "refused"),
        (&["listen", "192.0.2.1:0"], 1, "this machine has no such address"),
        (&["dial", "--from", "[::1]:0", "127.0.0.1:9"], 2, "no address of the same family"),
        (&["listen", "x y"], 2, "x y"),
        (&["dial", "--timeout", "0", &closed], 2, "--timeout"),
        (&["frobnicate"], 2, "unknown verb 'frobnicate'"),
    ] {
        let (code, stdout, stderr) = ended(arguments);
        assert_eq!((code, stdout.as_str()), (expected, ""), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(message), "{stderr}");
    }
}

#[test]
fn dial_ends_after_its_timeout() {
    let full = sameport::Options::exclusive().backlog(1).listen("127.0.0.1:0").unwrap();
    let to = full.local_addr().unwrap();
    const WAIT: Duration = Duration::from_millis(200);
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&to, WAIT) {
        queued.push(stream);
        assert!(queued.len() < 512, "the queue has no end");
    }
    let (code, _, stderr) = ended(&["dial", "--timeout", "1", &to.to_string()]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("timed out"), "{stderr}");
}

#[test]
fn help_lists_the_verbs_of_this_system() {
    let (code, help, stderr) = ended(&["--help"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let commands = help.split("\nCommands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    let listed: Vec<&str> =
        commands.unwrap().lines().filter_map(|line| line.split_whitespace().next()).collect();
    let portable = ["listen", "dial", "doctor", "completions", "manual"];
    assert!(portable.iter().all(|verb| listed.contains(verb)), "{help}");
    for verb in ["run", "ls", "guard"] {
        assert_eq!(listed.contains(&verb), cfg!(target_os = "linux"), "{help}");
        if cfg!(not(target_os = "linux")) {
            let (code, _, stderr) = ended(&[verb]);
            assert_eq!(code, 3);
            assert!(stderr.starts_with(&format!("error: `{verb}` needs Linux: ")), "{stderr}");
            assert_eq!(ended(&["help", verb]).0, 3);
        }
    }
    for verb in portable {
        assert_eq!(ended(&[verb, "--help"]).0, 0, "{verb}");
    }
}

#[test]
fn doctor_has_the_rows_of_this_system() {
    let (code, text, stderr) = ended(&["doctor", "--json"]);
    assert!([0, 3].contains(&code) && stderr.is_empty(), "{code}: {stderr}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let names = |key: &str| -> Vec<String> {
        let rows = value[key].as_array().unwrap().iter();
        rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    if cfg!(target_os = "linux") {
        return assert!(names("abilities").contains(&"run".to_owned()), "{text}");
    }
    assert_eq!(names("facts"), ["sharing", "exclusive", "dual-stack"]);
    assert_eq!(names("abilities"), ["listen", "listen-exclusive", "listen-both"]);
    assert_eq!(code, if shares() { 0 } else { 3 });
    let support = sameport::support();
    assert_eq!(value["facts"][1]["detail"], support.exclusive.to_string());
    assert!(ended(&["doctor"]).1.starts_with("`sameport listen` "), "{text}");
}
