//! What a guard survives, and what it leaves.

use std::fs;
use std::time::Duration;

use crate::room::{FILE, PINS, PORT, RESERVED, Room, ways_program};
use crate::stage::{self, Started, eventually};

fn refused() -> String {
    format!("refused bind {}", libc::EPERM)
}

fn given() -> String {
    format!("given {PORT}")
}

/// The ids of the links that are pinned in a room.
fn links(room: &Room) -> Vec<String> {
    let all = room.shell(&format!(
        "for link in {PINS}/guard/set_*/link_*; do bpftool link show pinned $link; done"
    ));
    all.lines().filter_map(|line| Some(line.split_once(": cgroup")?.0.to_owned())).collect()
}

#[test]
fn off_leaves_nothing_and_what_others_reserved() {
    let Some(room) = Room::new("guard-off") else { return };
    room.nothing_is_left();
    room.shell(&format!("echo 40000-40010,{PORT} > {RESERVED}"));
    room.guarded("40005 --allow uid=1");
    room.guarded(&format!("{PORT}/udp --allow uid=1"));
    room.guarded("50000 --allow uid=1 --report-only");
    assert_eq!(room.shell(&format!("cat {RESERVED}")), format!("40000-40010,{PORT},50000\n"));
    let list = room.list();
    let ports: Vec<_> = list["guards"].as_array().unwrap().iter().collect();
    assert_eq!(ports.len(), 5, "{list}");
    assert_eq!(list["in_force"], true);

    let before = stage::find_program("bpftool").map(|_| links(&room));
    assert!(before.as_ref().is_none_or(|links| links.len() == 4), "{before:?}");
    assert_eq!(room.guarded("40005 --off").stderr.lines().count(), 2);
    let again = room.guard("40005 --off");
    assert_eq!(again.code, 1);
    assert!(again.stderr.starts_with("error: port 40005 is not guarded"), "{again:?}");
    room.guarded(&format!("{PORT} --off"));
    room.guarded("50000 --off");
    assert_eq!(room.shell(&format!("cat {RESERVED}")), format!("40000-40010,{PORT}\n"));
    room.shell(&format!("echo > {RESERVED}"));
    room.nothing_is_left();
    for link in before.into_iter().flatten() {
        let gone = || (room.run("bpftool", &["link", "show", "id", &link]).code != 0).then_some(());
        assert!(eventually(gone).is_some(), "link {link} is left");
    }
    assert_eq!(room.guarded("--off-all").stderr, "0 guards ended\n");
    room.nothing_is_left();
}

/// However many: the kernel takes no more than a page at once, and tells no more than the first read asks.
#[test]
fn all_that_others_reserved_stays() {
    let Some(room) = Room::new("guard-reserved") else { return };
    for last in [10_021, 18_001] {
        let theirs: Vec<_> = (10_001..=last).step_by(2).map(|port| port.to_string()).collect();
        let theirs = theirs.join(",");
        room.shell(&format!(
            "printf {theirs} | dd of={RESERVED} bs=64k iflag=fullblock 2>/dev/null"
        ));
        assert_eq!(room.shell(&format!("cat {RESERVED}")), format!("{theirs}\n"));
        room.guarded(&format!("{PORT} --allow uid=1"));
        assert_eq!(room.shell(&format!("cat {RESERVED}")), format!("{theirs},{PORT}\n"));
        assert_eq!(room.list()["in_force"], true);
        room.guarded(&format!("{PORT} --off"));
        assert_eq!(room.shell(&format!("cat {RESERVED}")), format!("{theirs}\n"));
    }
}

fn storm(room: &Room, cgroup: &str) -> Started {
    let storm = room.start_in(cgroup, ways_program(), &["storm", PORT]);
    storm.wait_for_stdout("ready");
    storm
}

/// How often it was let, how often it was refused, and how often it tried. The port may be in use at
/// times: who reads /proc/PID/fd keeps a socket open for a moment that was just closed.
#[track_caller]
fn over(storm: Started) -> (u64, u64, u64) {
    let ended = storm.terminate();
    let words: Vec<_> = ended.stdout.split_whitespace().collect();
    let [_, _, is_let, _, refused, _, tries] = words[..] else { panic!("{ended:?}") };
    (is_let.parse().unwrap(), refused.parse().unwrap(), tries.parse().unwrap())
}

