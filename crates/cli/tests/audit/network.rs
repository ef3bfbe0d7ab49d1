//! A network namespace with its own ports, and programs in it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{
    Process, User, command_for, is_root, own_uid, sameport, script, spawn_process, start_command,
};

/// A user without privileges.
pub(crate) const NOBODY: u32 = 65534;

/// The uid of a program that [`Network`] starts with `uid`. Only root chooses it.
pub(crate) fn actual_uid(uid: u32) -> u32 {
    if is_root() { uid } else { own_uid() }
}

/// A network namespace with an active loopback device. Without root it is in a user namespace,
/// where every process has the uid of the tests.
pub(crate) struct Network {
    holder: Process,
}

impl Network {
    /// `None` if this user cannot create one.
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

    /// A command in the namespace. Only root chooses the uid.
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

    /// Starts an actor. Its file name distinguishes it from other actors, which have the same
    /// interpreter.
    pub(crate) fn actor(&self, uid: u32, name: &str, steps: &[&str]) -> Process {
        let words = [&[python(), named(name)], steps].concat();
        let started = self.start(uid, &words);
        started.wait_for_stdout("ready");
        started
    }

    /// The exit code and the output of `audit --json` for this user.
    pub(crate) fn audit(&self, uid: u32, arguments: &[&str]) -> (i32, Value) {
        let binary = sameport().to_str().unwrap();
        let words = [&[binary, "audit", "--json"], arguments].concat();
        let output = self.command(uid, &words).stdin(Stdio::null()).output().unwrap();
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (output.status.code().unwrap(), report)
    }
}

/// The system's interpreter: other users cannot enter a home directory.
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
        // Renamed in one step, because other threads create the same file.
        let scratch =
            crate::harness::in_test_dir(format!("{name}.{:?}", std::thread::current().id()));
        std::fs::write(&scratch, text).unwrap();
        std::fs::rename(&scratch, &copy).unwrap();
    }
    Box::leak(copy.to_str().unwrap().to_owned().into_boxed_str())
}
