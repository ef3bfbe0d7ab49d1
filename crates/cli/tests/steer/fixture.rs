//! A network namespace with its own pins, in which programs share a port.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use serde_json::Value;

use crate::harness::{self, Exited, Process, User, script, start_command};

/// Ports are those of the namespace.
pub(crate) const PORT: &str = "8080";

pub(crate) const PINS: &str = "/sys/fs/bpf/sameport/traffic";

/// A private BPF file system.
const SETUP: &str = "\
set -e
ip link set lo up
while umount /sys/fs/bpf 2>/dev/null; do :; done
mount -t bpf -o mode=700 bpf /sys/fs/bpf
echo ready
exec sleep 1000";

pub(crate) struct TrafficFixture {
    namespace: Process,
}

/// Processes that share [`PORT`].
pub(crate) struct Members {
    _process: Process,
    /// Each has a listener of its own on every address.
    pub(crate) pids: Vec<i32>,
}

impl TrafficFixture {
    /// Skips the test without the rights or the kernel for eBPF.
    pub(crate) fn new(test: &str) -> Option<Self> {
        harness::root_cgroup(test)?;
        let words = ["--mount", "--net", "sh", "-c", SETUP];
        let namespace = start_command(User::Current, "unshare", &words);
        namespace.wait_for_stdout("ready");
        Some(Self { namespace })
    }

    /// The process that keeps the namespaces.
    pub(crate) fn pid(&self) -> i32 {
        self.namespace.pid()
    }

    /// Starts a program in the namespaces.
    pub(crate) fn start<P: AsRef<OsStr>, S: AsRef<OsStr>>(
        &self,
        program: P,
        args: &[S],
    ) -> Process {
        let target = self.namespace.pid().to_string();
        let mut words: Vec<OsString> =
            ["--target", &target, "--mount", "--net"].map(OsString::from).into();
        words.push(program.as_ref().to_owned());
        words.extend(args.iter().map(|word| word.as_ref().to_owned()));
        start_command(User::Current, "nsenter", &words)
    }

    /// `sameport WORDS`.
    #[track_caller]
    pub(crate) fn sameport(&self, words: &str) -> Exited {
        let words: Vec<&str> = words.split(' ').collect();
        self.start(harness::sameport(), &words).wait()
    }

    /// `sameport WORDS`, which must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, words: &str) -> Exited {
        let exited = self.sameport(words);
        assert_eq!(exited.code, 0, "{words}: {exited:?}");
        exited
    }

    /// `sameport WORDS`, which must fail with this exit code, an error that contains `error` and a hint that
    /// contains `hint`.
    #[track_caller]
    pub(crate) fn fails(&self, words: &str, code: i32, error: &str, hint: &str) {
        assert_fails(&self.sameport(words), code, error, hint);
    }

    /// The output of a shell command, which must succeed.
    #[track_caller]
    pub(crate) fn shell(&self, line: &str) -> String {
        let exited = self.start("sh", &["-c", line]).wait();
        assert_eq!(exited.code, 0, "{line}: {exited:?}");
        exited.stdout
    }

    /// The port as `steer PORT --json` prints it.
    #[track_caller]
    pub(crate) fn port(&self) -> Value {
        let text = self.ok(&format!("steer {PORT} --json")).stdout;
        let mut all: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(all["version"], 1, "{text}");
        all["ports"][0].take()
    }

    /// A member as `steer PORT --json` prints it.
    #[track_caller]
    pub(crate) fn member(&self, pid: i32) -> Value {
        let port = self.port();
        let member = port["members"].as_array().unwrap().iter().find(|it| it["pid"] == pid);
        member.unwrap_or_else(|| panic!("no {pid}: {port}")).clone()
    }

    /// Processes that share [`PORT`] on these addresses.
    pub(crate) fn members(&self, count: usize, addresses: &[&str]) -> Members {
        let count = count.to_string();
        let words = [&["members", PORT, &count], addresses].concat();
        let process = self.traffic(&words);
        process.wait_for_stdout("ready");
        let pids = pids(&process.stdout());
        Members { _process: process, pids }
    }

    /// Ends the processes that share [`PORT`], and waits until their sockets are closed.
    #[track_caller]
    pub(crate) fn end(&self, members: Members) {
        drop(members);
        // 1F90 is the port, 0A a listener.
        let line = "grep -cE ':1F90 [^ ]+ 0A ' /proc/self/net/tcp || true";
        let closed = harness::eventually(|| (self.shell(line).trim() == "0").then_some(()));
        assert!(closed.is_some(), "a member of {PORT} is still there");
    }

    /// Starts the program of members and clients.
    pub(crate) fn traffic(&self, words: &[&str]) -> Process {
        let file = script("traffic.py");
        let words: Vec<&OsStr> =
            [file.as_os_str()].into_iter().chain(words.iter().map(OsStr::new)).collect();
        self.start("python3", &words)
    }

    /// Connects this many times to `address`, one after the other: the connections of each member.
    #[track_caller]
    pub(crate) fn connect(&self, times: u32, address: &str) -> BTreeMap<i32, u32> {
        let exited = self.traffic(&["count", PORT, &times.to_string(), address]).wait();
        assert_eq!(exited.code, 0, "{exited:?}");
        counts(&exited.stdout)
    }

    /// The same, and the connections stay open until the client ends.
    #[track_caller]
    pub(crate) fn hold(&self, times: u32, address: &str) -> (Process, BTreeMap<i32, u32>) {
        let client = self.traffic(&["hold", PORT, &times.to_string(), address]);
        client.wait_for_stdout("ready");
        let counts = counts(&client.stdout());
        (client, counts)
    }
}

#[track_caller]
pub(crate) fn assert_fails(exited: &Exited, code: i32, error: &str, hint: &str) {
    assert_eq!(exited.code, code, "{exited:?}");
    let mut lines = exited.stderr.lines().filter(|line| !line.starts_with("note: "));
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    assert!(first.starts_with("error: ") && first.contains(error), "{error:?}: {exited:?}");
    assert!(hint.is_empty() || second.starts_with("hint: "), "{exited:?}");
    assert!(second.contains(hint), "{hint:?}: {exited:?}");
}

fn pids(text: &str) -> Vec<i32> {
    text.lines().filter_map(|line| line.strip_prefix("member ")?.parse().ok()).collect()
}

/// The lines `PID NUMBER`.
pub(crate) fn counts(text: &str) -> BTreeMap<i32, u32> {
    let pair = |line: &str| {
        let (pid, number) = line.split_once(' ')?;
        Some((pid.parse().ok()?, number.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}
