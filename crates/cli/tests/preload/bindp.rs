//! Every example of bindp's README, with bindp's variables, over IPv4 and IPv6, TCP and UDP,
//! checked at the peer.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use crate::harness::{
    Process, SOCKET_TIMEOUT, User, ask, c_program, eventually, find_program, free_port,
    in_test_dir, skip, start_command, wait_until_answering,
};
use crate::preloaded;
use crate::stdout_of;

fn calls() -> String {
    c_program("preload_calls", &[]).into_os_string().into_string().unwrap()
}

fn address(ip: &str, port: u16) -> SocketAddr {
    (ip.parse::<IpAddr>().unwrap(), port).into()
}

/// Starts `who` on a port, with bindp's variables.
fn serving(variables: &[(&str, &str)], ip: &str, port: u16) -> Process {
    let who = c_program("who", &[]);
    preloaded(User::Current, variables, &[who.to_str().unwrap(), "tcp", ip, &port.to_string()])
}

/// `BIND_ADDR=127.0.0.1 BIND_PORT=… inetd`: the server listens only there.
#[test]
fn server_listens_on_bind_addr() {
    let cases = [
        ("0.0.0.0", "127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ("127.0.0.3", "127.0.0.4", "127.0.0.4", "127.0.0.3"),
        // A dual-stack server moved to IPv4 serves IPv4 only.
        ("::", "127.0.0.1", "127.0.0.1", "::1"),
        ("::", "::1", "::1", "127.0.0.1"),
        ("::", "127.0.0.1,::1", "::1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1,::1", "127.0.0.1", "::1"),
    ];
    for (requested, bound_port, reached, closed) in cases {
        let (old, new) = (free_port(), free_port());
        let variables = [("BIND_ADDR", bound_port), ("BIND_PORT", &new.to_string())];
        let server = serving(&variables, requested, old);
        wait_until_answering(address(reached, new));
        for nobody in [address(reached, old), address(closed, new)] {
            assert!(ask(nobody, b"").is_err(), "{requested} {bound_port}: {nobody} answers");
        }
        drop(server);
    }
}

/// `REUSE_ADDR=1 REUSE_PORT=1 server`, twice. With `BIND_PORT=9999` both servers move there.
#[test]
fn two_servers_share_a_port() {
    for ip in ["127.0.0.1", "::1"] {
        for move_to in [None, Some(free_port())] {
            let requested = free_port();
            let text = move_to.unwrap_or_default().to_string();
            let mut variables = vec![("REUSE_ADDR", "1"), ("REUSE_PORT", "1")];
            if move_to.is_some() {
                variables.push(("BIND_PORT", &text));
            }
            let bound_port = move_to.unwrap_or(requested);
            let both = [serving(&variables, ip, requested), serving(&variables, ip, requested)];
            for server in &both {
                let pid = format!("{}\n", server.pid());
                let answered = eventually(|| {
                    ask(address(ip, bound_port), b"")
                        .ok()
                        .filter(|answer| *answer == pid.as_bytes())
                });
                assert!(answered.is_some(), "{ip} {move_to:?}: {}", server.stderr());
            }
        }
    }
}

/// The options after the bind. UDP sockets get only SO_REUSEPORT.
#[test]
fn options_are_set_on_tcp_and_udp() {
    let both: &[_] = &[("REUSE_ADDR", "1"), ("REUSE_PORT", "1")];
    let cases = [
        (both, "tcp", "port=1 address=1"),
        (both, "udp", "port=1 address=0"),
        (&[("REUSE_ADDR", "1")], "tcp", "port=0 address=1"),
        (&[("REUSE_ADDR", "1")], "udp", "port=0 address=1"),
        (&[("REUSE_PORT", "1")], "tcp", "port=1 address=0"),
        (&[("REUSE_PORT", "0"), ("REUSE_ADDR", "0")], "tcp", "port=0 address=0"),
    ];
    for ip in ["127.0.0.1", "::1"] {
        for (variables, protocol, expected) in cases {
            let port = free_port().to_string();
            let got =
                stdout_of(User::Current, variables, &[&*calls(), "bind", protocol, ip, &port]);
            assert_eq!(got, format!("0 {ip} {port} {expected} transparent=0\n"), "{variables:?}");
        }
    }
    if crate::harness::is_root() {
        let port = free_port().to_string();
        for (requested, bound_port) in [("0.0.0.0", "192.0.2.5"), ("::", "2001:db8::5")] {
            let variables = [("IP_TRANSPARENT", "1"), ("BIND_ADDR", bound_port)];
            let got =
                stdout_of(User::Current, &variables, &[&*calls(), "bind", "udp", requested, &port]);
            assert_eq!(got, format!("0 {bound_port} {port} port=0 address=1 transparent=1\n"));
        }
    }
}

/// The source address of a client, as the peer sees it.
fn source_seen_by_peer(variables: &[(&str, &str)], how: &str, to: &str) -> SocketAddr {
    let user = User::Current;
    if how == "udp" || how == "sendto" || how == "twice" {
        let peer = UdpSocket::bind(address(to, 0)).unwrap();
        peer.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
        let port = peer.local_addr().unwrap().port().to_string();
        let client = preloaded(user, variables, &[&*calls(), "send", how, to, &port]);
        let mut bytes = [0; 16];
        let (size, from) =
            peer.recv_from(&mut bytes).unwrap_or_else(|e| panic!("{e}: {:?}", client.stdout()));
        assert_eq!(&bytes[..size], b"hello");
        if how == "twice" {
            assert_eq!(peer.recv_from(&mut bytes).unwrap().1, from, "another port for the second");
        }
        assert!(client.wait().stdout.starts_with("0 "));
        return from;
    }
    let peer = TcpListener::bind(address(to, 0)).unwrap();
    let port = peer.local_addr().unwrap().port().to_string();
    let client = preloaded(user, variables, &[&*calls(), "send", how, to, &port]);
    client.wait_for_stdout("\n");
    assert!(client.stdout().starts_with("0 "), "{}", client.stdout());
    let (mut connection, from) = peer.accept().unwrap();
    let mut bytes = [0; 5];
    connection.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    drop(connection);
    from
}

/// `BIND_ADDR=… BIND_PORT=49888 curl`, `BIND_ADDR=… curl`, `ircII` with a virtual address, and the
/// same with SAMEPORT_SOURCE.
#[test]
fn clients_use_the_source() {
    for (to, bound_port) in [("127.0.0.1", "127.0.0.7"), ("::1", "::1")] {
        for how in ["tcp", "udp", "sendto", "twice"] {
            let from = source_seen_by_peer(&[("BIND_ADDR", bound_port)], how, to);
            assert_eq!(from.ip(), address(bound_port, 0).ip(), "{how} {to}");
            let source = bound_port.parse::<IpAddr>().unwrap().to_string();
            let source = if bound_port.contains(':') { format!("[{source}]") } else { source };
            assert_eq!(
                source_seen_by_peer(&[("SAMEPORT_SOURCE", &source)], how, to).ip(),
                from.ip()
            );

            let port = free_port();
            let variables = [("BIND_ADDR", bound_port), ("BIND_PORT", &port.to_string())];
            assert_eq!(
                source_seen_by_peer(&variables, how, to),
                address(bound_port, port),
                "{how} {to}"
            );
            let source = address(bound_port, port).to_string();
            assert_eq!(
                source_seen_by_peer(&[("SAMEPORT_SOURCE", &source)], how, to),
                address(bound_port, port)
            );
        }
    }
    // The source does not apply to another family or to a socket that the program has bound.
    assert_eq!(
        source_seen_by_peer(&[("BIND_ADDR", "::1")], "tcp", "127.0.0.1").ip(),
        address("127.0.0.1", 0).ip()
    );
    assert_eq!(
        source_seen_by_peer(&[("SAMEPORT_SOURCE", "127.0.0.7")], "udp", "::1").ip(),
        address("::1", 0).ip()
    );
    assert_eq!(
        source_seen_by_peer(&[("SAMEPORT_SOURCE", "127.0.0.7")], "own", "127.0.0.1").ip(),
        address("127.0.0.99", 0).ip()
    );
    // BIND_PORT without BIND_ADDR is not a source, so a moved server can still connect.
    let from = source_seen_by_peer(&[("BIND_PORT", "9")], "tcp", "127.0.0.1");
    assert_ne!(from.port(), 9);
}

#[test]
fn foreign_source_fails_the_call() {
    let port = free_port().to_string();
    for how in ["tcp", "udp", "sendto"] {
        let variables = [("SAMEPORT_SOURCE", "192.0.2.77")];
        let got =
            stdout_of(User::Current, &variables, &[&*calls(), "send", how, "127.0.0.1", &port]);
        assert_eq!(got, "EADDRNOTAVAIL 0.0.0.0 0\n", "{how}");
    }
}

/// `REUSE_PORT=1 BIND_ADDR=… BIND_PORT=49999 nc A 10001` and `nc A 10011` at the same time: two
/// connections from one port.
#[test]
fn two_connections_share_a_source_port() {
    for ip in ["127.0.0.1", "::1"] {
        let source = free_port();
        let text = source.to_string();
        let variables = [("REUSE_PORT", "1"), ("BIND_ADDR", ip), ("BIND_PORT", &*text)];
        let peers = [
            TcpListener::bind(address(ip, 0)).unwrap(),
            TcpListener::bind(address(ip, 0)).unwrap(),
        ];
        let clients = peers.each_ref().map(|peer| {
            let port = peer.local_addr().unwrap().port().to_string();
            preloaded(User::Current, &variables, &[&*calls(), "send", "tcp", ip, &port])
        });
        let connections = peers.each_ref().map(|peer| peer.accept().unwrap());
        for (connection, from) in &connections {
            assert_eq!(*from, address(ip, source));
            // Unread data would make the close a reset.
            let mut connection = connection;
            connection.read_exact(&mut [0; 5]).unwrap();
        }
        drop(connections);
        for client in clients {
            assert_eq!(client.wait().code, 0);
        }
    }
}

/// The programs of the examples.
#[test]
fn curl_and_nc_use_the_source() {
    let one_request =
        |variables: &[(&str, &str)], ip: &str, command: &dyn Fn(u16) -> Vec<String>, asks| {
            let peer = TcpListener::bind(address(ip, 0)).unwrap();
            let client =
                preloaded(User::Current, variables, &command(peer.local_addr().unwrap().port()));
            let (mut connection, from) = peer.accept().unwrap();
            // curl sends a request; nc sends nothing, because its stdin is empty.
            connection.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
            let mut requested = Vec::new();
            while asks && !requested.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                connection.read_exact(&mut byte).unwrap();
                requested.extend(byte);
            }
            connection.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes").unwrap();
            drop(connection);
            let exited = client.wait();
            assert!(exited.stdout.ends_with("yes"), "{exited:?}");
            from
        };
    for (ip, bound_port) in [("127.0.0.1", "127.0.0.7"), ("::1", "::1")] {
        let port = free_port();
        let text = port.to_string();
        let variables = [("BIND_ADDR", bound_port), ("BIND_PORT", &*text), ("REUSE_PORT", "1")];
        let host = if ip == "::1" { "[::1]" } else { ip };
        if let Some(curl) = find_program("curl") {
            let command = |to| {
                let url = format!("http://{host}:{to}/");
                vec![curl.to_str().unwrap().to_owned(), "-s".into(), url]
            };
            assert_eq!(one_request(&variables, ip, &command, true), address(bound_port, port));
        } else {
            skip("preload-curl", "no curl");
        }
        if let Some(nc) = find_program("nc") {
            let command =
                |to: u16| [nc.to_str().unwrap(), ip, &to.to_string()].map(str::to_owned).to_vec();
            assert_eq!(
                one_request(&variables[..1], ip, &command, false).ip(),
                address(bound_port, 0).ip()
            );
        } else {
            skip("preload-nc", "no nc");
        }
    }
}

