//! Counts of losses by class, and durations.

use serde::Serialize;

use super::servers::BenchServer;
use super::stress::{Scenario, Turn};
use super::variants::Variant;
use crate::clients::{Loss, Results};
use crate::figures::median;
use crate::report::row;

#[derive(Serialize)]
pub(crate) struct RestartFigures {
    server: BenchServer,
    scenario: Scenario,
    workers: u16,
    pub(crate) variant: Variant,
    /// Number of events.
    times: u32,
    pub(crate) connections: u64,
    refused: u64,
    /// Reset before a worker accepted the connection.
    reset_before_accept: u64,
    /// Reset after a worker accepted the connection.
    pub(crate) reset_in_hand: u64,
    /// Reset, if the server does not record accepted connections.
    reset: u64,
    timed_out: u64,
    /// An answer other than 200 OK.
    wrong_answer: u64,
    lost_per_100_000: f64,
    /// Losses per event. Variants take different times per event, and connections continue meanwhile, so
    /// losses per connection do not compare.
    pub(crate) lost_each_time: f64,
    connect: Times,
    request: Times,
    /// The reason why the measurement ended early.
    pub(crate) failed: Option<String>,
    /// Milliseconds of each event.
    took: Vec<f64>,
    #[serde(skip)]
    seen: Results,
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
            seen: Results::default(),
        }
    }

    /// Adds a turn, and prints it.
    pub(crate) fn add(&mut self, turn: Turn, times: u32) -> String {
        let said = format!("{} lost of {}", turn.seen.lost.len(), turn.seen.connections());
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

    /// The event and the servers.
    pub(crate) fn what(&self) -> String {
        let (workers, server) = (self.workers, self.server.name());
        let s = if workers == 1 { "" } else { "s" };
        format!("{}, {workers} worker{s} ({server})", self.scenario.name())
    }

    /// The reason why it was not measured, or a loss that sameport must not have.
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
        self.connections = seen.connections();
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
