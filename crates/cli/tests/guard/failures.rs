//! Failures are reported and change nothing.

use std::fs;

use crate::fixture::{CONFIG_DIR, FILE, GuardFixture, PINS, PORT, RESERVED};
use crate::harness::{self, User, start};

#[test]
fn wrong_command_line_fails_fast() {
    for (line, result) in [
        ("guard", "required arguments were not provided"),
        ("guard 0 --allow uid=0", "a guard is for one port"),
        ("guard all --allow uid=0", "a guard is for one port"),
        ("guard 70000 --allow uid=0", "70000"),
        ("guard 80/sctp --allow uid=0", "ends with neither /tcp nor /udp"),
        ("guard 80 --allow www", "unit=NAME, uid=USER, exe=/PATH or cgroup=/PATH"),
        ("guard 80 --allow exe=api", "begins with /"),
        ("guard 80 --allow cgroup=/", "every process is in the root cgroup"),
        ("guard 80 --allow cgroup=/a/../b", "no . and no .."),
        ("guard 80 --off --allow uid=0", "cannot be used with"),
        ("guard 80 --list", "cannot be used with"),
        ("guard --list --log", "cannot be used with"),
        ("guard --off", "required arguments were not provided"),
        ("guard --off-all --force", "cannot be used with"),
        ("guard 80 --json", "cannot be used with"),
    ] {
        let exited = start(User::Current, &line.split(' ').collect::<Vec<_>>()).wait();
        assert_eq!((exited.code, exited.stdout.as_str()), (2, ""), "{line}: {exited:?}");
        assert!(exited.stderr.contains(result), "{line}: {exited:?}");
    }
}

#[test]
fn without_root_the_refusal_names_the_rights() {
    let user = if harness::is_root() { User::Nobody } else { User::Current };
    for line in [
        "guard 8443 --allow uid=0",
        "guard --list",
        "guard --log",
        "guard --restore",
        "guard --off-all",
        "guard 8443 --off",
    ] {
        let exited = start(user, &line.split(' ').collect::<Vec<_>>()).wait();
        assert_eq!((exited.code, exited.stdout.as_str()), (3, ""), "{line}: {exited:?}");
        assert!(exited.stderr.starts_with("error: `guard` needs root"), "{line}: {exited:?}");
    }
}

#[test]
fn root_without_capabilities_learns_which() {
    let Some(fixture) = GuardFixture::new("guard-rights") else { return };
    for missing in ["-bpf,-sys_admin", "-perfmon,-sys_admin"] {
        let sameport = harness::sameport().to_str().unwrap();
        let line = ["--bounding-set", missing, sameport, "guard", PORT, "--allow", "uid=0"];
        let exited = fixture.run("setpriv", &line);
        assert_eq!(exited.code, 3, "{missing}: {exited:?}");
        fixture.assert_nothing_left();
    }
}

#[test]
fn unknown_subjects_are_refused() {
    let Some(fixture) = GuardFixture::new("guard-unknown") else { return };
    fixture.shell("printf '#!/bin/sh\n' > /etc/script; chmod +x /etc/script");
    for (allow, result) in [
        ("uid=no-such-user", "there is no such user"),
        ("uid=4294967295", "there is no such user"),
        ("unit=no-such-unit-of-sameport", "is not running"),
        ("unit=a/b", "is not the name of a unit"),
        ("exe=/no/such/file", "No such file"),
        ("exe=/etc/passwd", "not executable"),
        ("exe=/etc", "not executable"),
        ("exe=/etc/script", "a script, which its interpreter"),
    ] {
        let exited = fixture.guard(&format!("{PORT} --allow uid=0 --allow {allow}"));
        assert_eq!(exited.code, 1, "{allow}: {exited:?}");
        assert!(exited.stderr.contains(result), "{allow}: {exited:?}");
        fixture.assert_nothing_left();
    }
    // A missing cgroup can be created later.
    let exited = fixture.guard_ok(&format!("{PORT} --allow cgroup=/no/such"));
    assert!(exited.stderr.contains("there is no cgroup /no/such now"), "{exited:?}");
    let exited = fixture.guard_ok(&format!("{PORT} --allow exe=/bin/sh"));
    assert!(exited.stderr.contains("/bin/sh executes scripts"), "{exited:?}");
}

#[test]
fn damaged_file_changes_nothing() {
    let Some(fixture) = GuardFixture::new("guard-damaged") else { return };
    let refused = format!("refused bind {}", libc::EPERM);
    fixture.guard_ok(&format!("{PORT} --allow uid=65533"));
    for damage in [
        "printf '{' > FILE",
        "sed -i s/version/varsion/ FILE",
        "head -c 100 /etc/good > FILE",
        "head -c 100000 /dev/urandom > FILE",
        "rm FILE; mkdir FILE",
    ] {
        fixture.shell(&format!("cp {FILE} /etc/good; {}", damage.replace("FILE", FILE)));
        for line in ["41000 --allow uid=0", "--restore", "--list", &format!("{PORT} --off")] {
            let exited = fixture.guard(line);
            assert_eq!(exited.code, 1, "{damage}: {line}: {exited:?}");
            assert!(exited.stderr.contains(FILE), "{damage}: {line}: {exited:?}");
        }
        assert_eq!(fixture.bind_call("out", "tcp/0.0.0.0", PORT), refused, "{damage}");
        fixture.shell(&format!("rm -r {FILE}; cp /etc/good {FILE}"));
    }
    fixture.shell(&format!("printf '{{' > {FILE}"));
    let exited = fixture.guard_ok("--off-all");
    assert!(exited.stderr.contains("is not valid"), "{exited:?}");
    fixture.shell(&format!("echo > {RESERVED}"));
    fixture.assert_nothing_left();
}

