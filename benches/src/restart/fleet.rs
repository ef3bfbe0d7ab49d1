//! Workers of one address and the events that happen to them; here by a short script with
//! `SO_REUSEPORT`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::servers::{Program, children};
use crate::error::BenchError;
use crate::harness::{BenchProcess, PATIENCE, free_address, start};

/// Workers that serve one address together.
pub(crate) trait Fleet: Send {
    /// The address that clients connect to.
    fn address(&self) -> SocketAddr;

    /// Whether workers accept the connections of clients themselves, not a proxy.
    fn is_direct(&self) -> bool {
        true
    }

    /// Replaces every worker once, one after the other; returns when all are ready.
    ///
    /// A replacement that never becomes ready is not an error: its predecessor keeps serving.
    fn restart(&mut self) -> Result<(), BenchError>;

    /// Kills one worker by SIGKILL, and returns when it is replaced.
    fn kill(&mut self) -> Result<(), BenchError>;

    /// Starts the workers that did not become ready.
    fn mend(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    /// As `rolling`, but no replacement becomes ready.
    fn restart_in_vain(&mut self) -> Result<(), BenchError> {
        self.restart()
    }

    /// Upgrades to a command that ends at once.
    fn upgrade_to_broken(&mut self) -> Result<(), BenchError> {
        Err("no such verb".to_owned())
    }

    /// Replaces the supervisor and keeps the workers.
    fn reexec(&mut self) -> Result<(), BenchError> {
        Err("no such verb".to_owned())
    }
}

/// The order of stop and start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartOrder {
    StopThenStart,
    StartThenStop,
}

/// A short script: workers that set SO_REUSEPORT themselves.
pub(crate) struct Script<'a> {
    program: &'a Program,
    order: RestartOrder,
    address: SocketAddr,
    workers: VecDeque<BenchWorker>,
    copies: usize,
}

impl<'a> Script<'a> {
    pub(crate) fn start(
        program: &'a Program,
        order: RestartOrder,
        copies: u16,
    ) -> Result<Self, BenchError> {
        let (address, copies) = (free_address()?, usize::from(copies));
        let mut script = Self { program, order, address, workers: VecDeque::new(), copies };
        script.mend()?;
        Ok(script)
    }

    fn worker(&self) -> Result<Option<BenchWorker>, BenchError> {
        BenchWorker::start(self.program, self.address, true)
    }
}

impl Fleet for Script<'_> {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn restart(&mut self) -> Result<(), BenchError> {
        for _ in 0..self.copies {
            let old = self.workers.pop_front();
            let old = match (self.order, old) {
                (RestartOrder::StopThenStart, Some(old)) => {
                    old.stop(self.program).map(|()| None)?
                }
                (_, old) => old,
            };
            let Some(new) = self.worker()? else {
                self.workers.extend(old);
                return Ok(());
            };
            self.workers.push_back(new);
            old.map_or(Ok(()), |old| old.stop(self.program))?;
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<(), BenchError> {
        self.workers.pop_front().map_or(Ok(()), BenchWorker::kill)?;
        self.mend()
    }

    fn mend(&mut self) -> Result<(), BenchError> {
        while self.workers.len() < self.copies {
            let new = self.worker()?;
            self.workers.push_back(new.ok_or("a worker ended before it was ready")?);
        }
        Ok(())
    }
}

/// A worker that this process started. Killed when dropped.
pub(crate) struct BenchWorker(BenchProcess);

impl BenchWorker {
    /// `None` if it ended before it was ready.
    pub(crate) fn start(
        program: &Program,
        address: SocketAddr,
        shared: bool,
    ) -> Result<Option<Self>, BenchError> {
        let mut worker = Self(start(&program.command(address, shared)?)?);
        let pid = worker.0.pid();
        let ready = worker
            .0
            .wait_for("readiness", PATIENCE, |lines| program.is_ready(lines, pid).then_some(()));
        match ready {
            Ok(()) => Ok(Some(worker)),
            Err(_) if worker.0.ended(Duration::ZERO).is_ok() => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Sends the stop signal, and waits for the end.
    pub(crate) fn stop(mut self, program: &Program) -> Result<(), BenchError> {
        self.0.signal(program.server.stops_on());
        self.0.ended(PATIENCE).map(drop)
    }

    /// Kills the children too: a worker process of a killed master would keep serving.
    pub(crate) fn kill(mut self) -> Result<(), BenchError> {
        self.end();
        self.0.ended(PATIENCE).map(drop)
    }

    fn end(&mut self) {
        let below = children(self.0.pid());
        self.0.signal(Signal::KILL);
        for pid in below {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            // In this pid namespace the pid cannot belong to another process of the machine.
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
    }
}

impl Drop for BenchWorker {
    fn drop(&mut self) {
        self.end();
    }
}
