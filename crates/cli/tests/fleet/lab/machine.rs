//! A machine: its namespaces, its run with two workers, its agent.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use super::parts::{Parts, output, wait};

/// The port of the server on each machine.
const PORT: u16 = 8080;

/// The port of the agent on each machine.
pub(crate) const AGENT: u16 = 9465;

/// The name of the run.
const RUN: &str = "web";

/// Namespaces, and the processes in them. All are killed when this is dropped.
pub(crate) struct Namespace {
    /// `unshare`, whose child is the first process.
    unshare: Child,
    /// The first process, as seen from here.
    pub(crate) first: u32,
    environment: Vec<(String, PathBuf)>,
}

impl Namespace {
    /// `environment`: of every process in them.
    pub(crate) fn start(environment: &[(String, PathBuf)]) -> Result<Self, String> {
        let mut command = Command::new("unshare");
        let script = "ip link set lo up && echo up && exec sleep 100000";
        command.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]);
        command.args(["/bin/sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        // Killed with its child, unshare(1) of util-linux 2.38 prints an error about a mask of signals.
        command.stderr(Stdio::null());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut unshare = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let mut line = String::new();
        let stdout = unshare.stdout.take();
        let read = stdout.map(|stdout| BufReader::new(stdout).read_line(&mut line));
        let environment = environment.to_vec();
        let mut namespace = Self { unshare, first: 0, environment };
        if line != "up\n" {
            return Err(format!("unshare: {read:?} {line:?}"));
        }
        let pid = namespace.unshare.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        namespace.first = children
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or("unshare has no child")?;
        Ok(namespace)
    }

    /// A command that is executed in the namespaces.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.first.to_string();
        command.args(["--target", &target, "--net", "--mount", "--pid", "--"]).arg(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `ip WORDS` in the namespaces.
    pub(crate) fn ip(&self, words: &str) -> Result<String, String> {
        let mut command = self.command("ip");
        command.args(words.split(' '));
        output(command)
    }

    /// Kills the first process, and the kernel all others with it.
    pub(crate) fn kill(&mut self) {
        if self.unshare.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = Command::new("kill").args(["-KILL", &self.first.to_string()]).status();
        }
        let _ = self.unshare.wait();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// A machine with its run and its agent.
pub(crate) struct Machine {
    pub(crate) number: u8,
    /// Each is a child of this process, and is waited for at the end.
    children: Mutex<Vec<Child>>,
    namespace: Namespace,
    fleet: PathBuf,
    directory: PathBuf,
}

impl Machine {
    /// Starts a machine that is joined to the load balancer, with its agent.
    pub(crate) fn start(parts: &Parts, number: u8, hub: &Namespace) -> Result<Self, String> {
        let namespace = Namespace::start(&parts.environment)?;
        let mut link = Command::new("ip");
        let (first, hub_first) = (namespace.first.to_string(), hub.first.to_string());
        let name = format!("m{number}");
        link.args(["link", "add", "eth0", "netns", &first, "type", "veth"]);
        link.args(["peer", "name", &name, "netns", &hub_first]);
        output(link)?;
        hub.ip(&format!("address add 10.77.{number}.1/24 dev {name}"))?;
        hub.ip(&format!("link set {name} up"))?;
        namespace.ip(&format!("address add {}/24 dev eth0", address(number)))?;
        namespace.ip("link set eth0 up")?;
        let directory = parts.directory.join(&name);
        std::fs::create_dir(&directory).map_err(|error| error.to_string())?;
        let children = Mutex::default();
        let fleet = parts.fleet.clone();
        let machine = Self { number, children, namespace, fleet, directory };
        let listen = format!("{}:{AGENT}", address(number));
        machine.start_sameport(&parts.sameport, "agent", &["agent", "--listen", &listen, RUN])?;
        Ok(machine)
    }

    /// Starts the run with two workers of this command.
    pub(crate) fn start_server(&self, sameport: &Path, command: &[&str]) -> Result<(), String> {
        let words = [&["run", "--name", RUN, "-n", "2", "--"][..], command].concat();
        self.start_sameport(sameport, "run", &words)
    }

    /// Starts the run, and waits until both workers are ready.
    pub(crate) fn run_server(&self, sameport: &Path) -> Result<(), String> {
        let fleet = self.fleet.to_string_lossy().into_owned();
        self.start_server(sameport, &[&fleet, "serve", &PORT.to_string()])?;
        wait("two workers are ready", || self.sameport(sameport, &["status", RUN, "--check"]))?;
        Ok(())
    }

    /// Runs a verb to its end.
    pub(crate) fn sameport(&self, sameport: &Path, words: &[&str]) -> Result<String, String> {
        output(self.command(sameport, words))
    }

    /// `sameport upgrade` to the same server with another command line.
    pub(crate) fn upgrade(&self, sameport: &Path) -> Result<(), String> {
        let fleet = self.fleet.to_string_lossy().into_owned();
        let words = ["upgrade", RUN, "--", "/usr/bin/env", "NEW=1", &fleet, "serve", "8080"];
        self.sameport(sameport, &words).map(drop)
    }

    /// Announces the end of the run, and waits for it.
    pub(crate) fn leave(&self, sameport: &Path, announce: &str) -> Result<(), String> {
        self.sameport(sameport, &["stop", RUN, "--announce", announce, "--wait"]).map(drop)
    }

    /// The machine loses its network, and all its processes at the same moment.
    pub(crate) fn die(&mut self) -> Result<(), String> {
        self.namespace.ip("link set eth0 down")?;
        self.namespace.kill();
        self.wait();
        Ok(())
    }

    /// Waits for processes that the kernel has killed.
    fn wait(&mut self) {
        if let Ok(children) = self.children.get_mut() {
            children.iter_mut().for_each(|child| drop(child.wait()));
        }
    }

    /// The output of its run and its agent.
    pub(crate) fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        format!("machine {}:\n{}{}", self.number, read("run.log"), read("agent.log"))
    }

    fn command(&self, sameport: &Path, words: &[&str]) -> Command {
        let mut command = self.namespace.command(sameport);
        command.args(words).env("XDG_RUNTIME_DIR", &self.directory).current_dir("/");
        command
    }

    fn start_sameport(&self, sameport: &Path, log: &str, words: &[&str]) -> Result<(), String> {
        let log = self.directory.join(format!("{log}.log"));
        let file = std::fs::File::options().create(true).append(true).open(log);
        let file = file.map_err(|error| error.to_string())?;
        let second = file.try_clone().map_err(|error| error.to_string())?;
        let mut command = self.command(sameport, words);
        command.stdin(Stdio::null()).stdout(file).stderr(second);
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        self.children.lock().map_err(|_| "a thread panicked")?.push(child);
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.namespace.kill();
        self.wait();
    }
}

/// The address of a machine.
pub(crate) fn address(number: u8) -> String {
    format!("10.77.{number}.2")
}

/// The address of its server.
pub(crate) fn server(number: u8) -> String {
    format!("{}:{PORT}", address(number))
}