/// `BIND_PORT=8888 nginx`: a forking server with another port in its configuration, twice.
#[test]
fn nginx_is_moved_and_shared() {
    let Some(nginx) = find_program("nginx") else {
        return skip("preload-nginx", "no nginx");
    };
    let (old, new) = (free_port(), free_port());
    let text = new.to_string();
    let started = [1, 2].map(|copy| {
        let dir = in_test_dir(format!("preload-nginx-{copy}"));
        std::fs::create_dir_all(&dir).unwrap();
        let shown = dir.display();
        let configuration = format!(
            "daemon off; master_process on; worker_processes 2; error_log stderr; pid {shown}/pid;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path {shown}/a; proxy_temp_path {shown}/b;\n\
             fastcgi_temp_path {shown}/c; uwsgi_temp_path {shown}/d; scgi_temp_path {shown}/e;\n\
             server {{ listen 127.0.0.1:{old}; listen [::1]:{old};\n\
             location / {{ return 200 'copy {copy}'; }} }} }}\n"
        );
        let file = dir.join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let command = [nginx.to_str().unwrap(), "-c", file.to_str().unwrap()];
        preloaded(User::Current, &[("REUSE_PORT", "1"), ("BIND_PORT", &*text)], &command)
    });
    for ip in ["127.0.0.1", "::1"] {
        for copy in ["copy 1", "copy 2"] {
            let found = eventually(|| {
                let answer = ask(address(ip, new), b"GET / HTTP/1.0\r\n\r\n").ok()?;
                String::from_utf8_lossy(&answer).ends_with(copy).then_some(())
            });
            assert!(found.is_some(), "{ip} {copy}: {}", started[0].stderr());
        }
        assert!(ask(address(ip, old), b"").is_err());
    }
    for nginx in started {
        assert_eq!(nginx.terminate().code, 0);
    }
}

/// The control: without the variables, and without the library, nothing changes.
#[test]
fn without_variables_nothing_changes() {
    let port = free_port().to_string();
    let command = [&*calls(), "bind", "udp", "127.0.0.1", &port];
    let bare = start_command(User::Current, command[0], &command[1..]).wait();
    let with = stdout_of(User::Current, &[], &command);
    assert_eq!(bare.stdout, with);
    assert_eq!(with, format!("0 127.0.0.1 {port} port=0 address=1 transparent=0\n"));
}
