//! A guard shows the programs that hold the port, and does not lock them out.

use crate::fixture::{CONFIG_DIR, FILE, GuardFixture, LOCK, PORT, bind_calls_program};
use crate::harness::{self, eventually, find_program, skip};

#[test]
fn holders_are_shown_and_kept() {
    let Some(fixture) = GuardFixture::new("guard-holders") else { return };
    let holder = fixture.start_in("out", bind_calls_program(), &["before", PORT]);
    holder.wait_for_stdout("ready");
    let refused = fixture.guard(&format!("{PORT} --allow cgroup={}", fixture.path("in")));
    assert_eq!(refused.code, 1, "{refused:?}");
    let message = refused.stderr.lines().next().unwrap();
    assert!(message.starts_with("error: this would lock out pid "), "{refused:?}");
    assert!(
        message.contains("(guard_binds") && message.contains(&format!("127.0.0.1:{PORT}/tcp")),
        "{message}"
    );
    fixture.assert_unchanged();
    // UDP ports are separate.
    fixture.guard_ok(&format!("{PORT}/udp --allow cgroup={}", fixture.path("in")));
    fixture.guard_ok(&format!("{PORT} --off"));
    // A guard that only reports locks no program out.
    let noted = fixture.guard_ok(&format!("{PORT} --report-only --allow uid=1"));
    assert!(noted.stderr.contains("would not be allowed to bind it again"), "{noted:?}");
    let allowed = fixture.guard_ok(&format!("{PORT} --allow cgroup={}", fixture.path("out")));
    assert!(allowed.stderr.contains("may bind it again"), "{allowed:?}");
    assert!(allowed.stderr.contains("replaced the guard of"), "{allowed:?}");

    let forced = fixture.guard_ok(&format!("{PORT} --force --allow cgroup={}", fixture.path("in")));
    assert!(forced.stderr.contains("and may not bind it again"), "{forced:?}");
    // The socket is bound, so listen(2) still succeeds.
    holder.signal(libc::SIGUSR1);
    assert!(eventually(|| holder.stdout().contains("given").then_some(())).is_some());
    assert_eq!(
        fixture.bind_call("out", "tcp/0.0.0.0", PORT),
        format!("refused bind {}", libc::EPERM)
    );
}

