//! What is refused for groups that sameport did not start: exit code and advice.

use crate::fixture::{PINS, PORT, TrafficFixture, assert_fails};
use crate::harness;

#[test]
fn a_port_without_a_choice_is_refused() {
    let Some(fixture) = TrafficFixture::new("steer-no-choice") else { return };
    for words in [format!("steer {PORT}"), format!("steer {PORT} on"), format!("drain {PORT} 1")] {
        let error = format!("no socket takes connections on {PORT}");
        fixture.fails(&words, 1, &error, "`sameport ls` lists");
    }
    let alone = fixture.traffic(&["alone", PORT, "127.0.0.1"]);
    alone.wait_for_stdout("ready");
    let error = format!("(python3) listens on {PORT}/tcp without SO_REUSEPORT, so no other member");
    fixture.fails(&format!("steer {PORT} random"), 1, &error, "under `sameport run -- python3");
    drop(alone);
    let one = fixture.members(1, &["127.0.0.1"]);
    let error = format!("{PORT}/tcp: the group has one member: there is no choice");
    fixture.fails(&format!("steer {PORT} two-choices"), 1, &error, "with SO_REUSEPORT");
    let error = format!("{} is the last member of {PORT}/tcp", one.pids[0]);
    fixture.fails(&format!("drain {PORT} {}", one.pids[0]), 1, &error, "start another member");
    assert_eq!(fixture.shell(&format!("ls {PINS} 2>/dev/null || true")), "");
}

#[test]
fn members_and_values_that_do_not_exist_are_refused() {
    let Some(fixture) = TrafficFixture::new("steer-values") else { return };
    let members = fixture.members(2, &["127.0.0.1"]);
    let [a, b] = members.pids[..] else { panic!("two members") };
    let known = format!("the members of {PORT}/tcp are {a}, {b}");
    let own = std::process::id();
    let no_socket = format!("pid {own} has no socket that takes connections on {PORT}/tcp");
    fixture.fails(&format!("steer {PORT} weights {own}=1"), 1, &no_socket, &known);
    fixture.fails(&format!("drain {PORT} {own}"), 1, &no_socket, &known);
    fixture.fails(&format!("drain {PORT} 2147483647"), 1, "there is no process 2147483647", &known);
    fixture.fails(&format!("steer {PORT} web=1"), 1, "no member is \"web\"", "the members are");
    let zero = "no member would get a connection: every weight is 0";
    fixture.fails(&format!("steer {PORT} {a}=0 {b}=0"), 1, zero, "a weight above 0");
    for value in ["4294967296", "99999999999999999999"] {
        let words = format!("steer {PORT} weights {a}={value}");
        fixture.fails(&words, 2, "a value is a number from 0 to 4294967295", "sameport steer");
    }
    for value in ["-1", "1.5", "", "x"] {
        let words = format!("steer {PORT} weights {a}={value}");
        fixture.fails(&words, 2, "is not a number from 0 to 4294967295", "sameport steer");
    }
    fixture.fails(&format!("steer {PORT} round_robin"), 2, "the nearest is round-robin", "");
    fixture.fails(&format!("steer {PORT} off {a}=1"), 2, "`on` and `off` take no values", "");
    fixture.fails(&format!("steer {PORT} --replace"), 2, "required", "usage: ");
    fixture.fails(&format!("steer {PORT} hash {a}=1"), 2, "hash takes no values", "");
    fixture.fails(&format!("drain {PORT} {a} --undo"), 1, "is not drained", "sameport steer");
    fixture.ok(&format!("steer {PORT} weights {a}=4294967295 {b}=1"));
    assert!(fixture.connect(20, "127.0.0.1").contains_key(&a));
}

