//! `attach --unit`: a drop-in attaches again at each start, and `detach` leaves nothing.

use crate::harness::c_program;
use crate::machine::Systemd;

const WEB: &str = "web.service";
const DROP_IN: &str = "/run/systemd/system/web.service.d";

/// A server that binds 8080 without SO_REUSEPORT.
fn unit() -> String {
    format!("[Service]\nExecStart={} tcp 0.0.0.0 8080\n", c_program("who", &["-static"]).display())
}

/// The sockets of the server: their port and whether they are shared.
fn listens(machine: &Systemd, port: u16) -> String {
    machine.wait_until(&format!("a listener on {port}"), || {
        let listed = machine.run(&format!("sameport ls --json {port}"));
        (listed.code == 0).then_some(listed.stdout)
    })
}

fn is_shared(machine: &Systemd, port: u16) -> bool {
    listens(machine, port).contains("\"shared\":true")
}

#[test]
fn an_attachment_of_a_unit_outlives_its_restarts() {
    let Some(machine) = Systemd::start("systemd-attach", &[(WEB, &unit())]) else { return };
    machine.systemctl("start web");
    assert!(!is_shared(&machine, 8080), "bound before");
    let exited = machine.run("sameport attach --unit web --map 8080=127.0.0.1:9090");
    assert_eq!((exited.code, exited.stdout.as_str()), (0, ""), "{exited:?}");
    let file = format!("{DROP_IN}/50-sameport-attach.conf");
    let line = format!("attaches again at each start of the service, by {file}\n");
    assert!(exited.stderr.ends_with(&line), "{exited:?}");
    for action in ["restart web", "kill --signal=KILL web", "restart web"] {
        if action.starts_with("kill") {
            machine.systemctl(action);
            machine.wait_until("the end", || {
                (machine.property("web", "ActiveState") == "failed").then_some(())
            });
            machine.systemctl("start web");
        } else {
            machine.systemctl(action);
        }
        assert!(is_shared(&machine, 9090), "{action}: {}", machine.journal("web"));
        let list = machine.run("sameport attach --list").stdout;
        // The attachment to the cgroup of the run before is "(gone)" until the next `attach`.
        let current = list.lines().filter(|line| line.contains("web.service  ")).count();
        assert_eq!(current, 1, "{action}: {list}");
    }
    assert_eq!(machine.property("web", "NeedDaemonReload"), "no");

    // The file of a later start has the options of the last `attach`.
    let exited = machine.run("sameport detach --unit web");
    assert_eq!(exited.code, 0, "{exited:?}");
    assert!(exited.stderr.contains(&format!("removed {file}\n")), "{exited:?}");
    machine.shell(&format!("! test -e {DROP_IN}"));
    assert_eq!(machine.property("web", "DropInPaths"), "");
    machine.systemctl("restart web");
    assert!(!is_shared(&machine, 8080));
    assert_eq!(machine.run("sameport attach --list").stdout, "");
    assert_eq!(machine.run("sameport detach --unit web").code, 1);
}

#[test]
fn a_drop_in_does_not_keep_a_service_from_starting() {
    let Some(machine) = Systemd::start("systemd-attach-gone", &[(WEB, &unit())]) else { return };
    // The path needs quotes in the unit file.
    let copy = "mkdir '/opt/my tools' && cp /usr/bin/sameport '/opt/my tools/100% sameport'";
    machine.shell(copy);
    machine.systemctl("start web");
    let permanent = "'/opt/my tools/100% sameport' attach --unit web --permanent --port 8080";
    machine.shell(permanent);
    let dir = "/etc/systemd/system/web.service.d";
    machine.systemctl("restart web");
    assert!(is_shared(&machine, 8080), "{}", machine.journal("web"));
    // The executable is gone.
    machine.shell("rm -r '/opt/my tools'");
    machine.systemctl("restart web");
    assert_eq!(machine.property("web", "ActiveState"), "active");
    assert!(!is_shared(&machine, 8080), "{}", machine.journal("web"));
    // A file of the administrator beside it stays; the unit does not run.
    machine.shell(&format!("echo '[Unit]' > {dir}/mine.conf"));
    machine.systemctl("stop web");
    let exited = machine.run("sameport detach --all");
    assert_eq!(exited.code, 0, "{exited:?}");
    assert_eq!(machine.shell(&format!("ls {dir}")), "mine.conf\n");
    // Only until the unit stops.
    machine.systemctl("start web");
    assert_eq!(machine.run("sameport attach --once --unit web").code, 0);
    assert_eq!(machine.shell(&format!("ls {dir}")), "mine.conf\n");
    machine.shell(&format!("! test -e {DROP_IN}"));
    machine.systemctl("restart web");
    assert!(!is_shared(&machine, 8080));
}