#[test]
fn there_is_no_moment_without_a_guard() {
    let Some(room) = Room::new("guard-storm") else { return };
    let allow = format!("--allow cgroup={}", room.path("in"));
    room.guarded(&format!("{PORT} {allow}"));
    let (intruder, member) = (storm(&room, "out"), storm(&room, "in"));
    for round in 0..8 {
        room.guarded("--restore");
        room.guarded(&format!("{PORT} {allow} --allow uid={}", 1000 + round));
        room.guarded(&format!("{} --allow uid=1", 41000 + round));
        // Killed at any moment of a change.
        let change = room.start_in("out", stage::sameport(), &["guard", "--restore"]);
        std::thread::sleep(Duration::from_millis(7 * round));
        change.signal(libc::SIGKILL);
        change.ended();
        if round % 2 == 0 {
            room.guarded(&format!("{} --off", 41000 + round));
        }
    }
    let ((taken, refused, tries), (kept, missed, wanted)) = (over(intruder), over(member));
    assert!(tries > 1000 && kept > 1000, "{tries} {kept}");
    assert_eq!((taken, refused), (0, tries));
    assert_eq!(missed, 0, "of {wanted}");
    room.guarded("--restore");
    assert_eq!(room.list()["guards"].as_array().unwrap().len(), 2 + 8);
    room.guarded("--off-all");
    room.nothing_is_left();
}

#[test]
fn what_a_killed_change_leaves_is_told_and_repaired() {
    let Some(room) = Room::new("guard-killed") else { return };
    room.guarded(&format!("{PORT} --allow uid=1"));
    // As after a kill between the new set and the end of the old one.
    room.shell(&format!("mkdir {PINS}/guard/set_1-2-3"));
    let list = room.guard("--list");
    assert_eq!(list.code, 1, "{list:?}");
    assert!(list.stderr.contains("error: a change of guards was interrupted"), "{list:?}");
    assert_eq!(room.guarded("--restore").stderr.lines().count(), 2);
    assert_eq!(room.list()["in_force"], true);
    // As after a kill between the file and the kernel, and as somebody's `rm`.
    room.shell(&format!("rm -r {PINS}/guard/set_*"));
    let list = room.guard("--list --json");
    assert_eq!(list.code, 1, "{list:?}");
    assert!(list.stdout.contains("\"in_force\":false"), "{list:?}");
    assert_eq!(room.way("out", "tcp/0.0.0.0", PORT), given());
    room.guarded("--restore");
    assert_eq!(room.way("out", "tcp/0.0.0.0", PORT), refused());
}

#[test]
fn many_at_once_are_all_set() {
    let Some(room) = Room::new("guard-at-once") else { return };
    let port = |number: i32| (41000 + number).to_string();
    let all: Vec<_> = (0..6)
        .map(|number| {
            let words = ["guard", &port(number), "--allow", "uid=1"];
            room.start_in("out", stage::sameport(), &words)
        })
        .collect();
    for one in all {
        let ended = one.ended();
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    let list = room.list();
    assert_eq!(list["guards"].as_array().unwrap().len(), 12, "{list}");
    assert_eq!(room.shell(&format!("cat {RESERVED}")), "41000-41005\n");
    for number in 0..6 {
        assert_eq!(room.way("out", "tcp/::", &port(number)), refused());
    }
}

#[test]
fn a_cgroup_is_its_path_however_often_it_is_made() {
    let Some(room) = Room::new("guard-unit") else { return };
    let unit = format!("sameport-test-{}.service", std::process::id());
    let folder = room.cgroup(&unit);
    fs::create_dir(&folder).unwrap();
    let process = room.start_in(&unit, "sleep", &["60"]);
    let running = || fs::read_to_string(folder.join("cgroup.procs")).unwrap().trim() != "";
    assert!(eventually(|| running().then_some(())).is_some());
    room.guarded(&format!("{PORT} --allow unit={unit}"));
    assert_eq!(room.list()["guards"][0]["allow"][0]["cgroup"], room.path(&unit));
    for _ in 0..3 {
        assert_eq!(room.way(&unit, "tcp/0.0.0.0", PORT), given());
        assert_eq!(room.way("out", "tcp/0.0.0.0", PORT), refused());
        if running() {
            process.signal(libc::SIGKILL);
        }
        // As systemd does at the end of a unit, and at its next start.
        assert!(eventually(|| fs::remove_dir(&folder).ok()).is_some());
        let list = room.guarded("--list").stdout;
        assert!(list.contains(&format!("unit={unit} (not running)")), "{list}");
        fs::create_dir(&folder).unwrap();
    }
}

#[test]
fn a_unit_is_not_what_a_user_or_a_container_calls_so() {
    let Some(room) = Room::new("guard-unit-inside") else { return };
    let unit = format!("sameport-inside-{}.service", std::process::id());
    let (inside, own) = (format!("user@1000.service/app.slice/{unit}"), format!("out/{unit}"));
    fs::create_dir_all(room.cgroup(&inside)).unwrap();
    fs::create_dir_all(room.cgroup(&own)).unwrap();
    let start = |cgroup: &str| {
        let process = room.start_in(cgroup, "sh", &["-c", "echo here; exec sleep 1000"]);
        process.wait_for_stdout("here");
        process
    };
    let _users = start(&inside);
    let ended = room.guard(&format!("{PORT} --allow unit={unit}"));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("it is inside another unit"), "{ended:?}");
    let _machines = start(&own);
    room.guarded(&format!("{PORT} --allow unit={unit}"));
    assert_eq!(room.list()["guards"][0]["allow"][0]["cgroup"], room.path(&own));
}

