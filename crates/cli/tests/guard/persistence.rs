//! Guards over time: changes, kills, restarts, and their removal.

use std::fs;
use std::time::Duration;

use crate::fixture::{FILE, GuardFixture, PINS, PORT, RESERVED, bind_calls_program};
use crate::harness::{self, Process, eventually};

fn refused_answer() -> String {
    format!("refused bind {}", libc::EPERM)
}

fn bound_answer() -> String {
    format!("given {PORT}")
}

/// The ids of the pinned links.
fn links(fixture: &GuardFixture) -> Vec<String> {
    let all = fixture.shell(&format!(
        "for link in {PINS}/guard/set_*/link_*; do bpftool link show pinned $link; done"
    ));
    all.lines().filter_map(|line| Some(line.split_once(": cgroup")?.0.to_owned())).collect()
}

#[test]
fn off_keeps_only_ports_reserved_by_others() {
    let Some(fixture) = GuardFixture::new("guard-off") else { return };
    fixture.assert_nothing_left();
    fixture.shell(&format!("echo 40000-40010,{PORT} > {RESERVED}"));
    fixture.guard_ok("40005 --allow uid=1");
    fixture.guard_ok(&format!("{PORT}/udp --allow uid=1"));
    fixture.guard_ok("50000 --allow uid=1 --report-only");
    assert_eq!(fixture.shell(&format!("cat {RESERVED}")), format!("40000-40010,{PORT},50000\n"));
    let list = fixture.list();
    let ports: Vec<_> = list["guards"].as_array().unwrap().iter().collect();
    assert_eq!(ports.len(), 5, "{list}");
    assert_eq!(list["in_force"], true);

    let before = harness::find_program("bpftool").map(|_| links(&fixture));
    assert!(before.as_ref().is_none_or(|links| links.len() == 4), "{before:?}");
    assert_eq!(fixture.guard_ok("40005 --off").stderr.lines().count(), 2);
    let again = fixture.guard("40005 --off");
    assert_eq!(again.code, 1);
    assert!(again.stderr.starts_with("error: port 40005 is not guarded"), "{again:?}");
    fixture.guard_ok(&format!("{PORT} --off"));
    fixture.guard_ok("50000 --off");
    assert_eq!(fixture.shell(&format!("cat {RESERVED}")), format!("40000-40010,{PORT}\n"));
    fixture.shell(&format!("echo > {RESERVED}"));
    fixture.assert_nothing_left();
    for link in before.into_iter().flatten() {
        let gone =
            || (fixture.run("bpftool", &["link", "show", "id", &link]).code != 0).then_some(());
        assert!(eventually(gone).is_some(), "link {link} is left");
    }
    assert_eq!(fixture.guard_ok("--off-all").stderr, "0 guards ended\n");
    fixture.assert_nothing_left();
}

/// The number of ports is unlimited: the kernel accepts at most a page a write, and returns the
/// rest in later reads.
#[test]
fn many_ports_reserved_by_others_stay() {
    let Some(fixture) = GuardFixture::new("guard-reserved") else { return };
    for last in [10_021, 18_001] {
        let theirs: Vec<_> = (10_001..=last).step_by(2).map(|port| port.to_string()).collect();
        let theirs = theirs.join(",");
        fixture.shell(&format!(
            "printf {theirs} | dd of={RESERVED} bs=64k iflag=fullblock 2>/dev/null"
        ));
        assert_eq!(fixture.shell(&format!("cat {RESERVED}")), format!("{theirs}\n"));
        fixture.guard_ok(&format!("{PORT} --allow uid=1"));
        assert_eq!(fixture.shell(&format!("cat {RESERVED}")), format!("{theirs},{PORT}\n"));
        assert_eq!(fixture.list()["in_force"], true);
        fixture.guard_ok(&format!("{PORT} --off"));
        assert_eq!(fixture.shell(&format!("cat {RESERVED}")), format!("{theirs}\n"));
    }
}

