//! The groups of members, each with a way to choose from it.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, kill_process};

use super::callers::Callers;
use super::chooser::{BalanceArm, Chooser};
use super::front::{Front, FrontKind};
use crate::error::BenchError;
use crate::harness::{BenchProcess, PATIENCE, free_address, start, start_as, subject, under_run};

/// Another user, without capabilities: nobody.
pub(crate) const USER: u32 = 65_534;

/// The directory of that user's control sockets.
pub(crate) const USER_FOLDER: &str = "/run/nobody";

/// The members of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupPlan<'a> {
    pub(crate) members: u16,
    /// Options of each member.
    pub(crate) options: &'a [&'a str],
    /// Weights of a proxy's servers: of the first, the second …
    pub(crate) weights: &'a [u32],
}

impl<'a> GroupPlan<'a> {
    pub(crate) fn of(members: u16) -> Self {
        Self { members, options: &[], weights: &[] }
    }

    pub(crate) fn with(self, options: &'a [&'a str]) -> Self {
        Self { options, ..self }
    }
}

/// A running group, which one arm chooses from. Ended when dropped.
pub(crate) struct BalancedGroup {
    pub(crate) address: SocketAddr,
    /// Dropped first, so that members still answer it.
    front: Option<Front>,
    pub(crate) processes: Vec<BenchProcess>,
    /// The inherited listener of [`Chooser::Shared`].
    shared: Option<TcpListener>,
    arm: BalanceArm,
    pub(crate) sameport: PathBuf,
}

impl BalancedGroup {
    fn new(arm: BalanceArm, sameport: &Path) -> Result<Self, BenchError> {
        let (address, sameport) = (free_address()?, sameport.to_owned());
        Ok(Self { address, front: None, processes: Vec::new(), shared: None, arm, sameport })
    }

    /// Starts a run of this command.
    pub(crate) fn of_run(
        arm: BalanceArm,
        sameport: &Path,
        options: &[&str],
        command: impl FnOnce(SocketAddr) -> Result<Vec<OsString>, BenchError>,
    ) -> Result<Self, BenchError> {
        let mut group = Self::new(arm, sameport)?;
        let command = command(group.address)?;
        group.start_run(options, &command)?;
        Ok(group)
    }

    /// Starts the members. They are ready when they answer.
    pub(crate) fn start(
        arm: BalanceArm,
        plan: GroupPlan<'_>,
        sameport: &Path,
    ) -> Result<Self, BenchError> {
        let mut group = Self::new(arm, sameport)?;
        let address = group.address;
        match arm.chooser {
            Chooser::Hash => group.start_members(plan, &["--shared"])?,
            Chooser::Shared => {
                let listener = TcpListener::bind(address);
                let listener = listener.map_err(|error| format!("bind {address}: {error}"))?;
                rustix::net::listen(&listener, 4096).map_err(|error| format!("listen: {error}"))?;
                rustix::io::fcntl_setfd(&listener, FdFlags::empty())
                    .map_err(|error| format!("F_SETFD: {error}"))?;
                let number = listener.as_raw_fd().to_string();
                group.shared = Some(listener);
                group.start_members(plan, &["--descriptor", &number])?;
            }
            Chooser::Classic | Chooser::Ebpf => {
                let command = member(address, plan.options, &[])?;
                group.start_run(&["-n", &plan.members.to_string()], &command)?;
            }
            Chooser::Haproxy => group.start_front(FrontKind::Haproxy, plan)?,
            Chooser::Nginx => group.start_front(FrontKind::Nginx, plan)?,
        }
        Ok(group)
    }

    fn start_members(&mut self, plan: GroupPlan<'_>, how: &[&str]) -> Result<(), BenchError> {
        let command = member(self.address, plan.options, how)?;
        for _ in 0..plan.members {
            self.processes.push(start(&command)?);
        }
        Ok(())
    }

    /// Starts a run with the policy of the arm.
    fn start_run(&mut self, options: &[&str], command: &[OsString]) -> Result<(), BenchError> {
        let name = self.run_name();
        let own = ["--name", &name, "-q", "--policy", self.arm.policy];
        let run = under_run(&self.sameport, &[&own, options].concat(), command);
        let process = match self.arm.chooser {
            Chooser::Classic => start_as(Some(USER), &[user_environment(), run].concat())?,
            _ => start(&run)?,
        };
        self.processes.push(process);
        Ok(())
    }

