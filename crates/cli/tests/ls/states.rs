//! Listed sockets that do not listen, and their processes, options and drops.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::harness::{Cgroup, is_root, skip};
use crate::sockets::{Options, PLAIN, address, bound, eventually, port};
use crate::{NOBODY, json, json_as, sameport, serialize, text};

/// Whether this kernel lists bound sockets. If it does not, `ls` must say so.
fn lists_bound() -> bool {
    let listing = json(&["ls", "--tcp"]);
    let lists = listing["bound_complete"].as_bool().unwrap();
    let hint = "sockets that are bound and do not listen may be missing";
    let output = sameport(&["ls", "--tcp"]);
    assert_eq!(text(&output.stderr).contains(hint), !lists, "{output:?}");
    if !lists {
        skip("ls-shows-bound-sockets", "this kernel is older than 6.8");
    }
    lists
}

fn unconnected(at: &str) -> Socket {
    let at: SocketAddr = at.parse().unwrap();
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
    socket.bind(&at.into()).unwrap();
    socket
}

#[test]
fn lists_bound_sockets() {
    let _lock = serialize();
    if !lists_bound() {
        return;
    }
    for at in ["127.0.0.1:0", "[::1]:0", "[::]:0", "0.0.0.0:0"] {
        let socket = unconnected(at);
        let listing = json(&["ls", "--tcp", &port(&socket)]);
        let member = &listing["groups"][0]["members"][0];
        assert_eq!(listing["groups"][0]["address"], address(&socket).to_string());
        assert_eq!((&member["state"], &member["backlog"]), (&"bound".into(), &Value::Null));
        assert_eq!(member["pids"], json!([std::process::id()]));

        let output = sameport(&["ls", "--tcp", &port(&socket)]);
        let lines: Vec<_> = text(&output.stdout).lines().collect();
        assert_eq!((lines.len(), output.status.code()), (2, Some(0)), "{output:?}");
        assert!(lines[0].contains("  STATE"), "{output:?}");
        assert!(lines[1].split_whitespace().any(|word| word == "bound"), "{output:?}");

        socket.listen(1).unwrap();
        let listing = json(&["ls", "--tcp", &port(&socket)]);
        assert_eq!(listing["groups"][0]["members"][0]["state"], "waiting");
    }
}

