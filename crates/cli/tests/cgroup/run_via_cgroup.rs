//! `sameport run --via cgroup`: the run has its own cgroup and removes it, however it ends.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::fixture::{MACHINE, Objects, binds_program, objects};
use crate::harness::{
    self, Process, User, ask, c_program, cgroup2_mount, descendants, eventually, find_program,
    free_port, go_program, start_run,
};

/// Whether this machine allows the test.
fn can_run(test: &str) -> bool {
    match (harness::is_root(), cgroup2_mount()) {
        (false, _) => harness::skip(test, "needs root"),
        (_, None) => harness::skip(test, "cgroup v2 is not mounted"),
        _ => return true,
    }
    false
}

/// The cgroups of the runs of these supervisors.
fn cgroups_of(supervisors: &[i32]) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut next: Vec<PathBuf> = cgroup2_mount().into_iter().collect();
    while let Some(dir) = next.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().into_string().unwrap_or_default();
            let mut parts = name.split('-');
            let is_run = parts.next() == Some("sameport") && parts.next() == Some("run");
            let pid = parts.nth(1).and_then(|pid| pid.parse().ok());
            if is_run && pid.is_some_and(|pid| supervisors.contains(&pid)) {
                found.push(entry.path());
            }
            next.push(entry.path());
        }
    }
    found
}

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Two runs of one program share a port and leave nothing.
fn two_runs_share(command: &[&str], port: u16) {
    let runs = [(); 2].map(|()| {
        let run = start_run(User::Current, &["--via", "cgroup"], command);
        harness::wait_until_answering(address(port));
        run
    });
    let mut responses = BTreeSet::new();
    let both = eventually(|| {
        if let Ok(answer) = ask(address(port), b"") {
            let pid: i32 = String::from_utf8(answer).unwrap().trim().parse().unwrap();
            responses.extend(runs.iter().position(|run| descendants(run.pid()).contains(&pid)));
        }
        (responses.len() == 2).then_some(())
    });
    assert!(both.is_some(), "{responses:?}\n{}\n{}", runs[0].stderr(), runs[1].stderr());
    runs[1].wait_for_stderr(&format!("127.0.0.1:{port}/tcp is now shared by 2: pid "));
    let supervisors = [runs[0].pid(), runs[1].pid()];
    assert_eq!(cgroups_of(&supervisors).len(), 2);
    for run in runs {
        let exited = run.terminate();
        assert_eq!(exited.code, 128 + libc::SIGTERM, "{exited:?}");
    }
    assert_eq!(cgroups_of(&supervisors), Vec::<PathBuf>::new());
}

#[test]
fn static_programs_share() {
    if !can_run("run-cgroup-static") {
        return;
    }
    let port = free_port();
    let who = c_program("who", &["-static"]);
    two_runs_share(&[who.to_str().unwrap(), "tcp", "127.0.0.1", &port.to_string()], port);
    if find_program("go").is_none() {
        return harness::skip("run-cgroup-go", "no go");
    }
    let port = free_port();
    let who = go_program("cgroup_who");
    two_runs_share(&[who.to_str().unwrap(), &format!("127.0.0.1:{port}")], port);
}

