//! One turn: clients, and an event that happens to the workers again and again.

use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::fleet::Fleet;
use super::servers::Program;
use crate::clients::{Clients, Loss, Results, accepted};
use crate::error::BenchError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// No event: the reference
    Quiet,
    /// Every worker is replaced once, one after the other
    Rolling,
    /// One worker receives SIGKILL and is replaced
    Kill,
    /// Every replacement ends before it listens
    Crash,
    /// The new command ends at once
    Upgrade,
    /// The supervisor is replaced, the workers stay
    Reexec,
    /// One worker is always down: killed, and back after half a second
    Down,
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Rolling => "rolling",
            Self::Kill => "kill",
            Self::Crash => "crash",
            Self::Upgrade => "upgrade",
            Self::Reexec => "reexec",
            Self::Down => "down",
        }
    }

    pub(crate) fn needs_sameport(self) -> bool {
        matches!(self, Self::Upgrade | Self::Reexec)
    }

    /// Start-up time of a worker in this scenario, if it differs from the default.
    pub(crate) fn start_up(self, otherwise: Duration) -> Duration {
        if self == Self::Down { Duration::from_millis(500) } else { otherwise }
    }

    /// Minimum interval between two events: a supervisor treats a worker that lives less than a second as a
    /// crash loop, which is not measured here.
    fn spacing(self, copies: u16) -> Duration {
        let lives = if self == Self::Kill { Duration::from_millis(1500) } else { Duration::ZERO };
        lives / u32::from(copies)
    }

    fn happen(
        self,
        fleet: &mut dyn Fleet,
        load: &Load,
        program: &Program,
    ) -> Result<(), BenchError> {
        match self {
            Self::Quiet => Ok(()),
            Self::Rolling => fleet.restart(),
            Self::Kill | Self::Down => fleet.kill(),
            Self::Crash => {
                write(&program.before(), "exit 1\n")?;
                fleet.restart_in_vain()?;
                load.prepare(program)?;
                fleet.mend()
            }
            Self::Upgrade => fleet.upgrade_to_broken(),
            Self::Reexec => fleet.reexec(),
        }
    }
}

/// The load and the events of one turn.
pub(crate) struct Load {
    pub(crate) copies: u16,
    pub(crate) clients: u16,
    pub(crate) rate: Option<u32>,
    pub(crate) connections: u64,
    pub(crate) times: u32,
    pub(crate) start_up: Duration,
}

/// Results of one turn, from the clients and from the workers.
pub(crate) struct Turn {
    pub(crate) seen: Results,
    pub(crate) in_hand: Option<Vec<SocketAddrV4>>,
    /// Milliseconds of each event.
    pub(crate) took: Vec<f64>,
}

impl Load {
    /// Sets the shell script that every worker runs before it starts.
    pub(crate) fn prepare(&self, program: &Program) -> Result<(), BenchError> {
        let (folder, seconds) = (program.accepted(), self.start_up.as_secs_f64());
        let text = format!("export ACCEPTED='{}'; sleep {seconds}\n", folder.display());
        write(&program.before(), &text)
    }

    pub(crate) fn put_on(
        &self,
        fleet: &mut dyn Fleet,
        program: &Program,
        scenario: Scenario,
    ) -> Result<Turn, BenchError> {
        let mut clients = Clients::of(fleet.address(), self.clients);
        clients.rate = self.rate;
        let (clients, over) = (&clients, &AtomicBool::new(false));
        let direct = fleet.is_direct();
        // In the scenario `down` the worker stays down until the end.
        let least = if scenario == Scenario::Down { 0 } else { self.connections };
        let (seen, took) = thread::scope(|scope| {
            let happening = scope.spawn(move || {
                let done = self.happen(fleet, program, scenario, clients);
                over.store(true, Ordering::Relaxed);
                done
            });
            let seen = clients
                .drive(|begun| over.load(Ordering::Relaxed) && begun >= least)
                .map_err(|error| format!("connecting to {}: {error}", clients.server));
            let took = happening.join().map_err(|_| "a thread panicked".to_owned())??;
            seen.map(|seen| (seen, took))
        })?;
        let folder = program.accepted();
        let in_hand = (direct && program.server.remembers()).then(|| accepted(&folder));
        let in_hand = in_hand.transpose().map_err(|error| format!("{}: {error}", folder.display()));
        let in_hand = in_hand?.map(|all| {
            let reset = seen.lost.iter().filter(|(how, _)| *how == Loss::Reset);
            reset.map(|(_, from)| *from).filter(|from| all.contains(from)).collect()
        });
        Ok(Turn { seen, in_hand, took })
    }

    /// Spreads the events over the connections. In `down` one worker is always down.
    fn happen(
        &self,
        fleet: &mut dyn Fleet,
        program: &Program,
        scenario: Scenario,
        clients: &Clients,
    ) -> Result<Vec<f64>, BenchError> {
        let mut took = Vec::new();
        for number in 0..self.times {
            let due = self.connections * u64::from(number) / u64::from(self.times);
            while scenario != Scenario::Down && clients.begun.load(Ordering::Relaxed) < due {
                thread::sleep(Duration::from_millis(1));
            }
            let since = Instant::now();
            scenario.happen(fleet, self, program)?;
            took.push(since.elapsed().as_secs_f64() * 1000.0);
            thread::sleep(scenario.spacing(self.copies).saturating_sub(since.elapsed()));
        }
        Ok(took)
    }
}

fn write(file: &PathBuf, text: &str) -> Result<(), BenchError> {
    // Written atomically, because a worker may read it at any time.
    let new = file.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, file))
        .map_err(|error| format!("{}: {error}", Path::display(file)))
}
