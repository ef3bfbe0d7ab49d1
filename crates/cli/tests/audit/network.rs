//! A network namespace, and programs in it: nobody else is on its ports.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{
    Process, User, command_for, is_root, sameport, script, spawn_process, start_command,
};

/// Who looks without any privilege.
pub(crate) const NOBODY: u32 = 65534;

/// A network namespace with a loopback that is up, for as long as this lives. Made by root, or else in a
/// user namespace, where every process is the user who runs the tests.
pub(crate) struct Network {
    holder: Process,
}

impl Network {
    /// `None` where this user may not make one.
    pub(crate) fn new() -> Option<Self> {
        let script = "ip link set lo up && echo up && exec sleep 600";
        let with_user = ["-U", "-c", "--keep-caps", "-n", "--", "sh", "-c", script];
        let words = if is_root() { &with_user[3..] } else { &with_user[..] };
        let mut holder = start_command(User::Current, "unshare", words);
        let up = crate::harness::eventually(|| {
            (holder.stdout().contains("up") || !holder.is_running()).then_some(())
        });
        (up.is_some() && holder.stdout().contains("up")).then_some(Self { holder })
    }

    /// A command inside, as this user; only root chooses.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, uid: u32, words: &[S]) -> Command {
        let holder = self.holder.pid().to_string();
        let user = uid.to_string();
        let mut outer: Vec<&str> = match is_root() {
            true => vec!["-n", "-t", &holder, "--", "setpriv", "--clear-groups", "--reuid", &user],
            false => vec!["-U", "--preserve-credentials", "-n", "-t", &holder, "--"],
        };
        if is_root() {
            outer.extend(["--regid", &user, "--"]);
        }
        let outer = outer.into_iter().map(OsStr::new);
        let words: Vec<&OsStr> = outer.chain(words.iter().map(AsRef::as_ref)).collect();
        command_for(User::Current, "nsenter", &words)
    }

    pub(crate) fn start<S: AsRef<OsStr>>(&self, uid: u32, words: &[S]) -> Process {
        spawn_process(self.command(uid, words))
    }

    /// The actor under this name, which is what tells it from others: the interpreter is the same.
    pub(crate) fn actor(&self, uid: u32, name: &str, steps: &[&str]) -> Process {
        let words = [&[python(), named(name)], steps].concat();
        let started = self.start(uid, &words);
        started.wait_for_stdout("ready");
        started
    }

    /// What `audit --json` says to this user, and its exit code.
    pub(crate) fn audit(&self, uid: u32, arguments: &[&str]) -> (i32, Value) {
        let binary = sameport().to_str().unwrap();
        let words = [&[binary, "audit", "--json"], arguments].concat();
        let output = self.command(uid, &words).stdin(Stdio::null()).output().unwrap();
        let told = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (output.status.code().unwrap(), told)
    }
}

/// The system's own: one in a home folder is closed to other users.
fn python() -> &'static str {
    "/usr/bin/python3"
}

pub(crate) fn has_python() -> bool {
    Path::new(python()).exists()
}

/// A copy of the actor.
fn named(name: &str) -> &'static str {
    let original = script("audit_actor.py");
    let copy = crate::harness::in_test_dir(format!("{name}.py"));
    let text = std::fs::read(original).unwrap();
    if std::fs::read(&copy).ok().as_ref() != Some(&text) {
        // Whole at once, for whoever else makes the same.
        let scratch =
            crate::harness::in_test_dir(format!("{name}.{:?}", std::thread::current().id()));
        std::fs::write(&scratch, text).unwrap();
        std::fs::rename(&scratch, &copy).unwrap();
    }
    Box::leak(copy.to_str().unwrap().to_owned().into_boxed_str())
}
