//! What was counted: losses by their class, and how long it took.

use serde::Serialize;

use super::servers::BenchServer;
use super::stress::{Scenario, Turn};
use super::variants::Variant;
use crate::clients::{Loss, Seen};
use crate::figures::median;
use crate::report::row;

#[derive(Serialize)]
pub(crate) struct RestartFigures {
    server: BenchServer,
    scenario: Scenario,
    workers: u16,
    pub(crate) variant: Variant,
    /// How often it happened.
    times: u32,
    pub(crate) connections: u64,
    refused: u64,
    /// Reset, and no worker had accepted it.
    reset_before_accept: u64,
    /// Reset, and a worker had accepted it.
    pub(crate) reset_in_hand: u64,
    /// Reset, where the server does not say whom it has accepted.
    reset: u64,
    timed_out: u64,
    /// Something else than 200 OK.
    wrong_answer: u64,
    lost_per_100_000: f64,
    /// By each time that it happened: connections go on for as long as that takes, which is longer
    /// for some than for others, and thins out what is lost of so many.
    pub(crate) lost_each_time: f64,
    connect: Times,
    request: Times,
    /// Why it was not measured to the end.
    pub(crate) failed: Option<String>,
    /// Milliseconds of everything that happened.
    took: Vec<f64>,
    #[serde(skip)]
    seen: Seen,
}

/// Milliseconds.
#[derive(Default, Serialize)]
struct Times {
    p50: f64,
    p99: f64,
    most: f64,
}

impl Times {
    fn of(mut microseconds: Vec<u32>) -> Self {
        microseconds.sort_unstable();
        let at = |share: usize| {
            let last = microseconds.len().saturating_sub(1);
            let index = (microseconds.len() * share / 1000).min(last);
            f64::from(microseconds.get(index).copied().unwrap_or(0)) / 1000.0
        };
        Self { p50: at(500), p99: at(990), most: at(1000) }
    }
}

impl RestartFigures {
    pub(crate) fn new(
        server: BenchServer,
        scenario: Scenario,
        workers: u16,
        variant: Variant,
    ) -> Self {
        let (connect, request) = <(Times, Times)>::default();
        Self {
            server,
            scenario,
            workers,
            variant,
            times: 0,
            connections: 0,
            refused: 0,
            reset_before_accept: 0,
            reset_in_hand: 0,
            reset: 0,
            timed_out: 0,
            wrong_answer: 0,
            lost_per_100_000: 0.0,
            lost_each_time: 0.0,
            connect,
            request,
            failed: None,
            took: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// Adds a turn, and says what it was.
    pub(crate) fn add(&mut self, turn: Turn, times: u32) -> String {
        let said = format!("{} lost of {}", turn.seen.lost.len(), turn.seen.made());
        for (how, from) in &turn.seen.lost {
            let class = match how {
                Loss::Refused => &mut self.refused,
                Loss::TimedOut => &mut self.timed_out,
                Loss::WrongAnswer => &mut self.wrong_answer,
                Loss::Reset => match &turn.in_hand {
                    None => &mut self.reset,
                    Some(in_hand) if in_hand.contains(from) => &mut self.reset_in_hand,
                    Some(_) => &mut self.reset_before_accept,
                },
            };
            *class += 1;
        }
        self.times += times;
        self.took.extend(turn.took);
        self.seen.add(turn.seen);
        said
    }

    pub(crate) fn lost(&self) -> u64 {
        self.refused
            + self.reset_before_accept
            + self.reset_in_hand
            + self.reset
            + self.timed_out
            + self.wrong_answer
    }

    /// What was done, and to whom.
    pub(crate) fn what(&self) -> String {
        let (workers, server) = (self.workers, self.server.name());
        let s = if workers == 1 { "" } else { "s" };
        format!("{}, {workers} worker{s} ({server})", self.scenario.name())
    }

    /// What it was not measured for, or what sameport lost that it must not.
    pub(crate) fn failure(&self) -> Option<String> {
        let allowed = match self.scenario {
            Scenario::Kill | Scenario::Down => self.reset_in_hand + self.reset,
            _ => 0,
        };
        let lost = self.lost() - allowed;
        let lost = (self.variant.is_ours() && lost > 0).then(|| format!("{lost} lost"));
        let why = self.failed.clone().or(lost)?;
        Some(format!("{}, {}: {why}", self.what(), self.variant.name()))
    }

    pub(crate) fn finished(mut self) -> Self {
        let seen = std::mem::take(&mut self.seen);
        self.connections = seen.made();
        self.lost_per_100_000 = ratio(self.lost() * 100_000, self.connections);
        self.lost_each_time = ratio(self.lost(), self.times.into());
        self.connect = Times::of(seen.connects);
        self.request = Times::of(seen.requests);
        self
    }
}

fn ratio(lost: u64, of: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    let (lost, of) = (lost as f64, of.max(1) as f64);
    lost / of
}

pub(crate) fn rows(measured: &[RestartFigures]) -> Vec<Vec<String>> {
    let heading = row![
        "what",
        "by",
        "times",
        "ms each",
        "connections",
        "refused",
        "reset queued",
        "in hand",
        "reset",
        "timed out",
        "not 200",
        "of 100,000",
        "each time",
        "connect p99",
        "request p50",
        "p99",
        "max ms"
    ];
    let ms = |figure: f64| format!("{figure:.1}");
    let figures = measured.iter().map(|it| {
        let (connect, request) = (&it.connect, &it.request);
        row![
            it.what(),
            it.variant.name(),
            it.times,
            format!("{:.0}", median(it.took.iter().copied())),
            it.connections,
            it.refused,
            it.reset_before_accept,
            it.reset_in_hand,
            it.reset,
            it.timed_out,
            it.wrong_answer,
            ms(it.lost_per_100_000),
            ms(it.lost_each_time),
            ms(connect.p99),
            ms(request.p50),
            ms(request.p99),
            ms(request.most)
        ]
    });
    std::iter::once(heading).chain(figures).collect()
}
