//! What cannot be done is said, and changes nothing.

use std::fs;

use crate::room::{FILE, FOLDER, PINS, PORT, RESERVED, Room};
use crate::stage::{self, User, start};

#[test]
fn a_wrong_line_is_refused_in_an_instant() {
    for (line, said) in [
        ("guard", "required arguments were not provided"),
        ("guard 0 --allow uid=0", "a guard is for one port"),
        ("guard all --allow uid=0", "a guard is for one port"),
        ("guard 70000 --allow uid=0", "70000"),
        ("guard 80/sctp --allow uid=0", "/tcp, /udp or nothing for both"),
        ("guard 127.0.0.1:80 --allow uid=0", "127.0.0.1:80"),
        ("guard 80 --allow www", "unit=NAME, uid=USER, exe=/PATH or cgroup=/PATH"),
        ("guard 80 --allow exe=api", "begins with /"),
        ("guard 80 --allow cgroup=/", "every process is in the first cgroup"),
        ("guard 80 --allow cgroup=/a/../b", "no . and no .."),
        ("guard 80 --off --allow uid=0", "cannot be used with"),
        ("guard 80 --list", "cannot be used with"),
        ("guard --list --log", "cannot be used with"),
        ("guard --off", "required arguments were not provided"),
        ("guard --off-all --force", "cannot be used with"),
        ("guard 80 --json", "cannot be used with"),
    ] {
        let ended = start(User::Ourselves, &line.split(' ').collect::<Vec<_>>()).ended();
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{line}: {ended:?}");
        assert!(ended.stderr.contains(said), "{line}: {ended:?}");
    }
}

#[test]
fn without_root_it_is_said_what_is_missing() {
    let user = if stage::is_root() { User::Another } else { User::Ourselves };
    for line in [
        "guard 8443 --allow uid=0",
        "guard --list",
        "guard --log",
        "guard --restore",
        "guard --off-all",
        "guard 8443 --off",
    ] {
        let ended = start(user, &line.split(' ').collect::<Vec<_>>()).ended();
        assert_eq!((ended.code, ended.stdout.as_str()), (3, ""), "{line}: {ended:?}");
        assert!(ended.stderr.starts_with("error: `guard` needs root"), "{line}: {ended:?}");
    }
}

#[test]
fn root_without_the_rights_is_told_which() {
    let Some(room) = Room::new("guard-rights") else { return };
    for missing in ["-bpf,-sys_admin", "-perfmon,-sys_admin"] {
        let sameport = stage::sameport().to_str().unwrap();
        let line = ["--bounding-set", missing, sameport, "guard", PORT, "--allow", "uid=0"];
        let ended = room.run("setpriv", &line);
        assert_eq!(ended.code, 3, "{missing}: {ended:?}");
        room.nothing_is_left();
    }
}

#[test]
fn whom_nobody_knows_is_no_guard() {
    let Some(room) = Room::new("guard-unknown") else { return };
    room.shell("printf '#!/bin/sh\n' > /etc/script; chmod +x /etc/script");
    for (allow, said) in [
        ("uid=no-such-user", "there is no such user"),
        ("uid=4294967295", "there is no such user"),
        ("unit=no-such-unit-of-sameport", "is not running"),
        ("unit=a/b", "is not the name of a unit"),
        ("exe=/no/such/file", "No such file"),
        ("exe=/etc/passwd", "it cannot be executed"),
        ("exe=/etc", "it cannot be executed"),
        ("exe=/etc/script", "it is a script"),
    ] {
        let ended = room.guard(&format!("{PORT} --allow uid=0 --allow {allow}"));
        assert_eq!(ended.code, 1, "{allow}: {ended:?}");
        assert!(ended.stderr.contains(said), "{allow}: {ended:?}");
        room.nothing_is_left();
    }
    // A cgroup that is not there yet may come.
    let ended = room.guarded(&format!("{PORT} --allow cgroup=/no/such"));
    assert!(ended.stderr.contains("there is no cgroup /no/such now"), "{ended:?}");
    let ended = room.guarded(&format!("{PORT} --allow exe=/bin/sh"));
    assert!(ended.stderr.contains("/bin/sh runs whatever it is given to read"), "{ended:?}");
}

#[test]
fn a_file_that_is_damaged_changes_nothing() {
    let Some(room) = Room::new("guard-damaged") else { return };
    let refused = format!("refused bind {}", libc::EPERM);
    room.guarded(&format!("{PORT} --allow uid=65533"));
    for damage in [
        "printf '{' > FILE",
        "sed -i s/version/varsion/ FILE",
        "head -c 100 /etc/good > FILE",
        "head -c 100000 /dev/urandom > FILE",
        "rm FILE; mkdir FILE",
    ] {
        room.shell(&format!("cp {FILE} /etc/good; {}", damage.replace("FILE", FILE)));
        for line in ["41000 --allow uid=0", "--restore", "--list", &format!("{PORT} --off")] {
            let ended = room.guard(line);
            assert_eq!(ended.code, 1, "{damage}: {line}: {ended:?}");
            assert!(ended.stderr.contains(FILE), "{damage}: {line}: {ended:?}");
        }
        assert_eq!(room.way("out", "tcp/0.0.0.0", PORT), refused, "{damage}");
        room.shell(&format!("rm -r {FILE}; cp /etc/good {FILE}"));
    }
    room.shell(&format!("printf '{{' > {FILE}"));
    let ended = room.guarded("--off-all");
    assert!(ended.stderr.contains("could not be understood"), "{ended:?}");
    room.shell(&format!("echo > {RESERVED}"));
    room.nothing_is_left();
}

