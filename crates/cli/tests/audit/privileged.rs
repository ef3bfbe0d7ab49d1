//! Hijacks that only root can cause or find.

use crate::harness::{Cgroup, descendants, eventually, is_root, sameport, script, skip};
use crate::hijacks::find_finding;
use crate::network::{NOBODY, Network, has_python};

/// 20: one program, outside of a container and inside.
#[test]
fn a_container_is_another_program() {
    let test = "audit-container";
    let container = format!("5a3eb0a7{:056x}", std::process::id());
    // The name that Docker gives to the cgroup of a container.
    let Some(cgroup) = Cgroup::create(&format!("docker-{container}.scope")) else {
        return skip(test, "needs root: a cgroup v2 to write to");
    };
    if !has_python() {
        return skip(test, "no python3");
    }
    let Some(network) = Network::new() else {
        return skip(test, "no network namespace can be made");
    };
    let steps = ["tcp", "rp", "bind=0.0.0.0:8443", "listen=8"];
    let [outside, inside] = [0, 1].map(|_| network.actor(NOBODY, "api", &steps));
    let (code, report) = network.audit(0, &[]);
    assert_eq!((code, &report["findings"]), (0, &serde_json::json!([])), "one program");
    cgroup.move_into(inside.pid());
    let (code, report) = network.audit(0, &[]);
    let found =
        find_finding(&report, "shared-with-stranger").unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!((code, &found["culprit"]["pid"]), (1, &inside.pid().into()), "{report:#}");
    assert_eq!(found["victim"]["pid"], outside.pid());
    assert_eq!(found["culprit"]["container"], container[..12]);
    drop((outside, inside));
}

/// 22: a privileged program can give any connection to any socket.
#[test]
fn a_program_that_chooses_sockets_is_found() {
    let test = "audit-sk-lookup";
    if !is_root() || !has_python() {
        return skip(test, "needs root and python3");
    }
    let Some(network) = Network::new() else {
        return skip(test, "no network namespace can be made");
    };
    let mut attached =
        network.start(0, &["/usr/bin/python3", script("audit_lookup.py").to_str().unwrap()]);
    let printed = eventually(|| {
        let printed = attached.stdout();
        (printed.contains('\n') || !attached.is_running()).then_some(printed)
    });
    let printed = printed.unwrap();
    let Some(number) = printed.trim().strip_prefix("program ") else {
        return skip(test, &format!("it cannot be attached: {}", attached.wait().stderr));
    };
    let (code, report) = network.audit(0, &[]);
    let found = find_finding(&report, "redirected").unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!((code, found["program"].to_string().as_str()), (1, number), "{report:#}");
    // Without the privilege, `audit` says that it cannot see it.
    let (_, report) = network.audit(NOBODY, &[]);
    let unseen = report["unseen"].to_string();
    assert!(unseen.contains("sk_lookup"), "{report:#}");
}

/// 23: no process can join a private group, but one can steal a member's socket.
#[test]
fn a_private_groups_socket_with_a_stranger_is_found() {
    let test = "audit-private";
    if !is_root() || !has_python() {
        return skip(test, "needs root and python3");
    }
    let Some(network) = Network::new() else {
        return skip(test, "no network namespace can be made");
    };
    let actor = script("audit_actor.py");
    let steps = ["tcp", "bind=0.0.0.0:8443", "listen=8"];
    let command = ["--", "/usr/bin/python3", actor.to_str().unwrap()];
    let run = [sameport().to_str().unwrap(), "run", "--private"];
    let run = network.start(0, &[&run[..], &command, &steps].concat());
    run.wait_for_stdout("ready");
    let (code, report) = network.audit(0, &[]);
    assert_eq!((code, &report["findings"]), (0, &serde_json::json!([])), "{report:#}");

    let workers = descendants(run.pid());
    let is_actor = |pid: &&i32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with("/usr/bin/python3")
    };
    let worker = workers.iter().find(is_actor).unwrap();
    let thief = network.actor(0, "x", &[&format!("steal={worker}")]);
    let (code, report) = network.audit(0, &[]);
    let found = find_finding(&report, "held-by-stranger").unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!((code, &found["culprit"]["pid"]), (1, &thief.pid().into()), "{report:#}");
    assert!(found["text"].as_str().unwrap().contains("private group"), "{report:#}");
}
