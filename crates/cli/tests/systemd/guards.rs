//! Guards after a boot: `sameport-guard.service`.

use crate::harness::in_test_dir;
use crate::machine::{Setup, Systemd};
use crate::traffic::{SERVER, WEB, shipped, web_machine};

/// The exit code of a bind of the guarded port by another program: EPERM if refused.
fn intruder(machine: &Systemd) -> (i32, String) {
    let bind = "import socket; socket.socket().bind(('127.0.0.1', 8080))";
    let exited = machine.run_words(&["python3", "-c", bind]);
    (exited.code, exited.stderr)
}

#[test]
fn guards_are_back_before_services_after_a_boot() {
    let etc = in_test_dir("systemd-guard-etc");
    std::fs::create_dir(&etc).unwrap();
    let conf = format!("SAMEPORT_OPTIONS=-n 2\nSAMEPORT_COMMAND={SERVER}\n");
    std::fs::write(etc.join("web.conf"), conf).unwrap();
    let guard = shipped("sameport-guard.service");
    let more = Setup {
        units: &[("sameport-guard.service", &guard)],
        binds: &[(&etc, "/etc/sameport")],
        enabled: &["sameport-guard.service", "sameport@web.service"],
        cgroups_of_host: true,
        ..Setup::default()
    };
    let Some(mut machine) = web_machine("systemd-guard", "-n 2", &more) else { return };
    // No guards yet: the condition of the unit fails, and nothing else.
    assert_eq!(machine.property("sameport-guard", "ConditionResult"), "no");
    // Machines of other tests have a unit of this name as well.
    let unit = "system.slice/system-sameport.slice/sameport@web.service";
    let cgroup = format!("/{}/{unit}", machine.cgroup().file_name().unwrap().display());
    machine.shell(&format!("sameport guard 8080 --allow cgroup={cgroup}"));
    for boot in 0..2 {
        assert_eq!(machine.property(WEB, "ActiveState"), "active", "{}", machine.journal("*"));
        let (code, told) = intruder(&machine);
        assert!(code == 1 && told.contains("Operation not permitted"), "{boot}: {told}");
        machine.systemctl(&format!("restart {WEB}"));
        machine.shell("sameport guard --list");
        machine.reboot();
    }
    assert_eq!(machine.property("sameport-guard", "ActiveState"), "active");
    machine.shell("sameport guard 8080 --off");
    machine.systemctl(&format!("stop {WEB}"));
    assert_eq!(intruder(&machine).0, 0);
}
