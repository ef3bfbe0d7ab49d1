//! Three machines and a load balancer: network and pid namespaces of this kernel, joined by veth pairs. The tests
//! and `cargo xtask bench fleet` include this directory, so it needs the standard library only.
//!
//! A machine is a pid namespace: when its first process is killed, the kernel kills all others at once.

mod balancer;
mod clients;
mod machine;
pub(crate) mod story;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use balancer::{Balancer, Variant};
pub(crate) use clients::{Clients, Counts};
pub(crate) use machine::{Machine, Namespace};

/// The number of machines.
pub(crate) const MACHINES: u8 = 3;

/// What a lab is made of.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// The sameport executable.
    pub(crate) sameport: PathBuf,
    /// Another one, to which it is upgraded.
    pub(crate) newer: PathBuf,
    /// `tests/programs/fleet.c`, compiled.
    pub(crate) fleet: PathBuf,
    pub(crate) haproxy: PathBuf,
    /// An empty directory.
    pub(crate) directory: PathBuf,
    /// Variables of every process.
    pub(crate) environment: Vec<(String, PathBuf)>,
}

/// The machines and the load balancer.
pub(crate) struct Lab {
    // Before the namespaces that they are in.
    pub(crate) balancer: Balancer,
    pub(crate) machines: Vec<Machine>,
}

impl Lab {
    /// Starts everything, and waits until HAProxy says that each machine is up.
    pub(crate) fn start(parts: &Parts, variant: Variant) -> Result<Self, String> {
        let hub = Namespace::start(&parts.environment)?;
        let mut machines = Vec::new();
        for number in 1..=MACHINES {
            let machine = Machine::start(parts, number, &hub)?;
            machine.run_server(&parts.sameport)?;
            machines.push(machine);
        }
        let balancer = Balancer::start(parts, hub, variant)?;
        let lab = Self { balancer, machines };
        for machine in &lab.machines {
            lab.balancer.wait_for(machine.number, "UP")?;
        }
        Ok(lab)
    }
}

/// The output of a command that must succeed.
pub(crate) fn output(mut command: Command) -> Result<String, String> {
    let said =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let (stdout, stderr) =
        (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    match said.status.success() {
        true => Ok(stdout.into_owned()),
        false => Err(format!("{command:?}: {}: {stdout}{stderr}", said.status)),
    }
}

/// Asks until there is an answer. On a busy machine everything takes longer.
pub(crate) fn wait<T>(
    what: &str,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    const LIMIT: Duration = Duration::from_secs(120);
    let begin = Instant::now();
    loop {
        match attempt() {
            Ok(found) => return Ok(found),
            Err(last) if begin.elapsed() > LIMIT => return Err(format!("{what}: {last}")),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A program that a lab needs, in the usual directories.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let directories = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    directories.iter().map(|it| Path::new(it).join(program)).find(|file| file.is_file())
}