#[test]
fn another_user_is_told_what_could_do_it() {
    let Some(fixture) = TrafficFixture::new("steer-user") else { return };
    let as_nobody = |words: &str| {
        let words: Vec<&str> = ["--reuid=65534", "--regid=65534", "--clear-groups"]
            .into_iter()
            .chain([harness::sameport().to_str().unwrap()])
            .chain(words.split(' '))
            .collect();
        fixture.start("setpriv", &words).wait()
    };
    let members = fixture.members(2, &["127.0.0.1"]);
    let exited = as_nobody(&format!("steer {PORT} random"));
    let error = format!("{PORT}/tcp has programs of another user; only eBPF can steer them");
    assert_fails(&exited, 3, &error, "root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
    let exited = as_nobody(&format!("drain {PORT} {}", members.pids[0]));
    assert_fails(&exited, 3, &error, "root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
    let shown = as_nobody(&format!("steer {PORT}"));
    assert!(shown.code == 0 && shown.stdout.contains("hash"), "{shown:?}");
    // Root without the capability to duplicate the sockets of programs that have more of them.
    let sameport = harness::sameport();
    for verb in ["steer", "drain"] {
        let words = ["--bounding-set=-sys_ptrace,-sys_admin", sameport.to_str().unwrap(), verb];
        let what = if verb == "steer" { "random".to_owned() } else { members.pids[0].to_string() };
        let exited = fixture.start("setpriv", &[&words[..], &[PORT, &what]].concat()).wait();
        assert_fails(&exited, 3, "CAP_SYS_PTRACE is missing", "");
    }
    drop(members);

    // Programs of the user itself, which are in no run.
    let file = harness::script("traffic.py");
    let words = ["--reuid=65534", "--regid=65534", "--clear-groups", "python3"];
    let words = [&words[..], &[file.to_str().unwrap(), "members", PORT, "2", "127.0.0.1"]].concat();
    let members = fixture.start("setpriv", &words);
    members.wait_for_stdout("ready");
    let exited = as_nobody(&format!("steer {PORT} least-connections"));
    let error =
        format!("{PORT}/tcp has members of no named run: python3; only eBPF can steer them");
    assert_fails(&exited, 3, &error, "root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
    // Root can.
    fixture.ok(&format!("steer {PORT} least-connections"));
    let shown = as_nobody(&format!("steer {PORT} --json"));
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.stdout.contains("a policy can hold that this user cannot see"), "{shown:?}");
    // The directories can be passed, and the maps not be opened.
    fixture.shell(&format!("chmod 711 /sys/fs/bpf {PINS}"));
    let shown = as_nobody(&format!("steer {PORT}"));
    let found = "NOT in force: a policy holds that this user cannot read";
    assert!(shown.code == 0 && shown.stdout.contains(found), "{shown:?}");
    let advice = format!("root sees it with `sameport steer {PORT}/tcp`");
    assert!(shown.stdout.contains(&advice), "{shown:?}");
    let shown = fixture.ok(&format!("steer {PORT}/tcp")).stdout;
    assert!(shown.contains("least-connections, by eBPF, in force"), "{shown}");
    // No state: nothing holds that could not be seen.
    fixture.ok(&format!("steer {PORT} off"));
    let shown = as_nobody(&format!("steer {PORT}"));
    assert!(shown.code == 0 && !shown.stdout.contains("this user"), "{shown:?}");
}

#[test]
fn what_is_at_the_path_and_not_of_this_version_is_replaced_on_request_only() {
    let Some(fixture) = TrafficFixture::new("steer-pins") else { return };
    let members = fixture.members(2, &["127.0.0.1"]);
    fixture.ok(&format!("steer {PORT} random"));
    let path = fixture.shell(&format!("echo {PINS}/v2-*-tcp-{PORT}"));
    let path = path.trim();
    // Of another version.
    fixture.shell(&format!("mv {path} {}", path.replace("/v2-", "/v0-")));
    let error = "is the state of another version of sameport";
    fixture.fails(&format!("steer {PORT} random"), 1, error, "off` removes it");
    fixture.fails(&format!("drain {PORT} {}", members.pids[0]), 1, error, "off` removes it");
    let shown = fixture.ok(&format!("steer {PORT}")).stdout;
    assert!(shown.contains("has another layout"), "{shown}");
    fixture.ok(&format!("steer {PORT} off"));
    assert_eq!(fixture.shell(&format!("ls {PINS} 2>/dev/null || true")), "");
    fixture.ok(&format!("steer {PORT} random"));
    fixture.shell(&format!("mv {path} {}", path.replace("/v2-", "/v9-")));
    fixture.ok(&format!("steer {PORT} round-robin --replace"));
    assert_eq!(fixture.shell(&format!("ls {PINS}")).lines().count(), 1);
    assert_eq!(fixture.connect(10, "127.0.0.1").values().copied().collect::<Vec<_>>(), [5, 5]);
    fixture.ok(&format!("steer {PORT} off"));

    // Of somebody else.
    fixture.shell(&format!("mkdir -p {path} && chmod 700 /sys/fs/bpf/sameport {PINS}"));
    let error = "is not of sameport";
    fixture.fails(&format!("steer {PORT} random"), 1, error, "--replace");
    fixture.fails(&format!("steer {PORT} off"), 1, error, "--replace");
    fixture.ok(&format!("steer {PORT} random --replace"));
    fixture.ok(&format!("steer {PORT} off"));
    assert_eq!(fixture.shell(&format!("ls {PINS} 2>/dev/null || true")), "");
}

#[test]
fn off_removes_what_killed_commands_have_left() {
    let Some(fixture) = TrafficFixture::new("steer-rests") else { return };
    let _members = fixture.members(2, &["127.0.0.1"]);
    let make = format!("mkdir -p {PINS}/new-1-1-1 && chmod 700 /sys/fs/bpf/sameport {PINS}");
    fixture.shell(&make);
    fixture.ok(&format!("steer {PORT} off"));
    assert_eq!(fixture.shell("find /sys/fs/bpf -name sameport"), "");
}

#[test]
fn the_program_of_another_is_replaced_on_request_only() {
    let Some(fixture) = TrafficFixture::new("steer-another") else { return };
    // Members that attach a program which always selects the first: SO_ATTACH_REUSEPORT_CBPF is 51.
    let members = fixture.members(2, &["127.0.0.1"]);
    let attach = "import ctypes, os, socket, struct, sys; \
        p = os.pidfd_open(int(sys.argv[1])); \
        c = ctypes.CDLL(None, use_errno=True); \
        ok = [f for f in os.listdir(f'/proc/{sys.argv[1]}/fd') if os.readlink(\
        f'/proc/{sys.argv[1]}/fd/{f}').startswith('socket:')]; \
        s = socket.socket(fileno=c.syscall(438, p, int(ok[0]), 0)); \
        code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0)); \
        s.setsockopt(socket.SOL_SOCKET, 51, struct.pack('HxxxxxxQ', 1, ctypes.addressof(code)))";
    let attached = fixture.start("python3", &["-c", attach, &members.pids[0].to_string()]).wait();
    assert_eq!(attached.code, 0, "{attached:?}");
    assert_eq!(fixture.connect(20, "127.0.0.1").len(), 1);
    let shown = fixture.ok(&format!("steer {PORT}")).stdout;
    assert!(shown.contains("NOT in force: a program of another selects the member"), "{shown}");
    let error = "the program of another selects among the members";
    fixture.fails(&format!("steer {PORT} random"), 1, error, "POLICY --replace` puts a policy");
    fixture.fails(&format!("drain {PORT} {}", members.pids[0]), 1, error, "--replace");
    fixture.ok(&format!("steer {PORT} round-robin --replace"));
    assert_eq!(fixture.connect(20, "127.0.0.1").values().copied().collect::<Vec<_>>(), [10, 10]);
}

#[test]
fn a_group_that_ends_meanwhile_leaves_no_state_that_is_in_the_way() {
    let Some(fixture) = TrafficFixture::new("steer-vanish") else { return };
    let members = fixture.members(2, &["127.0.0.1"]);
    fixture.ok(&format!("steer {PORT} on"));
    fixture.end(members);
    let error = format!("no socket takes connections on {PORT}");
    // The next command removes a state without a member.
    fixture.fails(&format!("steer {PORT}"), 1, &error, "sameport ls");
    assert_eq!(fixture.shell(&format!("ls {PINS} 2>/dev/null || true")), "");
    // What it cannot read, it leaves to the user.
    let members = fixture.members(2, &["127.0.0.1"]);
    fixture.ok(&format!("steer {PORT} on"));
    fixture.shell(&format!("cd {PINS} && mv v2-* $(echo v2-* | sed s/v2/v0/)"));
    fixture.end(members);
    fixture.fails(&format!("steer {PORT}"), 1, &error, &format!("`sameport steer {PORT} off`"));
    let done = fixture.ok(&format!("steer {PORT} off"));
    assert!(done.stderr.contains("what was left of a policy is removed"), "{done:?}");
    assert_eq!(fixture.shell(&format!("ls {PINS} 2>/dev/null || true")), "");
    fixture.fails(&format!("steer {PORT} off"), 1, &error, "sameport ls");

    // A new group on the port is not steered by the state of the one before, and can be.
    let members = fixture.members(2, &["127.0.0.1"]);
    fixture.ok(&format!("steer {PORT} round-robin"));
    fixture.end(members);
    let members = fixture.members(2, &["127.0.0.1"]);
    let shown = fixture.ok(&format!("steer {PORT}")).stdout;
    assert!(shown.contains("NOT in force: a group of 8080/tcp began after it"), "{shown}");
    fixture.ok(&format!("steer {PORT} round-robin"));
    let served = fixture.connect(10, "127.0.0.1");
    assert_eq!(served, members.pids.iter().map(|pid| (*pid, 5)).collect());

    // While groups come and go, each change is done or refused, and the last one holds.
    drop(members);
    for _ in 0..3 {
        let members = fixture.members(2, &["127.0.0.1"]);
        let line = format!("{} steer {PORT} random", harness::sameport().display());
        let change = fixture.start("sh", &["-c", &line]);
        drop(members);
        let exited = change.wait();
        assert!(matches!(exited.code, 0 | 1) && !exited.stderr.contains("panic"), "{exited:?}");
    }
    let members = fixture.members(2, &["127.0.0.1"]);
    fixture.ok(&format!("steer {PORT} round-robin"));
    assert_eq!(fixture.connect(10, "127.0.0.1").len(), members.pids.len());
}

#[test]
fn a_policy_that_has_no_meaning_for_datagrams_is_refused_with_those_that_have() {
    let Some(fixture) = TrafficFixture::new("steer-datagrams") else { return };
    let receivers = "import socket, time
def receiver():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(('127.0.0.1', 8080))
    return sock
sockets = [receiver(), receiver()]
print('ready', flush=True)
time.sleep(1000)";
    let receivers = fixture.start("python3", &["-c", receivers]);
    receivers.wait_for_stdout("ready");
    for policy in ["least-connections", "two-choices"] {
        let error = format!("{policy} has no meaning for UDP");
        let words = format!("steer {PORT}/udp {policy}");
        fixture.fails(&words, 3, &error, "random, weights and sticky choose per flow");
    }
    assert_eq!(fixture.shell(&format!("ls {PINS} 2>/dev/null || true")), "");
}

/// The hint is done, and then `steer` works.
#[test]
fn a_mount_namespace_without_the_bpf_file_system_is_told_what_to_do() {
    let Some(fixture) = TrafficFixture::new("steer-no-bpffs") else { return };
    let _members = fixture.members(2, &["127.0.0.1"]);
    fixture.shell("mount -t tmpfs none /sys/fs/bpf && touch /sys/fs/bpf/other");
    let advice = "mount -t bpf bpf /sys/fs/bpf";
    let error = "no BPF file system can be mounted on /sys/fs/bpf";
    fixture.fails(&format!("steer {PORT} random"), 3, error, &format!("as root: `{advice}`"));
    fixture.shell(advice);
    fixture.ok(&format!("steer {PORT} random"));
    fixture.ok(&format!("steer {PORT} off"));
}
