//! A process of the same user that makes the kernel choose its own socket.

use crate::harness::named_run::{NamedRun, RunSetup};
use crate::harness::{
    Process, User, eventually, find_program, is_root, script, skip, start_command,
};
use crate::servers::{answers, server, unprivileged};

fn run(user: User, options: &[&str]) -> Option<NamedRun> {
    let command = server()?;
    Some(RunSetup::new(user).run(options, &command))
}

/// Joins the group of the run and attaches a program that chooses the member `index`.
fn intrude(user: User, run: &NamedRun, words: &[&str]) -> (Process, i32) {
    let python = find_program("python3").unwrap();
    let port = run.setup.port.to_string();
    let file = script("intruder.py").into_os_string().into_string().unwrap();
    let words = [&[&*file, &port, "127.0.0.1"], words].concat();
    let intruder = start_command(user, python.to_str().unwrap(), &words);
    intruder.wait_for_stdout("attached");
    let pid = intruder.stdout().split_whitespace().last().unwrap().parse().unwrap();
    (intruder, pid)
}

/// With eBPF the supervisor sees the program, sets the policy again, and names what it found.
#[test]
fn a_supervisor_sets_its_policy_again() {
    if !is_root() {
        return skip("traffic-intruder", "not root");
    }
    for kind in ["cbpf", "ebpf"] {
        let Some(run) = run(User::Current, &["-n", "3", "--policy", "random"]) else {
            return skip("traffic-intruder", "no python3");
        };
        let to = run.setup.address();
        let workers = run.wait_for_ready(3);
        if run.status()["traffic"][0]["tier"] != "ebpf" {
            return skip("traffic-intruder", "no eBPF");
        }
        // A supervisor that runs would be too fast.
        run.supervisor.signal(libc::SIGSTOP);
        let (intruder, pid) = intrude(User::Current, &run, &[kind, "3"]);
        let taken = answers(to, 50);
        assert_eq!(taken.get(&pid), Some(&50), "{kind}: {taken:?}");
        run.supervisor.signal(libc::SIGCONT);
        let by = if kind == "cbpf" { "classic BPF" } else { "(intruder) of uid 0" };
        let told = format!("{by} had replaced the policy of {}/tcp", to.port());
        let is_told = || run.supervisor.stderr().contains(&told).then_some(());
        assert!(eventually(is_told).is_some(), "{kind}: {}", run.supervisor.stderr());
        let stderr = run.supervisor.stderr();
        assert!(stderr.contains(&format!("(pid {pid}, uid 0)")), "{stderr}");
        let served = answers(to, 150);
        assert!(!served.contains_key(&pid), "{kind}: {served:?}");
        assert!(served.keys().eq(workers.iter()), "{kind}: {served:?}");
        let status = run.verb("status", &[]).stdout;
        assert!(status.contains("the policy was set again once"), "{status}");
        assert!(status.contains(&format!("(pid {pid}, uid 0); each can replace")), "{status}");
        intruder.terminate();
        run.stop();
    }
}

/// Without privilege the program of a stranger cannot be seen. The stranger gets the part that the hash gives
/// it, and is named; the program of one that has left again does not stay.
#[test]
fn without_privilege_a_stranger_gets_no_more_than_by_the_hash() {
    let user = unprivileged();
    let Some(run) = run(user, &["-n", "3", "--policy", "random", "--via", "seccomp"]) else {
        return skip("traffic-intruder-user", "no python3");
    };
    let to = run.setup.address();
    let workers = run.wait_for_ready(3);
    if run.status()["traffic"][0]["tier"] != "classic" {
        return skip("traffic-intruder-user", "this user has eBPF");
    }
    run.supervisor.signal(libc::SIGSTOP);
    drop(intrude(user, &run, &["cbpf", "0", "leave"]));
    assert_eq!(answers(to, 50).len(), 1);
    run.supervisor.signal(libc::SIGCONT);
    let is_restored = || (answers(to, 30).len() == 3).then_some(());
    assert!(eventually(is_restored).is_some(), "{}", run.status());

    run.supervisor.signal(libc::SIGSTOP);
    let (intruder, pid) = intrude(user, &run, &["cbpf", "3"]);
    assert_eq!(answers(to, 50).get(&pid), Some(&50));
    run.supervisor.signal(libc::SIGCONT);
    let is_told =
        || run.supervisor.stderr().contains("members that are not of this run").then_some(());
    assert!(eventually(is_told).is_some(), "{}", run.supervisor.stderr());
    let is_shared = || (answers(to, 50).len() == 4).then_some(());
    assert!(eventually(is_shared).is_some(), "{}", run.status());
    let status = run.verb("status", &[]).stdout;
    assert!(status.contains(&format!("(pid {pid}, uid")), "{status}");
    intruder.terminate();
    let has_policy = || run.status()["traffic"][0]["not_in_force"].is_null().then_some(());
    assert!(eventually(has_policy).is_some(), "{}", run.status());
    assert!(answers(to, 30).keys().eq(workers.iter()));
    run.stop();
}
