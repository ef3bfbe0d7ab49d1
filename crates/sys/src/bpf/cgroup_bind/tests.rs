//! The pieces that `run --via cgroup` is made of, on this machine.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Name, UnixListener};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use sameport_policy::addr::Protocol;
use sameport_policy::bind::map;
use sameport_policy::bind::map::{MapRule, Mapping};
use sameport_policy::bind::verdict;
use sameport_policy::bind::verdict::{BindAttempt, PortSet, ShareDecision, SharedPort};
use socket2::{Domain, Socket, Type};

use super::{AttachSettings, Attachment, BindAction, BindEvent, SourceOutcome, attach};
use crate::cgroup::{PrivateCgroup, sweep};
use crate::netns::own_cookie;
use crate::process::identity::ProcessIdentity;
use crate::serial::run_shared;

/// A cgroup of our own, where this user may have one.
fn private(test: &str) -> Option<PrivateCgroup> {
    match PrivateCgroup::create() {
        Ok(private) if rustix::process::geteuid().is_root() => Some(private),
        why => {
            crate::bpf::skip_test(test, &why);
            None
        }
    }
}

fn settings() -> AttachSettings {
    AttachSettings { ports: PortSet::All, rules: vec![], source: None, network: None }
}

const BINDS: &str = "SAMEPORT_TEST_BINDS";

/// Not a test of its own: what [`bind_inside`] starts. Binds a socket an address, `tcp`, `udp`, and
/// those with `6` for IPV6_V6ONLY, and says what came of it.
#[test]
fn child() {
    for bind in std::env::var(BINDS).unwrap_or_default().split_whitespace() {
        let (kind, address) = bind.split_once('/').unwrap();
        let address: SocketAddr = address.parse().unwrap();
        let of = if kind.starts_with("tcp") { Type::STREAM } else { Type::DGRAM };
        let socket = Socket::new(Domain::for_address(address), of, None).unwrap();
        if address.is_ipv6() {
            socket.set_only_v6(kind.ends_with('6')).unwrap();
        }
        // What libtest prints stands before the first.
        let said = match socket.bind(&address.into()) {
            Ok(()) => {
                let own = socket.local_addr().unwrap().as_socket().unwrap();
                format!("bound {own} {}", socket.reuse_port().unwrap())
            }
            Err(error) => format!("refused {}", error.raw_os_error().unwrap()),
        };
        let _ = writeln!(std::io::stdout(), "\nCHILD {said}");
    }
}

/// Starts a program in the cgroup that makes these binds; gives its pid and what it said of each.
fn binds_inside(private: &PrivateCgroup, binds: &str, before: &[&str]) -> (u32, Vec<String>) {
    let _turn = run_shared();
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "echo $$ >&2; echo 0 >&0; exec \"$@\"", "sh"])
        .args(before)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "bpf::cgroup_bind::tests::child", "--nocapture"])
        .env(BINDS, binds)
        .stdin(private.procs().unwrap());
    let Output { stdout, stderr, .. } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    let said = stdout.lines().filter_map(|line| Some(line.strip_prefix("CHILD ")?.to_owned()));
    let said: Vec<_> = said.collect();
    assert_eq!(said.len(), binds.split_whitespace().count(), "{stdout}\n{stderr}");
    (stderr.lines().next().unwrap().parse().unwrap(), said)
}

/// One TCP bind, which must be done.
fn bind_inside(private: &PrivateCgroup, address: &str, before: &[&str]) -> (u32, SocketAddr) {
    let (pid, said) = binds_inside(private, &format!("tcp/{address}"), before);
    let given = said[0].split(' ').nth(1).and_then(|given| given.parse().ok());
    (pid, given.unwrap_or_else(|| panic!("{said:?}")))
}

/// A port that nobody has, and that no other test takes while this process lives: not one of those
/// that the kernel gives away, each of which is somebody else's at any moment.
fn free_port() -> u16 {
    static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    for port in 9_000..10_000 {
        let claim = Name::from_abstract_name(format!("sameport-test-port-{port}")).unwrap();
        let Ok(claim) = UnixListener::bind_addr(&claim) else { continue };
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        if socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into()).is_ok() {
            CLAIMS.lock().unwrap().push(claim);
            return port;
        }
    }
    panic!("no free port");
}

fn remove(private: PrivateCgroup) {
    let folder = private.cgroup().folder().to_owned();
    private.remove().unwrap();
    assert!(!folder.exists());
}

#[test]
fn every_change_is_told_and_counted() {
    let Some(private) = private("cgroup-events") else { return };
    let [other, asked, given, plain] = [(); 4].map(|()| free_port());
    let rules = [format!("{other}=9"), format!("{asked}=127.0.0.1:{given}")];
    let rules = rules.iter().map(|text| text.parse().unwrap()).collect();
    let network = Some(own_cookie().unwrap());
    let settings = AttachSettings { rules, network, ..settings() };
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
    assert_eq!(first.happened, BindAction::Given { address: expected, shared: true });
    let BindEvent { rule, happened, asked, .. } = events.next().unwrap();
    assert_eq!(
        (rule, asked, happened),
        (None, address, BindAction::Given { address, shared: true })
    );
    assert_eq!(events.next(), None);
    assert_eq!((attachment.shared(), attachment.hits()), (2, vec![0, 1]));
    assert_eq!(attachment.sourced(), SourceOutcome::default());
    drop(attachment);
    remove(private);
}

