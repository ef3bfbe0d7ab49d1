//! The options of the benchmark, and what every measure needs.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::chooser::{BalanceArm, Chooser};
use super::figures::BalanceFigure;
use super::front::FrontKind;
use super::group::{BalancedGroup, GroupPlan};
use super::measure::BalanceMeasure;
use crate::error::BenchError;
use crate::report::progress;

/// Which member gets the next connection: the kernel's hash, sameport, proxies and a shared queue
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these measures [default: all but drift]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<BalanceMeasure>,
    /// Only these choosers [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) by: Vec<Chooser>,
    /// Trials of `long`
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) trials: u32,
    /// Connections of `weights`
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) connections: u64,
    /// Clients of `sticky`, with an address each
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u16).range(1..=60_000))]
    pub(crate) clients: u16,
    /// Seconds of each measurement of `stopped`, `choice`, `rate` and `heavy`
    #[arg(long, default_value_t = 2.5)]
    pub(crate) seconds: f64,
    /// Rounds of `rate`
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Milliseconds after which a client of `stopped` gives up
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(crate) patience: u64,
    /// Promotions, and rollbacks, of `canary`
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) canaries: u32,
    /// How often the members of `churn` join and leave
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) times: u32,
    /// Connections of `drift`
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..=1_000_000_000))]
    pub(crate) drift: u64,
    /// Draw the figures into this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) picture: Option<PathBuf>,
    /// This process is in namespaces of its own already
    #[arg(long, hide = true)]
    pub(crate) alone: bool,
}

/// What every measure needs.
pub(crate) struct Bench {
    pub(crate) sameport: PathBuf,
    pub(crate) by: Vec<Chooser>,
    /// Arms of sameport that could not be measured.
    failed: RefCell<Vec<String>>,
}

/// The choosers to measure, without proxies that are not installed.
fn found(by: &[Chooser]) -> Vec<Chooser> {
    let all = if by.is_empty() { Chooser::ALL.to_vec() } else { by.to_vec() };
    let missing = |chooser: &Chooser| match chooser {
        Chooser::Haproxy => FrontKind::Haproxy.find().err(),
        Chooser::Nginx => FrontKind::Nginx.find().err(),
        _ => None,
    };
    let is_here = |chooser: &Chooser| {
        let why = missing(chooser);
        if let Some(why) = &why {
            progress(&format!("measured without it: {why}"));
        }
        why.is_none()
    };
    all.into_iter().filter(is_here).collect()
}

impl Bench {
    pub(crate) fn new(sameport: &Path, by: &[Chooser]) -> Self {
        Self { sameport: sameport.to_owned(), by: found(by), failed: RefCell::default() }
    }

    /// The arms of sameport that could not be measured.
    pub(crate) fn failed(self) -> Vec<String> {
        self.failed.into_inner()
    }

    pub(crate) fn measures(&self, chooser: Chooser) -> bool {
        self.by.contains(&chooser)
    }

    /// Reports an arm that could not be measured.
    pub(crate) fn leave_out(&self, measure: BalanceMeasure, arm: BalanceArm, why: &str) {
        let text = format!("{}: not measured: {}: {why}", measure.name(), arm.name());
        progress(&text);
        if arm.is_ours() {
            self.failed.borrow_mut().push(text);
        }
    }

    /// The groups of the arms that can be started.
    pub(crate) fn groups(
        &self,
        measure: BalanceMeasure,
        arms: &[BalanceArm],
        plan: GroupPlan<'_>,
    ) -> Vec<(BalanceArm, BalancedGroup)> {
        let mut groups = Vec::new();
        for arm in arms.iter().filter(|arm| self.measures(arm.chooser)) {
            match BalancedGroup::start(*arm, plan, &self.sameport) {
                Ok(group) => groups.push((*arm, group)),
                Err(why) => self.leave_out(measure, *arm, &why),
            }
        }
        groups
    }

    /// The figures of each arm, one after the other, each with a group of its own.
    pub(crate) fn each(
        &self,
        measure: BalanceMeasure,
        arms: &[BalanceArm],
        plan: GroupPlan<'_>,
        mut one: impl FnMut(BalanceArm, &mut BalancedGroup) -> Result<BalanceFigure, BenchError>,
    ) -> Vec<BalanceFigure> {
        let mut figures = Vec::new();
        for arm in arms.iter().filter(|arm| self.measures(arm.chooser)) {
            let figure = BalancedGroup::start(*arm, plan, &self.sameport)
                .and_then(|mut group| one(*arm, &mut group));
            match figure {
                Ok(figure) => figures.push(figure),
                Err(why) => self.leave_out(measure, *arm, &why),
            }
        }
        figures
    }
}
