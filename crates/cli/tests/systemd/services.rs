//! The shipped unit: ready, reloaded, restarted and killed, under clients that count what they lose.

use std::net::SocketAddr;

use crate::harness::load::{Client, Loss, Tally, while_served};
use crate::harness::{c_program, in_test_dir};
use crate::machine::{Setup, Systemd};

const WEB: &str = "sameport@web";

/// A file of `packaging/systemd`.
pub(crate) fn shipped(name: &str) -> String {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/systemd");
    std::fs::read_to_string(format!("{dir}/{name}")).unwrap()
}

/// A machine with the shipped unit, and `web.conf` for a server on port 8080.
fn machine(test: &str, options: &str, server: &str) -> Option<Systemd> {
    let conf = format!("SAMEPORT_OPTIONS={options}\nSAMEPORT_COMMAND={server}\n");
    Systemd::boot(
        test,
        &Setup {
            units: &[("sameport@.service", &shipped("sameport@.service"))],
            files: &[("/etc/sameport/web.conf", &conf)],
            ..Setup::default()
        },
    )
}

fn drains() -> String {
    format!("{} 8080", c_program("drains", &[]).display())
}

fn address() -> SocketAddr {
    ([127, 0, 0, 1], 8080).into()
}

/// Four clients while `action` runs.
fn under_load(machine: &Systemd, action: impl FnOnce() + Send) -> Tally {
    machine.inside(|| while_served(&[Client::OneShot; 4], address(), action).1)
}

/// Lets the clients get some answers between two actions.
fn pause(machine: &Systemd) {
    let pids = machine.shell("cat /sys/fs/cgroup/system.slice/*/*/cgroup.procs | wc -l");
    assert_ne!(pids.trim(), "0");
    std::thread::sleep(std::time::Duration::from_millis(300));
}

#[test]
fn start_returns_when_every_worker_is_ready() {
    let go = in_test_dir("systemd-go");
    let options = format!("-n 2 --ready exec:{}", go.display());
    let Some(machine) = machine("systemd-notify", &options, &drains()) else { return };
    machine.systemctl(&format!("start --no-block {WEB}"));
    let status = "0 of 2 workers ready";
    machine.wait_until(status, || (machine.property(WEB, "StatusText") == status).then_some(()));
    assert_eq!(machine.property(WEB, "ActiveState"), "activating");
    crate::harness::executable("systemd-go", "#!/bin/sh\n");
    machine.systemctl(&format!("start {WEB}"));
    assert_eq!(machine.property(WEB, "ActiveState"), "active");
    assert_eq!(machine.property(WEB, "StatusText"), "2 of 2 workers ready");
    machine.systemctl(&format!("stop {WEB}"));
    assert_eq!(machine.property(WEB, "Result"), "success");
}

#[test]
fn reload_and_restart_lose_no_connection() {
    let Some(machine) = machine("systemd-restart", "-n 2 --ready tcp", &drains()) else { return };
    machine.systemctl(&format!("start {WEB}"));
    for (action, times) in [("reload", 3), ("restart", 3)] {
        let main = machine.main_pid(WEB);
        let tally = under_load(&machine, || {
            for _ in 0..times {
                pause(&machine);
                machine.systemctl(&format!("{action} {WEB}"));
            }
            pause(&machine);
        });
        println!("{times} times {action}: {} answered, {:?}", tally.answered, tally.kinds());
        assert!(tally.lost.is_empty(), "{action}: {tally:?}\n{}", machine.journal(WEB));
        assert_eq!(machine.main_pid(WEB) == main, action == "reload");
    }
}

#[test]
fn kill_of_the_main_process_loses_only_connections_in_hand() {
    let Some(machine) = machine("systemd-kill", "-n 2 --ready tcp", &drains()) else { return };
    machine.systemctl(&format!("start {WEB}"));
    let tally = under_load(&machine, || {
        for round in 1..=3 {
            pause(&machine);
            machine.systemctl(&format!("kill --signal=KILL --kill-whom=main {WEB}"));
            machine.wait_until("restart", || {
                let restarts = machine.property(WEB, "NRestarts");
                let active = machine.property(WEB, "ActiveState") == "active";
                (active && restarts == round.to_string()).then_some(())
            });
        }
        pause(&machine);
    });
    println!("3 times SIGKILL: {} answered, {:?}", tally.answered, tally.kinds());
    let kinds = tally.kinds();
    let in_hand = |loss: &Loss| matches!(loss, Loss::Unanswered | Loss::CutInHand);
    assert!(kinds.keys().all(in_hand), "{tally:?}\n{}", machine.journal(WEB));
    assert!(tally.lost.len() <= 3 * 4, "{tally:?}");
}
