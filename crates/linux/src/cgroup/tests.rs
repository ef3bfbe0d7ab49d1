//! The pieces that `run --via cgroup` is made of, on this machine.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use sameport_rules::bind::Ports;
use sameport_rules::protocol::Protocol;

use super::owner::Owner;
use super::{Attachment, Event, Happened, Private, Settings, attach, own_network, sweep};

/// A cgroup of our own, where this user may have one.
fn private(test: &str) -> Option<Private> {
    match Private::create() {
        Ok(private) if rustix::process::geteuid().is_root() => Some(private),
        why => {
            let _ = writeln!(std::io::stderr(), "skipped: {test}: {why:?}");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} is skipped in CI");
            None
        }
    }
}

fn settings() -> Settings {
    Settings { ports: Ports::All, rules: vec![], source: None, network: None }
}

const ADDRESS: &str = "SAMEPORT_TEST_BIND";

/// Not a test of its own: what [`bind_inside`] starts.
#[test]
fn child() {
    if let Ok(address) = std::env::var(ADDRESS) {
        let bound = TcpListener::bind(address).unwrap().local_addr().unwrap();
        let _ = writeln!(std::io::stdout(), "bound {bound}");
    }
}

/// Starts a program in the cgroup that binds this address; gives the one it got.
fn bind_inside(private: &Private, address: &str, before: &[&str]) -> (u32, SocketAddr) {
    let procs = private.procs().unwrap();
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "echo $$ >&2; echo 0 >&0; exec \"$@\"", "sh"])
        .args(before)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "cgroup::tests::child", "--nocapture"])
        .env(ADDRESS, address)
        .stdin(procs);
    let Output { stdout, stderr, .. } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    let given = stdout.lines().find_map(|line| line.split_once("bound ")?.1.parse().ok());
    let given = given.unwrap_or_else(|| panic!("{stdout}\n{stderr}"));
    (stderr.lines().next().unwrap().parse().unwrap(), given)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn remove(private: Private) {
    let folder = private.cgroup().folder().to_owned();
    private.remove().unwrap();
    assert!(!folder.exists());
}

#[test]
fn every_change_is_told_and_counted() {
    let Some(private) = private("cgroup-events") else { return };
    let (asked, given, plain) = (free_port(), free_port(), free_port());
    let rules =
        [format!("{}=9", given.wrapping_add(1).max(1)), format!("{asked}=127.0.0.1:{given}")];
    let rules = rules.iter().map(|text| text.parse().unwrap()).collect();
    let network = Some(own_network().unwrap());
    let settings = Settings { rules, network, ..settings() };
    let mut attachment = attach(private.cgroup(), &settings).unwrap();
    let mut events = attachment.events().unwrap().unwrap();
    assert!(attachment.events().unwrap().is_none());
    assert_eq!(events.next(), None);

    let (pid, address) = bind_inside(&private, &format!("[::]:{asked}"), &[]);
    let expected: SocketAddr = format!("[::ffff:127.0.0.1]:{given}").parse().unwrap();
    assert_eq!(address, expected);
    let (_, address) = bind_inside(&private, &format!("127.0.0.1:{plain}"), &[]);
    assert_eq!(address, SocketAddr::from(([127, 0, 0, 1], plain)));

    let first = events.next().unwrap();
    assert_eq!((first.protocol, first.rule), (Protocol::Tcp, Some(1)));
    // PROC_PID_INIT_INO: elsewhere the same process has another number.
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
    if namespace == Path::new("pid:[4026531836]") {
        assert_eq!(first.pid, pid);
    }
    assert_eq!(first.asked, format!("[::]:{asked}").parse().unwrap());
    assert_eq!(first.happened, Happened::Given { address: expected, shared: true });
    let Event { rule, happened, asked, .. } = events.next().unwrap();
    assert_eq!((rule, asked, happened), (None, address, Happened::Given { address, shared: true }));
    assert_eq!(events.next(), None);
    assert_eq!((attachment.shared(), attachment.hits()), (2, vec![0, 1]));
    assert_eq!(attachment.sourced(), 0);
    drop(attachment);
    remove(private);
}

#[test]
fn another_network_is_left_alone_and_so_is_everything_after_the_end() {
    let Some(private) = private("cgroup-network") else { return };
    let count = |attachment: &Attachment, before: &[&str]| {
        let was = attachment.shared();
        bind_inside(&private, &format!("0.0.0.0:{}", free_port()), before);
        attachment.shared() - was
    };
    let ours = Settings { network: Some(own_network().unwrap()), ..settings() };
    let ours = attach(private.cgroup(), &ours).unwrap();
    assert_eq!(count(&ours, &[]), 1);
    assert_eq!(count(&ours, &["unshare", "--net"]), 0);
    let every = attach(private.cgroup(), &settings()).unwrap();
    assert_eq!(count(&every, &["unshare", "--net"]), 1);
    drop(ours);
    // The last descriptor of a link is closed: it is gone at once.
    let mut late = every;
    let mut events = late.events().unwrap().unwrap();
    late.links.clear();
    bind_inside(&private, &format!("0.0.0.0:{}", free_port()), &[]);
    assert_eq!(events.by_ref().count(), 1, "one before, and none since");
    remove(private);
}

#[test]
fn a_cgroup_in_use_is_not_removed_and_one_with_others_in_it_is() {
    let Some(private) = private("cgroup-remove") else { return };
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    let mut procs = private.procs().unwrap();
    procs.write_all(sleeper.id().to_string().as_bytes()).unwrap();
    std::fs::create_dir_all(private.cgroup().folder().join("a/b")).unwrap();
    let folder = private.cgroup().folder().to_owned();
    let since = Instant::now();
    let error = private.remove().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    assert!(since.elapsed() < Duration::from_secs(5));
    assert!(folder.exists());
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    super::private::remove_tree(&folder).unwrap();
    assert!(!folder.exists());
}

#[test]
fn only_cgroups_of_the_dead_are_swept() {
    let Some(private) = private("cgroup-sweep") else { return };
    let beside = |name: &str| private.cgroup().folder().join(name);
    let mut dead = Command::new("true").spawn().unwrap();
    let ours = Owner::ourselves().unwrap().to_string();
    let named = |pid: u32| {
        let [namespace, _, started] = ours.split('-').collect::<Vec<_>>()[..] else { panic!() };
        format!("sameport-run-{namespace}-{pid}-{started}-0")
    };
    let gone = beside(&named(dead.id()));
    dead.wait().unwrap();
    let stays = [
        beside(&format!("sameport-run-{ours}-9")),
        beside("sameport-run-1-2-3-4"),
        beside("sameport-run-x"),
        beside("app"),
    ];
    for folder in stays.iter().chain([&gone]) {
        std::fs::create_dir(folder).unwrap();
    }
    // Another sweep of this machine may be faster.
    sweep().unwrap();
    let there: Vec<&Path> = stays.iter().map(|it| it.as_path()).filter(|it| it.exists()).collect();
    assert_eq!(there, stays.iter().map(|it| it.as_path()).collect::<Vec<_>>());
    assert!(!gone.exists());
    remove(private);
}
