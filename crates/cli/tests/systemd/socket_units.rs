//! The shipped socket unit: systemd opens the socket, and starts the service for the first client.

use crate::harness::ask;
use crate::machine::Setup;
use crate::traffic::{
    WEB, address, assert_nothing_lost, assert_only_in_hand, pause, shipped, under_load, web_machine,
};

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

#[test]
fn socket_outlives_its_service() {
    let socket = shipped("sameport@web.socket");
    let more = Setup {
        units: &[("sameport@web.socket", &socket)],
        enabled: &["sameport@web.socket"],
        ..Setup::default()
    };
    let Some(machine) = web_machine("systemd-socket", "-n 2", &more) else { return };
    assert_eq!(machine.property("sameport@web.socket", "ActiveState"), "active");
    assert_eq!(machine.property(WEB, "ActiveState"), "inactive");
    // The first client starts the service.
    let first = machine.inside(|| ask(address(), REQUEST)).unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200"), "{}", machine.journal("*"));
    machine.wait_until("active service", || {
        (machine.property(WEB, "ActiveState") == "active").then_some(())
    });
    let tally = under_load(&machine, "socket unit: 3 times restart and reload", || {
        for _ in 0..3 {
            machine.systemctl(&format!("restart {WEB}"));
            pause();
            machine.systemctl(&format!("reload {WEB}"));
            pause();
        }
    });
    assert_nothing_lost(&tally, &machine);
    let tally = under_load(&machine, "socket unit: stopped, started by a client", || {
        machine.systemctl(&format!("stop {WEB}"));
    });
    assert_nothing_lost(&tally, &machine);
    // systemd gives a service up after five starts in ten seconds.
    machine.systemctl(&format!("reset-failed {WEB}"));
    let tally = under_load(&machine, "socket unit: SIGKILL", || {
        let before = machine.main_pid(WEB);
        machine.systemctl(&format!("kill --signal=KILL --kill-whom=main {WEB}"));
        machine.wait_until("restart of the service", || {
            let main = machine.main_pid(WEB);
            let active = machine.property(WEB, "ActiveState") == "active";
            (active && main > 0 && main != before).then_some(())
        });
    });
    assert_only_in_hand(&tally, 1, &machine);
    let why = machine.run("sameport why 8080").stdout;
    assert!(why.contains("kept by systemd (pid 1) for sameport@web.socket"), "{why}");
    assert!(why.contains("systemctl stop sameport@web.service sameport@web.socket"), "{why}");
    // systemd binds the address again when the socket unit restarts.
    let guard = machine.run("sameport guard 8080 --allow uid=1");
    assert!(guard.stderr.contains("this would lock out "), "{guard:?}");
    assert!(guard.stderr.contains("lib/systemd/systemd"), "{guard:?}");
    let status = machine.shell("XDG_RUNTIME_DIR=/run/sameport-web sameport status web");
    assert!(status.contains("all workers accept from the one socket"), "{status}");
}
