//! Pods of one node in the host's network: namespaces of pids and mounts of their own, one network namespace.
//! What may share a port there, and a rollout without a loss.

use std::io;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{
    Process, c_program, eventually, in_test_dir, is_root, keeper, sameport, skip, spawn_process,
};
use crate::lab::Namespace;
use crate::lab::parts::find;
use crate::sandbox::{refused_by, with_pre_exec};

/// A node: the network that its pods have.
struct Node {
    name: String,
    network: Namespace,
    fleet: PathBuf,
}

/// A pod, whose first process is `sameport run`.
struct Pod {
    process: Process,
    user: u32,
    runtime: PathBuf,
}

impl Node {
    fn start(test: &str) -> Option<Self> {
        if !is_root() {
            skip(test, "needs root: namespaces");
            return None;
        }
        if let Some(lacks) =
            ["ip", "unshare", "nsenter", "setpriv"].into_iter().find(|it| find(it).is_none())
        {
            skip(test, &format!("no {lacks}"));
            return None;
        }
        let environment = [(keeper::MARK.to_owned(), in_test_dir(""))];
        let network = Namespace::start(&environment).unwrap();
        Some(Self { name: test.to_owned(), network, fleet: c_program("fleet", &[]) })
    }

    /// A command in the network of the node, as this user.
    fn command(&self, user: u32, before: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.network.first.to_string(), "--net", "--"]).args(before);
        let user = user.to_string();
        command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
        command.args(words).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        command.env(keeper::MARK, in_test_dir("")).current_dir("/");
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command
    }

    /// Starts a pod with a run of two workers on port 8080. `before`: what its runtime does before it.
    fn pod(
        &self,
        name: &str,
        user: u32,
        options: &[&str],
        before: Option<fn() -> io::Result<()>>,
    ) -> Pod {
        let runtime = in_test_dir(format!("{}-{name}", self.name));
        std::fs::create_dir(&runtime).unwrap();
        chown(&runtime, Some(user), Some(user)).unwrap();
        let unshare =
            ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child", "--"];
        let (sameport, fleet) = (sameport().to_string_lossy(), self.fleet.to_string_lossy());
        let run = [&*sameport, "run", "--name", "web", "-n", "2"];
        let words = [&run[..], options, &["--", &fleet, "serve", "8080"]].concat();
        let mut command = self.command(user, &unshare, &words);
        command.env("XDG_RUNTIME_DIR", &runtime);
        if let Some(before) = before {
            command = with_pre_exec(command, before);
        }
        Pod { process: spawn_process(command), user, runtime }
    }

    /// A command in a container of this pod that has files of its own.
    fn sidecar(&self, pod: &Pod, words: &[&str]) -> Command {
        let target = pod.first().to_string();
        let enter = ["nsenter", "--target", &target, "--pid", "--mount", "--"];
        let sameport = sameport().to_string_lossy();
        let words = [&[&*sameport], words].concat();
        let mut command = self.command(pod.user, &enter, &words);
        command.env("XDG_RUNTIME_DIR", "/nonexistent");
        command
    }

    /// `sameport WORDS` in the container of the run.
    fn exec(&self, pod: &Pod, words: &[&str]) -> Process {
        let mut command = self.sidecar(pod, words);
        command.env("XDG_RUNTIME_DIR", &pod.runtime);
        spawn_process(command)
    }

    fn wait_until_ready(&self, pod: &Pod) {
        let check = || self.exec(pod, &["status", "web", "--check"]).wait().code == 0;
        assert!(eventually(|| check().then_some(())).is_some(), "{}", pod.process.stderr());
    }
}

impl Pod {
    /// Its first process, as seen from here.
    fn first(&self) -> i32 {
        let pid = self.process.pid();
        let first = eventually(|| {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            children.ok()?.split_whitespace().next()?.parse().ok()
        });
        first.unwrap_or_else(|| panic!("no first process: {}", self.process.stderr()))
    }
}