#[test]
fn full_disk_changes_nothing() {
    let Some(fixture) = GuardFixture::new("guard-full") else { return };
    fixture.shell(&format!("mkdir {CONFIG_DIR}; mount -t tmpfs -o size=16k none {CONFIG_DIR}"));
    fixture.guard_ok(&format!("{PORT} --allow uid=65533"));
    let before = fixture.shell(&format!("cat {FILE}"));
    fixture.shell(&format!("cat /dev/zero > {CONFIG_DIR}/full 2>/dev/null || true"));
    let exited = fixture.guard("41000 --allow uid=0");
    assert_eq!(exited.code, 1, "{exited:?}");
    assert!(exited.stderr.contains("No space left"), "{exited:?}");
    assert_eq!(
        fixture.shell(&format!("cat {FILE}; cat {RESERVED}; ls {CONFIG_DIR}")),
        format!("{before}{PORT}\nfull\nguards.json\n")
    );
    assert_eq!(fixture.list()["in_force"], true);
    assert_eq!(fixture.bind_call("out", "tcp/0.0.0.0", "41000"), "given 41000");
}

#[test]
fn failed_pins_change_nothing() {
    let Some(fixture) = GuardFixture::new("guard-read-only") else { return };
    fixture.shell("mount -o remount,ro /sys/fs/bpf");
    let exited = fixture.guard(&format!("{PORT} --allow uid=65533"));
    assert_eq!(exited.code, 1, "{exited:?}");
    assert!(exited.stderr.contains(PINS) && exited.stderr.contains("Read-only"), "{exited:?}");
    fixture.assert_nothing_left();
    // The same with an existing guard.
    fixture.shell("mount -o remount,rw /sys/fs/bpf");
    fixture.guard_ok(&format!("{PORT} --allow uid=65533"));
    fixture.shell("mount -o remount,ro /sys/fs/bpf");
    assert_eq!(fixture.guard("41000 --allow uid=65533").code, 1);
    fixture.shell("mount -o remount,rw /sys/fs/bpf");
    assert_eq!(fixture.list()["guards"].as_array().unwrap().len(), 2);
    assert_eq!(fixture.shell(&format!("cat {RESERVED}")), format!("{PORT}\n"));
    assert_eq!(
        fixture.bind_call("out", "tcp/0.0.0.0", PORT),
        format!("refused bind {}", libc::EPERM)
    );
}

#[test]
fn pins_of_another_user_are_kept() {
    let Some(fixture) = GuardFixture::new("guard-foreign-pins") else { return };
    // A default mount is writable for every user.
    let links = [("guard/set_1-2-3", "owned by uid 65534, not by root"), ("", "not a directory")];
    for (link, result) in links {
        let setup = format!(
            "chmod 1777 /sys/fs/bpf; rm -rf {PINS}; mkdir -p /etc/kept; touch /etc/kept/file; \
             setpriv --reuid 65534 --regid 65534 --clear-groups sh -ec \
             'path={PINS}/{link}; path=${{path%/}}; mkdir -p ${{path%/*}}; ln -s /etc/kept $path'"
        );
        fixture.shell(&setup);
        for line in [&format!("{PORT} --allow uid=1"), "--list", "--log", "--restore", "--off-all"]
        {
            let exited = fixture.guard(line);
            assert_eq!(exited.code, 1, "{link}: {line}: {exited:?}");
            assert!(exited.stderr.contains(result), "{link}: {line}: {exited:?}");
        }
        fixture.shell("ls /etc/kept/file");
    }
    fixture.shell(&format!("rm {PINS}"));
    fixture.assert_nothing_left();
}

#[test]
fn bpf_file_system_is_mounted_if_missing() {
    let Some(fixture) = GuardFixture::new("guard-mounts") else { return };
    fixture.shell("umount /sys/fs/bpf");
    let exited = fixture.guard_ok(&format!("{PORT} --allow uid=65533"));
    assert!(
        exited.stderr.starts_with("mounted the BPF file system on /sys/fs/bpf\n"),
        "{exited:?}"
    );
    assert_eq!(fixture.list()["in_force"], true);
}

#[test]
fn partial_cgroup_view_is_refused() {
    let Some(fixture) = GuardFixture::new("guard-part") else { return };
    let root = crate::harness::cgroup2_mount().unwrap();
    let line = format!(
        "umount {0} && mount -t cgroup2 none {0} && {1} guard {PORT} --allow uid=0",
        root.display(),
        harness::sameport().display()
    );
    let exited = fixture.run("unshare", &["--cgroup", "--mount", "sh", "-c", &line]);
    assert_eq!(exited.code, 3, "{exited:?}");
    assert!(exited.stderr.contains("is not the root cgroup of this machine"), "{exited:?}");
    fixture.assert_nothing_left();
}

#[test]
fn service_restores_guards_of_the_file() {
    let unit =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/systemd/sameport-guard.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/sameport guard --restore\n"), "{unit}");
    assert!(unit.contains(&format!("\nConditionPathExists={FILE}\n")), "{unit}");
}
