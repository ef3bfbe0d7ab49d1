//! `run --policy` with eBPF. Needs root; each test has a port of its own in the machine's namespace.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::harness::load::{Client, while_served};
use crate::harness::named_run::{NamedRun, RunSetup, has_exited, while_clients_served};
use crate::harness::{
    Process, User, command_for, eventually, find_program, free_port, is_root, kill, skip,
    spawn_process, start, start_run,
};
use crate::servers::{Connection, answers, hold, server};

/// The pinned states of a port.
fn pins(port: u16) -> Vec<PathBuf> {
    let ending = format!("-tcp-{port}");
    let pins = std::fs::read_dir("/sys/fs/bpf/sameport/traffic").into_iter().flatten().flatten();
    let named = pins.filter(|pin| pin.file_name().to_string_lossy().ends_with(&ending));
    named.map(|pin| pin.path()).collect()
}

/// Why eBPF is not at hand here.
fn obstacle() -> Option<&'static str> {
    if !is_root() {
        return Some("not root");
    }
    let doctor = start(User::Current, &["doctor", "--json"]).wait().stdout;
    (!doctor.contains("\"steer\"")).then_some("no eBPF")
}

fn command(port: u16) -> Option<Vec<String>> {
    let mut command = server()?;
    command[2] = port.to_string();
    Some(command)
}

fn plain(options: &[&str], copies: usize, port: u16) -> Option<Process> {
    let command = command(port)?;
    let copies = copies.to_string();
    let options: Vec<&str> = ["-n", &copies].into_iter().chain(options.iter().copied()).collect();
    Some(start_run(User::Current, &options, &command))
}

/// Whether each of so many workers gets some of the next connections. On a busy machine one that accepts nothing for
/// a moment is left out for it, so the numbers differ.
fn all_serve(to: SocketAddr, copies: usize) -> Option<()> {
    let open: Vec<Connection> = (0..copies * 3).map(|_| hold(to).unwrap()).collect();
    let workers: BTreeSet<i32> = open.iter().map(|it| it.pid).collect();
    (workers.len() == copies).then_some(())
}

/// Opens connections, one after the other, and waits until each worker has the same number.
fn are_even(to: SocketAddr, copies: usize) -> Option<Vec<Connection>> {
    // The workers close the connections of an attempt before this one later than the client does.
    thread::sleep(Duration::from_millis(200));
    let open: Vec<Connection> = (0..copies * 3).map(|_| hold(to).unwrap()).collect();
    let workers: BTreeSet<i32> = open.iter().map(|it| it.pid).collect();
    let is_even = |pid: &i32| open.iter().filter(|it| it.pid == *pid).count() == 3;
    (workers.len() == copies && workers.iter().all(is_even)).then_some(open)
}

/// Every interposer; nothing of ours stays after the run.
#[test]
fn a_plain_run_gives_each_worker_the_same_number_of_connections() {
    if let Some(why) = obstacle() {
        return skip("traffic-extended-plain", why);
    }
    for via in ["seccomp", "preload", "cgroup"] {
        let port = free_port();
        let options = ["--policy", "least-connections", "--via", via];
        let Some(run) = plain(&options, 3, port) else {
            return skip("traffic-extended-plain", "no python3");
        };
        let to = ([127, 0, 0, 1], port).into();
        let even = eventually(|| (!pins(port).is_empty()).then(|| are_even(to, 3))?);
        assert!(even.is_some(), "{via}: {}", run.stderr());
        drop(even);
        run.terminate();
        assert!(pins(port).is_empty(), "{via}: {:?}", pins(port));
    }
}

fn named(options: &[&str]) -> Option<NamedRun> {
    let mut command = server()?;
    command.push("6".to_owned());
    Some(RunSetup::new(User::Current).run(options, &command))
}

/// What `status` says of the only port.
fn traffic(run: &NamedRun) -> serde_json::Value {
    run.status()["traffic"][0].clone()
}

