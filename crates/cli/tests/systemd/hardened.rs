//! Hardened units: each refusal is named before the start, and the shipped drop-in loses nothing.

use crate::harness::load::{Client, while_served};
use crate::harness::{ask, c_program};
use crate::machine::Systemd;
use crate::traffic::shipped;

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// A unit with a server on port 8080, run with these options, and more lines.
fn unit(name: &str, options: &str, lines: &str) -> String {
    let server = c_program("drains", &[]);
    format!(
        "[Service]\nType=notify\nKillMode=mixed\nTimeoutStartSec=600\nRuntimeDirectory={name}\n\
         ExecStart=/usr/bin/sameport run --name {name} -n 2 --ready tcp {options} -- {} 8080\n\
         ExecReload=/usr/bin/sameport restart {name}\n{lines}\n",
        server.display()
    )
}

/// A set-up, its options of `run`, its lines, whether it starts, and its messages.
type Case = (&'static str, &'static str, &'static str, bool, &'static [&'static str]);

const SERVICE: &str = "SystemCallFilter=@system-service";
const NO_NETLINK: &str = "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX";
const FILTER_HINT: &str = "hint: add to the unit: SystemCallFilter=seccomp pidfd_getfd";
const FILTER: &str = "a system call filter refuses seccomp and pidfd_getfd (SIGSYS)";
const FAMILY_HINT: &str = "hint: add to the unit: RestrictAddressFamilies=AF_NETLINK";

const CASES: &[Case] = &[
    (
        "kills",
        "",
        SERVICE,
        true,
        &["sameport: using preload, because seccomp cannot: a system call filter", FILTER_HINT],
    ),
    (
        "fails",
        "",
        "SystemCallFilter=@system-service\nSystemCallErrorNumber=EPERM",
        true,
        &["refuses seccomp and pidfd_getfd (operation not permitted)", FILTER_HINT],
    ),
    ("seccomp-only", "--via seccomp", SERVICE, false, &[FILTER, FILTER_HINT]),
    (
        "cgroup-only",
        "--via cgroup",
        SERVICE,
        false,
        &["refuses bpf (SIGSYS)", "hint: add to the unit: SystemCallFilter=bpf"],
    ),
    (
        "deny-list",
        "",
        "SystemCallFilter=~@debug",
        true,
        &["hint: add to the unit: SystemCallFilter=pidfd_getfd"],
    ),
    ("families", "", NO_NETLINK, true, &["sockets are listed from /proc/net", FAMILY_HINT]),
    (
        "families-preload",
        "--via preload",
        NO_NETLINK,
        true,
        &["sockets are listed from /proc/net", FAMILY_HINT],
    ),
    (
        "no-unix",
        "",
        "RestrictAddressFamilies=AF_INET AF_INET6",
        false,
        &["refuses socket(AF_UNIX)", "hint: add to the unit: RestrictAddressFamilies=AF_UNIX"],
    ),
    ("no-privileged", "", "SystemCallFilter=~@privileged @resources", true, &[]),
    ("narrow-proc", "", "ProcSubset=pid\nProtectProc=invisible\nUser=nobody", true, &[]),
    // The lines of the hints.
    (
        "permitted",
        "--via seccomp",
        "SystemCallFilter=@system-service\nSystemCallFilter=seccomp pidfd_getfd",
        true,
        &[],
    ),
    (
        "permitted-later",
        "--via seccomp",
        "SystemCallFilter=~@debug\nSystemCallFilter=pidfd_getfd",
        true,
        &[],
    ),
    (
        "permitted-cgroup",
        "--via cgroup",
        "SystemCallFilter=@system-service\nSystemCallFilter=bpf",
        true,
        &[],
    ),
    (
        "permitted-families",
        "--via preload",
        "RestrictAddressFamilies=AF_INET AF_INET6\nRestrictAddressFamilies=AF_UNIX\n\
         RestrictAddressFamilies=AF_NETLINK",
        true,
        &[],
    ),
];

#[test]
fn each_refusal_is_named_before_the_start() {
    let units: Vec<(String, String)> = CASES
        .iter()
        .map(|(name, options, lines, ..)| (format!("{name}.service"), unit(name, options, lines)))
        .collect();
    let units: Vec<(&str, &str)> = units.iter().map(|(name, text)| (&**name, &**text)).collect();
    let Some(machine) = Systemd::start("systemd-hardened-cases", &units) else { return };
    for (name, _, lines, starts, messages) in CASES {
        let started = machine.run(&format!("systemctl start {name}"));
        let journal = machine.journal(name);
        assert_eq!(started.code == 0, *starts, "{name}: {lines}\n{journal}");
        for message in *messages {
            assert_eq!(journal.matches(message).count(), 1, "{name}: {message}\n{journal}");
        }
        if !starts {
            assert_eq!(machine.property(name, "ExecMainStatus"), "3", "{name}\n{journal}");
            continue;
        }
        // A run that needs no advice prints none.
        assert_eq!(journal.contains("hint:"), !messages.is_empty(), "{name}\n{journal}");
        machine.systemctl(&format!("reload {name}"));
        let answer = machine.inside(|| ask(([127, 0, 0, 1], 8080).into(), REQUEST)).unwrap();
        assert!(!answer.is_empty(), "{name}");
        machine.systemctl(&format!("stop {name}"));
        assert_eq!(machine.property(name, "Result"), "success", "{name}");
    }
}

#[test]
fn doctor_says_the_same_in_the_unit() {
    let doctor = |lines: &str| {
        format!("[Service]\nType=oneshot\n{lines}\nExecStart=/usr/bin/sameport doctor\n")
    };
    let units = [("kills.service", doctor(SERVICE)), ("plain.service", doctor(""))];
    let units = units.each_ref().map(|(name, text)| (*name, &**text));
    let Some(machine) = Systemd::start("systemd-hardened-doctor", &units) else { return };
    for (name, refused) in [("kills", true), ("plain", false)] {
        // It ends with 0, because another interposer works.
        machine.systemctl(&format!("start {name}"));
        let journal = machine.journal(name);
        let text = "a filter refuses seccomp and pidfd_getfd; a unit needs SystemCallFilter=seccomp \
                    pidfd_getfd";
        assert_eq!(journal.contains(text), refused, "{journal}");
    }
}

#[test]
fn the_shipped_hardening_loses_no_connection() {
    // The unit does not see the /tmp of the test.
    let server = c_program("drains", &[]);
    let conf =
        "SAMEPORT_OPTIONS=-n 2 --ready tcp --via seccomp\nSAMEPORT_COMMAND=/srv/drains 8080\n";
    let unit = shipped("sameport@.service");
    let hardened = shipped("sameport-hardened.conf");
    let setup = crate::machine::Setup {
        units: &[("sameport@.service", &*unit), ("sameport@.service.d/hardened.conf", &*hardened)],
        files: &[("/etc/sameport/web.conf", conf)],
        binds: &[(&server, "/srv/drains")],
        ..Default::default()
    };
    let Some(machine) = Systemd::boot("systemd-hardened", &setup) else { return };
    let web = "sameport@web";
    machine.systemctl(&format!("start {web}"));
    let (_, tally) = machine.inside(|| {
        while_served(&[Client::OneShot; 4], ([127, 0, 0, 1], 8080).into(), || {
            for action in ["reload", "restart", "reload", "restart"] {
                machine.systemctl(&format!("{action} {web}"));
            }
        })
    });
    println!(
        "hardened, 2 reloads and 2 restarts: {} answered, {:?}",
        tally.answered,
        tally.kinds()
    );
    assert!(tally.lost.is_empty(), "{tally:?}\n{}", machine.journal(web));
    let journal = machine.journal(web);
    assert!(!journal.contains("hint:") && !journal.contains("warning:"), "{journal}");
    let user = machine.shell(&format!("stat -c %U /proc/{}", machine.main_pid(web)));
    assert_ne!(user.trim(), "root");
}

#[test]
fn the_watchdog_ends_a_supervisor_that_is_blocked() {
    let lines = "WatchdogSec=2\nTimeoutAbortSec=1\nWatchdogSignal=SIGKILL";
    let named = unit("web", "", lines);
    let plain = "[Service]\nType=exec\nWatchdogSec=2\n\
                 ExecStart=/usr/bin/sameport run -- /bin/sh -c 'echo got [$$WATCHDOG_USEC]; exec sleep 600'\n";
    let units = [("web.service", &*named), ("plain.service", plain)];
    let Some(machine) = Systemd::start("systemd-watchdog", &units) else { return };
    machine.systemctl("start web plain");
    let began = machine.shell("cut -d' ' -f1 /proc/uptime");
    let began: f64 = began.trim().parse().unwrap();
    // Three periods: systemd would have ended both.
    machine.wait_until("time", || {
        let now: f64 = machine.shell("cut -d' ' -f1 /proc/uptime").trim().parse().unwrap();
        (now > began + 6.0).then_some(())
    });
    for name in ["web", "plain"] {
        assert_eq!(machine.property(name, "ActiveState"), "active", "{}", machine.journal(name));
    }
    // Workers do not report, and do not see the variable.
    assert!(machine.journal("plain").contains("got []"), "{}", machine.journal("plain"));
    machine.shell(&format!("kill -STOP {}", machine.main_pid("web")));
    machine.wait_until("the end of a blocked supervisor", || {
        (machine.property("web", "Result") == "watchdog").then_some(())
    });
}

#[test]
fn messages_in_the_journal_have_a_priority() {
    let worker = "[Service]\nType=exec\nRuntimeDirectory=web\nExecStart=/usr/bin/sameport run --name web \
                  --max-restarts 3 -- /bin/sh -c 'echo error: a line of the worker >&2; sleep 1; exit 7'\n";
    let wrong = "[Service]\nType=exec\nExecStart=/usr/bin/sameport run --wrong -- true\n";
    let units = [("web.service", worker), ("wrong.service", wrong)];
    let Some(machine) = Systemd::start("systemd-priorities", &units) else { return };
    machine.run("systemctl start web");
    machine.run("systemctl start wrong");
    let ended = |name: &str| machine.property(name, "ActiveState") == "failed";
    machine.wait_until("both ends", || (ended("web") && ended("wrong")).then_some(()));
    let priority = |unit: &str, text: &str| {
        let entries = machine.journal_entries(unit);
        let found = entries
            .iter()
            .find(|entry| entry["MESSAGE"].as_str().is_some_and(|message| message.contains(text)));
        let entry = found.unwrap_or_else(|| panic!("no {text}: {}", machine.journal(unit)));
        let message = entry["MESSAGE"].as_str().unwrap();
        assert!(!message.starts_with('<'), "{message}");
        entry["PRIORITY"].as_str().unwrap().to_owned()
    };
    assert_eq!(priority("web", "crashed repeatedly"), "3");
    assert_eq!(priority("web", "starts again"), "4");
    // The worker's line has the priority of the unit (SyslogLevel=).
    assert_eq!(priority("web", "a line of the worker"), "6");
    assert_eq!(priority("wrong", "--wrong"), "3");
    assert_eq!(priority("wrong", "hint:"), "3");
}