/// The kernel's decisions are those of the pure code, for any rules.
#[test]
fn the_programs_decide_as_the_rules_do() {
    const SETS: usize = 12;
    let Some(private) = private("cgroup-decisions") else { return };
    let ips = ["127.0.0.1", "127.0.0.2", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]"];
    let binds: Vec<(&str, SocketAddr)> = ["tcp", "udp", "tcp6", "udp6"]
        .iter()
        .flat_map(|kind| ips.iter().map(move |ip| (*kind, *ip)))
        .flat_map(|(kind, ip)| {
            (0..4).map(move |port| {
                let port = if port == 0 { 0 } else { 5000 + port };
                (kind, format!("{ip}:{port}").parse::<SocketAddr>().unwrap())
            })
        })
        .filter(|(kind, address)| address.is_ipv6() || !kind.ends_with('6'))
        .collect();
    let words: Vec<_> = binds.iter().map(|(kind, address)| format!("{kind}/{address}")).collect();
    let network = ["unshare", "--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"];

    let mut state = 0x5eed_u32;
    let mut pick = |most: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % most
    };
    let (mut moved, mut refused) = (0, 0);
    for _ in 0..SETS {
        let mut rules: Vec<MapRule> = vec![];
        while rules.len() < 8 {
            let mut side = || match pick(3) {
                0 => format!("{}", 5001 + pick(4)),
                1 => ips[pick(6)].to_owned(),
                _ => format!("{}:{}", ips[pick(6)], 5001 + pick(4)),
            };
            let text = format!("{}={}", side(), side());
            let text = format!("{}{text}", ["", "tcp:", "udp:"][pick(3)]);
            rules.extend(text.parse::<MapRule>().ok());
        }
        let port = |port, protocol| SharedPort { port, protocol };
        let only =
            [port(5001, None), port(5002, Some(Protocol::Udp)), port(5003, Some(Protocol::Tcp))];
        let only = BTreeSet::from(only);
        let ports = if pick(2) == 0 { PortSet::All } else { PortSet::Only(only) };
        let settings = AttachSettings { rules: rules.clone(), ports: ports.clone(), ..settings() };
        let attachment = attach(private.cgroup(), &settings).unwrap();
        let (_, said) = binds_inside(&private, &words.join(" "), &network);
        for ((kind, address), said) in binds.iter().zip(&said) {
            let v6only = kind.ends_with('6');
            let protocol = if kind.starts_with("tcp") { Protocol::Tcp } else { Protocol::Udp };
            let asked = map::MapRequest { protocol, address: *address, v6only };
            let outcome = map::decide(&rules, &asked).map(|(_, outcome)| outcome);
            moved += usize::from(matches!(outcome, Some(Mapping::To(_))));
            let given = match outcome {
                Some(Mapping::To(given)) => given,
                None => *address,
                Some(Mapping::OtherFamily) => {
                    refused += 1;
                    let errno = libc::EAFNOSUPPORT;
                    assert_eq!(*said, format!("refused {errno}"), "{kind} {address}: {rules:?}");
                    continue;
                }
            };
            // The program itself asks for it, or a rule that moves only the port.
            if v6only && given.ip().to_canonical().is_ipv4() {
                assert_eq!(*said, format!("refused {}", libc::EINVAL), "{kind} {address}");
                continue;
            }
            let attempt = BindAttempt {
                protocol: Some(protocol),
                address: Some(given),
                reuse_port: false,
                reuse_address: false,
                same_network: true,
            };
            let shared = matches!(verdict::decide(&attempt, &ports), ShareDecision::Share { .. });
            // Port 0 becomes some port.
            let expected = if given.port() == 0 {
                let port = said.split([':', ' ']).rev().nth(1).unwrap();
                let mut given = given;
                given.set_port(port.parse().unwrap_or_else(|_| panic!("{said}")));
                given
            } else {
                given
            };
            let expected = format!("bound {expected} {shared}");
            assert_eq!(*said, expected, "{kind} {address}: {rules:?} {ports:?}");
        }
        drop(attachment);
    }
    assert!(moved > 300 && refused > 30, "{moved} {refused}");
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
    let ours = AttachSettings { network: Some(own_cookie().unwrap()), ..settings() };
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
    let _turn = run_shared();
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    let mut procs = private.procs().unwrap();
    procs.write_all(sleeper.id().to_string().as_bytes()).unwrap();
    std::fs::create_dir_all(private.cgroup().folder().join("a/b")).unwrap();
    let folder = private.cgroup().folder().to_owned();
    let (sender, removed) = mpsc::channel();
    std::thread::spawn(move || sender.send(private.remove()));
    let error =
        removed.recv_timeout(Duration::from_secs(60)).expect("remove gives up").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    assert!(folder.exists());
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    crate::cgroup::private::remove_tree(&folder).unwrap();
    assert!(!folder.exists());
}

#[test]
fn only_cgroups_of_the_dead_are_swept() {
    let Some(private) = private("cgroup-sweep") else { return };
    let beside = |name: &str| private.cgroup().folder().join(name);
    let _turn = run_shared();
    let mut dead = Command::new("true").spawn().unwrap();
    let ours = ProcessIdentity::current().unwrap().to_string();
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
    let missing: Vec<_> = stays.iter().filter(|folder| !folder.exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(!gone.exists());
    remove(private);
}
