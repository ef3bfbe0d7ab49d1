//! Who holds a port, by `why` and `ls`: each class with real processes. Every printed command is given to a
//! shell, and frees the port.
#![cfg(target_os = "linux")]

#[path = "harness/mod.rs"]
mod harness;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use harness::{
    Process, User, command_for, eventually, executable, find_program, free_port, in_test_dir,
    is_root, sameport, skip, spawn_process, start, start_run, wait_until_answering,
};
use serde_json::Value;

/// A program of this name that listens on 127.0.0.1:$PORT. `None` without Python.
fn listener(name: &str) -> Option<PathBuf> {
    listener_with(name, "")
}

fn listener_with(name: &str, then: &str) -> Option<PathBuf> {
    let python = find_program("python3")?;
    let text = format!(
        "#!{}\nimport os, socket\n\
         it = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\n{then}\n\
         while True:\n    it.accept()[0].close()\n",
        python.display()
    );
    Some(executable(name, &text))
}

/// Starts a command with PORT in its environment, and waits until it listens.
fn serve(user: User, port: u16, words: &[&str]) -> Process {
    let mut command = command_for(user, words[0], &words[1..]);
    command.env("PORT", port.to_string());
    let process = spawn_process(command);
    wait_until_answering(([127, 0, 0, 1], port).into());
    process
}

/// The text of `why` and the only socket in its JSON.
fn why(user: User, port: u16) -> (String, Value) {
    let at = format!("127.0.0.1:{port}");
    let text = start(user, &["why", &at]).wait().stdout;
    let json = start(user, &["why", &at, "--json"]).wait().stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    let sockets = json["answers"][0]["sockets"].as_array().unwrap();
    let listening = sockets.iter().find(|socket| socket["state"] == "waiting");
    (text, listening.expect("a listener").clone())
}

/// Gives a line of `why` to a shell, after which the port can be bound.
fn follow(user: User, text: &str, start: &str, port: u16) {
    let line =
        text.lines().find_map(|line| line.strip_prefix("  ").filter(|it| it.starts_with(start)));
    let line = line.unwrap_or_else(|| panic!("no line begins with `{start}`: {text}"));
    let path = sameport();
    let path = path.parent().unwrap().display();
    let line = format!("PATH={path}:$PATH; {line}");
    let exited = spawn_process(command_for(user, "/bin/sh", &["-c", &line])).wait();
    assert_eq!(exited.code, 0, "{line}: {exited:?}");
    let bound = eventually(|| TcpListener::bind(("127.0.0.1", port)).ok());
    assert!(bound.is_some(), "{line}");
}

#[test]
fn a_program_and_its_directory() {
    for user in User::all() {
        let Some(server) = listener("holders-server") else {
            return skip("holders", "no python3");
        };
        let port = free_port();
        let process = serve(*user, port, &[server.to_str().unwrap()]);
        let (text, socket) = why(*user, port);
        let line = format!("  holders-server (pid {}, user ", process.pid());
        assert!(text.lines().nth(1).unwrap().starts_with(&line), "{text}");
        let directory = in_test_dir("");
        let directory = directory.to_str().unwrap().trim_end_matches('/');
        assert!(text.contains(&format!("\n    directory {directory}\n")), "{text}");
        assert_eq!(socket["holder"]["pids"], serde_json::json!([process.pid()]), "{socket}");
        let wide = start(*user, &["ls", "-l", &port.to_string()]).wait().stdout;
        assert!(wide.contains(" DIRECTORY ") && wide.contains(directory), "{wide}");
        let json = start(*user, &["ls", "--json", &port.to_string()]).wait().stdout;
        let json: Value = serde_json::from_str(&json).unwrap();
        let member = &json["groups"][0]["members"][0];
        assert_eq!(member["processes"][0]["directory"], directory, "{member}");
        assert_eq!(member["holder"]["class"], socket["holder"]["class"], "{member}");
        follow(*user, &text, "kill ", port);
    }
}

