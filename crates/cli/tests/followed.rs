//! Lines of `why` about privileges and connections, each followed as it is printed.
#![cfg(target_os = "linux")]

#[path = "harness/mod.rs"]
mod harness;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;

use harness::{
    Exited, Process, User, chown_to, command_for, eventually, find_program, free_port, in_test_dir,
    is_root, sameport, skip, spawn_process, start,
};
use serde_json::Value;

/// Runs a line of a shell, with this sameport.
fn shell(user: User, line: &str) -> Exited {
    let path = sameport();
    let line = format!("PATH={}:$PATH; {line}", path.parent().unwrap().display());
    spawn_process(command_for(user, "/bin/sh", &["-c", &line])).wait()
}

/// A low port that no socket has, with 200 above it for `ip_unprivileged_port_start`.
fn low_port() -> Option<u16> {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let first: u16 = first.trim().parse().unwrap();
    (1..first).rev().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}

/// A copy of an interpreter: the original keeps its rights.
#[test]
fn setcap_gives_a_program_the_low_port() {
    let name = "followed-setcap";
    let (Some(python), Some(_)) = (find_program("python3"), find_program("setcap")) else {
        return skip(name, "no python3 or setcap");
    };
    if !is_root() {
        return skip(name, "needs root");
    }
    let Some(port) = low_port() else { return skip(name, "no low port is free") };
    let text = start(User::Nobody, &["why", &format!("127.0.0.1:{port}")]).wait().stdout;
    let line = text.lines().find_map(|line| line.strip_prefix("  as root: setcap "));
    let line = line.unwrap_or_else(|| panic!("no setcap: {text}"));
    let line = line.strip_suffix(" (not for a script)").unwrap();
    let dir = in_test_dir(name);
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.join("program");
    fs::copy(python, &copy).unwrap();
    chown_to(&copy, User::Current);
    let bind =
        format!("import socket; socket.create_server(('127.0.0.1', {port})); print('bound')");
    let bind = || spawn_process(command_for(User::Nobody, &copy, &["-c", &bind])).wait();
    assert!(bind().stderr.contains("Permission denied"));
    let line = format!("setcap {}", line.replace("PROGRAM", copy.to_str().unwrap()));
    let exited = shell(User::Current, &line);
    if exited.stderr.contains("not supported") {
        return skip(name, "the file system has no capabilities");
    }
    assert_eq!(exited.code, 0, "{line}: {exited:?}");
    let exited = bind();
    assert_eq!((exited.code, exited.stdout.as_str()), (0, "bound\n"), "{exited:?}");
}

/// The setting is one of the network namespace.
#[test]
fn the_sysctl_gives_every_user_the_low_port() {
    let name = "followed-sysctl";
    for program in ["unshare", "setpriv", "sysctl", "python3"] {
        if find_program(program).is_none() {
            return skip(name, &format!("no {program}"));
        }
    }
    if !is_root() {
        return skip(name, "needs root");
    }
    let script = "\
        as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"; }\n\
        bind() { as_nobody python3 -c \"import socket; socket.create_server(('127.0.0.1', 81))\"; }\n\
        ip link set lo up\n\
        bind 2>/dev/null && exit 7\n\
        line=$(as_nobody sameport why 127.0.0.1:81 | sed -n 's/^  as root: \\(sysctl .*\\), for every user$/\\1/p')\n\
        echo \"$line\"\n\
        [ -w /proc/sys/net/ipv4/ip_unprivileged_port_start ] || exit 8\n\
        $line >/dev/null && bind && as_nobody sameport why 127.0.0.1:81";
    let path = sameport();
    let directory = path.parent().unwrap().display();
    let script = format!("PATH={directory}:$PATH\n{script}");
    let words = ["--net", "--mount", "/bin/sh", "-c", &script];
    let exited = spawn_process(command_for(User::Current, "unshare", &words)).wait();
    if exited.code == 8 {
        return skip(name, "the setting cannot be written");
    }
    let line = "sysctl net.ipv4.ip_unprivileged_port_start=81\nyes: 127.0.0.1:81/tcp ";
    assert_eq!(exited.code, 0, "{exited:?}");
    assert!(exited.stdout.starts_with(line), "{exited:?}");
}

/// A program that connects, prints its address, and keeps the connection.
fn client(user: User, server: SocketAddr) -> Option<(Process, SocketAddr)> {
    let python = find_program("python3")?;
    let code = format!(
        "import socket, time\nit = socket.create_connection(('127.0.0.1', {}))\n\
         print('own %s:%s ' % it.getsockname(), flush=True)\ntime.sleep(600)",
        server.port()
    );
    let process = spawn_process(command_for(user, python, &["-c", &code]));
    process.wait_for_stdout("own ");
    let own = process.stdout();
    let own = own.split(' ').nth(1).unwrap().parse().unwrap();
    Some((process, own))
}

