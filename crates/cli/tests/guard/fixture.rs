//! A network namespace with its own files, pins and cgroups. Guards of other tests do not apply,
//! although all are attached to the root cgroup.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::{self, Exited, Process, User, c_program, start_command};

pub(crate) const PINS: &str = "/sys/fs/bpf/sameport";
pub(crate) const CONFIG_DIR: &str = "/etc/sameport";
pub(crate) const FILE: &str = "/etc/sameport/guards.json";
pub(crate) const LOCK: &str = "/etc/sameport/guards.lock";
pub(crate) const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// A port in the ephemeral range.
pub(crate) const PORT: &str = "40443";

/// A private BPF file system, and an /etc with the user database.
const SETUP: &str = "\
set -e
ip link set lo up
while umount /sys/fs/bpf 2>/dev/null; do :; done
mount -t bpf -o mode=700 bpf /sys/fs/bpf
mount -t tmpfs none \"$1\"
cp -a /etc/passwd /etc/group /etc/ld.so.cache /etc/alternatives \"$1\"
mount --bind \"$1\" /etc
echo ready
exec sleep 1000";

pub(crate) struct GuardFixture {
    namespace: Process,
    /// The parent of the fixture's cgroups.
    cgroups: PathBuf,
}

impl GuardFixture {
    /// Skips the test without root or without cgroup v2.
    pub(crate) fn new(test: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = harness::root_cgroup(test)?;
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sameport-guard-{}-{next}", std::process::id());
        let cgroups = root.join(&name);
        // A process with the same pid in another pid namespace can have created the cgroups.
        fs::create_dir_all(cgroups.join("out")).unwrap();
        fs::create_dir_all(cgroups.join("in/sub")).unwrap();
        let etc = harness::in_test_dir(&name);
        fs::create_dir_all(&etc).unwrap();
        let words = ["--mount", "--net", "sh", "-c", SETUP, "sh", etc.to_str().unwrap()];
        let namespace = start_command(User::Current, "unshare", &words);
        namespace.wait_for_stdout("ready");
        Some(Self { namespace, cgroups })
    }

    /// Starts a program in the namespaces and in one of the cgroups.
    pub(crate) fn start_in<P: AsRef<OsStr>, S: AsRef<OsStr>>(
        &self,
        cgroup: &str,
        program: P,
        arguments: &[S],
    ) -> Process {
        let enter = "echo 0 > \"$0/cgroup.procs\" && exec \"$@\"";
        let mut words: Vec<OsString> =
            ["--target", &self.namespace.pid().to_string(), "--mount", "--net", "sh", "-c", enter]
                .map(OsString::from)
                .into();
        words.push(self.cgroup(cgroup).into());
        words.push(program.as_ref().to_owned());
        words.extend(arguments.iter().map(|word| word.as_ref().to_owned()));
        start_command(User::Current, "nsenter", &words)
    }

    /// Runs a program to its exit, in a cgroup that the tests do not allow.
    #[track_caller]
    pub(crate) fn run<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> Exited {
        self.start_in("out", program, arguments).wait()
    }

    /// The output of a shell command, which must succeed.
    #[track_caller]
    pub(crate) fn shell(&self, line: &str) -> String {
        let exited = self.run("sh", &["-c", line]);
        assert_eq!(exited.code, 0, "{line}: {exited:?}");
        exited.stdout
    }

    /// `sameport guard WORDS`.
    #[track_caller]
    pub(crate) fn guard(&self, words: &str) -> Exited {
        let words: Vec<&str> = ["guard"].into_iter().chain(words.split(' ')).collect();
        self.start_in("out", harness::sameport(), &words).wait()
    }

    /// `sameport guard WORDS`, which must succeed.
    #[track_caller]
    pub(crate) fn guard_ok(&self, words: &str) -> Exited {
        let exited = self.guard(words);
        assert_eq!(exited.code, 0, "{words}: {exited:?}");
        exited
    }

    /// The output of `guard --list --json`.
    #[track_caller]
    pub(crate) fn list(&self) -> serde_json::Value {
        serde_json::from_str(&self.guard_ok("--list --json").stdout).unwrap()
    }

    /// The output of `guard --log --json`.
    #[track_caller]
    pub(crate) fn log(&self) -> Vec<serde_json::Value> {
        let lines = self.guard_ok("--log --json").stdout;
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The output of one call of `guard_binds`, run in a cgroup.
    #[track_caller]
    pub(crate) fn bind_call(&self, cgroup: &str, way: &str, port: &str) -> String {
        let out = self.cgroup("out");
        let words = [way, port, out.to_str().unwrap()];
        let exited = self.start_in(cgroup, bind_calls_program(), &words).wait();
        assert_eq!(exited.code, 0, "{way}: {exited:?}");
        exited.stdout.trim_end().to_owned()
    }

    /// The directory of a cgroup.
    pub(crate) fn cgroup(&self, name: &str) -> PathBuf {
        self.cgroups.join(name)
    }

    /// The path of a cgroup, as in rules.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("/{}/{name}", self.cgroups.file_name().unwrap().to_str().unwrap())
    }

    /// Asserts that neither the kernel nor the disk has a guard.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let left = format!("ls -d {PINS} {CONFIG_DIR} 2>/dev/null; cat {RESERVED}");
        assert_eq!(self.shell(&left).trim(), "");
        assert_eq!(self.bind_call("out", "tcp/0.0.0.0", PORT), format!("given {PORT}"));
    }
}

impl Drop for GuardFixture {
    fn drop(&mut self) {
        // The last process of the namespace takes the pins with it, but not the cgroups.
        self.namespace.signal(libc::SIGKILL);
        let mut folders = vec![self.cgroups.clone()];
        let mut at = 0;
        while let Some(dir) = folders.get(at).cloned() {
            let below = fs::read_dir(dir).into_iter().flatten().flatten();
            let below = below.filter(|entry| entry.path().is_dir());
            folders.extend(below.map(|entry| entry.path()));
            at += 1;
        }
        for dir in folders.iter().rev() {
            harness::remove_cgroup(dir);
        }
    }
}

pub(crate) fn bind_calls_program() -> PathBuf {
    c_program("guard_binds", &["-static", "-no-pie"])
}