fn start_bind_loop(fixture: &GuardFixture, cgroup: &str) -> Process {
    let storm = fixture.start_in(cgroup, bind_calls_program(), &["storm", PORT]);
    storm.wait_for_stdout("ready");
    storm
}

/// How often the bind succeeded, was refused, and was tried. EADDRINUSE also occurs: a reader of
/// /proc/PID/fd holds a closed socket open for a moment.
#[track_caller]
fn bind_loop_counts(storm: Process) -> (u64, u64, u64) {
    let exited = storm.terminate();
    let words: Vec<_> = exited.stdout.split_whitespace().collect();
    let [_, _, is_let, _, refused, _, tries] = words[..] else { panic!("{exited:?}") };
    (is_let.parse().unwrap(), refused.parse().unwrap(), tries.parse().unwrap())
}

#[test]
fn changes_leave_no_unguarded_moment() {
    let Some(fixture) = GuardFixture::new("guard-storm") else { return };
    let allow = format!("--allow cgroup={}", fixture.path("in"));
    fixture.guard_ok(&format!("{PORT} {allow}"));
    let (intruder, member) = (start_bind_loop(&fixture, "out"), start_bind_loop(&fixture, "in"));
    for round in 0..8 {
        fixture.guard_ok("--restore");
        fixture.guard_ok(&format!("{PORT} {allow} --allow uid={}", 1000 + round));
        fixture.guard_ok(&format!("{} --allow uid=1", 41000 + round));
        // Kills the command at any moment of a change.
        let change = fixture.start_in("out", harness::sameport(), &["guard", "--restore"]);
        std::thread::sleep(Duration::from_millis(7 * round));
        change.signal(libc::SIGKILL);
        change.wait();
        if round % 2 == 0 {
            fixture.guard_ok(&format!("{} --off", 41000 + round));
        }
    }
    let ((taken, refused, tries), (kept, missed, wanted)) =
        (bind_loop_counts(intruder), bind_loop_counts(member));
    assert!(tries > 1000 && kept > 1000, "{tries} {kept}");
    assert_eq!((taken, refused), (0, tries));
    assert_eq!(missed, 0, "of {wanted}");
    fixture.guard_ok("--restore");
    assert_eq!(fixture.list()["guards"].as_array().unwrap().len(), 2 + 8);
    fixture.guard_ok("--off-all");
    fixture.assert_nothing_left();
}

#[test]
fn killed_change_is_reported_and_repaired() {
    let Some(fixture) = GuardFixture::new("guard-killed") else { return };
    fixture.guard_ok(&format!("{PORT} --allow uid=1"));
    // The state after a kill between the new set of programs and the removal of the old one.
    fixture.shell(&format!("mkdir {PINS}/guard/set_1-2-3"));
    let list = fixture.guard("--list");
    assert_eq!(list.code, 1, "{list:?}");
    assert!(list.stderr.contains("error: a change of guards was interrupted"), "{list:?}");
    assert_eq!(fixture.guard_ok("--restore").stderr.lines().count(), 2);
    assert_eq!(fixture.list()["in_force"], true);
    // The state after a kill between the file and the kernel, or after `rm` of the pins.
    fixture.shell(&format!("rm -r {PINS}/guard/set_*"));
    let list = fixture.guard("--list --json");
    assert_eq!(list.code, 1, "{list:?}");
    assert!(list.stdout.contains("\"in_force\":false"), "{list:?}");
    assert_eq!(fixture.bind_call("out", "tcp/0.0.0.0", PORT), bound_answer());
    fixture.guard_ok("--restore");
    assert_eq!(fixture.bind_call("out", "tcp/0.0.0.0", PORT), refused_answer());
}

