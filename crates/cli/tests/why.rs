//! End-to-end tests of `sameport why`, compared with the kernel's answer to the same bind.
#![cfg(target_os = "linux")]

#[path = "harness/mod.rs"]
mod harness;

use std::net::{SocketAddr, TcpListener, TcpStream};

use harness::{
    Exited, Process, User, eventually, find_program, free_port, in_test_dir, is_root, skip, start,
    start_command, wait_until_answering,
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// A socket with these options, bound.
fn bound(kind: Type, at: &str, reuse_address: bool, reuse_port: bool) -> std::io::Result<Socket> {
    let at: SocketAddr = at.parse().unwrap();
    let socket = Socket::new(Domain::for_address(at), kind, None)?;
    socket.set_reuse_address(reuse_address)?;
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&at.into())?;
    Ok(socket)
}

fn why(user: User, arguments: &[&str]) -> Exited {
    start(user, &[&["why"], arguments].concat()).wait()
}

/// The only answer, and the exit code.
fn answer(user: User, arguments: &[&str]) -> (i32, Value) {
    let exited = why(user, &[arguments, &["--json"]].concat());
    let result: Value =
        serde_json::from_str(&exited.stdout).unwrap_or_else(|e| panic!("{e}: {exited:?}"));
    assert_eq!(result["version"], 1);
    assert_eq!(exited.stderr, "");
    (exited.code, result["answers"][0].clone())
}

/// The only socket in the answer.
fn only(answer: &Value) -> &Value {
    let sockets = answer["sockets"].as_array().unwrap();
    assert_eq!(sockets.len(), 1, "{answer}");
    &sockets[0]
}

fn has_pid(socket: &Value, pid: i32) -> bool {
    socket["pids"].as_array().unwrap().iter().any(|result| *result == pid)
}

fn remedies(answer: &Value) -> Vec<String> {
    let kinds = answer["remedies"].as_array().unwrap().iter();
    kinds.map(|remedy| remedy["kind"].as_str().unwrap().to_owned()).collect()
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

fn python(user: User, port: u16) -> Option<Process> {
    let python = find_program("python3")?;
    let (port_text, dir) = (port.to_string(), in_test_dir(""));
    let dir = dir.to_str().unwrap();
    let arguments = ["-m", "http.server", &port_text, "--bind", "127.0.0.1", "--directory", dir];
    let server = start_command(user, python, &arguments);
    wait_until_answering(([127, 0, 0, 1], port).into());
    Some(server)
}

#[test]
fn exclusive_server_conflicts_and_the_remedies_work() {
    for user in User::all() {
        let port = free_port();
        let Some(server) = python(*user, port) else {
            return skip("why-python", "no python3");
        };
        let at = format!("127.0.0.1:{port}");
        for options in [&[][..], &["--reuse-port"], &["--no-reuse-address"]] {
            let (code, result) = answer(*user, &[&[&*at], options].concat());
            assert_eq!((code, &result["granted"]), (1, &Value::Bool(false)), "{result}");
            assert_eq!((&result["call"], &result["error"]), (&"bind".into(), &"EADDRINUSE".into()));
            let held = only(&result);
            assert!(has_pid(held, server.pid()), "{result}");
            assert_eq!(
                (&held["reuse_address"], &held["reuse_port"]),
                (&true.into(), &false.into())
            );
            assert_eq!(
                held["conflict"]["reuse_lacks"],
                Value::Null,
                "nothing helps against a listener"
            );
            assert_eq!(remedies(&result), ["share", "without", "port"], "{result}");
            let other = result["remedies"][2]["port"].as_u64().unwrap();
            let other = u16::try_from(other).unwrap();
            TcpListener::bind(("0.0.0.0", other)).expect("the port that nobody has");
        }
        let text = why(*user, &[&at]);
        let first = text.stdout.lines().next().unwrap();
        assert!(first.starts_with(&format!("no: {at}/tcp (user ")), "{first}");
        for part in ["cannot be bound: EADDRINUSE by bind", "-m http.server", "what would work"] {
            assert!(text.stdout.contains(part), "{part}: {}", text.stdout);
        }
        // Other addresses of the port are free, and so is the other family of the wildcard.
        assert_eq!(answer(*user, &[&format!("127.0.0.2:{port}")]).0, 0);
        let (code, wide) = answer(*user, &[&port.to_string()]);
        assert_eq!((code, &wide["address"]), (1, &format!("[::]:{port}").into()));
        let mut kinds = remedies(&wide);
        // A machine with other addresses has a choice more.
        kinds.retain(|kind| kind != "addresses");
        assert_eq!(kinds, ["share", "without", "part", "port"], "{wide}");

        // The first remedy: both programs under `run`.
        let pid = server.pid();
        drop(server);
        let (code, free) = answer(*user, &[&at]);
        // The connection that tested the server can be in TIME_WAIT.
        assert!(code == 0 || code == 3, "{free}");
        assert!(free["sockets"].as_array().unwrap().iter().all(|socket| !has_pid(socket, pid)));
    }
}

#[test]
fn server_with_reuseport_can_be_joined() {
    let Some(nginx) = find_program("nginx") else {
        return skip("why-nginx", "no nginx");
    };
    let port = free_port();
    let dir = in_test_dir("why-nginx");
    std::fs::create_dir(&dir).unwrap();
    let place = dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {place}/{name};\n"))
        .concat();
    let configuration = format!(
        "daemon off; worker_processes 2; pid {place}/pid; error_log stderr;
         events {{}}
         http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port} reuseport; }} }}\n"
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    let (place, file) = (dir.to_str().unwrap(), file.to_str().unwrap());
    let arguments = ["-e", "stderr", "-p", place, "-c", file];
    let _server = start_command(User::Current, nginx, &arguments);
    let at = format!("127.0.0.1:{port}");
    wait_until_answering(at.parse().unwrap());

    let (code, result) = answer(User::Current, &[&at]);
    assert_eq!((code, remedies(&result)[0].as_str()), (1, "join"), "{result}");
    let (code, result) = answer(User::Current, &[&at, "--reuse-port"]);
    assert_eq!(code, 0, "{result}");
    let sockets = result["sockets"].as_array().unwrap();
    let waiting: Vec<_> = sockets.iter().filter(|socket| socket["state"] == "waiting").collect();
    assert_eq!(waiting.len(), 2, "one for each worker: {result}");
    assert!(waiting.iter().all(|socket| socket["traffic"][0]["outcome"] == "shared"), "{result}");
    assert!(waiting.iter().all(|socket| socket["program"] == "nginx"), "{result}");
    bound(Type::STREAM, &at, true, true).unwrap().listen(1).unwrap();
}

