//! The shipped unit: ready, reloaded, restarted and killed, under clients that count what they lose.

use std::time::Duration;

use crate::harness::{executable, in_test_dir};
use crate::machine::{Setup, Systemd};
use crate::traffic::{
    WEB, assert_nothing_lost, assert_only_in_hand, pause, under_load, web_machine,
};

#[test]
fn start_returns_when_every_worker_is_ready() {
    let go = in_test_dir("systemd-go");
    let options = format!("-n 2 --ready exec:{}", go.display());
    let Some(machine) = web_machine("systemd-notify", &options, &Setup::default()) else { return };
    machine.systemctl(&format!("start --no-block {WEB}"));
    let status = "0 of 2 workers ready";
    machine.wait_until(status, || (machine.property(WEB, "StatusText") == status).then_some(()));
    assert_eq!(machine.property(WEB, "ActiveState"), "activating");
    executable("systemd-go", "#!/bin/sh\n");
    machine.systemctl(&format!("start {WEB}"));
    assert_eq!(machine.property(WEB, "ActiveState"), "active");
    assert_eq!(machine.property(WEB, "StatusText"), "2 of 2 workers ready");
    machine.systemctl(&format!("stop {WEB}"));
    assert_eq!(machine.property(WEB, "Result"), "success");
}

#[test]
fn command_that_ends_fails_the_unit() {
    let conf = "SAMEPORT_COMMAND=/usr/bin/false\nSAMEPORT_OPTIONS=--max-restarts 2\n";
    let more = Setup { files: &[("/etc/sameport/bad.conf", conf)], ..Setup::default() };
    let Some(machine) = web_machine("systemd-fails", "", &more) else { return };
    let started = machine.run("systemctl start sameport@bad");
    assert_eq!(started.code, 1, "{started:?}");
    let journal = machine.journal("sameport@bad");
    assert!(journal.contains("exited with 1"), "{journal}");
    machine.systemctl("stop sameport@bad");
}

#[test]
fn reload_and_restart_lose_no_connection() {
    let setup = Setup::default();
    let Some(machine) = web_machine("systemd-restart", "-n 2 --ready tcp", &setup) else { return };
    machine.systemctl(&format!("start {WEB}"));
    for action in ["reload", "restart"] {
        let main = machine.main_pid(WEB);
        let tally = under_load(&machine, &format!("3 times {action}"), || {
            for _ in 0..3 {
                machine.systemctl(&format!("{action} {WEB}"));
                pause();
            }
        });
        assert_nothing_lost(&tally, &machine);
        assert_eq!(machine.main_pid(WEB) == main, action == "reload");
    }
    assert_kept_sockets_are_named(&machine);
    // A stop that nothing follows closes the kept sockets.
    machine.systemctl(&format!("stop {WEB}"));
    assert_eq!(machine.run("sameport ls 8080").code, 1);
}

/// A reload leaves spare sockets, which the supervisor removes from the store a moment later. A restart in
/// that moment must not make the order of the stored sockets unknown.
#[test]
fn restart_at_once_after_a_reload_keeps_the_steering() {
    let unlimited = "[Unit]\nStartLimitIntervalSec=0\n";
    let units = [("sameport@web.service.d/unlimited.conf", unlimited)];
    let more = Setup { units: &units, ..Setup::default() };
    let Some(machine) = web_machine("systemd-spare", "-n 2 --ready tcp", &more) else { return };
    machine.systemctl(&format!("start {WEB}"));
    let tally = under_load(&machine, "6 times reload and at once restart", || {
        for round in 0..6 {
            machine.systemctl(&format!("reload {WEB}"));
            // Before, while and after the manager closes the sockets.
            std::thread::sleep(Duration::from_millis(100 * round));
            machine.systemctl(&format!("restart {WEB}"));
            let status = "XDG_RUNTIME_DIR=/run/sameport-web sameport status web --json";
            let status: serde_json::Value = serde_json::from_str(&machine.shell(status)).unwrap();
            let on = &status["runs"][0]["addresses"][0];
            assert_eq!((&on["held"], &on["steered"]), (&true.into(), &true.into()), "{status}");
        }
    });
    assert_nothing_lost(&tally, &machine);
}

/// After a restart pid 1 has the sockets open as well, and their cgroup is gone.
#[track_caller]
fn assert_kept_sockets_are_named(machine: &Systemd) {
    // The spare sockets of the restart have no worker, and once their cgroup is gone, no unit. The supervisor
    // removes them from the store when their queues are empty.
    machine.wait_until("removal of the spare sockets", || {
        (!machine.run("sameport why 8080").stdout.contains("\n  systemd (pid 1), for"))
            .then_some(())
    });
    for command in ["sameport ls 8080", "sameport ls 8080 --wide", "sameport why 8080"] {
        let told = machine.run(command).stdout;
        for worker in [1, 2] {
            assert!(told.contains(&format!("run web, worker {worker}")), "{command}: {told}");
        }
        assert!(told.contains("kept by systemd (pid 1)"), "{command}: {told}");
    }
    let wide = machine.run("sameport ls 8080 --wide").stdout;
    assert!(wide.contains("  sameport@web.service  ") && !wide.contains("init.scope"), "{wide}");
    let told = machine.run("sameport why 8080").stdout;
    assert!(told.contains("\n  systemctl stop sameport@web.service\n"), "{told}");
}

#[test]
fn kill_of_the_main_process_loses_only_connections_in_hand() {
    let setup = Setup::default();
    let Some(machine) = web_machine("systemd-kill", "-n 2 --ready tcp", &setup) else { return };
    machine.systemctl(&format!("start {WEB}"));
    let kills = 3;
    let tally = under_load(&machine, &format!("{kills} times SIGKILL"), || {
        for kill in 1..=kills {
            machine.systemctl(&format!("kill --signal=KILL --kill-whom=main {WEB}"));
            machine.wait_until("restart of the service", || {
                let restarts = machine.property(WEB, "NRestarts") == kill.to_string();
                (restarts && machine.property(WEB, "ActiveState") == "active").then_some(())
            });
            pause();
        }
    });
    assert_only_in_hand(&tally, kills, &machine);
}

/// A service of an ordinary user with every restriction that `run` tolerates.
#[test]
fn restricted_service_loses_no_connection() {
    let drop_in = "[Service]\nDynamicUser=yes\nNoNewPrivileges=yes\nCapabilityBoundingSet=\n\
        ProtectSystem=strict\nProtectHome=yes\nPrivateDevices=yes\nProtectKernelTunables=yes\n\
        ProtectKernelModules=yes\nProtectControlGroups=yes\nProtectClock=yes\nProtectHostname=yes\n\
        RestrictNamespaces=yes\nRestrictSUIDSGID=yes\nRestrictRealtime=yes\nLockPersonality=yes\n\
        MemoryDenyWriteExecute=yes\nSystemCallArchitectures=native\n\
        SystemCallFilter=@system-service\nSystemCallFilter=pidfd_getfd seccomp\n\
        RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK\n";
    let units = [("sameport@web.service.d/restricted.conf", drop_in)];
    let more = Setup { units: &units, ..Setup::default() };
    let Some(machine) = web_machine("systemd-strict", "-n 2 --ready tcp", &more) else { return };
    machine.systemctl(&format!("start {WEB}"));
    assert_ne!(machine.property(WEB, "UID"), "0");
    let tally = under_load(&machine, "2 times reload and restart, restricted", || {
        for action in ["reload", "restart", "reload", "restart"] {
            machine.systemctl(&format!("{action} {WEB}"));
            pause();
        }
    });
    assert_nothing_lost(&tally, &machine);
}
