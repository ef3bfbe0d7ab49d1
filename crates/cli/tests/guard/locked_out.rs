//! Nobody who has the port loses it unseen.

use crate::room::{FILE, FOLDER, LOCK, PORT, Room, ways_program};
use crate::stage::{self, eventually, find_program, skip};

#[test]
fn who_has_the_port_is_shown_and_kept() {
    let Some(room) = Room::new("guard-holders") else { return };
    let holder = room.start_in("out", ways_program(), &["before", PORT]);
    holder.wait_for_stdout("ready");
    let refused = room.guard(&format!("{PORT} --allow cgroup={}", room.path("in")));
    assert_eq!(refused.code, 1, "{refused:?}");
    let told = refused.stderr.lines().next().unwrap();
    assert!(told.starts_with("error: this would lock out pid "), "{refused:?}");
    assert!(
        told.contains("(guard_ways") && told.contains(&format!("127.0.0.1:{PORT}/tcp")),
        "{told}"
    );
    room.nothing_is_changed();
    // UDP is another port.
    room.guarded(&format!("{PORT}/udp --allow cgroup={}", room.path("in")));
    room.guarded(&format!("{PORT} --off"));
    // Who only looks on locks nobody out.
    let noted = room.guarded(&format!("{PORT} --report-only --allow uid=1"));
    assert!(noted.stderr.contains("would not be allowed to bind it again"), "{noted:?}");
    let allowed = room.guarded(&format!("{PORT} --allow cgroup={}", room.path("out")));
    assert!(allowed.stderr.contains("may bind it again"), "{allowed:?}");
    assert!(allowed.stderr.contains("replaced the guard of"), "{allowed:?}");

    let forced = room.guarded(&format!("{PORT} --force --allow cgroup={}", room.path("in")));
    assert!(forced.stderr.contains("and may not bind it again"), "{forced:?}");
    // Its socket is bound already: it may still listen.
    holder.signal(libc::SIGUSR1);
    assert!(eventually(|| holder.stdout().contains("given").then_some(())).is_some());
    assert_eq!(room.way("out", "tcp/0.0.0.0", PORT), format!("refused bind {}", libc::EPERM));
}

/// Whoever is refused can find out why, and not only root.
#[test]
fn why_names_the_guard() {
    let Some(room) = Room::new("guard-why") else { return };
    room.guarded(&format!("{PORT}/tcp --allow uid=1 --allow cgroup={}", room.path("in")));
    let sameport = stage::sameport();
    let asked = |cgroup: &str, words: &str| {
        let line = format!("{} why {words}", sameport.display());
        room.start_in(cgroup, "sh", &["-c", &line]).ended()
    };
    let other = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let line = format!("{other} {} why {PORT}", sameport.display());
    for ended in [asked("out", PORT), room.run("sh", &["-c", &line])] {
        assert_eq!(ended.code, 1, "{ended:?}");
        let first = ended.stdout.lines().next().unwrap();
        assert!(first.contains("EPERM by bind: it is guarded for uid="), "{ended:?}");
        assert!(ended.stdout.contains("  as root: sameport guard"), "{ended:?}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&asked("out", &format!("--json {PORT}")).stdout).unwrap();
    assert_eq!(json["answers"][0]["granted"], false);
    assert_eq!(json["answers"][0]["guarded_for"][1], format!("cgroup={}", room.path("in")));
    // Who is allowed, another protocol, and a guard that only reports.
    assert_eq!(asked("in", PORT).code, 0);
    assert_eq!(asked("out", &format!("--user 1 {PORT}")).code, 0);
    assert_eq!(asked("out", &format!("--udp {PORT}")).code, 0);
    room.guarded(&format!("{PORT}/tcp --report-only --allow uid=1"));
    assert_eq!(asked("out", PORT).code, 0);
}

#[test]
fn others_cannot_keep_anybody_from_a_change() {
    let Some(room) = Room::new("guard-lock") else { return };
    // As with files of other services in it, for everybody to read. A lock may be left by a kill.
    room.shell(&format!("mkdir -m 755 {FOLDER}; touch {FOLDER}/web.conf; umask 77; touch {LOCK}"));
    let other = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    for (file, code) in [(FOLDER, 0), (LOCK, 1)] {
        let line = format!("{other} flock {file} sh -c 'echo locked; exec sleep 1000' || exit 1");
        let holder = room.start_in("out", "sh", &["-c", &line]);
        if code == 0 {
            holder.wait_for_stdout("locked");
            room.guarded(&format!("{PORT} --allow uid=1"));
        } else {
            assert_eq!(holder.ended().code, code, "{file} can be opened");
        }
    }
    room.guarded(&format!("{PORT} --off"));
    assert_eq!(room.shell(&format!("ls {FOLDER}; rm -r {FOLDER}")), "web.conf\n");
    room.nothing_is_left();
}

#[test]
fn a_guard_that_allows_nobody_needs_force() {
    let Some(room) = Room::new("guard-nobody") else { return };
    let ended = room.guard(PORT);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.starts_with("error: nobody at all could bind it"), "{ended:?}");
    room.nothing_is_changed();
    room.guarded(&format!("{PORT} --report-only"));
    room.guarded(&format!("{PORT} --force"));
    assert!(room.guarded("--list").stdout.contains("nobody"));
    for cgroup in ["in", "out"] {
        let said = room.way(cgroup, "tcp/0.0.0.0", PORT);
        assert_eq!(said, format!("refused bind {}", libc::EPERM));
    }
}

#[test]
fn on_a_terminal_it_asks() {
    let Some(room) = Room::new("guard-asks") else { return };
    if find_program("script").is_none() {
        return skip("guard-asks", "script is not here");
    }
    let ask = |answer: &str| {
        let line = format!("{} guard {PORT}", crate::stage::sameport().display());
        room.run("sh", &["-c", &format!("echo {answer} | script -qec '{line}' /dev/null")])
    };
    for (answer, code) in [("n", 1), ("", 1), ("yes", 0)] {
        let ended = ask(answer);
        assert!(ended.stdout.contains("go on? [y/N]"), "{ended:?}");
        assert_eq!(ended.code, code, "{answer}: {ended:?}");
    }
    assert_eq!(room.list()["guards"].as_array().unwrap().len(), 2);
}

impl Room {
    #[track_caller]
    fn nothing_is_changed(&self) {
        assert_eq!(self.list()["guards"].as_array().unwrap().len(), 0);
        assert_ne!(self.run("ls", &[FILE]).code, 0);
    }
}
