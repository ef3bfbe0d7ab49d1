//! Work that a worker has in hand when it is restarted: requests that take 2 s and keep-alive
//! connections of a Node server without a signal handler, sessions of a forking server, websockets,
//! and a run that leaves its group. Each with every drain mode.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::held::{asked, said, workers};
use super::variants::Means;
use crate::client_load::talks::{ECHO, QUICK_ECHO, WEBSOCKET};
use crate::client_load::{Client, Loss, Tally, while_served};
use crate::error::BenchError;
use crate::figures::median;
use crate::harness::{BenchProcess, find_program, free_address, start, under_run};
use crate::report::{progress, row};

/// The limit of a restart with its drain.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// Node without a signal handler: keep-alive clients and answers that take 2 s
    Node,
    /// Python's ForkingTCPServer: sessions of a second
    Forks,
    /// Websockets on Node: 1.5 s without a message
    Websocket,
    /// Two runs of the Node server in one group; one of them stops
    Leave,
}

impl Work {
    pub(crate) const ALL: [Self; 4] = [Self::Node, Self::Forks, Self::Websocket, Self::Leave];

    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Forks => "forks",
            Self::Websocket => "websocket",
            Self::Leave => "leave",
        }
    }

    fn clients(self) -> &'static [Client] {
        match self {
            Self::Node | Self::Leave => &[
                Client::OneShot,
                Client::KeepAlive(20),
                Client::KeepAlive(20),
                Client::KeepAlive(300),
                Client::KeepAlive(1500),
                Client::SlowRequest,
                Client::SlowAnswer,
                Client::SlowAnswer,
            ],
            Self::Forks => &[ECHO, ECHO, ECHO, QUICK_ECHO],
            Self::Websocket => &[WEBSOCKET, WEBSOCKET, WEBSOCKET, Client::OneShot],
        }
    }

    /// The command of a worker, whose program is written to this folder.
    fn command(self, folder: &Path, port: u16) -> Result<Vec<OsString>, BenchError> {
        let (interpreter, file, text, rest): (_, _, _, &[&str]) = match self {
            Self::Node | Self::Leave => (
                "node",
                "in-hand.js",
                include_str!("../../../crates/cli/tests/servers/apps/server.js"),
                &["0", "2000"],
            ),
            Self::Forks => (
                "python3",
                "forking-echo.py",
                include_str!("../../../crates/cli/tests/servers/apps/forking_echo.py"),
                &[],
            ),
            Self::Websocket => (
                "node",
                "websocket.js",
                include_str!("../../../crates/cli/tests/servers/apps/websocket.js"),
                &[],
            ),
        };
        let program = find_program(interpreter).ok_or(format!("{interpreter} is not here"))?;
        let file = folder.join(file);
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut command = vec![program.into(), file.into(), port.to_string().into()];
        command.extend(rest.iter().map(OsString::from));
        Ok(command)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DrainMode {
    /// SIGTERM at once
    None,
    /// SIGTERM when the worker has nothing in hand
    Busy,
    /// SIGTERM when the worker has no connection
    All,
}

impl DrainMode {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Busy, Self::All];

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Busy => "busy",
            Self::All => "all",
        }
    }

    /// Whether a restart with this mode must lose nothing. A session and a websocket are idle
    /// between two messages, so only `all` waits for their end.
    fn keeps(self, work: Work) -> bool {
        match work {
            Work::Node | Work::Leave => self != Self::None,
            Work::Forks | Work::Websocket => self == Self::All,
        }
    }
}

/// The losses of one kind of work with one drain mode.
#[derive(Serialize)]
pub(crate) struct InHandFigures {
    work: Work,
    drain: DrainMode,
    /// Restarts, or runs that left the group.
    times: u32,
    answered: u64,
    refused: usize,
    /// Cut before the first byte of the first answer.
    unanswered: usize,
    /// An idle keep-alive connection was cut, and the next request on it was lost.
    cut_when_idle: usize,
    /// Cut within an answer or a conversation.
    cut_in_hand: usize,
    timed_out: usize,
    wrong_answer: usize,
    /// Milliseconds of each verb.
    took: Vec<f64>,
}

impl InHandFigures {
    fn new(work: Work, drain: DrainMode, tally: &Tally, took: Vec<f64>) -> Self {
        let kinds = tally.kinds();
        let count = |loss| kinds.get(&loss).copied().unwrap_or(0);
        Self {
            work,
            drain,
            times: u32::try_from(took.len()).unwrap_or(u32::MAX),
            answered: tally.answered,
            refused: count(Loss::Refused),
            unanswered: count(Loss::Unanswered),
            cut_when_idle: count(Loss::CutWhenIdle),
            cut_in_hand: count(Loss::CutInHand),
            timed_out: count(Loss::TimedOut),
            wrong_answer: count(Loss::WrongAnswer),
            took,
        }
    }

    fn lost(&self) -> usize {
        self.refused
            + self.unanswered
            + self.cut_when_idle
            + self.cut_in_hand
            + self.timed_out
            + self.wrong_answer
    }