#[test]
fn parallel_changes_all_apply() {
    let Some(fixture) = GuardFixture::new("guard-at-once") else { return };
    let port = |number: i32| (41000 + number).to_string();
    let all: Vec<_> = (0..6)
        .map(|number| {
            let words = ["guard", &port(number), "--allow", "uid=1"];
            fixture.start_in("out", harness::sameport(), &words)
        })
        .collect();
    for one in all {
        let exited = one.wait();
        assert_eq!(exited.code, 0, "{exited:?}");
    }
    let list = fixture.list();
    assert_eq!(list["guards"].as_array().unwrap().len(), 12, "{list}");
    assert_eq!(fixture.shell(&format!("cat {RESERVED}")), "41000-41005\n");
    for number in 0..6 {
        assert_eq!(fixture.bind_call("out", "tcp/::", &port(number)), refused_answer());
    }
}

#[test]
fn cgroup_rule_follows_the_path() {
    let Some(fixture) = GuardFixture::new("guard-unit") else { return };
    let unit = format!("sameport-test-{}.service", std::process::id());
    let dir = fixture.cgroup(&unit);
    fs::create_dir(&dir).unwrap();
    let process = fixture.start_in(&unit, "sleep", &["60"]);
    let running = || fs::read_to_string(dir.join("cgroup.procs")).unwrap().trim() != "";
    assert!(eventually(|| running().then_some(())).is_some());
    fixture.guard_ok(&format!("{PORT} --allow unit={unit}"));
    assert_eq!(fixture.list()["guards"][0]["allow"][0]["cgroup"], fixture.path(&unit));
    for _ in 0..3 {
        assert_eq!(fixture.bind_call(&unit, "tcp/0.0.0.0", PORT), bound_answer());
        assert_eq!(fixture.bind_call("out", "tcp/0.0.0.0", PORT), refused_answer());
        if running() {
            process.signal(libc::SIGKILL);
        }
        // systemd removes the cgroup at the end of a unit, and creates it at the next start.
        assert!(eventually(|| fs::remove_dir(&dir).ok()).is_some());
        let list = fixture.guard_ok("--list").stdout;
        assert!(list.contains(&format!("unit={unit} (not running)")), "{list}");
        fs::create_dir(&dir).unwrap();
    }
}

#[test]
fn unit_rule_ignores_user_and_container_units() {
    let Some(fixture) = GuardFixture::new("guard-unit-inside") else { return };
    let unit = format!("sameport-inside-{}.service", std::process::id());
    let (inside, own) = (format!("user@1000.service/app.slice/{unit}"), format!("out/{unit}"));
    fs::create_dir_all(fixture.cgroup(&inside)).unwrap();
    fs::create_dir_all(fixture.cgroup(&own)).unwrap();
    let start = |cgroup: &str| {
        let process = fixture.start_in(cgroup, "sh", &["-c", "echo here; exec sleep 1000"]);
        process.wait_for_stdout("here");
        process
    };
    let _users = start(&inside);
    let exited = fixture.guard(&format!("{PORT} --allow unit={unit}"));
    assert_eq!(exited.code, 1, "{exited:?}");
    assert!(exited.stderr.contains("it is inside another unit"), "{exited:?}");
    let _machines = start(&own);
    fixture.guard_ok(&format!("{PORT} --allow unit={unit}"));
    assert_eq!(fixture.list()["guards"][0]["allow"][0]["cgroup"], fixture.path(&own));
}