/// `why` without the option with which a connection is no obstacle.
fn why(user: User, at: SocketAddr) -> String {
    start(user, &["why", &at.to_string(), "--no-reuse-address"]).wait().stdout
}

/// A client's own end, and a connection that its program has not closed: `kill` frees the port of the second at
/// once, and of the first as soon as the kernel forgets it.
#[test]
fn the_program_of_a_connection_is_ended() {
    for (user, closes) in User::all().iter().flat_map(|user| [(*user, false), (*user, true)]) {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let Some((client, own)) = client(user, server.local_addr().unwrap()) else {
            return skip("followed-connection", "no python3");
        };
        let (accepted, _) = server.accept().unwrap();
        let kept = (!closes).then_some(accepted);
        let remark = if closes { "(CLOSE_WAIT)" } else { "the port is its own end of it" };
        let text = eventually(|| Some(why(user, own)).filter(|text| text.contains(remark)));
        let text = text.unwrap_or_else(|| panic!("{remark}: {}", why(user, own)));
        let line = format!("kill {}", client.pid());
        let printed = text.lines().find(|it| it.trim_start().starts_with(&line));
        let printed = printed.unwrap_or_else(|| panic!("{line}: {text}")).trim_start();
        // The end that closes first stays.
        let wait = ", and wait 60 s for closed connections";
        assert_eq!(printed.contains(wait), !closes, "{text}");
        let exited = shell(user, printed.split(", and wait").next().unwrap());
        assert_eq!(exited.code, 0, "{printed}: {exited:?}");
        // The end that closes first gets TIME_WAIT: that is the client's only after it has ended.
        client.wait();
        drop(kept);
        let freed = eventually(|| match closes {
            true => TcpListener::bind(own).is_ok().then_some(()),
            false => {
                let text = why(user, own);
                text.contains("its closed connections (TIME_WAIT) still hold it").then_some(())
            }
        });
        assert!(freed.is_some(), "{printed}: {}", why(user, own));
    }
}

/// Without the right to read the options, the answer is unsure: ending the program makes it sure.
#[test]
fn an_unsure_answer_has_the_way_to_end_the_holder() {
    if !is_root() {
        return skip("followed-unsure", "needs root");
    }
    let Some(python) = find_program("python3") else {
        return skip("followed-unsure", "no python3");
    };
    let port = free_port();
    let code = format!(
        "import socket, time\nit = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         it.bind(('127.0.0.1', {port}))\nprint('bound', flush=True)\ntime.sleep(600)"
    );
    let holder = spawn_process(command_for(User::Current, python, &["-c", &code]));
    holder.wait_for_stdout("bound");
    let at = format!("127.0.0.1:{port}");
    let ask = |more: &[&str]| {
        start(User::Nobody, &[&["why", &at, "--udp", "--reuse-address"], more].concat()).wait()
    };
    let text = ask(&[]).stdout;
    assert!(text.starts_with("unsure: "), "{text}");
    assert!(text.contains("\n  ask as root, which can read every option\n"), "{text}");
    let json: Value = serde_json::from_str(&ask(&["--json"]).stdout).unwrap();
    assert_eq!(json["answers"][0]["remedies"][0]["kind"], "without", "{json}");
    // Another user sees less of the holder than root, who would follow the line.
    let line = text.lines().skip_while(|line| *line != "what would work").nth(2);
    let line = line.unwrap_or_else(|| panic!("no way: {text}")).trim_start();
    let command = line.strip_prefix("as root: ");
    if let Some(command) = command {
        assert_eq!(shell(User::Current, command).code, 0, "{command}");
        assert!(ask(&[]).stdout.starts_with("yes: "), "{command}");
    } else {
        assert_eq!(line, "ask again as root, who sees the program");
    }
}

/// A program with a long command, and more sockets than a terminal is given.
#[test]
fn a_pipe_gets_whole_commands_and_all_sockets() {
    let Some(python) = find_program("python3") else {
        return skip("followed-long", "no python3");
    };
    let port = free_port();
    let long = "word ".repeat(100);
    let code = format!(
        "import socket, time\nall = [socket.create_server(('127.0.0.%d' % n, {port})) for n in range(1, 21)]\n\
         print('bound', flush=True)\ntime.sleep(600)"
    );
    let holder = spawn_process(command_for(User::Current, python, &["-c", &code, &long]));
    holder.wait_for_stdout("bound");
    let text = start(User::Current, &["why", &port.to_string()]).wait().stdout;
    assert_eq!(text.matches(" listens on 127.0.0.").count(), 20, "{text}");
    assert!(!text.contains('…') && !text.contains(" more\n"), "{text}");
    // The advice to start it again has every word: a shell takes it.
    let again = text.lines().find_map(|line| line.split_once("under `sameport run -- ")).unwrap().1;
    let again = again.split_once(&format!("'{long}'`")).expect("the last word").0;
    assert!(again.contains("time.sleep(600)"), "{text}");
}
