//! The shipped unit: ready, reloaded, restarted and killed, under clients that count what they lose.

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

/// After a restart pid 1 has the sockets open as well, and their cgroup is gone.
#[track_caller]
fn assert_kept_sockets_are_named(machine: &Systemd) {
    for command in ["sameport ls 8080", "sameport ls 8080 --wide", "sameport why 8080"] {
        let told = machine.run(command).stdout;
        for worker in [1, 2] {
            assert!(told.contains(&format!("run web, worker {worker}")), "{command}: {told}");
        }
        assert!(told.contains("kept by systemd (pid 1)"), "{command}: {told}");
    }
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