#[test]
fn runs_can_be_joined() {
    let port = free_port();
    let at = format!("127.0.0.1:{port}");
    let first = bound(Type::STREAM, &at, true, true).unwrap();
    first.listen(8).unwrap();
    let (code, plain) = answer(User::Current, &[&at]);
    assert_eq!((code, remedies(&plain)[0].as_str()), (1, "join"), "{plain}");
    assert!(bound(Type::STREAM, &at, true, false).is_err());

    let (code, joined) = answer(User::Current, &[&at, "--reuse-port"]);
    assert_eq!(code, 0, "{joined}");
    assert_eq!(only(&joined)["traffic"][0]["outcome"], "shared");
    let second = bound(Type::STREAM, &at, true, true).unwrap();
    second.listen(8).unwrap();

    // A more specific address receives its traffic; a wildcard leaves it.
    let wild = format!("0.0.0.0:{port}");
    let (_, wide) = answer(User::Current, &[&wild, "--reuse-port"]);
    let effects = wide["sockets"].as_array().unwrap();
    assert_eq!(effects.len(), 2, "{wide}");
    assert!(effects.iter().all(|socket| socket["traffic"][0]["outcome"] == "kept"), "{wide}");
    let text = why(User::Current, &[&wild, "--reuse-port"]).stdout;
    assert!(text.contains(&format!("keeps     the connections to {at}")), "{text}");
    assert!(text.contains("(2 times)"), "twice the same is told once: {text}");
}

#[test]
fn client_can_hold_the_port() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free_port();
    let at = format!("127.0.0.1:{port}");
    let client = bound(Type::STREAM, &at, false, false).unwrap();
    client.connect(&target.local_addr().unwrap().into()).unwrap();
    let (code, result) = answer(User::Current, &[&format!("0.0.0.0:{port}")]);
    assert_eq!(code, 1, "{result}");
    assert!(bound(Type::STREAM, &format!("0.0.0.0:{port}"), true, false).is_err());
    assert_eq!(only(&result)["state"], "connected");
    assert!(has_pid(only(&result), own_pid()));
    let text = why(User::Current, &[&at]).stdout;
    assert!(text.contains(&format!("has a connection from {at}")), "{text}");
}

