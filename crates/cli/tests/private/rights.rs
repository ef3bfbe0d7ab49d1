//! The capability that `--private` needs and that workers do not get.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use socket2::Type;

use crate::harness::{
    Exited, Process, User, ask, c_program, command_for, descendants, eventually, find_program,
    free_port, in_test_dir, is_root, sameport, skip, spawn_process, start_run,
};
use crate::intruder::Intruder;
use crate::refused::who;

/// A command of uid 65534 with the inheritable capability CAP_CHOWN, or without any.
fn nobody(with_capability: bool, program: &Path, words: &[&str]) -> Command {
    let mut all: Vec<OsString> =
        ["--reuid", "65534", "--regid", "65534", "--clear-groups"].map(OsString::from).into();
    if with_capability {
        all.extend(["--inh-caps", "+chown", "--ambient-caps", "+chown"].map(OsString::from));
    }
    all.push(program.into());
    all.extend(words.iter().map(OsString::from));
    let setpriv = find_program("setpriv").expect("setpriv is a part of util-linux");
    command_for(User::Current, setpriv, &all)
}

fn run(with_capability: bool, words: &[&str]) -> Process {
    spawn_process(nobody(with_capability, sameport(), &[&["run"], words].concat()))
}

fn capabilities(exited: &Exited, set: &str) -> u64 {
    let line = exited.stdout.lines().find_map(|line| line.strip_prefix(set)).unwrap_or_else(|| {
        panic!("{set}: {exited:?}");
    });
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[test]
fn without_the_capability_nothing_starts() {
    let trace = in_test_dir("started");
    let command = ["--private", "--", "touch", trace.to_str().unwrap()];
    let exited = match is_root() {
        true => run(false, &command).wait(),
        false => start_run(User::Current, &["--private"], &command[2..]).wait(),
    };
    assert_eq!(exited.code, 3, "{exited:?}");
    assert!(exited.stderr.contains("error: fchown: --private ") && exited.stdout.is_empty());
    assert!(exited.stderr.contains("CAP_CHOWN") && exited.stderr.contains("setcap cap_chown+ep"));
    assert!(!trace.exists());
}

/// Root of a user namespace can chown only to mapped users.
#[test]
fn unmapped_owner_starts_nothing() {
    let unshare = find_program("unshare").expect("unshare is a part of util-linux");
    let mut words = vec![OsString::from("--user"), "--map-root-user".into()];
    let probe = command_for(User::Current, &unshare, &[&words[..], &["true".into()]].concat());
    if spawn_process(probe).wait().code != 0 {
        return skip("private-user-namespace", "no user namespace can be made");
    }
    words.push(sameport().into());
    words.extend(["run", "--private", "--", "echo", "started"].map(OsString::from));
    let exited = spawn_process(command_for(User::Current, &unshare, &words)).wait();
    assert_eq!(exited.code, 3, "{exited:?}");
    assert!(exited.stderr.contains("is not mapped in this user namespace"), "{exited:?}");
    assert_eq!(exited.stdout, "", "{exited:?}");
}

/// A private group of a user with no other capability.
#[test]
fn cap_chown_suffices_and_workers_lack_it() {
    if !is_root() {
        return skip("private-capability", "needs root");
    }
    let port = free_port();
    let program = c_program("who", &[]);
    let words = [program.to_str().unwrap(), "tcp", "127.0.0.1", &port.to_string()];
    let run = run(true, &[&["--private", "-n", "2", "--"], &words[..]].concat());
    run.wait_for_stderr("now shared by 2");
    let address = ([127, 0, 0, 1], port).into();
    for intruder in Intruder::all() {
        assert!(intruder.bind(Type::STREAM, address).is_err(), "{intruder:?}");
    }
    let answer = String::from_utf8(ask(address, b"").unwrap()).unwrap();
    let workers = descendants(run.pid());
    assert!(workers.contains(&answer.trim().parse().unwrap()), "{answer} {workers:?}");
    for worker in workers {
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        for set in ["CapPrm:", "CapEff:", "CapAmb:"] {
            let line = status.lines().find(|line| line.starts_with(set)).unwrap();
            assert!(line.ends_with("0000000000000000"), "{line}");
        }
    }
}

/// A file capability, which workers do not inherit.
#[test]
fn file_capability_suffices() {
    if !is_root() {
        return skip("private-capability", "needs root");
    }
    let copy = in_test_dir("sameport-chown");
    let done = Command::new("cp").arg(sameport()).arg(&copy).status().unwrap();
    assert!(done.success());
    let setcap = find_program("setcap").expect("setcap is a part of libcap2-bin");
    let set = Command::new(setcap).arg("cap_chown+ep").arg(&copy).output().unwrap();
    if !set.status.success() {
        return skip("private-file-capability", &String::from_utf8_lossy(&set.stderr));
    }
    let words = ["run", "--private", "--", "cat", "/proc/self/status"];
    let exited = spawn_process(nobody(false, &copy, &words)).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    assert_eq!(capabilities(&exited, "CapPrm:"), 0, "{exited:?}");
    assert_eq!(capabilities(&exited, "CapAmb:"), 0, "{exited:?}");
}

/// Only the sockets of the group change their owner; nothing else of a worker does.
#[test]
fn only_sockets_change_their_owner() {
    if !is_root() {
        return skip("private-capability", "needs root");
    }
    let port = free_port();
    let run = who(&["--private"], Type::STREAM, "127.0.0.1", port, "once");
    let worker = descendants(run.pid())[0];
    let uids = || {
        let entries = std::fs::read_dir(format!("/proc/{worker}/fd")).unwrap();
        let of = |path: std::path::PathBuf| {
            let is_socket =
                std::fs::read_link(&path).unwrap().to_string_lossy().starts_with("socket:");
            (is_socket, std::fs::metadata(&path).unwrap().uid())
        };
        entries.map(|entry| of(entry.unwrap().path())).collect::<Vec<_>>()
    };
    let (sockets, others): (Vec<_>, Vec<_>) = uids().into_iter().partition(|(socket, _)| *socket);
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    assert!(sockets[0].1 >= 0x7000_0000, "{sockets:?}");
    assert!(others.iter().all(|(_, uid)| *uid == 0), "{others:?}");
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    assert!(status.contains("\nUid:\t0\t0\t0\t0\n"), "{status}");
}

/// Two runs of the user with the capability share. After `reexec` the new program still has the
/// capability.
#[test]
fn named_run_keeps_the_capability_over_reexec() {
    if !is_root() {
        return skip("private-capability", "needs root");
    }
    let port = free_port();
    let program = c_program("drains", &[]);
    let dir = in_test_dir(format!("private-{port}"));
    std::fs::create_dir(&dir).unwrap();
    crate::harness::chown_to(&dir, User::Nobody);
    let sameport = |words: &[&str]| {
        let mut command = nobody(true, sameport(), words);
        command.env("XDG_RUNTIME_DIR", &dir);
        spawn_process(command)
    };
    let (name, number) = (format!("private-{port}"), port.to_string());
    let _run =
        sameport(&["run", "--private", "--name", &name, "--", program.to_str().unwrap(), &number]);
    let address = ([127, 0, 0, 1], port).into();
    let refused = || Intruder::user(65534).reuse_port().bind(Type::STREAM, address).is_err();
    for verb in ["restart", "reexec", "restart"] {
        let done = eventually(|| (sameport(&[verb, &name]).wait().code == 0).then_some(()));
        assert!(done.is_some(), "{verb}: {}", sameport(&["status", &name]).wait().stderr);
        assert!(refused(), "{verb}");
    }
    assert_eq!(sameport(&["stop", &name]).wait().code, 0);
}

#[test]
fn conflicting_options_are_refused() {
    for (options, said) in [
        (&["--via", "preload"][..], "has the program's rights"),
        (&["--via", "cgroup"], "eBPF cannot give"),
        (&["--allow-io-uring"], "would not be private"),
        (&["--join"], "cannot be used with"),
    ] {
        let options = [&["--private"], options].concat();
        let exited = start_run(User::Current, &options, &["true"]).wait();
        assert_eq!(exited.code, 2, "{exited:?}");
        assert!(exited.stderr.contains(said), "{exited:?}");
    }
}