/// Every refused user can learn the reason, not only root.
#[test]
fn why_shows_the_guard() {
    let Some(fixture) = GuardFixture::new("guard-why") else { return };
    fixture.guard_ok(&format!("{PORT}/tcp --allow uid=1 --allow cgroup={}", fixture.path("in")));
    let sameport = harness::sameport();
    let answer_to = |cgroup: &str, words: &str| {
        let line = format!("{} why {words}", sameport.display());
        fixture.start_in(cgroup, "sh", &["-c", &line]).wait()
    };
    let other = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let line = format!("{other} {} why {PORT}", sameport.display());
    let as_user = fixture.run("sh", &["-c", &line]);
    for (exited, rights) in [(answer_to("out", PORT), ""), (as_user, "as root: ")] {
        assert_eq!(exited.code, 1, "{exited:?}");
        let first = exited.stdout.lines().next().unwrap();
        assert!(first.contains("EPERM by bind: it is guarded for uid="), "{exited:?}");
        let remedy = format!("\n  {rights}sameport guard");
        assert!(exited.stdout.contains(&remedy), "{exited:?}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&answer_to("out", &format!("--json {PORT}")).stdout).unwrap();
    assert_eq!(json["answers"][0]["granted"], false);
    assert_eq!(json["answers"][0]["guarded_for"][1], format!("cgroup={}", fixture.path("in")));
    // Allowed programs, another protocol, and a guard that only reports are no obstacle.
    assert_eq!(answer_to("in", PORT).code, 0);
    assert_eq!(answer_to("out", &format!("--user 1 {PORT}")).code, 0);
    assert_eq!(answer_to("out", &format!("--udp {PORT}")).code, 0);
    fixture.guard_ok(&format!("{PORT}/tcp --report-only --allow uid=1"));
    assert_eq!(answer_to("out", PORT).code, 0);
}

/// A refused worker is told the reason and the command that admits it, which works.
#[test]
fn run_names_the_guard() {
    let Some(fixture) = GuardFixture::new("guard-run") else { return };
    fixture.guard_ok(&format!("{PORT}/tcp --allow uid=1"));
    let sameport = harness::sameport().display().to_string();
    let out = fixture.cgroup("out");
    let program = [bind_calls_program(), "tcp/0.0.0.0".into(), PORT.into(), out];
    let program = program.map(|word| word.to_str().unwrap().to_owned()).join(" ");
    for line in [
        format!("{sameport} run -- {program}"),
        format!("{sameport} run --name guarded --listen 0.0.0.0:{PORT} -- cat"),
        format!("{sameport} listen 0.0.0.0:{PORT}"),
        format!("{sameport} listen --exclusive 127.0.0.1:{PORT}"),
    ] {
        let exited = fixture.run("sh", &["-c", &line]);
        assert!(exited.stderr.contains("it is guarded for uid="), "{exited:?}");
        let hint = format!("hint: `sameport guard {PORT}/tcp --allow uid=");
        assert!(exited.stderr.contains(&hint), "{exited:?}");
    }
    let exited = fixture.run("sh", &["-c", &format!("{sameport} run -- {program}")]);
    let hint = exited.stderr.split("hint: `sameport ").nth(1).unwrap();
    let admit = hint.split('`').next().unwrap();
    fixture.shell(&format!("{sameport} {admit}"));
    let exited = fixture.run("sh", &["-c", &format!("{sameport} run -- {program}")]);
    assert!(exited.stdout.contains(&format!("given {PORT}")), "{exited:?}");
    assert!(!exited.stderr.contains("guarded"), "{exited:?}");
}

#[test]
fn leftover_locks_do_not_block_changes() {
    let Some(fixture) = GuardFixture::new("guard-lock") else { return };
    // The directory also has files of other services and is world-readable. A kill can leave the
    // lock.
    fixture.shell(&format!(
        "mkdir -m 755 {CONFIG_DIR}; touch {CONFIG_DIR}/web.conf; umask 77; touch {LOCK}"
    ));
    let other = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    for (file, code) in [(CONFIG_DIR, 0), (LOCK, 1)] {
        let line = format!("{other} flock {file} sh -c 'echo locked; exec sleep 1000' || exit 1");
        let holder = fixture.start_in("out", "sh", &["-c", &line]);
        if code == 0 {
            holder.wait_for_stdout("locked");
            fixture.guard_ok(&format!("{PORT} --allow uid=1"));
        } else {
            assert_eq!(holder.wait().code, code, "{file} can be opened");
        }
    }
    fixture.guard_ok(&format!("{PORT} --off"));
    assert_eq!(fixture.shell(&format!("ls {CONFIG_DIR}; rm -r {CONFIG_DIR}")), "web.conf\n");
    fixture.assert_nothing_left();
}

#[test]
fn guard_without_subjects_needs_force() {
    let Some(fixture) = GuardFixture::new("guard-nobody") else { return };
    let exited = fixture.guard(PORT);
    assert_eq!(exited.code, 1, "{exited:?}");
    assert!(exited.stderr.starts_with("error: no process could bind it"), "{exited:?}");
    fixture.assert_unchanged();
    fixture.guard_ok(&format!("{PORT} --report-only"));
    fixture.guard_ok(&format!("{PORT} --force"));
    assert!(fixture.guard_ok("--list").stdout.contains("nobody"));
    for cgroup in ["in", "out"] {
        let result = fixture.bind_call(cgroup, "tcp/0.0.0.0", PORT);
        assert_eq!(result, format!("refused bind {}", libc::EPERM));
    }
}

#[test]
fn asks_for_confirmation_on_a_terminal() {
    let Some(fixture) = GuardFixture::new("guard-asks") else { return };
    if find_program("script").is_none() {
        return skip("guard-asks", "no script");
    }
    let ask = |answer: &str| {
        let line = format!("{} guard {PORT}", crate::harness::sameport().display());
        fixture.run("sh", &["-c", &format!("echo {answer} | script -qec '{line}' /dev/null")])
    };
    for (answer, code) in [("n", 1), ("", 1), ("yes", 0)] {
        let exited = ask(answer);
        assert!(exited.stdout.contains("go on? [y/N]"), "{exited:?}");
        assert_eq!(exited.code, code, "{answer}: {exited:?}");
    }
    assert_eq!(fixture.list()["guards"].as_array().unwrap().len(), 2);
}

impl GuardFixture {
    #[track_caller]
    fn assert_unchanged(&self) {
        assert_eq!(self.list()["guards"].as_array().unwrap().len(), 0);
        assert_ne!(self.run("ls", &[FILE]).code, 0);
    }
}