/// A pod sees no process of another one, so no group is known, and only `--join` shares. The kernel compares users.
#[test]
fn pods_of_one_user_share_a_port_with_join_only() {
    for user in [0, 1000] {
        let Some(node) = Node::start(&format!("pods-join-{user}")) else { return };
        let first = node.pod("first", user, &["--join"], None);
        node.wait_until_ready(&first);
        for (name, options) in [("command", &[][..]), ("group", &["--group", "web"])] {
            let other = node.pod(name, user, options, None);
            other.process.wait_for_stderr("is held by a program that cannot be seen from here");
            other.process.wait_for_stderr("hint: --join shares it all the same");
        }
        let second = node.pod("second", user, &["--join"], None);
        node.wait_until_ready(&second);
        let stranger = node.pod("stranger", 1001, &["--join"], None);
        stranger.process.wait_for_stderr("only one user's sockets can share");
    }
}

/// The default profile of container engines without CAP_SYS_PTRACE.
#[test]
fn pods_whose_profile_refuses_pidfd_getfd_share_by_preload() {
    let Some(node) = Node::start("pods-preload") else { return };
    let before = || refused_by(libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned());
    let pods = ["first", "second"].map(|name| {
        let pod = node.pod(name, 1000, &["--join"], Some(before));
        node.wait_until_ready(&pod);
        let status = node.exec(&pod, &["status", "web"]).wait().stdout;
        assert!(status.contains(", by preload\n"), "{status}");
        pod
    });
    drop(pods);
}

/// `maxSurge: 1`: the new pod is ready before the old one gets its preStop.
#[test]
fn a_rollout_on_one_node_loses_nothing() {
    let Some(node) = Node::start("pods-rollout") else { return };
    let mut old = node.pod("0", 1000, &["--join"], None);
    node.wait_until_ready(&old);
    let fleet = node.fleet.to_string_lossy().into_owned();
    let words = [&*fleet, "ask", "127.0.0.1", "8080", "4", "2000"];
    let mut clients = node.command(1000, &[], &words);
    clients.env_remove("XDG_RUNTIME_DIR");
    let clients = spawn_process(clients);
    let answers =
        || clients.stdout().lines().last().is_some_and(|it| !it.starts_with("answered=0 "));
    assert!(eventually(|| answers().then_some(())).is_some(), "{}", clients.stdout());
    for generation in 1..=3 {
        let new = node.pod(&generation.to_string(), 1000, &["--join"], None);
        node.wait_until_ready(&new);
        let stopped = node.exec(&old, &["stop", "web", "--wait"]).wait();
        // The end of process 1 ends every process of its namespace, this one too.
        assert!([0, 137].contains(&stopped.code), "{stopped:?}");
        let ended = old.process.wait();
        assert_eq!(ended.code, 0, "{ended:?}");
        old = new;
    }
    let exited = clients.terminate();
    let last = exited.stdout.lines().last().unwrap_or_default();
    assert!(
        last.ends_with("refused=0 unanswered=0 cut=0 timed-out=0 5xx=0 wrong=0"),
        "{last}\n{}",
        old.process.stderr()
    );
}

/// The readiness probe of the Deployment without the host's network.
#[test]
fn a_sidecar_answers_for_the_run_that_it_finds_by_its_process() {
    let Some(node) = Node::start("pods-sidecar") else { return };
    let pod = node.pod("web", 1000, &[], None);
    node.wait_until_ready(&pod);
    let health =
        spawn_process(node.sidecar(&pod, &["metrics", "--listen", "*:9464", "--no-audit"]));
    let ask = || {
        let words = ["/usr/bin/env", "bash", "-c", PROBE];
        let answer = spawn_process(node.command(1000, &[], &words)).wait().stdout;
        answer.lines().next().unwrap_or_default().to_owned()
    };
    let wait_for = |status: &str| {
        let mut last = String::new();
        let found = eventually(|| {
            last = ask();
            last.contains(status).then_some(())
        });
        assert!(found.is_some(), "{status}, not {last:?}\n{}", health.stderr());
    };
    wait_for(" 200 ");
    let stop = node.exec(&pod, &["stop", "web", "--announce", "1h", "--wait"]);
    wait_for(" 503 ");
    let hurried = node.exec(&pod, &["stop", "web", "--now"]).wait();
    assert!([0, 137].contains(&hurried.code), "{hurried:?}");
    let stopped = stop.wait();
    assert!([0, 137].contains(&stopped.code), "{stopped:?}");
}

/// What kubelet asks, with the TCP of bash.
const PROBE: &str = "exec 3<>/dev/tcp/127.0.0.1/9464 && printf 'GET /readyz?run=web&min=1 HTTP/1.1\\r\\nHost: \
                     pod\\r\\nConnection: close\\r\\n\\r\\n' >&3 && cat <&3";