#[test]
fn an_executable_is_its_file_not_its_path() {
    let Some(room) = Room::new("guard-executable") else { return };
    let name = stage::in_folder(format!("api-{}", std::process::id()));
    let (api, other) = (name.to_str().unwrap(), ways_program());
    let install = format!("cp {} {api}.new && mv {api}.new {api}", other.display());
    let bind = || room.run(api, &["tcp/0.0.0.0", PORT]).stdout.trim_end().to_owned();
    room.shell(&install);
    room.guarded(&format!("{PORT} --allow exe={api}"));
    assert_eq!(bind(), given());
    assert_eq!(room.way("out", "tcp/0.0.0.0", PORT), refused(), "the same bytes in another file");
    // Another name of the same file; a new file of the same name.
    room.shell(&format!("ln {api} {api}.link"));
    assert_eq!(room.run(&format!("{api}.link"), &["tcp/::1", PORT]).stdout.trim_end(), given());
    room.shell(&format!("rm {api}.link; {install}"));
    assert_eq!(bind(), refused());
    // A change of another guard does not take it for the old one.
    room.guarded("41000 --allow uid=1");
    assert_eq!(bind(), refused());
    let list = room.guarded("--list").stdout;
    assert!(list.contains(&format!("exe={api} (replaced)")), "{list}");
    room.guarded("--restore");
    assert_eq!(bind(), given());
    room.shell(&format!("rm {api}"));
    room.guarded("--restore");
    assert!(room.guarded("--list").stdout.contains(&format!("exe={api} (gone)")));
    assert_eq!(room.way("out", "tcp/0.0.0.0", PORT), refused());
}

#[test]
fn a_user_is_the_number_not_the_name() {
    let Some(room) = Room::new("guard-user") else { return };
    room.guarded(&format!("{PORT} --allow uid=nobody"));
    room.shell("sed -i 's/^nobody:x:[0-9]*/nobody:x:4321/' /etc/passwd");
    let list = room.guarded("--list").stdout;
    assert!(list.contains("uid=nobody (replaced)"), "{list}");
    room.guarded(&format!("{PORT} --allow uid=nobody"));
    assert_eq!(room.list()["guards"][0]["allow"][0]["uid"], 4321);
    assert!(!room.guarded("--list").stdout.contains("replaced"));
}

#[test]
fn an_executable_on_an_overlay_is_its_file_too() {
    let Some(room) = Room::new("guard-overlay") else { return };
    let files = format!(
        "mount -t tmpfs none /mnt; cd /mnt; mkdir lower upper work all; cp {} lower/api",
        ways_program().display()
    );
    room.shell(&files);
    let mount = "mount -t overlay overlay /mnt/all \
                 -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work";
    if room.run("sh", &["-c", mount]).code != 0 {
        return stage::skip("guard-overlay", "this kernel has no overlayfs");
    }
    room.shell("cp /mnt/all/api /mnt/all/new");
    for name in ["api", "new"] {
        let path = format!("/mnt/all/{name}");
        room.guarded(&format!("{PORT} --allow exe={path}"));
        assert_eq!(room.run(&path, &["tcp/::", PORT]).stdout.trim_end(), given(), "{name}");
        let below = room.run("/mnt/lower/api", &["tcp/::", PORT]);
        assert_eq!(below.stdout.trim_end(), refused(), "{name}");
    }
}