#[test]
fn a_named_run_keeps_its_policy_and_counts() {
    if let Some(why) = obstacle() {
        return skip("traffic-extended-named", why);
    }
    let Some(run) = named(&["-n", "3", "--policy", "least-connections"]) else {
        return skip("traffic-extended-named", "no python3");
    };
    let (v4, v6) = (run.setup.address(), ([0, 0, 0, 0, 0, 0, 0, 1], run.setup.port).into());
    run.wait_for_ready(3);
    let open = eventually(|| are_even(v4, 3)).expect("least-connections");
    let held = traffic(&run);
    assert_eq!(held["tier"], "ebpf", "{held}");
    let counts = |traffic: &serde_json::Value| -> Vec<u64> {
        let members = traffic["members"].as_array().unwrap();
        members.iter().map(|member| member["open"].as_u64().unwrap()).collect()
    };
    assert_eq!(counts(&held), [3, 3, 3], "{held}");
    // The two sockets of a worker are one member.
    let more: Vec<Connection> = (0..3).map(|_| hold(v6).unwrap()).collect();
    assert_eq!(more.iter().map(|it| it.pid).collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(counts(&traffic(&run)), [4, 4, 4]);
    drop(more);
    while_clients_served(&run, v4, || run.verb("reexec", &[]));
    let after = eventually(|| (counts(&traffic(&run)) == [3, 3, 3]).then_some(()));
    assert!(after.is_some(), "{}", traffic(&run));
    drop(open);
    while_clients_served(&run, v6, || run.verb("restart", &[]));
    while_clients_served(&run, v4, || {
        run.verb("scale", &["1"]);
        run.verb("scale", &["3"]);
    });
    run.wait_for_ready(3);
    assert!(eventually(|| all_serve(v4, 3)).is_some(), "{}", traffic(&run));
    let port = run.setup.port;
    run.stop();
    assert!(pins(port).is_empty(), "{:?}", pins(port));
}

/// A worker that does not accept is named, and gets at most the connections that fill its queue.
#[test]
fn a_hung_worker_is_named() {
    if let Some(why) = obstacle() {
        return skip("traffic-extended-hung", why);
    }
    let Some(run) = named(&["-n", "2", "--policy", "two-choices"]) else {
        return skip("traffic-extended-hung", "no python3");
    };
    let stopped = *run.wait_for_ready(2).first().unwrap();
    kill(stopped, libc::SIGSTOP);
    let text = eventually(|| {
        let text = run.verb("status", &[]).stdout;
        text.contains(&format!("(pid {stopped}) is hung")).then_some(())
    });
    kill(stopped, libc::SIGCONT);
    assert!(text.is_some(), "{}", run.status());
    run.stop();
}

/// Two runs of a group share the state: each admits its own workers, and one that stops leaves the port to
/// the other.
#[test]
fn runs_of_a_group_share_the_state() {
    if let Some(why) = obstacle() {
        return skip("traffic-extended-group", why);
    }
    let options = ["-n", "2", "--policy", "least-connections", "--group", "traffic-group"];
    let Some(one) = named(&options) else {
        return skip("traffic-extended-group", "no python3");
    };
    one.wait_for_ready(2);
    let mut command = server().unwrap();
    command.push("6".to_owned());
    let setup = RunSetup { port: one.setup.port, ..RunSetup::new(User::Current) };
    let other = setup.run(&options, &command);
    other.wait_for_ready(2);
    let to = one.setup.address();
    assert!(eventually(|| all_serve(to, 4)).is_some(), "{}", traffic(&one));
    let status = traffic(&one);
    assert_eq!(status["members"].as_array().unwrap().len(), 4, "{status}");
    while_clients_served(&one, to, || {
        other.verb("restart", &[]);
        other.verb("scale", &["1"]);
        other.stop();
    });
    let left = one.wait_for_ready(2);
    let served: BTreeSet<i32> = answers(to, 8).into_keys().collect();
    assert_eq!(served, left);
    let port = one.setup.port;
    one.stop();
    assert!(pins(port).is_empty(), "{:?}", pins(port));
}

/// The state of a run that was killed with its workers is removed by the next run, or by a verb.
#[test]
fn a_killed_run_leaves_nothing_for_long() {
    if let Some(why) = obstacle() {
        return skip("traffic-extended-killed", why);
    }
    let Some(run) = named(&["-n", "2", "--policy", "random"]) else {
        return skip("traffic-extended-killed", "no python3");
    };
    let workers = run.wait_for_ready(2);
    let NamedRun { setup, supervisor } = run;
    assert!(!pins(setup.port).is_empty());
    supervisor.signal(libc::SIGKILL);
    assert!(eventually(|| has_exited(supervisor.pid()).then_some(())).is_some());
    // The workers serve on, and so does the policy.
    let served: BTreeSet<i32> = answers(setup.address(), 16).into_keys().collect();
    assert_eq!(served, workers);
    workers.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
    let is_gone = || {
        spawn_process(setup.command(&["status"])).wait();
        pins(setup.port).is_empty().then_some(())
    };
    assert!(eventually(is_gone).is_some(), "{:?}", pins(setup.port));
}

/// Clients of a run while `action` goes on: none is refused, reset or kept waiting.
#[track_caller]
fn while_none_is_lost<T>(to: SocketAddr, action: impl FnOnce() -> T) -> T {
    let (done, tally) = while_served(&[Client::OneShot; 4], to, action);
    assert!(tally.answered > 0 && tally.lost.is_empty(), "{:?}", tally.lost);
    done
}

/// An upgrade, and the takeover of the workers of a killed supervisor, lose no connection; the policy goes on.
fn upgrade_and_takeover(policy: &str) {
    let options = ["-n", "2", "--policy", policy];
    let Some(run) = named(&options) else {
        return skip("traffic-extended-takeover", "no python3");
    };
    let (to, port) = (run.setup.address(), run.setup.port.to_string());
    let first = run.wait_for_ready(2);
    let mut command = server().unwrap();
    command.push("6".to_owned());
    let upgraded: Vec<String> = command.iter().map(|word| word.replace("{port}", &port)).collect();
    let words: Vec<&str> = ["--"].into_iter().chain(upgraded.iter().map(String::as_str)).collect();
    while_none_is_lost(to, || run.verb("upgrade", &words));
    let second = run.wait_for_ready(2);
    assert!(second.is_disjoint(&first));
    assert_policy_holds(&run, policy);

    let NamedRun { setup, supervisor } = run;
    let run = while_none_is_lost(to, || {
        supervisor.signal(libc::SIGKILL);
        // The workers keep its output open.
        assert!(eventually(|| has_exited(supervisor.pid()).then_some(())).is_some());
        let run = setup.run(&options, &command);
        let taken = eventually(|| run.wait_for_ready(2).is_disjoint(&second).then_some(()));
        assert!(taken.is_some(), "{}", run.supervisor.stderr());
        run
    });
    assert_policy_holds(&run, policy);
    // Without other clients: their connections count too.
    if policy == "least-connections" {
        assert!(eventually(|| all_serve(to, 2)).is_some(), "{}", traffic(&run));
    }
    let port = run.setup.port;
    run.stop();
    assert!(pins(port).is_empty(), "{:?}", pins(port));
}

/// The policy holds for two members, the workers; what waits for the next worker is no member.
#[track_caller]
fn assert_policy_holds(run: &NamedRun, policy: &str) {
    let held = traffic(run);
    assert_eq!(held["tier"], "ebpf", "{held}");
    assert_eq!(held["rules"]["policy"], policy, "{held}");
    let members = held["members"].as_array().unwrap();
    assert_eq!(members.len(), 2, "{held}");
    assert!(members.iter().all(|member| member["worker"].is_u64()), "{held}");
}

#[test]
fn an_upgrade_and_a_takeover_lose_nothing_with_least_connections() {
    match obstacle() {
        Some(why) => skip("traffic-extended-takeover", why),
        None => upgrade_and_takeover("least-connections"),
    }
}

#[test]
fn an_upgrade_and_a_takeover_lose_nothing_with_two_choices() {
    match obstacle() {
        Some(why) => skip("traffic-extended-takeover", why),
        None => upgrade_and_takeover("two-choices"),
    }
}

/// An upgrade of sameport may change the layout of the states.
#[test]
fn a_state_of_an_earlier_version_is_replaced_by_the_run() {
    if let Some(why) = obstacle() {
        return skip("traffic-extended-layout", why);
    }
    let Some(run) = named(&["-n", "2", "--policy", "least-connections"]) else {
        return skip("traffic-extended-layout", "no python3");
    };
    run.wait_for_ready(2);
    let (to, port) = (run.setup.address(), run.setup.port);
    let [state] = &pins(port)[..] else { panic!("{:?}", pins(port)) };
    let earlier = state.to_string_lossy().replace("/v2-", "/v1-");
    std::fs::rename(state, earlier).unwrap();
    while_none_is_lost(to, || run.verb("reexec", &[]));
    assert!(eventually(|| (pins(port) == [state.clone()]).then_some(())).is_some());
    while_none_is_lost(to, || run.verb("restart", &[]));
    assert_policy_holds(&run, "least-connections");
    run.stop();
    assert!(pins(port).is_empty(), "{:?}", pins(port));
}

/// Listens, selects itself by `ret 0`, and answers with its pid.
const INTRUDER: &str = "
import ctypes, os, socket, struct, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind(('127.0.0.1', int(sys.argv[1])))
s.listen(64)
program = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0))
s.setsockopt(socket.SOL_SOCKET, 51, struct.pack('HxxxxxxQ', 1, ctypes.addressof(program)))
print('ready', flush=True)
while True:
    client = s.accept()[0]
    client.recv(4096)
    client.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n%d' % os.getpid())
    client.close()
