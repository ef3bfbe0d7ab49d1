//! Medians and ratios of measurements that are made in turns.

use serde::Serialize;

/// One quantity measured in two ways, in turns.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Pairs {
    /// Each round: without sameport, with it.
    pub(crate) rounds: Vec<(f64, f64)>,
}

/// Ratios, with to without, one per round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Pairs {
    pub(crate) fn push(&mut self, without: f64, with: f64) {
        self.rounds.push((without, with));
    }

    pub(crate) fn without(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.0))
    }

    pub(crate) fn with(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.1))
    }

    /// Median, minimum and maximum of the rounds' ratios. A machine that slows down over minutes
    /// does not change them.
    pub(crate) fn ratio(&self) -> Ratio {
        let ratios = || self.rounds.iter().map(|(without, with)| with / without);
        Ratio {
            median: median(ratios()),
            lowest: ratios().fold(f64::INFINITY, f64::min),
            highest: ratios().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // `pad` so that a table can set it to the right.
        f.pad(&format!("{:.2} ({:.2} to {:.2})", self.median, self.lowest, self.highest))
    }
}

/// The numbers from 0 to `count`, in reverse order every other round.
pub(crate) fn in_turns(count: usize, round: u32) -> impl Iterator<Item = usize> {
    let first = usize::try_from(round).unwrap_or(0);
    (0..count).map(move |number| (first + number) % count)
}

/// The median; NaN of an empty slice.
pub(crate) fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = of.collect();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_first_once() {
        let rounds: Vec<Vec<usize>> = (0..4).map(|round| in_turns(3, round).collect()).collect();
        assert_eq!(rounds, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }

    #[test]
    fn medians() {
        let cases: [(&[f64], f64); 4] = [
            (&[3.0], 3.0),
            (&[9.0, 1.0], 5.0),
            (&[5.0, 1.0, 2.0], 2.0),
            (&[4.0, 1.0, 2.0, 9.0], 3.0),
        ];
        for (figures, expected) in cases {
            assert!((median(figures.iter().copied()) - expected).abs() < 1e-9, "{figures:?}");
        }
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn a_ratio_is_that_of_a_round_not_of_the_whole() {
        let mut pairs = Pairs::default();
        for (without, with) in [(100.0, 100.0), (10.0, 9.0), (1000.0, 1100.0)] {
            pairs.push(without, with);
        }
        let ratio = pairs.ratio();
        assert!(
            (ratio.median - 1.0).abs() < 1e-9 && (ratio.lowest - 0.9).abs() < 1e-9,
            "{ratio:?}"
        );
        assert!((ratio.highest - 1.1).abs() < 1e-9, "{ratio:?}");
        assert_eq!(ratio.to_string(), "1.00 (0.90 to 1.10)");
    }
}