#[test]
fn report_only_refuses_nobody_and_tells_of_everybody() {
    let Some(room) = Room::new("guard-report") else { return };
    assert_eq!(room.guarded("--log").stderr, "nobody was refused\n");
    let inside = room.path("in");
    room.guarded(&format!("{PORT}/tcp --report-only --allow cgroup={inside}"));
    assert_eq!(room.way("in", "tcp/127.0.0.1", PORT), given());
    assert_eq!(room.way("out", "tcp/127.0.0.1", PORT), given());
    assert_eq!(room.way("out", "another user", PORT), given());
    let log = room.log();
    assert_eq!(log.len(), 2, "one a bind: {log:?}");
    let [first, second] = &log[..] else { panic!() };
    assert_eq!(first["address"], format!("127.0.0.1:{PORT}"));
    assert_eq!((&first["refused"], &first["uid"]), (&false.into(), &0.into()));
    assert_eq!(first["cgroup"], room.path("out"));
    assert!(first["program"].as_str().unwrap().starts_with("guard_ways"), "{first}");
    assert_eq!(second["uid"], 65533);
    // In earnest: the list goes on, over every change.
    room.guarded(&format!("{PORT}/tcp --allow cgroup={inside}"));
    assert_eq!(room.way("out", "tcp/::1", PORT), refused());
    let log = room.log();
    assert_eq!((log.len(), &log[2]["refused"], &log[2]["number"]), (3, &true.into(), &3.into()));
    assert_eq!(log[2]["address"], format!("[::1]:{PORT}"));
    assert_eq!(room.guarded("--log").stdout.lines().count(), 4);
}

#[test]
fn guards_of_two_networks_do_not_meet() {
    let (Some(one), Some(two)) = (Room::new("guard-two"), Room::new("guard-two")) else { return };
    one.guarded(&format!("{PORT} --allow uid=65533"));
    assert_eq!(two.way("out", "tcp/0.0.0.0", PORT), given());
    two.guarded(&format!("{PORT} --allow uid=0"));
    assert_eq!(one.way("out", "tcp/0.0.0.0", PORT), refused());
    assert_eq!(two.way("out", "tcp/0.0.0.0", PORT), given());
    assert_eq!(two.way("out", "another user", PORT), refused());
    // To each, the other's programs are somebody else's at the same hooks: they stay, and work on.
    two.guarded("--off-all");
    assert_eq!(one.way("out", "tcp/0.0.0.0", PORT), refused());
    assert_eq!(one.list()["in_force"], true);
    two.nothing_is_left();
}

#[test]
fn after_a_start_of_the_machine_restore_brings_them_back() {
    let Some(room) = Room::new("guard-boot") else { return };
    room.guarded(&format!("{PORT} --allow uid=1"));
    let another_boot = format!("sed -i 's/\"boot\": \"[^\"]*\"/\"boot\": \"another\"/' {FILE}");
    let kernel_forgets = format!("rm -r {PINS}; echo > {RESERVED}");
    // The room is not the first process's network: what was set in it is gone with it.
    room.shell(&format!("cp {FILE} /etc/kept; {another_boot}; {kernel_forgets}"));
    assert_eq!(room.guarded("--restore").stderr, "no port is guarded\n");
    room.nothing_is_left();
    // That of the first process is there again, under another number.
    let as_first = format!(
        "mkdir {0}; sed 's/\"first\": false/\"first\": true/; s/\"network\": [0-9]*/\"network\": 99/' \
         /etc/kept > {FILE}; {another_boot}",
        crate::room::FOLDER
    );
    room.shell(&as_first);
    let elsewhere = room.guard("--restore");
    assert_eq!(elsewhere.code, 1, "{elsewhere:?}");
    assert!(elsewhere.stderr.contains("is from before the machine was started"), "{elsewhere:?}");
    let line = format!("{} guard --restore && exit 7", stage::sameport().display());
    let first = room.run("unshare", &["--pid", "--fork", "--mount-proc", "sh", "-c", &line]);
    assert_eq!(first.code, 7, "{first:?}");
    assert_eq!(room.way("out", "tcp/0.0.0.0", PORT), refused());
    assert_eq!(room.shell(&format!("cat {RESERVED}")), format!("{PORT}\n"));
    room.guarded(&format!("{PORT} --off"));
    room.nothing_is_left();
}