";

/// A run that holds no sockets has the policy too. The program of another is not replaced, and the run goes on.
#[test]
fn a_run_without_held_sockets_is_steered_and_leaves_the_program_of_another() {
    if let Some(why) = obstacle() {
        return skip("traffic-extended-no-hold", why);
    }
    let options = ["-n", "2", "--policy", "least-connections", "--no-hold"];
    let Some(run) = named(&options) else {
        return skip("traffic-extended-no-hold", "no python3");
    };
    run.wait_for_ready(2);
    let to = run.setup.address();
    assert!(eventually(|| all_serve(to, 2)).is_some(), "{}", run.supervisor.stderr());
    let port = run.setup.port;
    // `status` and `steer` agree.
    let status = run.status();
    let is_steered = |it: &serde_json::Value| it["steered"] == true && it["held"] == false;
    assert!(status["addresses"].as_array().unwrap().iter().all(is_steered), "{status}");
    let shown = spawn_process(run.setup.command(&["steer", &port.to_string()])).wait().stdout;
    assert!(shown.contains("in force") && !shown.contains("does not say"), "{shown}");
    run.stop();
    assert!(pins(port).is_empty(), "{:?}", pins(port));

    // A group whose member has a program that selects it.
    let port = free_port();
    let python = find_program("python3").unwrap();
    let words = ["-c", INTRUDER, &port.to_string()];
    let intruder = spawn_process(command_for(User::Current, &python, &words));
    intruder.wait_for_stdout("ready");
    let Some(run) = plain(&["--policy", "least-connections", "--join"], 2, port) else { return };
    run.wait_for_stderr("another program selects its members");
    let to = ([127, 0, 0, 1], port).into();
    assert_eq!(answers(to, 8).into_keys().collect::<Vec<_>>(), [intruder.pid()]);
    assert!(pins(port).is_empty());
    run.terminate();
    intruder.signal(libc::SIGKILL);
    intruder.wait();
}

