//! `sameport listen` and `sameport dial`.
#![cfg(target_os = "linux")]

mod harness;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use socket2::{Domain, Socket, Type};

use harness::{Exited, SOCKET_TIMEOUT, User, eventually, free_port, sameport, start};

/// Connects until all listeners have exited, so that each receives a share.
fn connect_until_exited(address: SocketAddr, listeners: Vec<harness::Process>) -> Vec<Exited> {
    let mut listeners = listeners;
    let exited = eventually(|| {
        drop(TcpStream::connect(address));
        listeners.iter_mut().all(|listener| !listener.is_running()).then_some(())
    });
    assert!(exited.is_some(), "the listeners did not get their share");
    listeners.into_iter().map(harness::Process::wait).collect()
}

#[test]
fn two_listeners_share_and_print_their_peers() {
    for user in User::all() {
        let address = format!("127.0.0.1:{}", free_port());
        let arguments = ["listen", &address, "--count", "3"];
        let listeners = vec![start(*user, &arguments), start(*user, &arguments)];
        for listener in &listeners {
            listener.wait_for_stdout(&format!("listening on {address} (shared)\n"));
        }
        for exited in connect_until_exited(address.parse().unwrap(), listeners) {
            assert_eq!((exited.code, exited.stderr.as_str()), (0, ""));
            let lines: Vec<_> = exited.stdout.lines().collect();
            assert_eq!(lines.len(), 4, "{exited:?}");
            assert!(lines[1..].iter().all(|line| line.starts_with("new connection 127.0.0.1:")));
        }
    }
}

#[test]
fn exclusive_listener_refuses_others() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let first = start(User::Current, &["listen", &address, "--exclusive"]);
    first.wait_for_stdout(&format!("listening on {address} (exclusive)\n"));

    let second = start(User::Current, &["listen", &address]).wait();
    assert_eq!((second.code, second.stdout.as_str()), (1, ""));
    let named = format!("error: port {port} is held by sameport (pid {}, user ", first.pid());
    assert!(second.stderr.starts_with(&named), "{second:?}");
    assert!(second.stderr.contains(" without SO_REUSEPORT\nhint: kill "), "{second:?}");
    assert!(second.stderr.contains("`sameport why "), "{second:?}");

    if harness::is_root() {
        let other = start(User::Nobody, &["listen", &address]).wait();
        assert_eq!(other.code, 1);
        let words = ": only one user's sockets can share\nhint: ask again as root";
        assert!(other.stderr.contains(words), "{other:?}");
    } else {
        harness::skip("listen-as-another-user", "needs root");
    }
}

/// The listener closes each connection first, so its port is in TIME-WAIT after each round.
#[test]
fn exclusive_listener_restarts_at_once() {
    let address = format!("127.0.0.1:{}", free_port());
    for _ in 0..20 {
        let listener = start(User::Current, &["listen", &address, "--exclusive", "--count", "1"]);
        listener.wait_for_stdout(&format!("listening on {address} (exclusive)\n"));
        let refused = start(User::Current, &["listen", &address]).wait();
        assert_eq!(refused.code, 1, "{refused:?}");
        drop(TcpStream::connect(&address).unwrap());
        assert_eq!(listener.wait().code, 0);
    }
}

/// The connections of a listener without SO_REUSEADDR refuse an exclusive one, which waits.
#[test]
fn exclusive_listener_names_closed_connections() {
    let address = format!("127.0.0.1:{}", free_port());
    let shared = start(User::Current, &["listen", &address, "--count", "1"]);
    shared.wait_for_stdout(" (shared)\n");
    let mut client = TcpStream::connect(&address).unwrap();
    client.read_to_end(&mut Vec::new()).unwrap();
    drop(client);
    assert_eq!(shared.wait().code, 0);
    let refused = start(User::Current, &["listen", &address, "--exclusive"]).wait();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("is held by a closed connection (TIME_WAIT)"), "{refused:?}");
    assert!(refused.stderr.contains("hint: wait "), "{refused:?}");
    assert!(!refused.stderr.contains("SO_REUSEADDR"), "{refused:?}");
}

/// Linux 6.8.
fn kernel_lists_bound_sockets() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    (numbers.next(), numbers.next()) >= (Some(6_u32), Some(8))
}

/// A socket that is bound in the gap of a restart, and does not listen.
#[test]
fn exclusive_listener_does_not_start_beside_a_bound_socket() {
    let address: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let text = address.to_string();
    let listener = start(User::Current, &["listen", &text, "--exclusive", "--count", "1"]);
    listener.wait_for_stdout(" (exclusive)\n");
    TcpStream::connect(address).unwrap().read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(listener.wait().code, 0);
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.set_reuse_address(true).unwrap();
    bound.bind(&address.into()).unwrap();
    let refused = start(User::Current, &["listen", &text, "--exclusive"]);
    if !kernel_lists_bound_sockets() {
        return refused.wait_for_stdout(" (exclusive)\n");
    }
    let refused = refused.wait();
    assert_eq!(refused.code, 1, "{refused:?}");
    let port = address.port();
    let message = format!("error: port {port} is bound by a socket of uid ");
    assert!(refused.stderr.starts_with(&message), "{refused:?}");
    assert!(refused.stderr.contains(&format!("`sameport ls {port}`")), "{refused:?}");
    // The advice.
    let listed = start(User::Current, &["ls", &port.to_string()]).wait();
    assert!(listed.stdout.contains(&std::process::id().to_string()), "{listed:?}");
}

#[test]
fn exclusive_listener_does_not_join() {
    let address = format!("127.0.0.1:{}", free_port());
    let shared = start(User::Current, &["listen", &address]);
    shared.wait_for_stdout("(shared)");
    let alone = start(User::Current, &["listen", &address, "--exclusive"]).wait();
    assert_eq!(alone.code, 1);
    assert!(alone.stderr.contains("hint: share it, without --exclusive"), "{alone:?}");
}

