//! Two copies of a program: the second is refused without `run`. Under `run` both answer, both are
//! listed and reported, and nothing is left of them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    self, Patience, Process, TIMEOUT, User, ask, descendants, eventually, free_port, start_command,
    start_run,
};

/// A program and its expected behaviour.
pub(crate) struct Peer {
    /// Its name in docs/interposers.md.
    pub(crate) what: &'static str,
    /// Its name in `ls` and in messages.
    pub(crate) program: &'static str,
    /// `tcp` or `udp`.
    pub(crate) protocol: &'static str,
    /// The addresses it listens on, as messages print them: `*` is dual-stack.
    pub(crate) listens: &'static [&'static str],
    /// The addresses to send requests to.
    pub(crate) asked: &'static [[u16; 8]],
    /// The request. The response ends with the pid, or with `copy N`.
    pub(crate) request: &'static str,
    /// The number of sockets of a copy on each address.
    pub(crate) sockets: usize,
    /// Whether the program sets SO_REUSEPORT, so that a second copy starts without `run`.
    pub(crate) shares_itself: bool,
    /// The exit code of `run` after SIGTERM.
    pub(crate) code: i32,
    /// The command line, or why the program cannot run here.
    pub(crate) command: fn(&Site) -> Result<Vec<OsString>, String>,
}

/// The environment of one copy.
pub(crate) struct Site {
    pub(crate) port: u16,
    /// A directory that the user can write to.
    pub(crate) dir: PathBuf,
    /// 1 or 2.
    pub(crate) copy: usize,
}

pub(crate) const V4: [u16; 8] = [0, 0, 0, 0, 0, 0xffff, 0x7f00, 1];
pub(crate) const V6: [u16; 8] = [0, 0, 0, 0, 0, 0, 0, 1];

pub(crate) const TERMINATED: i32 = 128 + libc::SIGTERM;

/// The default: HTTP on 127.0.0.1 by one socket, stopped by SIGTERM.
pub(crate) const HTTP: Peer = Peer {
    what: "",
    program: "",
    protocol: "tcp",
    listens: &["127.0.0.1"],
    asked: &[V4],
    request: "GET / HTTP/1.0\r\n\r\n",
    sockets: 1,
    shares_itself: false,
    code: TERMINATED,
    command: |_| Err("this row has no command".to_owned()),
};

/// Runs the whole test for every user.
pub(crate) fn two_copies_share(peer: &Peer) {
    for user in User::all() {
        if let Err(reason) = control(peer, *user).and_then(|()| under_run(peer, *user)) {
            return harness::skip(&format!("two-copies-of-{}", peer.program), &reason);
        }
    }
}

/// Without `run` the second copy is refused, unless the program sets SO_REUSEPORT.
fn control(peer: &Peer, user: User) -> Result<(), String> {
    let port = free_port();
    let [first, second] = [1, 2].map(|copy| command(peer, user, port, copy));
    let (first, second) = (first?, second?);
    let first = start_command(user, &first[0], &first[1..]);
    until_answering(peer, port, &[&first], 1);
    let second = start_command(user, &second[0], &second[1..]);
    if peer.shares_itself {
        until_answering(peer, port, &[&first, &second], 2);
        end_all(second);
    } else {
        let exited = second.wait();
        assert_ne!(exited.code, 0, "{exited:?}");
        let reason = exited.stderr.to_lowercase();
        // The messages of glibc, Python and Go; musl; Node.
        let in_use = ["address already in use", "address in use", "eaddrinuse"];
        assert!(in_use.iter().any(|words| reason.contains(words)), "{exited:?}");
    }
    end_all(first);
    Ok(())
}

/// Without `run`, no supervisor stops the children of the program.
fn end_all(program: Process) {
    let below = descendants(program.pid());
    program.signal(libc::SIGTERM);
    below.iter().for_each(|pid| harness::kill(*pid, libc::SIGTERM));
    program.wait();
    let left = || below.iter().all(|pid| !is_alive(*pid)).then_some(());
    assert!(eventually(left).is_some(), "{below:?} live on");
}