#[test]
fn a_full_disk_changes_nothing() {
    let Some(room) = Room::new("guard-full") else { return };
    room.shell(&format!("mkdir {FOLDER}; mount -t tmpfs -o size=16k none {FOLDER}"));
    room.guarded(&format!("{PORT} --allow uid=65533"));
    let before = room.shell(&format!("cat {FILE}"));
    room.shell(&format!("cat /dev/zero > {FOLDER}/full 2>/dev/null || true"));
    let ended = room.guard("41000 --allow uid=0");
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("No space left"), "{ended:?}");
    assert_eq!(
        room.shell(&format!("cat {FILE}; cat {RESERVED}; ls {FOLDER}")),
        format!("{before}{PORT}\nfull\nguards.json\n")
    );
    assert_eq!(room.list()["in_force"], true);
    assert_eq!(room.way("out", "tcp/0.0.0.0", "41000"), "given 41000");
}

#[test]
fn pins_that_cannot_be_made_change_nothing() {
    let Some(room) = Room::new("guard-read-only") else { return };
    room.shell("mount -o remount,ro /sys/fs/bpf");
    let ended = room.guard(&format!("{PORT} --allow uid=65533"));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains(PINS) && ended.stderr.contains("Read-only"), "{ended:?}");
    room.nothing_is_left();
    // The same with a guard that is there.
    room.shell("mount -o remount,rw /sys/fs/bpf");
    room.guarded(&format!("{PORT} --allow uid=65533"));
    room.shell("mount -o remount,ro /sys/fs/bpf");
    assert_eq!(room.guard("41000 --allow uid=65533").code, 1);
    room.shell("mount -o remount,rw /sys/fs/bpf");
    assert_eq!(room.list()["guards"].as_array().unwrap().len(), 2);
    assert_eq!(room.shell(&format!("cat {RESERVED}")), format!("{PORT}\n"));
    assert_eq!(room.way("out", "tcp/0.0.0.0", PORT), format!("refused bind {}", libc::EPERM));
}

#[test]
fn pins_of_another_user_are_not_touched() {
    let Some(room) = Room::new("guard-foreign-pins") else { return };
    // By itself the kernel mounts it for everybody to write to.
    let links = [("guard/set_1-2-3", "user 65534 has made it"), ("", "it is no folder")];
    for (link, said) in links {
        let setup = format!(
            "chmod 1777 /sys/fs/bpf; rm -rf {PINS}; mkdir -p /etc/kept; touch /etc/kept/file; \
             setpriv --reuid 65534 --regid 65534 --clear-groups sh -ec \
             'path={PINS}/{link}; path=${{path%/}}; mkdir -p ${{path%/*}}; ln -s /etc/kept $path'"
        );
        room.shell(&setup);
        for line in [&format!("{PORT} --allow uid=1"), "--list", "--log", "--restore", "--off-all"]
        {
            let ended = room.guard(line);
            assert_eq!(ended.code, 1, "{link}: {line}: {ended:?}");
            assert!(ended.stderr.contains(said), "{link}: {line}: {ended:?}");
        }
        room.shell("ls /etc/kept/file");
    }
    room.shell(&format!("rm {PINS}"));
    room.nothing_is_left();
}

#[test]
fn a_bpf_file_system_is_mounted_where_there_is_none() {
    let Some(room) = Room::new("guard-mounts") else { return };
    room.shell("umount /sys/fs/bpf");
    let ended = room.guarded(&format!("{PORT} --allow uid=65533"));
    assert!(ended.stderr.starts_with("mounted the BPF file system on /sys/fs/bpf\n"), "{ended:?}");
    assert_eq!(room.list()["in_force"], true);
}

#[test]
fn a_part_of_the_cgroups_is_not_enough() {
    let Some(room) = Room::new("guard-part") else { return };
    let top = crate::room::top().unwrap();
    let line = format!(
        "umount {0} && mount -t cgroup2 none {0} && {1} guard {PORT} --allow uid=0",
        top.display(),
        stage::sameport().display()
    );
    let ended = room.run("unshare", &["--cgroup", "--mount", "sh", "-c", &line]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("is not the first cgroup of this machine"), "{ended:?}");
    room.nothing_is_left();
}

#[test]
fn the_service_restores_what_the_file_says() {
    let unit =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/systemd/sameport-guard.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/sameport guard --restore\n"), "{unit}");
    assert!(unit.contains(&format!("\nConditionPathExists={FILE}\n")), "{unit}");
}
