//! A second program on the port of a unit: the refusal of `run` and the finding of `audit` name the unit, and
//! the commands that they print do what they say. None of them ends the service manager.

use crate::harness::Exited;
use crate::machine::{ANN, Setup, Systemd};
use crate::user_manager::{as_ann, boot_with_manager};

const SERVER: &str = "\
import os, socket
if 'LISTEN_FDS' in os.environ:
    it = socket.socket(fileno=3)
else:
    it = socket.create_server(('0.0.0.0', 8080), reuse_port='shared' in os.sys.argv)
while True:
    it.accept()
";

const WEB: &str = "[Service]\nExecStart=/usr/bin/python3 /etc/server.py\n";
const SOCKET: &str = "[Socket]\nListenStream=0.0.0.0:8080\nService=web.service\n";
const SHARED: &str = "[Service]\nExecStart=/usr/bin/python3 /etc/server.py shared\n";

/// A second program under `run`, which is refused.
fn second(machine: &Systemd, command: impl Fn(&str) -> Vec<String>) -> Exited {
    let words = command("sameport run -- /usr/bin/python3 /etc/server.py");
    let exited = machine.run_words(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_ne!(exited.code, 0, "{exited:?}");
    assert_harmless(&exited.stderr);
    exited
}

fn as_root(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

fn assert_harmless(text: &str) {
    for never in ["kill 1 ", "kill 1\n", "kill 1`", "/sbin/init", "/lib/systemd/systemd"] {
        assert!(!text.contains(never), "{never}: {text}");
    }
}

/// The `sameport why` command of a refusal, and what it prints.
fn pointed_to(machine: &Systemd, refused: &Exited) -> String {
    let (_, rest) = refused.stderr.split_once("`sameport why ").unwrap_or_else(|| {
        panic!("no pointer to `why`: {refused:?}");
    });
    let command = format!("sameport why {}", rest.split_once('`').unwrap().0);
    let why = machine.run(&command);
    assert_eq!(why.code, 1, "{command}: {why:?}");
    assert_harmless(&why.stdout);
    why.stdout
}

fn held(machine: &Systemd) {
    machine.wait_until("it listens", || (machine.run("sameport ls 8080").code == 0).then_some(()));
}

fn follow(machine: &Systemd, line: &str) {
    machine.shell(line);
    machine.wait_until("the address is free", || {
        (machine.run("sameport why 0.0.0.0:8080").code != 1).then_some(())
    });
}

#[test]
fn run_beside_a_unit_is_refused_with_its_name() {
    let units = [("web.service", WEB), ("web.socket", SOCKET)];
    let setup = Setup { units: &units, files: &[("/etc/server.py", SERVER)], ..Setup::default() };
    let Some(machine) = Systemd::boot("systemd-second", &setup) else { return };

    machine.systemctl("start web.service");
    held(&machine);
    let refused = second(&machine, as_root);
    assert!(refused.stderr.contains("web.service"), "{refused:?}");
    let why = pointed_to(&machine, &refused);
    let line = why.lines().find_map(|line| line.strip_prefix("  systemctl stop "));
    follow(&machine, &format!("systemctl stop {}", line.expect(&why)));

    machine.systemctl("start web.socket");
    let refused = second(&machine, as_root);
    assert!(refused.stderr.contains("web.socket"), "{refused:?}");
    let why = pointed_to(&machine, &refused);
    assert!(why.contains("\n  systemctl stop web.socket\n"), "{why}");
    // A port of a socket unit that nobody shares is no conflict, and a guard is for those who bind.
    let audit = machine.run("sameport audit 8080");
    assert_eq!(audit.code, 0, "{audit:?}");
    follow(&machine, "systemctl stop web.socket");
}

#[test]
fn audit_and_run_beside_a_service_of_a_user_name_its_unit() {
    let unit = "/home/ann/.config/systemd/user/web.service";
    let setup = Setup {
        files: &[(unit, SHARED), ("/etc/server.py", SERVER), ("/etc/stranger.py", SERVER)],
        ..Setup::default()
    };
    let Some(machine) = boot_with_manager("systemd-second-user", &setup) else { return };
    crate::user_manager::run(&machine, "systemctl --user start web");
    held(&machine);
    let refused = second(&machine, as_root);
    assert!(refused.stderr.contains("web.service"), "{refused:?}");
    let why = pointed_to(&machine, &refused);
    assert!(
        why.contains(&format!("XDG_RUNTIME_DIR=/run/user/{ANN} systemctl --user stop")),
        "{why}"
    );

    // A second program of the user shares the port.
    let words = as_ann("python3 /etc/stranger.py shared");
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let mut stranger = machine.command(&words).spawn().unwrap();
    let fix = machine.wait_until("the finding", || {
        let found = machine.run("sameport audit 8080 --json").stdout;
        let report: serde_json::Value = serde_json::from_str(&found).ok()?;
        report["findings"][0]["fix"].as_str().map(str::to_owned)
    });
    assert_harmless(&fix);
    assert!(fix.starts_with("sameport guard 8080/tcp --allow ") || fix.contains("kill "), "{fix}");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn audit_beside_a_service_has_a_fix_that_keeps_the_service() {
    // The machines of other tests have cgroups of a web.service in the same tree.
    let setup = Setup {
        units: &[("shop.service", SHARED)],
        files: &[("/etc/server.py", SERVER), ("/etc/stranger.py", SERVER)],
        cgroups_of_host: true,
        ..Setup::default()
    };
    let Some(machine) = Systemd::boot("systemd-second-audit", &setup) else { return };
    machine.systemctl("start shop.service");
    held(&machine);
    let mut stranger = machine.command(&["python3", "/etc/stranger.py", "shared"]).spawn().unwrap();
    let report = machine.wait_until("the finding", || {
        let audit = machine.run("sameport audit 8080");
        (audit.code == 1).then_some(audit.stdout)
    });
    assert_harmless(&report);
    assert!(report.contains("unit shop.service"), "{report}");
    let fix = report.split_once("sameport guard ").unwrap_or_else(|| panic!("{report}")).1;
    let fix = format!("sameport guard {}", fix.lines().next().unwrap());
    // Without a terminal it does not ask, and the stranger still has its socket.
    let refused = machine.run_words(&["sh", "-c", &fix]);
    assert_eq!(refused.code, 1, "{fix}: {refused:?}");
    let (_, locked_out) = refused
        .stderr
        .split_once("this would lock out pid ")
        .unwrap_or_else(|| panic!("{fix}: {refused:?}"));
    machine.shell(&format!("kill {}", locked_out.split(' ').next().unwrap()));
    stranger.wait().unwrap();
    // A rule that forgets the service names it, and the rule that keeps it.
    let refused = machine.run("sameport guard 8080/tcp --allow uid=7");
    assert!(refused.stderr.contains("shop.service"), "{refused:?}");
    assert!(refused.stderr.contains("hint: --allow unit=shop.service; or --force"), "{refused:?}");
    machine.shell(&fix);
    // The stranger is kept out, the service is not.
    let again = machine.run("python3 /etc/stranger.py shared");
    assert!(again.stderr.contains("Operation not permitted"), "{fix}: {again:?}");
    machine.systemctl("restart shop.service");
    held(&machine);
    machine.shell("sameport guard 8080/tcp --off");
}