fn under_run(peer: &Peer, user: User) -> Result<(), String> {
    let port = free_port();
    // Each copy serves its own directory, so the command lines differ.
    let group = ["--group", "copies"];
    let first = start_run(user, &group, &command(peer, user, port, 1)?);
    until_answering(peer, port, &[&first], 1);
    let second = start_run(user, &group, &command(peer, user, port, 2)?);
    let runs = [first, second];
    let both: Vec<&Process> = runs.iter().collect();
    until_answering(peer, port, &both, 2);

    let listing = settled_listing(peer, user, port, &both);
    assert_runs_report_each_other(peer, port, &both, &listing);

    let processes: Vec<i32> = runs.iter().flat_map(|run| descendants(run.pid())).collect();
    assert!(processes.len() >= 2, "{processes:?}");
    runs.iter().for_each(|run| run.signal(libc::SIGTERM));
    for run in runs {
        let exited = run.wait();
        assert_eq!(exited.code, peer.code, "{exited:?}");
    }
    let left: Vec<_> = processes.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(left.is_empty(), "{left:?} live on");
    assert_eq!(list(User::Current, port)["groups"], Value::Array(vec![]));
    Ok(())
}

pub(crate) fn command(
    peer: &Peer,
    user: User,
    port: u16,
    copy: usize,
) -> Result<Vec<OsString>, String> {
    let dir = harness::in_test_dir(format!("{port}-{copy}"));
    std::fs::create_dir_all(&dir).unwrap();
    harness::chown_to(&dir, user);
    (peer.command)(&Site { port, dir, copy })
}

pub(crate) fn ip_of(segments: [u16; 8]) -> IpAddr {
    IpAddr::from(segments).to_canonical()
}

/// Waits until `count` of these copies have answered on every address.
fn until_answering(peer: &Peer, port: u16, copies: &[&Process], count: usize) {
    if let Err(what) = answering(peer, port, copies, count) {
        let printed: Vec<_> = copies.iter().map(|c| (c.stdout(), c.stderr())).collect();
        panic!("{what}, printed {printed:#?}");
    }
}

