//! Real servers without a hijack: `audit` finds nothing.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::clean_setups::SETUPS;
use crate::harness::{Process, eventually, in_test_dir, is_root, sameport, skip};
use crate::network::{NOBODY, Network};

/// A network namespace and a directory for one setup, and its processes.
pub(crate) struct CleanSetup {
    pub(crate) network: Network,
    pub(crate) dir: PathBuf,
    started: Vec<Process>,
}

impl CleanSetup {
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = in_test_dir(format!("clean-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&dir).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&dir, open).unwrap();
        Some(Self { network: Network::new()?, dir, started: vec![] })
    }

    /// Starts a program as root.
    pub(crate) fn start(&mut self, words: &[&str]) -> i32 {
        self.start_as(0, words)
    }

    pub(crate) fn start_as(&mut self, uid: u32, words: &[&str]) -> i32 {
        let started = self.network.start(uid, words);
        let pid = started.pid();
        self.started.push(started);
        pid
    }

    /// Starts an actor: see `audit_actor.py`.
    pub(crate) fn actor(&mut self, uid: u32, name: &str, steps: &[&str]) {
        let actor = self.network.actor(uid, name, steps);
        self.started.push(actor);
    }

    /// Writes a file.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Waits until this many sockets listen on the port.
    #[track_caller]
    pub(crate) fn wait_for_sockets(&self, port: u16, sockets: usize) {
        let count = || {
            let words = [sameport().to_str().unwrap(), "ls", "--json", &port.to_string()];
            let output = self.network.command(0, &words).output().unwrap();
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            let groups = report["groups"].as_array()?;
            let members = groups.iter().map(|group| group["members"].as_array().unwrap().len());
            Some(members.sum::<usize>())
        };
        let found = eventually(|| count().filter(|count| *count >= sockets));
        let printed: Vec<_> = self.started.iter().map(|it| it.stdout() + &it.stderr()).collect();
        assert!(found.is_some(), "nobody came to {port}: {:?}\n{}", count(), printed.concat());
    }
}

#[test]
fn twenty_setups_without_a_false_alarm() {
    if !is_root() {
        return skip("audit-clean", "needs root: servers change their user");
    }
    let mut quiet = 0;
    for (name, start) in SETUPS {
        let Some(mut setup) = CleanSetup::new() else {
            return skip("audit-clean", "no network namespace can be made");
        };
        if start(&mut setup).is_none() {
            skip(&format!("audit-clean-{name}"), "it is not installed");
            continue;
        }
        for user in [0, NOBODY] {
            let (code, report) = setup.network.audit(user, &[]);
            let nothing = serde_json::json!([]);
            assert_eq!((code, &report["findings"]), (0, &nothing), "{name}, by {user}: {report:#}");
        }
        quiet += 1;
    }
    assert!(quiet >= 20 || std::env::var_os("CI").is_none(), "only {quiet} are installed");
}
