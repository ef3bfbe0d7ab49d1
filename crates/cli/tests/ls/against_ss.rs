//! `sameport ls` lists the same sockets as `ss`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use socket2::Socket;

use crate::harness::{self, is_root, skip};
use crate::sockets::{SocketHolder, all_kinds, port};
use crate::{NOBODY, serialize, text};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    proto: String,
    local: String,
    inode: u64,
    uid: u64,
    queue: u64,
    /// For TCP listeners.
    backlog: Option<u64>,
    pids: BTreeSet<u64>,
}

/// `tcp LISTEN 0 5 127.0.0.1:8080 0.0.0.0:* users:(("a",pid=1,fd=3)) uid:1 ino:2 sk:3 …`
fn read_ss(line: &str) -> Row {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |name: &str| {
        let found = words.iter().find_map(|word| word.strip_prefix(name));
        found.map_or(0, |digits| digits.parse().unwrap())
    };
    let is_tcp = words[0] == "tcp";
    Row {
        proto: words[0].to_owned(),
        local: words[4].to_owned(),
        inode: number("ino:"),
        uid: number("uid:"),
        queue: words[2].parse().unwrap(),
        backlog: is_tcp.then(|| words[3].parse().unwrap()),
        pids: line
            .split("pid=")
            .skip(1)
            .map(|rest| rest.split(',').next().unwrap().parse().unwrap())
            .collect(),
    }
}

/// The address in the format of ss: `*` for the dual-stack wildcard, `%` before a device.
fn local(group: &Value) -> String {
    let at: SocketAddr = group["address"].as_str().unwrap().parse().unwrap();
    let device = group["device"].as_str().map_or(String::new(), |name| format!("%{name}"));
    let port = at.port();
    match at {
        SocketAddr::V6(v6) if v6.ip().is_unspecified() && group["v6only"] == false => {
            format!("*{device}:{port}")
        }
        SocketAddr::V6(v6) if device.is_empty() => format!("[{}]:{port}", v6.ip()),
        SocketAddr::V6(v6) => format!("[{}]{device}:{port}", v6.ip()),
        SocketAddr::V4(v4) => format!("{}{device}:{port}", v4.ip()),
    }
}

fn read_json(bytes: &[u8]) -> BTreeSet<Row> {
    let listing: Value = serde_json::from_slice(bytes).unwrap();
    let mut rows = BTreeSet::new();
    for group in listing["groups"].as_array().unwrap() {
        // An older ss does not list bound sockets.
        let waiting = |member: &&Value| member["state"] == "waiting";
        for member in group["members"].as_array().unwrap().iter().filter(waiting) {
            rows.insert(Row {
                proto: group["proto"].as_str().unwrap().to_owned(),
                local: local(group),
                inode: member["inode"].as_u64().unwrap(),
                uid: member["uid"].as_u64().unwrap(),
                queue: member["queue"].as_u64().unwrap(),
                backlog: member["backlog"].as_u64(),
                pids: member["pids"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|pid| pid.as_u64().unwrap())
                    .collect(),
            });
        }
    }
    rows
}

fn ss() -> Option<PathBuf> {
    ["/usr/bin/ss", "/bin/ss", "/usr/sbin/ss", "/sbin/ss"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}

fn run_as(user: Option<u32>, program: &Path, args: &[&str]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.env_clear().args(args);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Runs ss, sameport, ss, and compares the rows that both runs of ss have. Other programs change
/// sockets meanwhile, so a difference must persist over all attempts.
fn agree(user: Option<u32>, sameport: &Path, own: &[Socket]) {
    let ss = ss().unwrap();
    let look = || -> BTreeSet<Row> {
        let listing = run_as(user, &ss, &["-H", "-O", "-lntupe"]);
        text(&listing).lines().map(read_ss).collect()
    };
    let mut difference = String::new();
    for _ in 0..20 {
        let before = look();
        let ours = read_json(&run_as(user, sameport, &["ls", "--json"]));
        let after = look();
        let missing: Vec<_> =
            before.intersection(&after).filter(|row| !ours.contains(row)).collect();
        let extra: Vec<_> =
            ours.iter().filter(|row| !before.contains(row) && !after.contains(row)).collect();
        if missing.is_empty() && extra.is_empty() {
            let ports: BTreeSet<_> = ours.iter().map(|row| row.local.rsplit(':').next()).collect();
            for socket in own {
                assert!(ports.contains(&Some(&*port(socket))), "{socket:?} in neither");
            }
            return;
        }
        difference = format!("only in ss: {missing:#?}\nonly in ls: {extra:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{difference}");
}

#[test]
fn agrees_with_ss() {
    let _lock = serialize();
    if ss().is_none() {
        return skip("ls-agrees-with-ss", "no ss");
    }
    let sockets = all_kinds();
    let _heir = SocketHolder::of(&sockets[0], None);
    agree(None, Path::new(env!("CARGO_BIN_EXE_sameport")), &sockets);
}

#[test]
fn agrees_with_ss_as_another_user() {
    let _lock = serialize();
    let test = "ls-agrees-with-ss-as-another-user";
    if ss().is_none() {
        return skip(test, "no ss");
    }
    if !is_root() {
        return skip(test, "needs root");
    }
    let copy = harness::sameport();
    let sockets = all_kinds();
    let heir = SocketHolder::of(&sockets[0], Some(NOBODY));
    let _other = SocketHolder::of(&sockets[1], None);

    agree(Some(NOBODY), copy, &sockets);

    let listing = run_as(Some(NOBODY), copy, &["ls", "--tcp", "--json", &port(&sockets[0])]);
    let listing: Value = serde_json::from_slice(&listing).unwrap();
    let member = &listing["groups"][0]["members"][0];
    assert_eq!(listing["complete"], false, "{listing}");
    assert_eq!(member["pids"], serde_json::json!([heir.0.id()]), "{listing}");
    assert_eq!((&member["user"], &member["uid"]), (&"root".into(), &0.into()));
}