/// Sends requests to every address until `count` of these copies have answered there, or one has
/// exited.
pub(crate) fn answering(
    peer: &Peer,
    port: u16,
    copies: &[&Process],
    count: usize,
) -> Result<(), String> {
    for &ip in peer.asked {
        let address = SocketAddr::from((ip_of(ip), port));
        let mut responses = BTreeSet::new();
        let mut last = String::from("nothing");
        let patience = Patience::new(TIMEOUT);
        while responses.len() < count {
            let exited = !copies.iter().all(|copy| is_alive(copy.pid()));
            if exited || patience.is_over() {
                let reason = if exited { "one has ended" } else { "it took too long" };
                return Err(format!("{address}: {reason}: seen {responses:?}, last {last:?}"));
            }
            match ask_peer(peer, address) {
                Ok(answer) => {
                    responses.extend(copy_that_answered(&answer, copies));
                    last = answer;
                }
                // No listener yet.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
    Ok(())
}

/// The response to one request.
pub(crate) fn ask_peer(peer: &Peer, address: SocketAddr) -> std::io::Result<String> {
    let answer = match peer.protocol {
        "tcp" => ask(address, peer.request.as_bytes())?,
        _ => harness::ask_datagram(address, b"?")?,
    };
    Ok(String::from_utf8(answer).unwrap())
}

/// The copy that sent this response, by the pid or the number of the copy in it.
fn copy_that_answered(answer: &str, copies: &[&Process]) -> Option<usize> {
    let last = answer.trim_end().lines().last()?;
    if let Some(copy) = last.strip_prefix("copy ") {
        return copy.parse::<usize>().ok()?.checked_sub(1);
    }
    let pid: i32 = last.parse().unwrap_or_else(|_| panic!("no pid in {answer:?}"));
    copies.iter().position(|copy| copy.pid() == pid || descendants(copy.pid()).contains(&pid))
}

/// The output of `ls PORT --json` once it shows the expected state: a program can still be starting
/// workers.
fn settled_listing(peer: &Peer, user: User, port: u16, runs: &[&Process]) -> Value {
    let mut last = String::new();
    let settled = eventually(|| {
        let listing = list(user, port);
        match disagreement(peer, port, runs, &listing) {
            None => Some(listing),
            Some(difference) => {
                last = format!("{difference}\n{listing:#}");
                None
            }
        }
    });
    settled.unwrap_or_else(|| panic!("{last}"))
}

/// The output of `ls PORT --json`.
pub(crate) fn list(user: User, port: u16) -> Value {
    let exited = harness::start(user, &["ls", &port.to_string(), "--json"]).wait();
    let listing: Value = serde_json::from_str(&exited.stdout).unwrap();
    // An empty listing exits with 1.
    let code = i32::from(listing["groups"].as_array().unwrap().is_empty());
    assert_eq!(exited.code, code, "{exited:?}");
    listing
}

fn disagreement(peer: &Peer, port: u16, runs: &[&Process], listing: &Value) -> Option<String> {
    let groups = listing["groups"].as_array()?;
    let differ = |what: &str| Some(what.to_owned());
    if groups.len() != peer.listens.len() {
        return differ("number of groups");
    }
    for ip in peer.listens {
        let Some(group) = group(listing, peer, ip, port) else { return differ("addresses") };
        let members = group["members"].as_array()?;
        if members.len() != 2 * peer.sockets {
            return differ("number of members");
        }
        let mut per_copy = [0, 0];
        for member in members {
            if member["shared"] != true || member["program"] != peer.program {
                return differ("flag or program");
            }
            let pids = pids(member);
            let copy = runs.iter().position(|run| {
                holders(run, member["inode"].as_u64().unwrap()).iter().copied().eq(pids.clone())
            });
            match copy {
                Some(copy) if !pids.is_empty() => per_copy[copy] += 1,
                _ => return differ("pids"),
            }
        }
        if per_copy != [peer.sockets; 2] {
            return differ("members of each copy");
        }
    }
    None
}

/// The group of one of the program's addresses in a listing.
fn group<'a>(listing: &'a Value, peer: &Peer, ip: &str, port: u16) -> Option<&'a Value> {
    let address = format!("{}:{port}", if ip == "*" { "[::]" } else { ip });
    listing["groups"].as_array()?.iter().find(|group| {
        group["proto"] == peer.protocol
            && group["address"] == address
            && group["v6only"] == (ip == "[::]")
    })
}

/// The pids of a member in a listing.
pub(crate) fn pids(member: &Value) -> Vec<i32> {
    serde_json::from_value(member["pids"].clone()).unwrap()
}

/// The processes of a run that hold this socket, found without the code under test.
fn holders(run: &Process, inode: u64) -> BTreeSet<i32> {
    let socket = format!("socket:[{inode}]");
    let has = |pid: &i32| {
        std::fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|entries| {
            entries
                .flatten()
                .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(&socket)))
        })
    };
    descendants(run.pid()).into_iter().filter(has).collect()
}

/// The second run reports that the address is shared, and names both.
fn assert_runs_report_each_other(peer: &Peer, port: u16, runs: &[&Process], listing: &Value) {
    for ip in peer.listens {
        let group = group(listing, peer, ip, port).unwrap();
        let members = group["members"].as_array().unwrap();
        let name = |pid: &i32| format!("pid {pid} ({})", peer.program);
        let names_all = |line: &str| {
            members.iter().all(|member| pids(member).iter().any(|pid| line.contains(&name(pid))))
        };
        let start = format!("sameport: {ip}:{port}/{} is now shared by ", peer.protocol);
        let line = harness::eventually(|| {
            let stderr = runs[1].stderr();
            let mut lines = stderr.lines().filter(|line| line.starts_with(&start));
            lines.find(|line| names_all(line)).map(str::to_owned)
        });
        let line = line.unwrap_or_else(|| panic!("{}", runs[1].stderr()));
        let (count, list) = line[start.len()..].split_once(": ").unwrap();
        let named: Vec<&str> = list.split(", ").collect();
        let once: BTreeSet<&&str> = named.iter().collect();
        assert_eq!((named.len(), once.len()), (count.parse().unwrap(), named.len()), "{line}");
    }
}

/// Whether a process exists and is not a zombie.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