#[test]
fn lists_connections_with_all() {
    let _lock = serialize();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = unconnected("127.0.81.1:0");
    client.connect(&server.local_addr().unwrap().into()).unwrap();
    let at = address(&client).to_string();

    let nobody = sameport(&["ls", "--tcp", &at]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    let hint = "hint: a connection comes from there, which --all lists\n";
    assert!(text(&nobody.stderr).ends_with(hint), "{nobody:?}");
    let listing = json(&["ls", "--tcp", "--all", &at]);
    let member = &listing["groups"][0]["members"][0];
    assert_eq!((&member["state"], &member["backlog"]), (&"connected".into(), &Value::Null));
    assert_eq!(member["pids"], json!([std::process::id()]));

    let udp = UdpSocket::bind("127.0.81.2:0").unwrap();
    udp.connect("127.0.0.1:9").unwrap();
    let at = udp.local_addr().unwrap().to_string();
    assert_eq!(json(&["ls", "--udp", &at])["groups"], json!([]));
    let listing = json(&["ls", "--udp", "-a", &at]);
    assert_eq!(listing["groups"][0]["members"][0]["state"], "connected");
}

/// A system program, killed on drop.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM lets a master end its workers.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        for _ in 0..500 {
            if self.0.try_wait().is_ok_and(|exited| exited.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server on an ephemeral port, and waits until `ls` lists it.
fn server(program: &str, args: &[&str]) -> Option<(Server, Value)> {
    let silent = || Stdio::null();
    let mut command = Command::new(program);
    command.args(args).current_dir("/").stdin(silent()).stdout(silent()).stderr(silent());
    let child = match command.spawn() {
        Ok(child) => Server(child),
        Err(error) => {
            skip(&format!("ls-tells-of-{program}"), &error.to_string());
            return None;
        }
    };
    let pid = child.0.id();
    let member = eventually(|| {
        let listing = json(&["ls"]);
        let members = listing["groups"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|group| group["members"].as_array().unwrap());
        members
            .clone()
            .find(|member| member["pids"].as_array().unwrap().contains(&pid.into()))
            .cloned()
    });
    Some((child, member))
}

#[test]
fn lists_details_of_programs() {
    let _lock = serialize();
    // Any free port.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let python = ["-m", "http.server", "--bind", "127.0.0.1", &free];
    for (program, args) in [("python3", &python[..]), ("nc", &["-l", "127.0.0.1", &free])] {
        let Some((server, member)) = server(program, args) else { continue };
        let process = &member["processes"][0];
        assert_eq!(process["pid"], server.0.id(), "{member}");
        assert_eq!(process["parent"], std::process::id(), "{member}");
        let uid = own_uid();
        assert_eq!((&process["uid"], &member["uid"]), (&uid.into(), &uid.into()), "{member}");
        let command: Vec<_> = process["command"].as_array().unwrap().iter().skip(1).collect();
        assert_eq!(command, args, "{member}");
        let executable = process["executable"].as_str().unwrap();
        assert!(executable.starts_with('/'), "{member}");
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let started = process["started"].as_u64().unwrap();
        assert!(now.abs_diff(started) < 300, "{member}");
        assert_eq!(member["cgroup"], process["cgroup"], "{member}");

        let wide = sameport(&["ls", "--wide", "--tcp", &free]);
        let wide = text(&wide.stdout);
        assert!(wide.contains(&args.join(" ")) && wide.contains("  OPTIONS  "), "{wide}");
    }
}

/// The uid that runs the tests.
fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid()
}

#[test]
fn lists_sockets_of_other_users_without_processes() {
    let _lock = serialize();
    if !is_root() {
        return skip("ls-tells-what-another-user-sees", "needs root");
    }
    let socket = unconnected("127.0.0.1:0");
    socket.set_reuse_address(true).unwrap();
    socket.listen(3).unwrap();
    let listing = json_as(NOBODY, &["ls", "--tcp", &port(&socket)]);
    let member = &listing["groups"][0]["members"][0];
    for unknown in ["options", "shared", "position", "program"] {
        assert_eq!(member[unknown], Value::Null, "{unknown}: {listing}");
    }
    assert_eq!(member["processes"], json!([]), "{listing}");
    // These fields are the same for root and other users.
    let own = json(&["ls", "--tcp", &port(&socket)]);
    let own = &own["groups"][0]["members"][0];
    for known in ["state", "cookie", "drops", "transparent", "freebind", "cgroup", "backlog"] {
        assert_eq!(member[known], own[known], "{known}");
    }
    assert_eq!(member["state"], "waiting");
    assert_eq!(own["options"]["reuse_address"], true, "{own}");
}

#[test]
fn lists_drops_of_a_full_queue() {
    let _lock = serialize();
    let listener = unconnected("127.0.0.1:0");
    listener.listen(0).unwrap();
    let drops =
        || json(&["ls", "--tcp", &port(&listener)])["groups"][0]["members"][0]["drops"].clone();
    assert_eq!(drops(), 0);
    let header = || {
        let output = sameport(&["ls", "--tcp", &port(&listener)]);
        text(&output.stdout).lines().next().unwrap().contains("DROPS")
    };
    assert!(!header());
    let at = address(&listener);
    let _one = TcpStream::connect(at).unwrap();
    let _others = [(); 3].map(|()| {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&at.into());
        client
    });
    eventually(|| (drops().as_u64().unwrap() > 0).then_some(()));
    assert!(header());
}