#[test]
fn a_child_that_its_parent_starts_again() {
    let Some(server) = listener("holders-child") else {
        return skip("holders", "no python3");
    };
    for user in User::all() {
        let port = free_port();
        let server = server.display();
        let script = format!("while :; do {server}; sleep 0.1; done");
        let shell = serve(*user, port, &["/bin/sh", "-c", &script]);
        let (text, socket) = why(*user, port);
        assert_eq!(socket["holder"]["class"], "supervised", "{socket}");
        assert_eq!(socket["holder"]["parent"], shell.pid(), "{socket}");
        let child = &socket["holder"]["pids"][0];
        assert!(text.contains(&format!(", child of sh (pid {})", shell.pid())), "{text}");
        let kill = format!("kill {} {child}", shell.pid());
        follow(*user, &text, &kill, port);
    }
}

#[test]
fn process_managers_stop_their_tasks_by_their_tool() {
    let Some(server) = listener("holders-task") else {
        return skip("holders", "no python3");
    };
    let dir = in_test_dir("holders-tasks");
    std::fs::create_dir(&dir).unwrap();
    let (place, port) = (dir.display(), free_port());
    let configuration = format!(
        "[unix_http_server]\nfile={place}/s\n[supervisord]\nlogfile={place}/l\npidfile={place}/p\n\
         nodaemon=true\n[supervisorctl]\nserverurl=unix://{place}/s\n\
         [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = \
         supervisor.rpcinterface:make_main_rpcinterface\n[program:web]\ncommand={}\n",
        server.display()
    );
    std::fs::write(dir.join("tasks.conf"), configuration).unwrap();
    std::fs::create_dir(dir.join("api")).unwrap();
    executable("holders-tasks/api/run", &format!("#!/bin/sh\nexec {}\n", server.display()));
    let service = format!("{place}/api");
    let cases = [
        ("supervisord", ["-c", "holders-tasks/tasks.conf"].to_vec(), "supervisorctl -c "),
        ("runsv", vec![service.as_str()], "sv down "),
    ];
    for (manager, arguments, advice) in cases {
        let Some(program) = find_program(manager) else {
            skip("holders-tasks", &format!("no {manager}"));
            continue;
        };
        let words = [&[program.to_str().unwrap()], &arguments[..]].concat();
        let manager = serve(User::Current, port, &words);
        let (text, socket) = why(User::Current, port);
        assert_eq!(socket["holder"]["class"], "supervised", "{socket}");
        assert_eq!(socket["holder"]["parent"], manager.pid(), "{socket}");
        follow(User::Current, &text, advice, port);
        manager.terminate();
    }
}

/// A daemon: its parent has ended, and the process that adopts it starts nothing again.
#[test]
fn an_orphan_is_ended() {
    let Some(server) = listener("holders-orphan") else {
        return skip("holders", "no python3");
    };
    let port = free_port();
    let server = server.display();
    let script = format!("{server} >/dev/null 2>&1 & exit");
    let mut command = command_for(User::Current, "/bin/sh", &["-c", &script]);
    command.env("PORT", port.to_string());
    assert_eq!(spawn_process(command).wait().code, 0);
    wait_until_answering(([127, 0, 0, 1], port).into());
    let (text, socket) = why(User::Current, port);
    let class = socket["holder"]["class"].as_str().unwrap();
    // Outside of process 1, a program that adopts orphans is their parent.
    assert!(["orphan", "supervised"].contains(&class), "{socket}");
    let pid = &socket["holder"]["pids"][0];
    follow(User::Current, &text, &format!("kill {pid}"), port);
}

/// The master holds the socket and executes the same program: one process, and its workers.
#[test]
fn a_master_and_its_workers() {
    let Some(server) = listener_with("holders-master", "os.fork() and os.fork()") else {
        return skip("holders", "no python3");
    };
    let port = free_port();
    let master = serve(User::Current, port, &[server.to_str().unwrap()]);
    let found = eventually(|| {
        let found = why(User::Current, port);
        found.0.contains(" and 2 more, ").then_some(found)
    });
    let (text, socket) = found.expect("two workers");
    let pids = socket["holder"]["pids"].as_array().unwrap();
    assert_eq!((&pids[0], pids.len()), (&master.pid().into(), 3), "{socket}");
    assert!(
        text.contains(&format!("  holders-master (pid {} and 2 more, ", master.pid())),
        "{text}"
    );
    follow(User::Current, &text, &format!("kill {} ", master.pid()), port);
}

