//! Podman in namespaces of its own: `programs/podman.sh`.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::archive::{IMAGE, REFERENCE};
use crate::harness::{
    Exited, Process, User, command_for, find_program, is_root, script, skip, spawn_process,
};

/// Options of a container: without a cgroup of its own, which the namespaces cannot make, and with limits that a
/// machine without CAP_SYS_RESOURCE permits. Programs and libraries are those of this machine.
const OPTIONS: &[&str] = &[
    "--cgroups=disabled",
    "--network=host",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=4096:4096",
    "--volume=/usr:/usr:ro",
    "--volume=/lib:/lib:ro",
    "--volume=/lib64:/lib64:ro",
];

pub(crate) struct Podman {
    script: Child,
    pid: String,
}

impl Podman {
    /// `None`: podman cannot run here. The reason has been printed as a skip.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let refusal = |reason: &str| {
            skip(test, reason);
            None
        };
        let image = match &*IMAGE {
            Ok(image) => image,
            Err(reason) => return refusal(reason),
        };
        if !is_root() {
            return refusal("needs root");
        }
        if !cfg!(target_arch = "x86_64") || !Path::new("/lib64").exists() {
            return refusal("the image is made for x86-64");
        }
        for program in ["podman", "unshare", "nsenter"] {
            if find_program(program).is_none() {
                return refusal(&format!("needs {program}"));
            }
        }
        let mut command = command_for(User::Current, "sh", &[script("podman.sh")]);
        command.arg("start").stdin(Stdio::piped());
        let mut script = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(script.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = line.trim().strip_prefix("pid ").unwrap_or_default().to_owned();
        let podman = Self { script, pid };
        if podman.pid.is_empty() {
            return refusal("no mount and pid namespaces with cgroup v2");
        }
        let loaded = podman.run(&["load", "--input", image.to_str().unwrap()]);
        assert!(loaded.code == 0 && loaded.stdout.contains(REFERENCE), "{loaded:?}");
        Some(podman)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = command_for(User::Current, "nsenter", &["--target", &self.pid]);
        command.args([
            "--mount",
            "--pid",
            "podman",
            "--storage-driver=vfs",
            "--cgroup-manager=cgroupfs",
        ]);
        command.args(["--events-backend=none"]).args(words).env("HOME", "/");
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// `podman WORDS`, to its end.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> Exited {
        spawn_process(self.command(words)).wait_within(std::time::Duration::from_secs(120))
    }

    /// A container of the image, in the foreground.
    pub(crate) fn container(&self, name: &str, options: &[&str], arguments: &[&str]) -> Process {
        let words =
            [&["run", "--name", name][..], OPTIONS, options, &[REFERENCE], arguments].concat();
        spawn_process(self.command(&words))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}