/// A second run of a group: its workers listen, and get nothing before they are ready.
#[test]
fn a_worker_of_a_second_run_waits_until_its_own_supervisor_says_ready() {
    if let Some(why) = obstacle() {
        return skip("traffic-extended-newcomer", why);
    }
    let shared = ["--policy", "random", "--group", "traffic-newcomers"];
    let options = [&["-n", "2"][..], &shared].concat();
    let Some(one) = named(&options) else {
        return skip("traffic-extended-newcomer", "no python3");
    };
    let first = one.wait_for_ready(2);
    let setup = RunSetup { port: one.setup.port, ..RunSetup::new(User::Current) };
    let allowed = setup.dir.join("ready");
    let check = format!("exec:test -e {}", allowed.display());
    let options = [&["-n", "1", "--ready", &check][..], &shared].concat();
    let other = setup.run(&options, &server().unwrap());
    let to = one.setup.address();
    let listens = || {
        let list = start(User::Current, &["ls", &to.port().to_string(), "--json"]).wait().stdout;
        (list.matches("\"inode\"").count() >= 3).then_some(())
    };
    assert!(eventually(listens).is_some());
    // Its socket is in the group, and the rest of the group decides anew meanwhile.
    let served: BTreeSet<i32> = answers(to, 30).into_keys().collect();
    assert_eq!(served, first);
    one.verb("restart", &[]);
    let first = one.wait_for_ready(2);
    let served: BTreeSet<i32> = answers(to, 30).into_keys().collect();
    assert_eq!(served, first);
    std::fs::write(&allowed, "").unwrap();
    other.wait_for_ready(1);
    assert!(eventually(|| all_serve(to, 3)).is_some(), "{}", traffic(&one));
    other.stop();
    one.stop();
}
