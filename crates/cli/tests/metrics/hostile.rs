//! Clients that misbehave, and names that are made to break the format.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::exporter::{Exporter, Reply, run, series};
use crate::harness::named_run::RunSetup;
use crate::harness::{SOCKET_TIMEOUT, User, kill, spawn_process};

#[test]
fn what_is_no_scrape_gets_an_answer() {
    let setup = RunSetup::new(User::Current);
    let exporter = Exporter::start(&setup, &["--run", "none", "--no-audit"]);
    let get = |line: &str| exporter.ask(&format!("{line}\r\nhost: x\r\n\r\n"));
    for (line, status) in [
        ("GET /metrics HTTP/1.1", 200),
        ("GET /metrics HTTP/1.0", 200),
        ("GET /metrics?x=1 HTTP/1.1", 200),
        ("GET http://other/metrics HTTP/1.1", 200),
        ("GET / HTTP/1.1", 200),
        ("GET /metrics/ HTTP/1.1", 404),
        ("GET /%2e%2e/etc/passwd HTTP/1.1", 404),
        ("POST /metrics HTTP/1.1", 405),
        ("BREW /metrics HTTP/1.1", 405),
        ("GET /metrics HTTP/3.7", 400),
        ("SSH-2.0-none", 400),
        ("\x16\x03\x01\x02", 400),
    ] {
        assert_eq!(get(line).status, status, "{line:?}");
    }
    assert!(get("PUT / HTTP/1.1").head.contains("allow: GET, HEAD"));
    let head = get("HEAD /healthz HTTP/1.1");
    assert_eq!((head.status, &*head.body), (200, ""), "{head:?}");
    assert!(head.head.contains("content-length: 20"), "{head:?}");
    let huge = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    assert!([431, 0].contains(&reply_or_reset(&exporter, huge.as_bytes()).status));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000));
    assert!([431, 0].contains(&reply_or_reset(&exporter, many.as_bytes()).status));
    // A body that never comes.
    let body = "GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    assert_eq!(exporter.ask(body).status, 200);
    let exited = exporter.process.terminate();
    assert!(!exited.stderr.contains("panicked"), "{exited:?}");
}

/// The server resets a connection whose request it has not read whole.
fn reply_or_reset(exporter: &Exporter, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(exporter.address).unwrap();
    stream.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
    let _ = stream.write_all(request);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    Reply::read(&String::from_utf8_lossy(&text))
}

#[test]
fn clients_that_read_or_write_nothing_keep_nobody_from_a_scrape() {
    let run = run(&[]);
    run.wait_for_ready(1);
    let exporter = Exporter::start(&run.setup, &["--run", &run.setup.name, "--no-audit"]);
    let connect = || TcpStream::connect(exporter.address).unwrap();
    let silent: Vec<TcpStream> = (0..150).map(|_| connect()).collect();
    let deaf: Vec<TcpStream> = (0..150)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let slow: Vec<TcpStream> = (0..150)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(b"GET /met").unwrap();
            stream
        })
        .collect();
    exporter.wait_for(&series("sameport_run_up", &run, ""), 1.0);
    // The header of a request has a time limit: the server ends these connections.
    for mut stream in silent.into_iter().chain(slow).take(20) {
        stream.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_ok(), "still open");
    }
    drop(deaf);
    let exited = exporter.process.terminate();
    assert!(!exited.stderr.contains("panicked"), "{exited:?}");
    run.stop();
}

#[test]
fn a_thousand_scrapes_at_once_are_served_by_few_collections() {
    let run = run(&[]);
    run.wait_for_ready(1);
    let exporter = Exporter::start(&run.setup, &["--run", &run.setup.name, "--no-audit"]);
    let up = series("sameport_run_up", &run, "");
    exporter.wait_for(&up, 1.0);
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
    // All connections are open before the first is read.
    let open: Vec<TcpStream> = (0..1000)
        .filter_map(|_| {
            let mut stream = TcpStream::connect_timeout(&exporter.address, SOCKET_TIMEOUT).ok()?;
            stream.write_all(request).ok()?;
            Some(stream)
        })
        .collect();
    let mut durations = std::collections::BTreeSet::new();
    let asked = open.len();
    for mut stream in open {
        stream.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.contains(&up), "{text}");
        let line = text.lines().find(|line| line.starts_with("sameport_scrape_duration_seconds"));
        durations.insert(line.unwrap().to_owned());
    }
    assert_eq!(asked, 1000);
    // No two collections take the same number of nanoseconds.
    assert!(durations.len() < asked / 4, "{} collections", durations.len());
    exporter.process.terminate();
    run.stop();
}

#[test]
fn names_cannot_break_the_format() {
    let setup = RunSetup::new(User::Current);
    let mut command = setup.controlled_command();
    command.push("a\"b\\c\n# TYPE x counter\nx 1".to_owned());
    let run = setup.run(&[], &command);
    run.wait_for_ready(1);
    let name = run.setup.name.clone();
    let exporter = Exporter::start(&run.setup, &["--run", &name]);
    let text = exporter.scrape();
    let is_line = |line: &str| line.starts_with("# ") || line.starts_with("sameport_");
    assert!(text.lines().all(is_line), "{text}");
    assert!(!text.contains("# TYPE x"), "{text}");
    exporter.process.terminate();
    run.stop();
}

#[test]
fn an_address_in_use_is_refused_with_its_holder() {
    let setup = RunSetup::new(User::Current);
    let exporter = Exporter::start(&setup, &["--no-audit"]);
    assert!(exporter.address.ip().is_loopback(), "{}", exporter.address);
    let port = exporter.address.port().to_string();
    let exited = spawn_process(setup.command(&["metrics", "--listen", &port])).wait();
    assert_eq!(exited.code, 1, "{exited:?}");
    let holder = format!("is held by sameport (pid {}", exporter.process.pid());
    assert!(exited.stderr.contains(&holder), "{exited:?}");
    assert!(exited.stderr.contains("\nhint: end that process, or give --listen"), "{exited:?}");
    // The advice does what it says, although connections of the first are in TIME-WAIT.
    assert_eq!(exporter.get("/healthz").status, 200);
    kill(exporter.process.pid(), libc::SIGTERM);
    exporter.process.wait();
    let again = spawn_process(setup.command(&["metrics", "--listen", &port, "--no-audit"]));
    again.wait_for_stderr("serves http://127.0.0.1:");
}

#[test]
fn wrong_arguments() {
    let setup = RunSetup::new(User::Current);
    for words in [
        &["metrics", "--listen", "9464/udp"][..],
        &["metrics", "--listen", "unix:"],
        &["metrics", "--listen", "*%eth0:9464"],
        &["metrics", "--listen", "0", "--once"],
        &["metrics", "--audit-interval", "1s"],
        &["metrics", "--run", "../web"],
        &["metrics", "--port", "0"],
        &["metrics", "web"],
    ] {
        let exited = spawn_process(setup.command(words)).wait_within(Duration::from_secs(20));
        assert_eq!(exited.code, 2, "{words:?}: {exited:?}");
        assert!(exited.stderr.starts_with("error: "), "{exited:?}");
    }
}