#[test]
fn time_wait_is_reported() {
    let port = free_port();
    let at = format!("127.0.0.1:{port}");
    let server = bound(Type::STREAM, &at, true, false).unwrap();
    server.listen(8).unwrap();
    let client = TcpStream::connect(&at).unwrap();
    let (accepted, _) = server.accept().unwrap();
    // The end that closes first keeps TIME_WAIT.
    accepted.shutdown(std::net::Shutdown::Both).unwrap();
    drop(accepted);
    drop(client);
    drop(server);
    // A child that another test has just forked can hold them.
    let left = eventually(|| {
        let result = answer(User::Current, &[&at]);
        (result.0 == 3).then_some(result.1)
    });
    let result = left.expect("a doubt");
    assert_eq!(result["granted"], Value::Null);
    let left = only(&result);
    assert_eq!((&left["state"], &left["uid"]), (&"time-wait".into(), &Value::Null));
    assert!(left["ends_in"].as_u64().unwrap() <= 60, "{left}");
    // The server had this option, so the kernel allows the bind.
    assert_eq!(left["granted_if"], serde_json::json!(["reuse_address"]));
    let (code, bare) = answer(User::Current, &[&at, "--no-reuse-address"]);
    assert_eq!((code, &only(&bare)["state"]), (1, &"time-wait".into()), "{bare}");
    let text = why(User::Current, &[&at, "--no-reuse-address"]).stdout;
    assert!(text.contains("its closed connections (TIME_WAIT) still hold it"), "{text}");
    assert!(text.contains("\n  wait "), "{text}");
    assert!(bound(Type::STREAM, &at, false, false).is_err());
    bound(Type::STREAM, &at, true, false).unwrap();
}

#[test]
fn bound_sockets_are_reported() {
    let port = free_port();
    let at = format!("127.0.0.1:{port}");
    let bare = bound(Type::STREAM, &at, false, false).unwrap();
    let (code, result) = answer(User::Current, &[&at]);
    assert_eq!((code, &only(&result)["state"]), (1, &"bound".into()), "{result}");
    drop(bare);
    // A child that another test has just forked can hold it.
    let open = eventually(|| bound(Type::STREAM, &at, true, false).ok());
    let _open = open.expect("the address is free");
    let exited = eventually(|| {
        let exited = why(User::Current, &[&at]);
        (exited.code == 0).then_some(exited)
    });
    let text = exited.expect("it can be bound").stdout;
    assert!(text.contains("the first of the two that listens gets"), "{text}");
    bound(Type::STREAM, &at, true, false).unwrap();
}

#[test]
fn newest_udp_socket_would_receive_all() {
    let port = free_port();
    let at = format!("0.0.0.0:{port}");
    let _first = bound(Type::DGRAM, &at, true, false).unwrap();
    let (code, plain) = answer(User::Current, &["--udp", &at]);
    assert_eq!(code, 1, "{plain}");
    assert!(
        !remedies(&plain).contains(&"reuse-address".to_owned()),
        "that would take them: {plain}"
    );
    let (code, result) = answer(User::Current, &["--udp", &at, "--reuse-address"]);
    assert_eq!((code, &only(&result)["traffic"][0]["outcome"]), (0, &"taken".into()), "{result}");
    // TCP ports are separate.
    assert_eq!(answer(User::Current, &[&at]).0, 0);
}

#[test]
fn another_user_cannot_share() {
    if !is_root() {
        return skip("why-another-user", "needs another user");
    }
    let port = free_port();
    let at = format!("127.0.0.1:{port}");
    let ours = bound(Type::STREAM, &at, true, true).unwrap();
    for arguments in [vec![&*at, "--reuse-port"], vec![&*at, "--reuse-port", "--user", "65534"]] {
        let user = if arguments.len() > 2 { User::Current } else { User::Nobody };
        let (code, result) = answer(user, &arguments);
        let held = only(&result);
        if user == User::Nobody {
            // A bound socket: its SO_REUSEADDR decides, and cannot be read.
            assert_eq!((code, &held["reuse_address"]), (3, &Value::Null), "{result}");
            assert_eq!(held["granted_if"], serde_json::json!(["reuse_address"]));
            let text = why(user, &arguments).stdout;
            assert!(text.contains("ask as root"), "{text}");
        } else {
            assert_eq!((code, &held["reuse_address"]), (0, &true.into()), "{result}");
        }
    }
    ours.listen(8).unwrap();
    for arguments in [vec![&*at, "--reuse-port"], vec![&*at, "--reuse-port", "--user", "65534"]] {
        let user = if arguments.len() > 2 { User::Current } else { User::Nobody };
        let (code, result) = answer(user, &arguments);
        assert_eq!(code, 1, "{result}");
        assert_eq!(only(&result)["conflict"]["share_lacks"], serde_json::json!(["same-user"]));
        assert_eq!(remedies(&result)[0], "as-user", "{result}");
        let text = why(user, &arguments).stdout;
        assert!(text.contains("only sockets of one user can share"), "{text}");
    }
    // The owner of a private group is not a user.
    let private = bound(Type::STREAM, "127.0.0.1:0", false, true).unwrap();
    let at = private.local_addr().unwrap().as_socket().unwrap().to_string();
    drop(private);
    let private = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    private.set_reuse_port(true).unwrap();
    std::os::unix::fs::fchown(&private, Some(PRIVATE), None).unwrap();
    private.bind(&at.parse::<SocketAddr>().unwrap().into()).unwrap();
    private.listen(8).unwrap();
    let text = why(User::Current, &[&at, "--reuse-port"]).stdout;
    assert!(text.contains("a private group, which no other socket can join"), "{text}");
    assert!(!text.contains("as user"), "{text}");
}

