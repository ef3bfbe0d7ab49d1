//! One figure of an arm, and the bound that it must keep.

use serde::Serialize;

use super::callers::CallCounts;
use super::chooser::BalanceArm;
use super::measure::BalanceMeasure;
use crate::report::row;

/// A bound of the figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// Shown beside figures of others, or without a bound.
    None,
}

/// The figure of one arm in one measure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BalanceFigure {
    pub(crate) measure: BalanceMeasure,
    pub(crate) arm: BalanceArm,
    pub(crate) members: u16,
    /// What `value` is, with its unit.
    pub(crate) what: &'static str,
    pub(crate) value: f64,
    /// The lowest and the highest of several trials.
    pub(crate) range: Option<(f64, f64)>,
    /// Further figures, with their names.
    pub(crate) details: Vec<(&'static str, f64)>,
    pub(crate) bound: Bound,
    /// Whether the bound also holds on a busy machine: durations and rates depend on it.
    pub(crate) is_count: bool,
    pub(crate) counts: CallCounts,
}

impl BalanceFigure {
    pub(crate) fn new(
        measure: BalanceMeasure,
        arm: BalanceArm,
        members: u16,
        what: &'static str,
        value: f64,
    ) -> Self {
        Self {
            measure,
            arm,
            members,
            what,
            value,
            range: None,
            details: Vec::new(),
            bound: Bound::None,
            is_count: true,
            counts: CallCounts::default(),
        }
    }

    pub(crate) fn bound(self, bound: Bound) -> Self {
        Self { bound, ..self }
    }

    pub(crate) fn counts(self, counts: CallCounts) -> Self {
        Self { counts, ..self }
    }

    /// The figure of several trials: their mean.
    pub(crate) fn range(self, trials: &[f64]) -> Self {
        let lowest = trials.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = trials.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self { range: Some((lowest, highest)), ..self }
    }

    pub(crate) fn holds(&self) -> Option<bool> {
        match self.bound {
            Bound::AtMost(most) => Some(self.value <= most),
            Bound::AtLeast(least) => Some(self.value >= least),
            Bound::None => None,
        }
    }

    /// A bound of sameport that does not hold.
    pub(crate) fn failure(&self) -> Option<String> {
        let missed = self.arm.is_ours() && self.is_count && self.holds() == Some(false);
        missed.then(|| {
            let name = self.arm.name();
            format!("{}: {name}: {} {:.3}", self.measure.name(), self.what, self.value)
        })
    }

    fn verdict(&self) -> String {
        let bound = match self.bound {
            Bound::AtMost(most) => format!("≤ {}", short(most)),
            Bound::AtLeast(least) => format!("≥ {}", short(least)),
            Bound::None => return String::new(),
        };
        let missed = if self.holds() == Some(true) { "" } else { " MISSED" };
        bound + missed
    }
}

/// The mean; NaN of no trials.
pub(crate) fn mean(trials: &[f64]) -> f64 {
    let count = u32::try_from(trials.len()).unwrap_or(u32::MAX);
    trials.iter().sum::<f64>() / f64::from(count)
}

/// The rows of one measure.
pub(crate) fn rows(figures: &[&BalanceFigure]) -> Vec<Vec<String>> {
    let Some(first) = figures.first() else { return Vec::new() };
    let heading = format!("{}: {}", first.measure.name(), first.measure.question());
    let mut titles = row![heading, first.what, "range"];
    titles.extend(first.details.iter().map(|(name, _)| (*name).to_owned()));
    titles.extend(row!["connections", "refused", "reset queued", "in hand", "timed out", "bound"]);
    let mut rows = vec![titles];
    rows.extend(figures.iter().map(|it| {
        let range = it.range.map(|(from, to)| format!("{} to {}", short(from), short(to)));
        let members = if it.members == 0 { String::new() } else { format!(", {}", it.members) };
        let mut row =
            row![it.arm.name() + &members, short(it.value), range.unwrap_or_else(String::new)];
        row.extend(it.details.iter().map(|(_, value)| short(*value)));
        let CallCounts {
            connections,
            refused,
            reset_before_accept,
            reset_in_hand,
            timed_out,
            of_member: _,
        } = &it.counts;
        row.extend(row![
            connections,
            refused,
            reset_before_accept,
            reset_in_hand,
            timed_out,
            it.verdict()
        ]);
        row
    }));
    rows
}

/// A number with three digits, or all of a larger one.
pub(crate) fn short(value: f64) -> String {
    let text = match value.abs() {
        unknown if unknown.is_nan() => return "-".to_owned(),
        large if large >= 100.0 => return format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::chooser::Chooser;
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (1.025, "1.02"),
            (25.94, "25.9"),
            (1234.5, "1234"),
            (f64::NAN, "-"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected);
        }
    }

    #[test]
    fn only_a_count_of_ours_fails_the_benchmark() {
        let figure = |chooser, is_count| {
            let arm = BalanceArm::new(chooser, "random");
            let figure = BalanceFigure::new(BalanceMeasure::Stopped, arm, 4, "stalled, %", 26.0);
            BalanceFigure { is_count, ..figure.bound(Bound::AtMost(0.5)) }
        };
        assert!(figure(Chooser::Ebpf, true).failure().is_some());
        assert!(figure(Chooser::Ebpf, false).failure().is_none());
        assert!(figure(Chooser::Hash, true).failure().is_none());
        assert_eq!(figure(Chooser::Hash, true).verdict(), "≤ 0.5 MISSED");
    }
}