#[test]
fn bare_port_serves_both_families() {
    let port = free_port();
    let listener = start(User::Current, &["listen", &port.to_string(), "--count", "2"]);
    listener.wait_for_stdout(&format!("listening on *:{port} (shared)\n"));
    let v4 = TcpStream::connect(("127.0.0.1", port)).unwrap().local_addr().unwrap();
    listener.wait_for_stdout(&format!("new connection {v4}\n"));
    let v6 = TcpStream::connect(("::1", port)).unwrap().local_addr().unwrap();
    let exited = listener.wait();
    assert!(exited.stdout.ends_with(&format!("new connection {v6}\n")), "{exited:?}");
}

#[test]
fn datagrams_are_counted_in_bytes() {
    let port = free_port();
    let arguments = ["listen", &format!("127.0.0.1:{port}"), "--udp", "--count", "2", "--json"];
    let listener = start(User::Current, &arguments);
    listener.wait_for_stdout("\"listening\"");
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for bytes in [&b""[..], b"hello"] {
        sender.send_to(bytes, ("127.0.0.1", port)).unwrap();
    }
    let exited = listener.wait();
    assert_eq!(exited.code, 0);
    let from = sender.local_addr().unwrap().to_string();
    let events: Vec<serde_json::Value> =
        exited.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["address"], format!("127.0.0.1:{port}"));
    for (event, bytes) in events[1..].iter().zip([0, 5]) {
        assert_eq!(event["event"], "datagram");
        assert_eq!((event["from"].as_str(), event["bytes"].as_u64()), (Some(&*from), Some(bytes)));
    }
}

/// The exit code and the output of `sameport dial` with this input.
fn dial(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(sameport())
        .arg("dial")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // `dial` exits before it reads if an argument is wrong.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn dial_copies_both_ways_from_a_listening_port() {
    for host in ["127.0.0.1", "[::1]"] {
        let near = format!("{host}:{}", free_port());
        let near_listener = start(User::Current, &["listen", &near]);
        near_listener.wait_for_stdout("(shared)");

        let far_listener = TcpListener::bind(format!("{host}:0")).unwrap();
        let far = far_listener.local_addr().unwrap().to_string();
        let echo = std::thread::spawn(move || {
            let (mut stream, from) = far_listener.accept().unwrap();
            stream.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
            let mut copy = stream.try_clone().unwrap();
            std::io::copy(&mut copy, &mut stream).unwrap();
            from.to_string()
        });
        let big = "sameport ".repeat(100_000);
        let (code, stdout, stderr) = dial(&["--from", &near, &far], big.as_bytes());
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert!(stdout == big, "{} of {} bytes came back", stdout.len(), big.len());
        assert_eq!(echo.join().unwrap(), near);
        assert!(near_listener.terminate().stdout.lines().count() == 1, "nobody connected to near");
    }
}

#[test]
fn dial_from_a_wildcard_address_of_both_families() {
    for (from, host, reached) in [
        ("[::]", "127.0.0.1", true),
        ("[::]", "[::1]", true),
        ("*", "127.0.0.1", true),
        ("0.0.0.0", "127.0.0.1", true),
        ("0.0.0.0", "[::1]", false),
        ("[::1]", "127.0.0.1", false),
    ] {
        let far = TcpListener::bind(format!("{host}:0")).unwrap();
        let to = far.local_addr().unwrap().to_string();
        let near = format!("{from}:{}", free_port());
        if reached {
            let served = std::thread::spawn(move || drop(far.accept().unwrap()));
            assert_eq!(dial(&["--from", &near, &to], b"").0, 0, "{near} {to}");
            served.join().unwrap();
        } else {
            let (code, _, stderr) = dial(&["--from", &near, &to], b"");
            assert_eq!(code, 2, "{stderr}");
            let expected = "the two have no address of the same family: the local end is ";
            assert!(stderr.contains(expected), "{stderr}");
        }
    }
}

#[test]
fn dial_speaks_udp() {
    let far = UdpSocket::bind("127.0.0.1:0").unwrap();
    far.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
    let address = far.local_addr().unwrap().to_string();
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; 100];
        let (n, from) = far.recv_from(&mut buffer).unwrap();
        far.send_to(&buffer[..n], from).unwrap();
    });
    assert_eq!(dial(&["--udp", &address], b"hello"), (0, "hello".into(), String::new()));
    echo.join().unwrap();
}

#[test]
fn dial_reports_a_missing_server() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let (code, stdout, stderr) = dial(&[&nobody], b"");
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with(&format!("error: connect {nobody}: refused\nhint: ")), "{stderr}");

    let [holder, far] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [taken, far] = [&holder, &far].map(|it| it.local_addr().unwrap().to_string());
    let (code, _, stderr) = dial(&["--from", &taken, &far], b"");
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(&taken), "{stderr}");
}

#[test]
fn closed_stdout_ends_it_quietly() {
    let address = format!("127.0.0.1:{}", free_port());
    let script = format!("{} listen {address} | head -n 1", sameport().display());
    let pipe = harness::start_command(User::Current, "sh", &["-c", &script]);
    pipe.wait_for_stdout("(shared)");
    let mut pipe = Some(pipe);
    // The write of the line to the closed pipe ends it.
    let exited = eventually(|| {
        drop(TcpStream::connect(address.parse::<SocketAddr>().unwrap()));
        let gone = !pipe.as_mut().unwrap().is_running();
        gone.then(|| pipe.take().unwrap().wait())
    })
    .expect("it ends when nobody reads");
    assert_eq!((exited.code, exited.stderr.as_str()), (0, ""), "{exited:?}");
}