/// A uid in the range of private groups.
const PRIVATE: u32 = 0x7000_0001;

#[test]
fn limits_of_the_machine_are_reported() {
    let cases = [
        ("192.0.2.1:8080", &[][..], "bind", "EADDRNOTAVAIL"),
        ("[2001:db8::1]:8080", &[], "bind", "EADDRNOTAVAIL"),
        ("[::ffff:127.0.0.1]:8080", &["--v6only"], "bind", "EINVAL"),
        ("[fe80::1]:8080", &[], "bind", "EINVAL"),
        ("8080", &["--device", "nosuch"], "setsockopt(SO_BINDTODEVICE)", "ENODEV"),
    ];
    for (at, options, call, error) in cases {
        let (code, result) = answer(User::Current, &[&[at], options].concat());
        assert_eq!(
            (code, &result["call"], &result["error"]),
            (1, &call.into(), &error.into()),
            "{at}"
        );
    }
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if start.trim().parse::<u16>().unwrap() <= 1 {
        return skip("why-low-ports", "every port is for everybody here");
    }
    let user = *User::all().last().unwrap();
    let (code, result) = answer(user, &["127.0.0.1:1"]);
    assert_eq!((code, &result["error"]), (1, &"EACCES".into()), "{result}");
    let text = why(user, &["127.0.0.1:1"]).stdout;
    assert!(text.contains("CAP_NET_BIND_SERVICE") && text.contains("setcap"), "{text}");
}

#[test]
fn wrong_command_line_fails_fast() {
    let cases: [&[&str]; 10] = [
        &[],
        &["0"],
        &["127.0.0.1:0"],
        &["127.0.0.1"],
        &["65536"],
        &["127.0.0.1:80", "--v6only"],
        &["80", "--user", "no such user"],
        &["80", "--device", "a name that is too long"],
        &["80", "--no-reuse-address", "--reuse-address"],
        &["no-such-host.invalid:80"],
    ];
    for arguments in cases {
        let exited = why(User::Current, arguments);
        assert_eq!(exited.code, 2, "{arguments:?}: {exited:?}");
        assert_eq!(exited.stdout, "");
        assert!(exited.stderr.starts_with("error: "), "{exited:?}");
    }
    if is_root() {
        let exited = why(User::Nobody, &["80", "--user", "root"]);
        assert_eq!(exited.code, 3, "{exited:?}");
        assert!(exited.stderr.contains("only root can ask for another user"), "{exited:?}");
    }
}

/// The command is quoted: pasting it executes nothing from an argument.
#[test]
fn suggested_command_can_be_pasted() {
    let Some(python) = find_program("python3") else {
        return skip("why-python", "no python3");
    };
    let port = free_port();
    let code = format!(
        "import socket, time; it = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
    );
    let arguments = ["-c", &code, "$(exit 7); `exit 8`", "it's", ""];
    let _server = start_command(User::Current, python, &arguments);
    wait_until_answering(([127, 0, 0, 1], port).into());
    let result = why(User::Current, &[&format!("127.0.0.1:{port}")]).stdout;
    let command = result.split("`sameport run -- ").nth(1).expect("it says what to start again");
    // The text contains backquotes, inside single quotes.
    let (command, _) = command.split_once("`, and yours under ").unwrap();
    let words =
        start_command(User::Current, "/bin/sh", &["-c", &format!("printf '%s|' {command}")]).wait();
    let words: Vec<&str> = words.stdout.split('|').collect();
    assert_eq!(words[1..], [&arguments[..], &[""]].concat(), "{result}");
}
