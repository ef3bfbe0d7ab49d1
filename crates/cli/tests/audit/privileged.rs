//! Hijacks that only root can plant, or find.

use std::path::PathBuf;

use crate::network::{NOBODY, Network, has_python};
use crate::planted::the_one;
use crate::stage::{Started, descendants, eventually, is_root, kill, sameport, script, skip};

/// 20: the same program, outside of the container and in it.
#[test]
fn a_container_is_another_program() {
    let test = "audit-container";
    let Some(cgroup) = Cgroup::new() else { return skip(test, "no cgroup v2 to write to") };
    if !has_python() {
        return skip(test, "python3 is not installed");
    }
    let Some(network) = Network::new() else {
        return skip(test, "no network namespace can be made");
    };
    let steps = ["tcp", "rp", "bind=0.0.0.0:8443", "listen=8"];
    let [outside, inside] = [0, 1].map(|_| network.actor(NOBODY, "api", &steps));
    let (code, told) = network.audit(0, &[]);
    assert_eq!((code, &told["findings"]), (0, &serde_json::json!([])), "one program");
    cgroup.take(&inside);
    let (code, told) = network.audit(0, &[]);
    let found = the_one(&told, "shared-with-stranger").unwrap_or_else(|| panic!("{told:#}"));
    assert_eq!((code, &found["culprit"]["pid"]), (1, &inside.pid().into()), "{told:#}");
    assert_eq!(found["victim"]["pid"], outside.pid());
    assert_eq!(found["culprit"]["container"], Cgroup::ID[..12]);
    drop((outside, inside));
}

/// 22: whoever has the privilege can give any connection to any socket.
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
    let said = eventually(|| {
        let said = attached.stdout();
        (said.contains('\n') || !attached.is_running()).then_some(said)
    });
    let said = said.unwrap();
    let Some(number) = said.trim().strip_prefix("program ") else {
        return skip(test, &format!("it cannot be attached: {}", attached.ended().stderr));
    };
    let (code, told) = network.audit(0, &[]);
    let found = the_one(&told, "redirected").unwrap_or_else(|| panic!("{told:#}"));
    assert_eq!((code, found["program"].to_string().as_str()), (1, number), "{told:#}");
    // Who may not see it says so.
    let (_, told) = network.audit(NOBODY, &[]);
    let unseen = told["unseen"].to_string();
    assert!(unseen.contains("sk_lookup"), "{told:#}");
}

/// 23: nobody can join a private group, and somebody has a member's socket.
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
    let (code, told) = network.audit(0, &[]);
    assert_eq!((code, &told["findings"]), (0, &serde_json::json!([])), "{told:#}");

    let workers = descendants(run.pid());
    let is_actor = |pid: &&i32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with("/usr/bin/python3")
    };
    let worker = workers.iter().find(is_actor).unwrap();
    let thief = network.actor(0, "x", &[&format!("steal={worker}")]);
    let (code, told) = network.audit(0, &[]);
    let found = the_one(&told, "held-by-stranger").unwrap_or_else(|| panic!("{told:#}"));
    assert_eq!((code, &found["culprit"]["pid"]), (1, &thief.pid().into()), "{told:#}");
    assert!(found["text"].as_str().unwrap().contains("private group"), "{told:#}");
}

/// A cgroup that is named as Docker names a container's.
struct Cgroup(PathBuf);

impl Cgroup {
    const ID: &str = "5a3eb0a75a3eb0a75a3eb0a75a3eb0a75a3eb0a75a3eb0a75a3eb0a75a3eb0a7";

    fn new() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = mounts.find(|mount| mount.get(2) == Some(&"cgroup2"))?;
        let folder = PathBuf::from(mount[1]).join(format!("docker-{}.scope", Self::ID));
        let made = std::fs::create_dir(&folder);
        (made.is_ok() || folder.is_dir()).then_some(Self(folder))
    }

    fn take(&self, process: &Started) {
        std::fs::write(self.0.join("cgroup.procs"), process.pid().to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let left = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        left.lines().filter_map(|pid| pid.parse().ok()).for_each(|pid| kill(pid, libc::SIGKILL));
        let _ = eventually(|| std::fs::remove_dir(&self.0).ok());
    }
}