#[test]
fn rules_apply() {
    if !can_run("run-cgroup-map") {
        return;
    }
    let to = free_port();
    let binds = binds_program();
    let run = |arguments: &[&str], words: &str| {
        let arguments: Vec<&str> = ["--via", "cgroup"].iter().chain(arguments).copied().collect();
        let command: Vec<&str> =
            [binds.to_str().unwrap()].into_iter().chain(words.split(' ')).collect();
        let exited = start_run(User::Current, &arguments, &command).wait();
        assert_eq!(exited.code, 0, "{exited:?}");
        exited
    };
    let map = format!("80=127.0.0.1:{to}");
    for (words, expected) in [
        ("bind tcp 0.0.0.0 80", format!("given 127.0.0.1 {to} reuseaddr=0 reuseport=1\n")),
        ("bind udp :: 80", format!("given ::ffff:127.0.0.1 {to} reuseaddr=0 reuseport=1\n")),
        // A source that seccomp must enforce.
        ("bind tcp 0.0.0.0 80 ring", format!("given 127.0.0.1 {to} reuseaddr=0 reuseport=1\n")),
    ] {
        let exited = run(&["--map", &map], words);
        if exited.stdout.starts_with("refused io_uring_setup")
            || words.ends_with("ring") && exited.stdout == "refused bind 22\n"
        {
            harness::skip("cgroup-io-uring", "this kernel has no IORING_OP_BIND");
            continue;
        }
        assert_eq!(exited.stdout, expected, "{words}: {exited:?}");
        assert!(!exited.stderr.contains("never used"), "{exited:?}");
    }
    let exited = run(&["--map", &map], &format!("bind tcp 127.0.0.1 {to}"));
    assert!(exited.stderr.contains(&format!("--map {map} was never used")), "{exited:?}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let exited = run(&["--source", "127.0.0.9"], &format!("send tcp 127.0.0.1 {port}"));
    assert!(exited.stdout.starts_with("given 127.0.0.9 "), "{exited:?}");
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.0.9");
    assert!(!exited.stderr.contains("never used"), "{exited:?}");
    let exited = run(&["--source", "127.0.0.9"], &format!("bind tcp 127.0.0.1 {to}"));
    assert!(exited.stderr.contains("--source 127.0.0.9 was never used"), "{exited:?}");
}

/// The kernel refuses the source: the program gets the error, and no warning calls the source
/// unused.
#[test]
fn refused_source_is_not_called_unused() {
    if !can_run("run-cgroup-source-refused") {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let binds = binds_program();
    let as_another = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let send = [binds.to_str().unwrap(), "send", "tcp", "127.0.0.1", &port];
    for via in ["seccomp", "cgroup"] {
        let options = ["--via", via, "--source", "127.0.0.9:81"];
        let exited = start_run(User::Current, &options, &[&as_another[..], &send].concat()).wait();
        assert_eq!(
            exited.stdout,
            format!("refused connect {}\n", libc::EACCES),
            "{via}: {exited:?}"
        );
        assert_eq!(exited.stderr, "", "{via}");
    }
}

#[test]
fn runs_inside_another_run() {
    if !can_run("run-cgroup-nested") {
        return;
    }
    let port = free_port().to_string();
    let sameport = harness::sameport().to_str().unwrap();
    let binds = binds_program();
    let words = ["tcp", "127.0.0.1", &port];
    for outer in ["seccomp", "cgroup"] {
        let inner = [sameport, "run", "--via", "cgroup", "--", binds.to_str().unwrap(), "bind"];
        let command: Vec<&str> = inner.into_iter().chain(words).collect();
        let exited = start_run(User::Current, &["--via", outer], &command).wait();
        let expected = format!("given 127.0.0.1 {port} reuseaddr=0 reuseport=1\n");
        assert_eq!((exited.code, exited.stdout.as_str()), (0, expected.as_str()), "{exited:?}");
    }
}

#[test]
fn missing_rights_start_nothing() {
    if !can_run("run-cgroup-rights") {
        return;
    }
    let mark = harness::in_test_dir("run-cgroup-rights");
    let command = ["touch", mark.to_str().unwrap()];
    let refused = [
        start_run(User::Nobody, &["--via", "cgroup"], &command),
        start_run(User::Current, &["--via", "cgroup", "--transparent"], &command),
        start_run(User::Current, &["--via", "cgroup", "--source", "192.0.2.1"], &command),
    ];
    for run in refused {
        let supervisor = run.pid();
        let exited = run.wait();
        assert_eq!(exited.code, 3, "{exited:?}");
        assert!(exited.stderr.starts_with("error: "), "{exited:?}");
        assert_eq!(exited.stderr.lines().count(), 2, "{exited:?}");
        assert_eq!(cgroups_of(&[supervisor]), Vec::<PathBuf>::new());
    }
    assert!(!mark.exists());
}

#[test]
fn missing_command_leaves_nothing() {
    if !can_run("run-cgroup-missing") {
        return;
    }
    let run = start_run(User::Current, &["--via", "cgroup"], &["/no/such/command"]);
    let supervisor = run.pid();
    let exited = run.wait();
    assert_eq!(exited.code, 127, "{exited:?}");
    assert_eq!(cgroups_of(&[supervisor]), Vec::<PathBuf>::new());
}

#[test]
fn next_start_cleans_up_after_a_kill() {
    /// Longer runs are done by hand.
    const ROUNDS: u32 = 20;
    let _machine = MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !can_run("run-cgroup-kill") {
        return;
    }
    let Some(before) = objects(&[]) else {
        return harness::skip("run-cgroup-kill", "no bpftool");
    };
    let who = c_program("who", &["-static"]);
    let who = who.to_str().unwrap();
    let start_one = || -> (Process, u16) {
        let port = free_port();
        let command = [who, "tcp", "127.0.0.1", &port.to_string()];
        (start_run(User::Current, &["--via", "cgroup", "--source", "127.0.0.9"], &command), port)
    };
    // The delay of a kill is up to a little more than a whole start takes.
    let since = std::time::Instant::now();
    let (run, port) = start_one();
    harness::wait_until_answering(address(port));
    let time = since.elapsed().mul_f64(1.2);
    run.terminate();
    let mut supervisors = vec![];
    for round in 0..ROUNDS {
        let (run, _) = start_one();
        std::thread::sleep(time.mul_f64(f64::from(round * 7 % ROUNDS) / f64::from(ROUNDS)));
        // The test kills the worker, because its supervisor is gone.
        let workers = descendants(run.pid());
        supervisors.push(run.pid());
        run.signal(libc::SIGKILL);
        let inside: Vec<i32> = eventually(|| {
            let exited = fs::read_to_string(format!("/proc/{}/stat", run.pid()));
            let is_over = exited.map_or(true, |stat| stat.contains(") Z"));
            is_over.then(|| members(run.pid()))
        })
        .unwrap();
        drop(run);
        for pid in workers.iter().chain(&inside) {
            if is_who(*pid, who) {
                harness::kill(*pid, libc::SIGKILL);
            }
        }
    }
    // BPF programs vanish with their process; cgroups with the next start. Other programs load
    // objects meanwhile, but remove them again.
    let ours: Vec<u64> = cgroups_of(&supervisors)
        .iter()
        .filter_map(|dir| fs::metadata(dir).ok())
        .map(|dir| dir.ino())
        .collect();
    let mut left: Objects = objects(&ours).unwrap().difference(&before).copied().collect();
    let gone = eventually(|| {
        left = left.intersection(&objects(&ours).unwrap()).copied().collect();
        left.is_empty().then_some(())
    });
    assert!(gone.is_some(), "{left:?}");
    // A cgroup with processes cannot be removed.
    let inside = || supervisors.iter().flat_map(|pid| members(*pid)).collect::<Vec<i32>>();
    assert!(eventually(|| inside().is_empty().then_some(())).is_some(), "{:?}", inside());
    let exited = start_run(User::Current, &["--via", "cgroup"], &["true"]).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    assert_eq!(cgroups_of(&supervisors), Vec::<PathBuf>::new());
}

/// The processes in the cgroups of the run of this supervisor.
fn members(supervisor: i32) -> Vec<i32> {
    cgroups_of(&[supervisor])
        .iter()
        .filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok())
        .flat_map(|procs| procs.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Whether this process is the test's program, or the child that executes it.
fn is_who(pid: i32, who: &str) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    program.as_os_str() == who || program == *harness::sameport()
}
