//! `sameport run --name` and its verbs.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::fleet::Fleet;
use super::servers::Program;
use crate::error::BenchError;
use crate::harness::{BenchProcess, PATIENCE, free_address, start, under_run};

/// Workers of a named run.
pub(crate) struct HeldFleet<'a> {
    sameport: &'a Path,
    name: String,
    address: SocketAddr,
    copies: usize,
    killed: usize,
    supervisor: BenchProcess,
}

impl<'a> HeldFleet<'a> {
    pub(crate) fn start(
        sameport: &'a Path,
        options: &[&str],
        program: &Program,
        copies: u16,
    ) -> Result<Self, BenchError> {
        let address = free_address()?;
        let name = format!("bench-{}", address.port());
        let number = copies.to_string();
        let mut all = vec!["--name", &name, "-n", &number, "--ready", "tcp"];
        all.extend(options);
        let supervisor = start(&under_run(sameport, &all, &program.command(address, false)?))?;
        let copies = usize::from(copies);
        let mut held = Self { sameport, name, address, copies, killed: 0, supervisor };
        held.wait_for_all(None)?;
        Ok(held)
    }

    /// Waits until all workers are ready and none of them is this process.
    fn wait_for_all(&mut self, but: Option<i32>) -> Result<(), BenchError> {
        let (sameport, name, copies) = (self.sameport, self.name.clone(), self.copies);
        self.supervisor.wait_for("readiness of all workers", PATIENCE, |_| {
            let ready = ready(sameport, &name).unwrap_or_default();
            let all = ready.len() >= copies && ready.iter().all(|pid| Some(*pid) != but);
            if !all {
                thread::sleep(Duration::from_millis(20));
            }
            all.then_some(())
        })
    }

    fn verb(&self, verb: &str, rest: &[&str]) -> Result<Output, BenchError> {
        asked(self.sameport, verb, &self.name, rest)
    }

    fn done(&self, verb: &str, rest: &[&str]) -> Result<(), BenchError> {
        let output = self.verb(verb, rest)?;
        if output.status.success() { Ok(()) } else { Err(said(verb, &output)) }
    }

    /// Runs a verb that is expected to fail.
    fn in_vain(&self, verb: &str, rest: &[&str]) -> Result<(), BenchError> {
        let output = self.verb(verb, rest)?;
        if output.status.code() == Some(1) { Ok(()) } else { Err(said(verb, &output)) }
    }
}

pub(super) fn said(verb: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    format!("sameport {verb}: {}\n{}", output.status, text.trim_end())
}

pub(super) fn asked(
    sameport: &Path,
    verb: &str,
    name: &str,
    rest: &[&str],
) -> Result<Output, BenchError> {
    let words = [verb, name].into_iter().chain(rest.iter().copied()).map(OsString::from);
    let output = Command::new(sameport).args(words).stdin(Stdio::null()).output();
    output.map_err(|error| format!("{}: {error}", sameport.display()))
}

/// The pids of ready workers.
fn ready(sameport: &Path, name: &str) -> Option<Vec<i32>> {
    let output = asked(sameport, "status", name, &["--json"]).ok()?;
    let status: Value = serde_json::from_slice(&output.stdout).ok()?;
    let workers = workers(&status)?;
    let ready = workers.iter().filter(|it| it["state"] == "ready");
    ready.map(|it| it["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())).collect()
}

/// Values of `pid` at any depth.
pub(super) fn workers(value: &Value) -> Option<&Vec<Value>> {
    match value {
        Value::Object(fields) => match fields.get("workers") {
            Some(Value::Array(workers)) => Some(workers),
            _ => fields.values().find_map(workers),
        },
        Value::Array(values) => values.iter().find_map(workers),
        _ => None,
    }
}

impl Fleet for HeldFleet<'_> {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn restart(&mut self) -> Result<(), BenchError> {
        self.done("restart", &[])
    }

    fn restart_in_vain(&mut self) -> Result<(), BenchError> {
        self.in_vain("restart", &[])
    }

    fn kill(&mut self) -> Result<(), BenchError> {
        let ready = ready(self.sameport, &self.name).unwrap_or_default();
        let victim = ready.get(self.killed % self.copies).copied();
        self.killed += 1;
        let pid = victim.and_then(Pid::from_raw).ok_or("no worker is ready")?;
        kill_process(pid, Signal::KILL).map_err(|error| format!("kill: {error}"))?;
        self.wait_for_all(victim)
    }

    fn upgrade_to_broken(&mut self) -> Result<(), BenchError> {
        self.in_vain("upgrade", &["--", "false"])
    }

    fn reexec(&mut self) -> Result<(), BenchError> {
        self.done("reexec", &[])?;
        self.wait_for_all(None)
    }
}

impl Drop for HeldFleet<'_> {
    fn drop(&mut self) {
        let _ = self.verb("stop", &[]);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && self.supervisor.ended(Duration::ZERO).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        self.supervisor.signal(Signal::KILL);
    }
}