    fn start_front(&mut self, kind: FrontKind, plan: GroupPlan<'_>) -> Result<(), BenchError> {
        let mut servers = Vec::new();
        for _ in 0..plan.members {
            let server = free_address()?;
            self.processes.push(start(&member(server, plan.options, &[])?)?);
            servers.push(server);
        }
        let front = Front::start(kind, self.address, &servers, self.arm.policy, plan.weights)?;
        self.front = Some(front);
        Ok(())
    }

    /// The name of the run of this group.
    pub(crate) fn run_name(&self) -> String {
        format!("balance-{}", self.address.port())
    }

    pub(crate) fn callers(&self, clients: u16, patience: Duration) -> Callers {
        Callers { address: self.address, clients, patience }
    }

    /// Waits until the run counts this many workers as ready: until then its policy need not hold.
    pub(crate) fn wait_until_ready(&mut self, count: u16) -> Result<(), BenchError> {
        let until = Instant::now() + PATIENCE;
        while self.arm.is_ours() && self.processes.len() == 1 {
            let status = self.verb(&["status", &self.run_name(), "--json"])?;
            let text = String::from_utf8_lossy(&status.stdout).into_owned();
            if text.matches("\"ready\"").count() >= usize::from(count) {
                // The supervisor sets the policy after it has counted.
                thread::sleep(Duration::from_millis(200));
                break;
            }
            if let Some(why) = self.processes[0].said_at_its_end() {
                return Err(why);
            }
            if Instant::now() > until {
                return Err(format!("{count} workers: not ready in {PATIENCE:?}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The pids of all members. An error has the messages of a run that ended.
    pub(crate) fn members(&mut self, count: u16) -> Result<Vec<u32>, BenchError> {
        self.wait_until_ready(count)?;
        let callers = self.callers(1, PATIENCE);
        let until = Instant::now() + PATIENCE;
        loop {
            let found = callers.members(count, Duration::from_millis(500));
            if self.arm.chooser == Chooser::Shared {
                // The kernel wakes the member first that waited last, so that some members may be idle for long.
                return found.or_else(|_| callers.members(2, PATIENCE));
            }
            if found.is_ok() || Instant::now() > until {
                return found;
            }
            // A run that ends at once says why.
            for process in &mut self.processes {
                if let Some(why) = process.said_at_its_end() {
                    return Err(why);
                }
            }
        }
    }

    /// `sameport VERB` with these words, as the user of the run.
    pub(crate) fn verb(&self, words: &[&str]) -> Result<Output, BenchError> {
        let words = words.iter().map(OsString::from);
        let mut command = vec![self.sameport.as_os_str().to_owned()];
        command.extend(words);
        let mut starting = if self.arm.chooser == Chooser::Classic {
            let all = [user_environment(), command].concat();
            let mut starting = Command::new("setpriv");
            starting.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(all);
            starting
        } else {
            let mut starting = Command::new(&command[0]);
            starting.args(&command[1..]);
            starting
        };
        let output = starting.stdin(Stdio::null()).output();
        output.map_err(|error| format!("{}: {error}", self.sameport.display()))
    }

    /// As [`Self::verb`]; a failure is an error with the message of `sameport`.
    pub(crate) fn done(&self, words: &[&str]) -> Result<String, BenchError> {
        let output = self.verb(words)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let why = String::from_utf8_lossy(&output.stderr);
        Err(format!("sameport {}: {}\n{}", words.join(" "), output.status, why.trim_end()))
    }
}

impl Drop for BalancedGroup {
    fn drop(&mut self) {
        drop(self.front.take());
        if self.arm.is_ours() {
            let _ = self.verb(&["stop", &self.run_name()]);
        }
    }
}

fn member(
    address: SocketAddr,
    options: &[&str],
    how: &[&str],
) -> Result<Vec<OsString>, BenchError> {
    let port = address.port().to_string();
    subject(&[&["member", &port], options, how].concat())
}

/// The other user's directory of control sockets, as a prefix of a command.
fn user_environment() -> Vec<OsString> {
    ["env".to_owned(), format!("XDG_RUNTIME_DIR={USER_FOLDER}")].map(OsString::from).to_vec()
}

/// Sends a signal to a process of the benchmark.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<(), BenchError> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("a wrong pid")?;
    kill_process(pid, signal).map_err(|error| format!("kill: {error}"))
}
