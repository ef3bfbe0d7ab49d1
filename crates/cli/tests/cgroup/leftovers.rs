//! No BPF object, pin or cgroup is left: after many rounds, after a kill at any moment, after the
//! removal of the cgroup.

use std::fs;
use std::time::Duration;

use crate::fixture::{MACHINE, Objects, TestCgroup, objects};
use crate::harness::{self, User, eventually, free_port, start};

/// Two processes each, so few rounds here; longer runs are done by hand.
const ROUNDS: u32 = 50;

/// A cgroup on a machine without attachments, where the test can count all objects and `detach
/// --all` affects no one else.
fn empty_machine(test: &str) -> Option<TestCgroup> {
    let cgroup = TestCgroup::create(test)?;
    if fs::exists("/sys/fs/bpf/sameport").unwrap() {
        harness::skip(test, "something is attached on this machine already");
        return None;
    }
    Some(cgroup)
}

/// Waits until every object that is not in `before` is gone, and checks that no pin is left. Other
/// programs create objects meanwhile, but remove them again.
#[track_caller]
fn assert_nothing_left(before: &Objects, ours: &[u64]) {
    let mut left: Objects = objects(ours).unwrap().difference(before).copied().collect();
    let clean = eventually(|| {
        left = left.intersection(&objects(ours).unwrap()).copied().collect();
        left.is_empty().then_some(())
    });
    assert!(clean.is_some(), "{left:?}");
    assert!(!fs::exists("/sys/fs/bpf/sameport").unwrap(), "files are left");
}

#[test]
fn many_rounds_leave_nothing() {
    let _machine = MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(cgroup) = empty_machine("cgroup-turns") else { return };
    let ours = [cgroup.id()];
    let Some(before) = objects(&ours) else {
        return harness::skip("cgroup-turns", "no bpftool");
    };
    for _ in 0..ROUNDS {
        let exited =
            cgroup.attach(&["--port", "8080", "--map", "80=8080", "--source", "127.0.0.9"]);
        assert_eq!(exited.code, 0, "{exited:?}");
        let exited = cgroup.detach();
        assert_eq!(exited.code, 0, "{exited:?}");
    }
    assert_nothing_left(&before, &ours);
}

#[test]
fn next_start_cleans_up_after_a_kill() {
    let _machine = MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(cgroup) = empty_machine("cgroup-kill") else { return };
    let ours = [cgroup.id()];
    let Some(before) = objects(&ours) else {
        return harness::skip("cgroup-kill", "no bpftool");
    };
    let path = cgroup.path();
    let lines: [&[&str]; 2] = [
        &["attach", "--cgroup", &path, "--map", "80=8080", "--source", "127.0.0.9"],
        &["detach", "--cgroup", &path],
    ];
    // The time of each step here: the minimum of several, because the first is slow and a busy
    // machine delays others.
    let measured = [(); 5].map(|()| {
        lines.map(|words| {
            let since = std::time::Instant::now();
            assert_eq!(start(User::Current, words).wait().code, 0);
            since.elapsed()
        })
    });
    let [attach, detach] = [0, 1].map(|which| measured.map(|times| times[which]).into_iter().min());
    let (attach, detach) = (attach.unwrap(), detach.unwrap());
    let mut interrupted = 0;
    for round in 0..4 * ROUNDS {
        if round >= ROUNDS && interrupted > ROUNDS / 4 {
            break;
        }
        let (words, time) = if round % 2 == 0 { (lines[0], attach) } else { (lines[1], detach) };
        let process = start(User::Current, words);
        let within = f64::from(round * 7 % ROUNDS) / f64::from(ROUNDS);
        std::thread::sleep(time.mul_f64(within));
        process.signal(libc::SIGKILL);
        if process.wait().code == 128 + libc::SIGKILL {
            interrupted += 1;
        }
        // A killed attach leaves a complete attachment or none.
        let list = start(User::Current, &["attach", "--list", "--json"]).wait();
        assert_eq!(list.code, 0, "{list:?}");
    }
    assert!(interrupted > ROUNDS / 4, "only {interrupted} were interrupted");
    // A start cleans up any leftover state.
    let exited = cgroup.attach(&[]);
    assert!(matches!(exited.code, 0 | 1), "{exited:?}");
    assert_eq!(cgroup.detach().code, 0);
    assert_nothing_left(&before, &ours);
}

#[test]
fn removed_cgroup_is_noticed() {
    let _machine = MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(gone) = empty_machine("cgroup-gone") else { return };
    // The inode number of a removed cgroup is gone too.
    let ours = [0];
    let Some(before) = objects(&ours) else {
        return harness::skip("cgroup-gone", "no bpftool");
    };
    let path = gone.path();
    let list = || {
        let exited = start(User::Current, &["attach", "--list"]).wait();
        assert_eq!(exited.code, 0, "{exited:?}");
        exited.stdout
    };
    let gone_text = format!("{path} (gone)");
    // The list shows it; `detach --all`, `detach` and the next attach each remove it.
    for way in ["--all", "--cgroup", "attach"] {
        if !gone.dir().exists() {
            fs::create_dir(gone.dir()).unwrap();
        }
        assert_eq!(gone.attach(&[]).code, 0);
        fs::remove_dir(gone.dir()).unwrap();
        eventually(|| list().contains(&gone_text).then_some(())).expect(way);
        match way {
            "attach" => {
                let other = TestCgroup::create("cgroup-gone").unwrap();
                let exited = other.attach(&[]);
                assert_eq!(exited.code, 0, "{exited:?}");
                let listing = format!("removed the attachment of {path}, which is gone\n");
                assert!(exited.stderr.starts_with(&listing), "{exited:?}");
                assert_eq!(other.detach().code, 0);
            }
            "--all" => {
                let exited = start(User::Current, &["detach", "--all"]).wait();
                assert_eq!((exited.code, exited.stderr.as_str()), (0, "detached from 1 cgroup\n"));
            }
            _ => {
                let exited = gone.detach();
                assert_eq!(exited.code, 0, "{exited:?}");
            }
        }
        assert!(!list().contains(&path), "{way}");
        assert_nothing_left(&before, &ours);
    }
    fs::create_dir(gone.dir()).unwrap();
    assert_eq!(gone.detach().code, 1);
}

#[test]
fn shared_sockets_serve_after_detach() {
    let Some(cgroup) = TestCgroup::new("cgroup-after") else { return };
    let cgroup = cgroup.attached(&[]);
    let port = free_port().to_string();
    let words = ["bind", "tcp", "127.0.0.1", &port, "listen"];
    let copies = [(); 2].map(|()| cgroup.start(crate::fixture::binds_program(), &words));
    copies.iter().for_each(|copy| copy.wait_for_stdout("given"));
    assert_eq!(cgroup.detach().code, 0);
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    for _ in 0..10 {
        assert!(harness::ask(address, b"").is_ok());
        std::thread::sleep(Duration::from_millis(1));
    }
    let refused = cgroup.start(crate::fixture::binds_program(), &words).wait();
    assert_eq!(refused.stdout, format!("refused bind {}\n", libc::EADDRINUSE));
}
