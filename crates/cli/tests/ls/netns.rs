//! `ls --netns`: sockets of other network namespaces, and wrong names of namespaces.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{self, is_root, skip};
use crate::sockets::eventually;
use crate::{NOBODY, json, json_as, sameport, serialize, text};

/// Listens on TCP 8080 and binds UDP 8081 until its standard input ends.
const SERVER: &str = "\
import socket, sys
a = socket.socket(); a.bind(('0.0.0.0', 8080)); a.listen(9)
b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); b.bind(('0.0.0.0', 8081))
print('ready', flush=True)
sys.stdin.read()
";

/// A server in its own namespace, killed on drop.
struct NetnsServer(Child);

impl Drop for NetnsServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the server by a command that executes its last arguments.
fn server(into: &[&str]) -> Option<NetnsServer> {
    let mut command = Command::new(into[0]);
    command.args(&into[1..]).args(["python3", "-c", SERVER]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = NetnsServer(command.spawn().ok()?);
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (line == "ready\n").then_some(server)
}

#[test]
fn lists_only_sockets_of_the_namespace() {
    let _lock = serialize();
    if !is_root() {
        return skip("ls-netns", "needs root: another network namespace");
    }
    let Some(server) = server(&["unshare", "--net"]) else {
        return skip("ls-netns", "it takes unshare, python3 and CAP_SYS_ADMIN");
    };
    let pid = server.0.id();
    for network in [format!("pid:{pid}"), format!("/proc/{pid}/ns/net")] {
        let listing = json(&["ls", "--netns", &network]);
        let groups = listing["groups"].as_array().unwrap();
        let at: Vec<_> = groups.iter().map(|group| &group["address"]).collect();
        assert_eq!(at, ["0.0.0.0:8080", "0.0.0.0:8081"], "{listing}");
        let member = &groups[0]["members"][0];
        assert_eq!(member["pids"], serde_json::json!([pid]), "{listing}");
        assert_eq!(member["backlog"], 9);
        assert_eq!(sameport(&["ls", "--netns", &network, "--tcp", "8081"]).status.code(), Some(1));
    }
    let refused = {
        use std::os::unix::process::CommandExt as _;
        let copy = harness::sameport();
        let mut command = Command::new(copy);
        command.env_clear().args(["ls", "--netns", &format!("pid:{pid}")]);
        command.uid(NOBODY).gid(NOBODY).output().unwrap()
    };
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let lines: Vec<_> = text(&refused.stderr).lines().collect();
    assert!(lines[0].starts_with(&format!("error: network namespace pid:{pid}: ")), "{lines:?}");
    assert!(lines[1].starts_with("hint: ") && lines[1].contains("CAP_SYS_ADMIN"), "{lines:?}");
}

#[test]
fn removed_namespace_ends_the_watch() {
    let _lock = serialize();
    let Some(mut server) = server(&["unshare", "--net"]).filter(|_| is_root()) else {
        return skip("ls-netns-vanishes", "needs root, unshare and python3");
    };
    let network = format!("pid:{}", server.0.id());
    let mut watch = Command::new(env!("CARGO_BIN_EXE_sameport"))
        .env_clear()
        .args(["ls", "--watch", "--netns", &network])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut stdout = BufReader::new(watch.stdout.take().unwrap());
    stdout.read_line(&mut first).unwrap();
    assert!(first.starts_with("there    tcp 0.0.0.0:8080 waiting, "), "{first}");

    server.0.kill().unwrap();
    server.0.wait().unwrap();
    let exited = eventually(|| watch.try_wait().unwrap());
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut watch.stderr.take().unwrap(), &mut stderr).unwrap();
    assert_eq!(exited.code(), Some(1), "{stderr}");
    let gone = format!("error: there is no network namespace {network}: ");
    assert!(stderr.starts_with(&gone), "{stderr}");
}

/// A named namespace, removed on drop.
struct NamedNetns(String);

impl Drop for NamedNetns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

#[test]
fn accepts_names_of_ip_netns() {
    let _lock = serialize();
    let name = format!("sameport-test-{}", std::process::id());
    let added = Command::new("ip").args(["netns", "add", &name]).stderr(Stdio::null()).status();
    if !added.is_ok_and(|status| status.success()) {
        return skip("ls-netns-named", "needs root: `ip netns add`");
    }
    let named = NamedNetns(name.clone());
    let _server = server(&["ip", "netns", "exec", &name]).expect("a server");
    let listing = json(&["ls", "--netns", &name, "8080"]);
    assert_eq!(listing["groups"][0]["address"], "0.0.0.0:8080", "{listing}");
    drop(named);
    let output = sameport(&["ls", "--netns", &name]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let expected = format!("error: there is no network namespace {name}: /run/netns/{name} ");
    assert!(text(&output.stderr).starts_with(&expected), "{output:?}");
}

#[test]
fn refuses_other_files_than_network_namespaces() {
    let _lock = serialize();
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let [plain, pipe] = [plain, pipe].map(|path| path.to_str().unwrap().to_owned());
    let cases = [
        ("pid:2147483647", "there is no network namespace pid:2147483647"),
        ("no-such-name", "/run/netns/no-such-name does not exist"),
        ("/no/such/file", "/no/such/file does not exist"),
        ("/proc/self/ns/uts", "/proc/self/ns/uts is no network namespace"),
        (&plain, "plain is no network namespace"),
        (&pipe, "pipe is no network namespace"),
    ];
    for (network, expected) in cases {
        let output = sameport(&["ls", "--netns", network]);
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{output:?}");
        assert!(stderr.starts_with("error: ") && stderr.contains(expected), "{output:?}");
        assert!(stderr.lines().nth(1).unwrap().starts_with("hint: "), "{output:?}");
    }
}

/// Runs `ls` as another user with hidepid, which hides the processes of other users in `/proc`.
#[test]
fn hidden_processes_are_unknown() {
    let _lock = serialize();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let copy = harness::sameport();
    // A private mount namespace keeps the options of the mount off the machine. Linux 5.8 and later
    // also keep hidepid a mount.
    let line = format!(
        "mount -t proc -o hidepid=invisible proc /proc && exec setpriv --reuid {NOBODY} --regid \
         {NOBODY} --clear-groups {} ls --json --tcp {port}",
        copy.display()
    );
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &line]).output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        return skip("ls-hidepid", "needs root, CAP_SYS_ADMIN, setpriv and Linux 5.8");
    };
    let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
    let member = &listing["groups"][0]["members"][0];
    assert_eq!(listing["complete"], false, "{listing}");
    assert_eq!((&member["pids"], &member["shared"]), (&serde_json::json!([]), &Value::Null));
    assert_eq!((&member["user"], &member["state"]), (&"root".into(), &"waiting".into()));
    // Without hidepid the user sees no more of this process, and `ls` says so.
    let open = json_as(NOBODY, &["ls", "--tcp", &port.to_string()]);
    assert_eq!((&open["complete"], &open["groups"]), (&listing["complete"], &listing["groups"]));
}
