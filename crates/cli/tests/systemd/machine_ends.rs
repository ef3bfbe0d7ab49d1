//! Nothing of a machine outlives its test.

use std::path::Path;

use crate::harness::{eventually, kill};
use crate::machine::Systemd;

/// A service with a warning in the journal, and a child in another session.
const SLEEPS: &str =
    "[Service]\nExecStart=sh -c 'echo \"<4>of the service\"; setsid sleep 1000 & sleep 1001'\n";

#[test]
fn machine_is_up_and_ends_without_a_trace() {
    let units = [("sleeps.service", SLEEPS)];
    let Some(machine) = Systemd::start("systemd-ends", &units) else { return };
    machine.systemctl("start sleeps");
    assert_eq!(machine.property("sleeps", "ActiveState"), "active");
    assert_eq!(machine.systemctl("--failed --quiet --no-legend"), "", "{}", machine.journal("*"));
    let warning = || {
        let entries = machine.journal_entries("sleeps");
        let mut warnings = entries.iter().filter(|entry| entry["PRIORITY"] == "4");
        warnings.any(|entry| entry["MESSAGE"] == "of the service").then_some(())
    };
    machine.wait_until("line in the journal", warning);
    let cgroup = machine.cgroup().to_owned();
    assert!(cgroup.join("system.slice/sleeps.service").is_dir());
    drop(machine);
    assert!(!cgroup.exists());
}

/// SIGKILL of the script, as by a user who ends everything: the kernel ends systemd and so every
/// process. The next machine removes the cgroups.
#[test]
fn killed_script_takes_the_machine_along() {
    let units = [("sleeps.service", SLEEPS)];
    let Some(machine) = Systemd::start("systemd-killed", &units) else { return };
    machine.systemctl("start sleeps");
    let (script, systemd) = machine.pids();
    let cgroup = machine.cgroup().to_owned();
    kill(script, libc::SIGKILL);
    let gone = eventually(|| (!Path::new(&format!("/proc/{systemd}")).exists()).then_some(()));
    assert!(gone.is_some(), "systemd lives");
    drop(machine);
    assert!(cgroup.exists(), "the script did not remove it");
    let next = Systemd::start("systemd-killed", &[]).unwrap();
    assert!(!cgroup.exists(), "{} is left", cgroup.display());
    drop(next);
}