#[test]
fn executable_rule_follows_the_file() {
    let Some(fixture) = GuardFixture::new("guard-executable") else { return };
    let name = harness::in_test_dir(format!("api-{}", std::process::id()));
    let (api, other) = (name.to_str().unwrap(), bind_calls_program());
    let install = format!("cp {} {api}.new && mv {api}.new {api}", other.display());
    let bind = || fixture.run(api, &["tcp/0.0.0.0", PORT]).stdout.trim_end().to_owned();
    fixture.shell(&install);
    fixture.guard_ok(&format!("{PORT} --allow exe={api}"));
    assert_eq!(bind(), bound_answer());
    assert_eq!(
        fixture.bind_call("out", "tcp/0.0.0.0", PORT),
        refused_answer(),
        "the same bytes in another file"
    );
    // The file by another name, and another file with the same name.
    fixture.shell(&format!("ln {api} {api}.link"));
    assert_eq!(
        fixture.run(&format!("{api}.link"), &["tcp/::1", PORT]).stdout.trim_end(),
        bound_answer()
    );
    fixture.shell(&format!("rm {api}.link; {install}"));
    assert_eq!(bind(), refused_answer());
    // A change of another guard keeps the file of this one.
    fixture.guard_ok("41000 --allow uid=1");
    assert_eq!(bind(), refused_answer());
    let list = fixture.guard_ok("--list").stdout;
    assert!(list.contains(&format!("exe={api} (replaced)")), "{list}");
    fixture.guard_ok("--restore");
    assert_eq!(bind(), bound_answer());
    fixture.shell(&format!("rm {api}"));
    fixture.guard_ok("--restore");
    assert!(fixture.guard_ok("--list").stdout.contains(&format!("exe={api} (gone)")));
    assert_eq!(fixture.bind_call("out", "tcp/0.0.0.0", PORT), refused_answer());
}

#[test]
fn user_rule_follows_the_uid() {
    let Some(fixture) = GuardFixture::new("guard-user") else { return };
    fixture.guard_ok(&format!("{PORT} --allow uid=nobody"));
    fixture.shell("sed -i 's/^nobody:x:[0-9]*/nobody:x:4321/' /etc/passwd");
    let list = fixture.guard_ok("--list").stdout;
    assert!(list.contains("uid=nobody (replaced)"), "{list}");
    fixture.guard_ok(&format!("{PORT} --allow uid=nobody"));
    assert_eq!(fixture.list()["guards"][0]["allow"][0]["uid"], 4321);
    assert!(!fixture.guard_ok("--list").stdout.contains("replaced"));
}

#[test]
fn executable_rule_works_on_overlayfs() {
    let Some(fixture) = GuardFixture::new("guard-overlay") else { return };
    let files = format!(
        "mount -t tmpfs none /mnt; cd /mnt; mkdir lower upper work all; cp {} lower/api",
        bind_calls_program().display()
    );
    fixture.shell(&files);
    let mount = "mount -t overlay overlay /mnt/all \
                 -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work";
    if fixture.run("sh", &["-c", mount]).code != 0 {
        return harness::skip("guard-overlay", "this kernel has no overlayfs");
    }
    fixture.shell("cp /mnt/all/api /mnt/all/new");
    for name in ["api", "new"] {
        let path = format!("/mnt/all/{name}");
        fixture.guard_ok(&format!("{PORT} --allow exe={path}"));
        assert_eq!(
            fixture.run(&path, &["tcp/::", PORT]).stdout.trim_end(),
            bound_answer(),
            "{name}"
        );
        let below = fixture.run("/mnt/lower/api", &["tcp/::", PORT]);
        assert_eq!(below.stdout.trim_end(), refused_answer(), "{name}");
    }
}