#[test]
fn a_named_run_is_stopped_by_name() {
    let Some(server) = listener("holders-run") else {
        return skip("holders", "no python3");
    };
    for user in User::all() {
        let port = free_port();
        let name = format!("holders-{}-{port}", std::process::id());
        let run = serve(
            *user,
            port,
            &[sameport().to_str().unwrap(), "run", "--name", &name, "--", server.to_str().unwrap()],
        );
        let (text, socket) = why(*user, port);
        let holder = &socket["holder"];
        assert_eq!((&holder["run"], &holder["worker"]), (&name.as_str().into(), &1.into()));
        assert_ne!(holder["pids"][0], run.pid(), "not the supervisor: {holder}");
        assert!(text.contains(&format!(", run {name}, worker 1 listens on ")), "{text}");
        assert!(!text.contains("  kill "), "{text}");
        let list = start(*user, &["ls", &port.to_string()]).wait().stdout;
        let row = list.lines().nth(1).unwrap();
        assert!(row.ends_with(&format!("  run {name}, worker 1")), "{list}");
        assert!(!row.contains("sameport"), "{list}");
        if *user == User::Nobody {
            let (text, _) = why(User::Current, port);
            follow(User::Current, &text, &format!("sameport stop {name} --user nobody"), port);
            continue;
        }
        follow(*user, &text, &format!("sameport stop {name}"), port);
    }
}

#[test]
fn a_run_without_a_name_ends_with_its_supervisor() {
    let Some(server) = listener("holders-plain") else {
        return skip("holders", "no python3");
    };
    let port = free_port();
    let mut command = command_for(User::Current, sameport(), &["run", "--"]);
    command.arg(server).env("PORT", port.to_string());
    let run = spawn_process(command);
    wait_until_answering(([127, 0, 0, 1], port).into());
    let (text, socket) = why(User::Current, port);
    assert_eq!(socket["holder"]["class"], "plain-run", "{socket}");
    follow(User::Current, &text, &format!("kill {}", run.pid()), port);
}

/// There is no container engine here: the programs have the names and the command lines of theirs.
#[test]
fn container_proxies_name_their_container() {
    let port = free_port();
    let id = "0123456789abcdef".repeat(4);
    let text_port = port.to_string();
    let docker = format!(
        "-proto tcp -host-ip 127.0.0.1 -host-port {port} -container-ip 172.17.0.2 -container-port 80"
    );
    let docker: Vec<&str> = docker.split(' ').collect();
    let cases: [(&str, &[&str], &str, String); 4] = [
        (
            "docker-proxy",
            &docker,
            "docker container at 172.17.0.2:80",
            format!("docker stop $(docker ps --quiet --filter publish={port})"),
        ),
        (
            "conmon",
            &["--api-version", "1", "-c", &id, "-n", "web"],
            "podman container web (0123456789ab)",
            "podman stop web".to_owned(),
        ),
        (
            "slirp4netns",
            &["--api-socket", &format!("/run/libpod/{id}.net"), "tap0"],
            "podman container 0123456789ab",
            "podman stop 0123456789ab".to_owned(),
        ),
        (
            "rootlessport",
            &[],
            "an unknown podman container",
            "stop its container, which `podman port --all` names".to_owned(),
        ),
    ];
    for (name, arguments, container, advice) in cases {
        let Some(program) = listener(name) else { return skip("holders", "no python3") };
        let words = [&[program.to_str().unwrap()], arguments].concat();
        let proxy = serve(User::Current, port, &words);
        let (text, socket) = why(User::Current, port);
        assert_eq!(socket["holder"]["class"], "container-proxy", "{socket}");
        assert!(text.contains(&format!(", {container} listens on ")), "{text}");
        let line = text.lines().find(|line| line.contains(&advice));
        let line = line.unwrap_or_else(|| panic!("{advice}: {text}"));
        assert!(line.contains("; or another port for its container: "), "{text}");
        assert!(!text.contains(&format!("kill {}", proxy.pid())), "{text}");
        let list = start(User::Current, &["ls", &text_port]).wait().stdout;
        assert!(list.lines().nth(1).unwrap().ends_with(container), "{list}");
        proxy.terminate();
        let _free = eventually(|| TcpListener::bind(("127.0.0.1", port)).ok()).unwrap();
    }
}

