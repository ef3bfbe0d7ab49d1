//! Tests with a second user or a network namespace: they start this binary again as another user
//! or in a new network namespace. They need root and are skipped without it.
#![cfg(target_os = "linux")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use sameport::{ErrorKind, Options};
use socket2::{Domain, Socket, Type};

/// The user of the child processes: `nobody` everywhere.
const NOBODY: u32 = 65534;

/// The environment variable with the task of a child process; unset in the tests themselves.
const PART: &str = "SAMEPORT_TEST_PART";

/// Whether this process is root. If not, skips the test.
fn is_root(test: &str) -> bool {
    let root = std::fs::read_to_string("/proc/thread-self/status")
        .unwrap()
        .lines()
        .any(|line| line.starts_with("Uid:") && line.ends_with("\t0"));
    if !root {
        sameport_skips::skip(test, "needs root");
    }
    root
}

fn part() -> String {
    std::env::var(PART).unwrap_or_default()
}

/// A child process: this binary, running one of the ignored tests below.
struct Part {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Part {
    fn start(mut command: Command, test: &str, part: &str) -> Self {
        let mut child = command
            .args(["--exact", test, "--nocapture", "--test-threads=1", "--ignored"])
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The next line that begins with `answer: `; the test runner writes the other lines.
    fn answer(&mut self) -> String {
        for line in self.output.by_ref().lines().map_while(Result::ok) {
            if let Some((_, answer)) = line.split_once("answer: ") {
                return answer.to_owned();
            }
        }
        panic!("the child ended without an answer");
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        std::io::copy(&mut self.output, &mut std::io::sink()).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

/// This binary, independent of its directory.
fn this_binary() -> Command {
    Command::new("/proc/self/exe")
}

fn ask_as(uid: u32, part: &str) -> String {
    let mut command = this_binary();
    command.uid(uid).gid(uid);
    let mut child = Part::start(command, "child_opens", part);
    let answer = child.answer();
    child.end();
    answer
}

fn opened(how: &str, protocol: &str, address: SocketAddr) -> Result<SocketAddr, sameport::Error> {
    let options = if how == "shared" { Options::shared() } else { Options::exclusive() };
    match protocol {
        "tcp" => options.listen(address).map(|socket| socket.local_addr().unwrap()),
        _ => options.bind_udp(address).map(|socket| socket.local_addr().unwrap()),
    }
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_opens() {
    let part = part();
    let [how, protocol, address] = part.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{PART}={part:?}")
    };
    match opened(how, protocol, address.parse().unwrap()) {
        Ok(address) => println!("answer: {address}"),
        Err(error) => println!("answer: {:?} {:?} {error}", error.kind(), error.owner_uid()),
    }
}

#[test]
fn another_user_is_refused_with_the_owner() {
    if !is_root("another_user_is_refused_with_the_owner") {
        return;
    }
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
        for (mine, theirs) in
            [("shared", "shared"), ("shared", "exclusive"), ("exclusive", "shared")]
        {
            let options = if mine == "shared" { Options::shared() } else { Options::exclusive() };
            let listener = options.listen(address).unwrap();
            let socket = options.bind_udp(address).unwrap();
            for (protocol, held) in [("tcp", listener.local_addr()), ("udp", socket.local_addr())] {
                let held = held.unwrap();
                let answer = ask_as(NOBODY, &format!("{theirs} {protocol} {held}"));
                let expected = format!(
                    "InUseByAnotherUser Some(0) bind {held}: in use by another user (uid 0)"
                );
                assert_eq!(answer, expected, "{mine}, then {theirs}, {protocol}");
                // Control: the same user.
                let answer = ask_as(0, &format!("shared {protocol} {held}"));
                assert_eq!(answer == held.to_string(), mine == "shared", "{answer}");
            }
        }
    }
}

#[test]
fn root_is_refused_too() {
    if !is_root("root_is_refused_too") {
        return;
    }
    let mut command = this_binary();
    command.uid(NOBODY).gid(NOBODY);
    let mut child = Part::start(command, "child_holds", "");
    let held: SocketAddr = child.answer().parse().unwrap();
    for refused in [sameport::listen(held).unwrap_err(), sameport::listen(held.port()).unwrap_err()]
    {
        assert_eq!(refused.kind(), ErrorKind::InUseByAnotherUser, "{refused}");
        assert_eq!(refused.owner_uid(), Some(NOBODY));
        assert_eq!(refused.os_error().unwrap().kind(), std::io::ErrorKind::AddrInUse);
    }
    child.end();
    drop(sameport::listen(held).unwrap());
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_holds() {
    let listener = sameport::listen("127.0.0.1:0").unwrap();
    println!("answer: {}", listener.local_addr().unwrap());
    // Until the parent closes the pipe.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

#[test]
fn a_low_port_is_not_permitted() {
    if !is_root("a_low_port_is_not_permitted") {
        return;
    }
    // In a new namespace, the first unprivileged port has the kernel's default.
    in_own_network("child_asks_for_a_low_port");
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_asks_for_a_low_port() {
    assert_eq!(part(), "own network", "needs its own namespace");
    let answer = ask_as(NOBODY, "shared tcp 127.0.0.1:1");
    assert_eq!(answer, "NotPermitted None bind 127.0.0.1:1: not permitted");
    println!("answer: done");
}

/// Runs a child test in a new network and mount namespace, where no other process opens ports.
fn in_own_network(test: &str) {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--"]).arg(std::env::current_exe().unwrap());
    let mut child = Part::start(command, test, "own network");
    assert_eq!(child.answer(), "done");
    child.end();
}

#[test]
fn port_zero_never_joins_a_group() {
    if is_root("port_zero_never_joins_a_group") {
        in_own_network("child_uses_up_four_ports");
    }
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_uses_up_four_ports() {
    assert_eq!(part(), "own network", "would change the machine's settings");
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").unwrap();
    let any = (Ipv4Addr::UNSPECIFIED, 0);

    let sockets: Vec<_> = (0..4).map(|_| sameport::bind_udp(any).unwrap()).collect();
    let ports: HashSet<u16> = sockets.iter().map(|s| s.local_addr().unwrap().port()).collect();
    assert_eq!(ports, (40000..=40003).collect());
    let error = sameport::bind_udp(any).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other, "{error}");
    assert!(error.to_string().contains("no port is left"), "{error}");

    // Control: with the option set before `bind`, the kernel chooses the port of a group.
    let early = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    early.set_reuse_port(true).unwrap();
    early.bind(&SocketAddr::from(any).into()).unwrap();
    let port = early.local_addr().unwrap().as_socket().unwrap().port();
    assert!(ports.contains(&port), "{port}");

    // A bind to the explicit port still joins.
    for port in &ports {
        sameport::bind_udp((Ipv4Addr::UNSPECIFIED, *port)).unwrap();
    }

    // TCP never chooses the port of a group.
    let listeners: Vec<_> = (0..4).map(|_| sameport::listen(any).unwrap()).collect();
    let ports: HashSet<u16> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
    assert_eq!(ports.len(), 4);
    let error = sameport::listen(any).unwrap_err();
    assert!(error.to_string().contains("no port is left"), "{error}");
    println!("answer: done");
}

#[test]
fn without_ipv6_a_bare_port_means_ipv4() {
    if is_root("without_ipv6_a_bare_port_means_ipv4") {
        in_own_network("child_has_no_ipv6");
    }
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_has_no_ipv6() {
    assert_eq!(part(), "own network", "would change the machine's settings");
    run("ip", &["link", "set", "lo", "up"]);
    std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    let error = sameport::listen("[::1]:0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressNotHere, "{error}");
    let listener = sameport::listen(0).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    println!("answer: done");
}

#[test]
fn a_bare_port_is_dual_stack_against_the_default() {
    if is_root("a_bare_port_is_dual_stack_against_the_default") {
        in_own_network("child_has_v6only_by_default");
    }
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_has_v6only_by_default() {
    assert_eq!(part(), "own network", "would change the machine's settings");
    std::fs::write("/proc/sys/net/ipv6/bindv6only", "1").unwrap();
    let control = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    assert!(control.only_v6().unwrap());
    for listener in [sameport::listen(0).unwrap(), sameport::listen_exclusive("[::]:0").unwrap()] {
        assert!(!socket2::SockRef::from(&listener).only_v6().unwrap());
    }
    println!("answer: done");
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

#[test]
fn a_name_with_several_addresses_is_opened_completely() {
    if is_root("a_name_with_several_addresses_is_opened_completely") {
        in_own_network("child_has_a_name_of_three_addresses");
    }
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_has_a_name_of_three_addresses() {
    assert_eq!(part(), "own network", "would change the machine's settings");
    run("ip", &["link", "set", "lo", "up"]);
    let hosts = std::env::temp_dir().join(format!("sameport-hosts-{}", std::process::id()));
    let names = "127.0.0.1 three.test\n127.0.0.2 three.test\n::1 three.test\n\
         127.0.0.1 away.test\n2001:db8::1 away.test\n";
    std::fs::write(&hosts, names).unwrap();
    run("mount", &["--bind", hosts.to_str().unwrap(), "/etc/hosts"]);
    // The mount keeps the file.
    std::fs::remove_file(&hosts).unwrap();

    let bound = |all: &[TcpListener]| -> HashSet<SocketAddr> {
        all.iter().map(|listener| listener.local_addr().unwrap()).collect()
    };
    let all = sameport::listen_all("three.test:0").unwrap();
    let port = all[0].local_addr().unwrap().port();
    let [one, two, three] =
        ["127.0.0.1", "127.0.0.2", "::1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
    assert_eq!(bound(&all), HashSet::from([one, two, three]));
    drop(all);

    // `listen_all` opens all or none; `listen` opens the first possible address.
    for in_use in [one, two, three] {
        let _holder = sameport::listen_exclusive(in_use).unwrap();
        let error = sameport::listen_all(format!("three.test:{port}")).unwrap_err();
        assert_eq!(
            (error.kind(), error.address()),
            (ErrorKind::InUse, in_use.to_string().as_str())
        );
        for free in [one, two, three] {
            assert_eq!(sameport::listen_exclusive(free).is_ok(), free != in_use);
        }
        let first = sameport::listen(format!("three.test:{port}")).unwrap();
        assert_ne!(first.local_addr().unwrap(), in_use);
    }

    // An absent IPv6 address is an error unless the machine has no IPv6.
    let error = sameport::listen_all("away.test:0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressNotHere, "{error}");

    // Port 0: the only port that is free on all addresses.
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").unwrap();
    let second = |port| SocketAddr::from(([127, 0, 0, 2], port));
    let mut holders: Vec<TcpListener> =
        [40000, 40001, 40003].map(|port| sameport::listen(second(port)).unwrap()).into();
    for listener in sameport::listen_all("three.test:0").unwrap() {
        assert_eq!(listener.local_addr().unwrap().port(), 40002);
    }
    holders.push(sameport::listen_exclusive(second(40002)).unwrap());
    let error = sameport::listen_all("three.test:0").unwrap_err();
    assert!(error.to_string().contains("no port is left"), "{error}");

    std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    let all = sameport::listen_all(format!("three.test:{port}")).unwrap();
    assert_eq!(bound(&all), HashSet::from([one, two]));
    println!("answer: done");
}

#[test]
fn a_device_name_is_never_truncated() {
    if is_root("a_device_name_is_never_truncated") {
        in_own_network("child_has_a_device_with_the_longest_name");
    }
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_has_a_device_with_the_longest_name() {
    assert_eq!(part(), "own network", "would change the machine's settings");
    let name = "fifteen-letters";
    run("ip", &["link", "set", "lo", "name", name]);
    run("ip", &["link", "set", name, "up"]);
    Options::shared().device(name).listen("127.0.0.1:0").unwrap();
    let error = Options::shared().device(format!("{name}s")).listen("127.0.0.1:0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressNotHere, "{error}");
    println!("answer: done");
}

#[test]
fn reuse_address_does_not_admit_another_user() {
    if !is_root("reuse_address_does_not_admit_another_user") {
        return;
    }
    let shared = sameport::bind_udp("127.0.0.1:0").unwrap();
    // Control: the pair of options that many programs set.
    let with_both = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    with_both.set_reuse_address(true).unwrap();
    with_both.set_reuse_port(true).unwrap();
    with_both.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let with_both = UdpSocket::from(with_both);
    for (held, expected) in [(shared, "refused"), (with_both, "bound")] {
        let mut command = this_binary();
        command.uid(NOBODY).gid(NOBODY);
        let address = held.local_addr().unwrap().to_string();
        let mut child = Part::start(command, "child_takes_with_reuse_address", &address);
        assert_eq!(child.answer(), expected);
        child.end();
    }
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_takes_with_reuse_address() {
    let address: SocketAddr = part().parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    let refused = socket.bind(&address.into()).is_err();
    println!("answer: {}", if refused { "refused" } else { "bound" });
}