#[test]
fn report_only_allows_and_reports_all() {
    let Some(fixture) = GuardFixture::new("guard-report") else { return };
    assert_eq!(fixture.guard_ok("--log").stderr, "no bind was refused\n");
    let inside = fixture.path("in");
    fixture.guard_ok(&format!("{PORT}/tcp --report-only --allow cgroup={inside}"));
    assert_eq!(fixture.bind_call("in", "tcp/127.0.0.1", PORT), bound_answer());
    assert_eq!(fixture.bind_call("out", "tcp/127.0.0.1", PORT), bound_answer());
    assert_eq!(fixture.bind_call("out", "another user", PORT), bound_answer());
    let log = fixture.log();
    assert_eq!(log.len(), 2, "one a bind: {log:?}");
    let [first, second] = &log[..] else { panic!() };
    assert_eq!(first["address"], format!("127.0.0.1:{PORT}"));
    assert_eq!((&first["refused"], &first["uid"]), (&false.into(), &0.into()));
    assert_eq!(first["cgroup"], fixture.path("out"));
    assert!(first["program"].as_str().unwrap().starts_with("guard_binds"), "{first}");
    assert_eq!(second["uid"], 65533);
    // Enforcing: the list continues over every change.
    fixture.guard_ok(&format!("{PORT}/tcp --allow cgroup={inside}"));
    assert_eq!(fixture.bind_call("out", "tcp/::1", PORT), refused_answer());
    let log = fixture.log();
    assert_eq!((log.len(), &log[2]["refused"], &log[2]["number"]), (3, &true.into(), &3.into()));
    assert_eq!(log[2]["address"], format!("[::1]:{PORT}"));
    assert_eq!(fixture.guard_ok("--log").stdout.lines().count(), 4);
}

#[test]
fn guards_of_two_network_namespaces_are_separate() {
    let (Some(one), Some(two)) = (GuardFixture::new("guard-two"), GuardFixture::new("guard-two"))
    else {
        return;
    };
    one.guard_ok(&format!("{PORT} --allow uid=65533"));
    assert_eq!(two.bind_call("out", "tcp/0.0.0.0", PORT), bound_answer());
    two.guard_ok(&format!("{PORT} --allow uid=0"));
    assert_eq!(one.bind_call("out", "tcp/0.0.0.0", PORT), refused_answer());
    assert_eq!(two.bind_call("out", "tcp/0.0.0.0", PORT), bound_answer());
    assert_eq!(two.bind_call("out", "another user", PORT), refused_answer());
    // Each namespace sees the other's programs as foreign programs at the same hooks, which stay
    // and work.
    two.guard_ok("--off-all");
    assert_eq!(one.bind_call("out", "tcp/0.0.0.0", PORT), refused_answer());
    assert_eq!(one.list()["in_force"], true);
    two.assert_nothing_left();
}

#[test]
fn restore_after_a_reboot() {
    let Some(fixture) = GuardFixture::new("guard-boot") else { return };
    fixture.guard_ok(&format!("{PORT} --allow uid=1"));
    let another_boot = format!("sed -i 's/\"boot\": \"[^\"]*\"/\"boot\": \"another\"/' {FILE}");
    let kernel_forgets = format!("rm -r {PINS}; echo > {RESERVED}");
    // The fixture is not in the network namespace of process 1: its settings vanish with it.
    fixture.shell(&format!("cp {FILE} /etc/kept; {another_boot}; {kernel_forgets}"));
    assert_eq!(fixture.guard_ok("--restore").stderr, "no port is guarded\n");
    fixture.assert_nothing_left();
    // The network namespace of process 1 exists again, with another inode number.
    let as_first = format!(
        "mkdir {0}; sed 's/\"first\": false/\"first\": true/; s/\"network\": [0-9]*/\"network\": 99/' \
         /etc/kept > {FILE}; {another_boot}",
        crate::fixture::CONFIG_DIR
    );
    fixture.shell(&as_first);
    let elsewhere = fixture.guard("--restore");
    assert_eq!(elsewhere.code, 1, "{elsewhere:?}");
    assert!(elsewhere.stderr.contains("is from before the machine was started"), "{elsewhere:?}");
    let line = format!("{} guard --restore && exit 7", harness::sameport().display());
    let first = fixture.run("unshare", &["--pid", "--fork", "--mount-proc", "sh", "-c", &line]);
    assert_eq!(first.code, 7, "{first:?}");
    assert_eq!(fixture.bind_call("out", "tcp/0.0.0.0", PORT), refused_answer());
    assert_eq!(fixture.shell(&format!("cat {RESERVED}")), format!("{PORT}\n"));
    fixture.guard_ok(&format!("{PORT} --off"));
    fixture.assert_nothing_left();
}