#[test]
fn lists_the_unit_that_created_the_socket() {
    let _lock = serialize();
    let unit = format!("sameport-test-{}.service", std::process::id());
    let Some(cgroup) = Cgroup::create(&unit) else {
        return skip("ls-tells-the-unit", "needs root and cgroup v2");
    };
    let code = "\
import socket, sys
sys.stdin.readline()
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(1)
print(s.getsockname()[1], flush=True)
sys.stdin.readline()";
    let mut command = Command::new("python3");
    command.args(["-c", code]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(child) = command.spawn() else {
        return skip("ls-tells-the-unit", "no python3");
    };
    let mut server = Server(child);
    cgroup.move_into(i32::try_from(server.0.id()).unwrap());
    server.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let port = port.trim();

    let first_member = |listing: &Value| listing["groups"][0]["members"][0].clone();
    let as_ourselves = first_member(&json(&["ls", "--tcp", port]));
    if as_ourselves["cgroup"].is_null() {
        return skip("ls-tells-the-unit", "this kernel does not tell a socket's cgroup");
    }
    assert_eq!(as_ourselves["unit"], *unit, "{as_ourselves}");
    assert!(as_ourselves["processes"][0]["cgroup"].as_str().unwrap().ends_with(&unit));
    // Other users do not see the process, but see the unit.
    let as_another = first_member(&json_as(NOBODY, &["ls", "--tcp", port]));
    assert_eq!((&as_another["unit"], &as_another["processes"]), (&(*unit).into(), &json!([])));
    let table = sameport(&["ls", "--tcp", port]);
    assert!(text(&table.stdout).lines().next().unwrap().ends_with("  UNIT"), "{table:?}");

    // The process changes its cgroup, the socket keeps its own.
    std::fs::write(cgroup.path().join("../cgroup.procs"), server.0.id().to_string()).unwrap();
    let moved = first_member(&json(&["ls", "--tcp", port]));
    assert_eq!(moved["unit"], *unit, "{moved}");
    assert!(!moved["processes"][0]["cgroup"].as_str().unwrap().ends_with(&unit), "{moved}");
}

#[test]
fn lists_positions_in_a_group() {
    let _lock = serialize();
    let shared = Options { shared: true, ..PLAIN };
    let first = bound(Type::STREAM, "127.0.0.1:0", &shared);
    let _second = bound(Type::STREAM, &address(&first).to_string(), &shared);
    let listing = json(&["ls", "--tcp", &address(&first).to_string()]);
    let members = listing["groups"][0]["members"].as_array().unwrap();
    let mut places: Vec<_> = members.iter().map(|member| member["position"].clone()).collect();
    places.sort_by_key(|place| place["index"].as_u64());
    let place = |index| json!({"index": index, "of": 2, "steered": false});
    let nothing = vec![Value::Null; 2];
    assert!(places == [place(0), place(1)] || places == nothing, "{listing}");
    let wide = sameport(&["ls", "-l", "--tcp", &address(&first).to_string()]);
    assert_eq!(text(&wide.stdout).contains("  1 of 2  "), places != nothing, "{wide:?}");
}

#[test]
fn lists_every_nginx_process_for_each_inherited_socket() {
    let _lock = serialize();
    let dir = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let settings = format!(
        "daemon off; worker_processes 2; pid pid; error_log log;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c;\n\
         uwsgi_temp_path d; scgi_temp_path e;\n\
         server {{ listen 127.0.0.1:{free} reuseport backlog=33; }} }}\n"
    );
    std::fs::write(dir.path().join("conf"), settings).unwrap();
    let place = format!("{}/", dir.path().display());
    let mut command = Command::new("nginx");
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(["-p", &place, "-c", "conf", "-e", "log"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(child) = command.spawn() else {
        return skip("ls-tells-of-nginx", "no nginx");
    };
    let server = Server(child);
    // The master and two workers hold both sockets.
    let members = eventually(|| {
        let listing = json(&["ls", "--tcp", &free]);
        let members = listing["groups"][0]["members"].as_array().cloned().unwrap_or_default();
        let whole = |member: &Value| member["pids"].as_array().unwrap().len() == 3;
        (members.len() == 2 && members.iter().all(whole)).then_some(members)
    });
    for member in &members {
        assert_eq!((&member["program"], &member["backlog"]), (&"nginx".into(), &33.into()));
        assert_eq!(member["shared"], true, "{member}");
        let pids = member["pids"].as_array().unwrap();
        assert!(pids.contains(&server.0.id().into()), "{member}");
        // Workers change their titles.
        let commands = member["processes"].as_array().unwrap().iter();
        let commands: Vec<_> = commands.map(|it| it["command"][0].as_str().unwrap()).collect();
        assert!(commands.iter().any(|title| title.contains("worker process")), "{commands:?}");
    }
}