/// A client of `localhost` reaches the one or the other.
#[test]
fn the_other_address_of_localhost_is_mentioned() {
    let Ok(other) = TcpListener::bind("[::1]:0") else {
        return skip("holders-ipv6", "no IPv6");
    };
    let port = other.local_addr().unwrap().port();
    let at = format!("127.0.0.1:{port}");
    let exited = start(User::Current, &["why", &at]).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    let note = format!(" listens on [::1]:{port}: clients of `localhost` may reach it instead\n");
    assert!(exited.stdout.contains(&note), "{}", exited.stdout);
    let json = start(User::Current, &["why", &at, "--json"]).wait().stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["answers"][0]["sockets"][0]["sibling"], true, "{json}");
    let _ours = TcpListener::bind(&at).expect("it can be bound");
}

#[test]
fn ends_of_connections_are_told_apart() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let client = TcpStream::connect(address).unwrap();
    let (accepted, _) = server.accept().unwrap();
    let own = client.local_addr().unwrap();
    let text = |at: SocketAddr, options: &[&str]| {
        let port = at.port().to_string();
        start(User::Current, &[&["why", &format!("127.0.0.1:{port}")], options].concat())
            .wait()
            .stdout
    };
    let found = text(own, &["--no-reuse-address"]);
    let line = format!("has a connection from {own} to {address}: the port is its own end of it");
    assert!(found.contains(&line), "{found}");
    let found = text(address, &["--no-reuse-address"]);
    let line = format!("has a connection from {address} to {own}, accepted by a listener");
    assert!(found.contains(&line), "{found}");
    drop(accepted);
    let closed = eventually(|| {
        let found = text(own, &["--no-reuse-address"]);
        found.contains("which the peer has closed (CLOSE_WAIT)").then_some(())
    });
    assert!(closed.is_some(), "{}", text(own, &["--no-reuse-address"]));
}

#[test]
fn a_low_port_that_is_held_says_both() {
    if !is_root() {
        return skip("holders-low-port", "needs root");
    }
    let start_at =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let low = start_at.trim().parse::<u16>().unwrap();
    let held = (1..low).rev().find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    let Some(held) = held else {
        return skip("holders-low-port", "no low port is free");
    };
    let at = held.local_addr().unwrap().to_string();
    let text = start(User::Nobody, &["why", &at]).wait().stdout;
    let first = text.lines().next().unwrap();
    assert!(first.contains("EACCES by bind") && first.contains("EADDRINUSE by bind"), "{text}");
    assert!(text.contains("\n  the right: ") && text.contains("\n  and the port: "), "{text}");
    // The advice that works alone.
    let map = text.lines().find_map(|line| line.split_once("which is free: sameport ")).unwrap().1;
    let port: u16 = map.split_once('=').unwrap().1.split(' ').next().unwrap().parse().unwrap();
    let map = map.split(' ').nth(2).unwrap();
    let Some(server) = listener("holders-low") else {
        return skip("holders", "no python3");
    };
    let mut command = command_for(User::Nobody, sameport(), &["run", "--map", map, "--"]);
    command.arg(server).env("PORT", held.local_addr().unwrap().port().to_string());
    let _run = spawn_process(command);
    wait_until_answering(([127, 0, 0, 1], port).into());
}

/// What `why` says of an address that no interface has.
#[test]
fn an_address_of_no_interface_has_two_options() {
    let text = start(User::Current, &["why", "192.0.2.77:8080"]).wait().stdout;
    assert!(text.contains("\n  before an interface has it: sameport run --freebind -- COMMAND\n"));
    let root = if is_root() { "" } else { "as root: " };
    let line = format!("\n  {root}sameport run --transparent -- COMMAND\n");
    assert!(text.contains(&line), "{text}");
    let python = find_program("python3");
    let Some(python) = python else { return skip("holders", "no python3") };
    let code = "import socket; socket.create_server(('192.0.2.77', 0)); print('bound')";
    for option in ["--freebind", "--transparent"] {
        if option == "--transparent" && !is_root() {
            continue;
        }
        let exited = start_run(
            User::Current,
            &[option],
            &[python.as_os_str(), "-c".as_ref(), code.as_ref()],
        )
        .wait();
        assert_eq!((exited.code, exited.stdout.as_str()), (0, "bound\n"), "{option}: {exited:?}");
    }
}