    /// A loss that sameport must not have.
    pub(crate) fn failure(&self) -> Option<String> {
        let (work, drain) = (self.work.name(), self.drain.name());
        (self.drain.keeps(self.work) && self.lost() > 0)
            .then(|| format!("{work}, --drain {drain}: {} lost", self.lost()))
    }
}

/// Measures each kind of work with each drain mode.
pub(crate) fn measure(
    works: &[Work],
    modes: &[DrainMode],
    times: u32,
    means: &Means,
    folder: &Path,
) -> Result<Vec<InHandFigures>, BenchError> {
    let mut measured = Vec::new();
    for work in works {
        for mode in modes {
            if !means.has("--drain ") && *mode != DrainMode::None {
                progress(&format!("measured without --drain {}: no such option", mode.name()));
                continue;
            }
            let figures = match work {
                Work::Leave => leave(*mode, times, means, folder)?,
                _ => restarts(*work, *mode, times, means, folder)?,
            };
            let (name, lost, answered) = (work.name(), figures.lost(), figures.answered);
            progress(&format!("{name}, {}: {lost} lost of {answered}", mode.name()));
            measured.push(figures);
        }
    }
    Ok(measured)
}

/// A named run of one worker.
struct InHandRun<'a> {
    sameport: &'a Path,
    name: String,
    supervisor: BenchProcess,
}

impl<'a> InHandRun<'a> {
    fn start(
        name: &str,
        mode: DrainMode,
        means: &'a Means,
        command: &[OsString],
    ) -> Result<Self, BenchError> {
        let mut options = vec!["--name", name, "--group", "in-hand", "--ready", "tcp"];
        if means.has("--drain ") {
            options.extend(["--drain", mode.name()]);
        }
        let sameport = means.sameport();
        let supervisor = start(&under_run(sameport, &options, command))?;
        let mut run = Self { sameport, name: name.to_owned(), supervisor };
        run.settle()?;
        Ok(run)
    }

    /// Waits until the worker is ready and no old worker drains.
    fn settle(&mut self) -> Result<(), BenchError> {
        let (sameport, name) = (self.sameport, self.name.clone());
        self.supervisor.wait_for("a ready worker, and no other", LIMIT, |_| {
            let output = asked(sameport, "status", &name, &["--json"]).ok()?;
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            let states = workers(&status)?.iter().map(|worker| &worker["state"]);
            let settled = states.len() == 1 && states.clone().all(|state| state == "ready");
            if !settled {
                thread::sleep(Duration::from_millis(20));
            }
            settled.then_some(())
        })
    }

    /// Runs a verb, and returns its milliseconds.
    fn timed(&self, verb: &str) -> Result<f64, BenchError> {
        let since = Instant::now();
        let output = asked(self.sameport, verb, &self.name, &[])?;
        let took = since.elapsed().as_secs_f64() * 1000.0;
        if output.status.success() { Ok(took) } else { Err(said(verb, &output)) }
    }
}

fn restarts(
    work: Work,
    mode: DrainMode,
    times: u32,
    means: &Means,
    folder: &Path,
) -> Result<InHandFigures, BenchError> {
    let address = free_address()?;
    let command = work.command(folder, address.port())?;
    let mut run = InHandRun::start("in-hand", mode, means, &command)?;
    let (took, tally) = while_served(work.clients(), address, || {
        (0..times)
            .map(|_| {
                thread::sleep(Duration::from_millis(300));
                let took = run.timed("restart")?;
                run.settle()?;
                Ok(took)
            })
            .collect::<Result<Vec<f64>, BenchError>>()
    });
    run.timed("stop")?;
    Ok(InHandFigures::new(work, mode, &tally, took?))
}

/// A second run joins the group, and stops.
fn leave(
    mode: DrainMode,
    times: u32,
    means: &Means,
    folder: &Path,
) -> Result<InHandFigures, BenchError> {
    let address = free_address()?;
    let command = Work::Leave.command(folder, address.port())?;
    let stays = InHandRun::start("stays", mode, means, &command)?;
    let (took, tally) = while_served(Work::Leave.clients(), address, || {
        (0..times)
            .map(|number| {
                let name = format!("leaves-{number}");
                let leaves = InHandRun::start(&name, mode, means, &command)?;
                thread::sleep(Duration::from_millis(500));
                leaves.timed("stop")
            })
            .collect::<Result<Vec<f64>, BenchError>>()
    });
    stays.timed("stop")?;
    Ok(InHandFigures::new(Work::Leave, mode, &tally, took?))
}

pub(crate) fn rows(measured: &[InHandFigures]) -> Vec<Vec<String>> {
    let heading = row![
        "work in hand",
        "--drain",
        "times",
        "ms each",
        "answered",
        "refused",
        "unanswered",
        "cut when idle",
        "cut in hand",
        "timed out",
        "not 200"
    ];
    let figures = measured.iter().map(|it| {
        row![
            it.work.name(),
            it.drain.name(),
            it.times,
            format!("{:.0}", median(it.took.iter().copied())),
            it.answered,
            it.refused,
            it.unanswered,
            it.cut_when_idle,
            it.cut_in_hand,
            it.timed_out,
            it.wrong_answer
        ]
    });
    std::iter::once(heading).chain(figures).collect()
}
