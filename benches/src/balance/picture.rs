//! A chart of the figures for the documentation: SVG, readable on light and dark backgrounds.

use super::figures::{BalanceFigure, Bound, short};
use crate::restart::picture::{STYLE, text};
use std::fmt::Write as _;

const WIDTH: u32 = 760;
/// Left edge of the bars.
const LEFT: u32 = 270;
/// Length of the longest bar.
const LENGTH: u32 = 360;
const ROW: u32 = 20;
const HEADING: u32 = 36;

const TITLE: &str = "Who gets the next connection";

/// Draws one bar per arm, below a heading per measure; the longest bar of a measure is its largest figure.
pub(crate) fn of(figures: &[BalanceFigure]) -> String {
    let mut body = String::new();
    let mut y = 8;
    let mut measure = None;
    for it in figures {
        if measure != Some(it.measure) {
            y += HEADING;
            let heading = format!("{}: {}{}", it.measure.question(), it.what, wanted(it, figures));
            text(&mut body, 0, y - 16, "h", &heading);
            measure = Some(it.measure);
        }
        let same = figures.iter().filter(|other| other.measure == it.measure);
        let largest = same.map(|it| it.value).filter(|it| it.is_finite()).fold(0.0, f64::max);
        let members = if it.members > 8 { format!(", {}", it.members) } else { String::new() };
        text(&mut body, LEFT - 8, y + 4, "e", &(it.arm.name() + &members));
        let class = if it.arm.is_ours() { " class=\"o\"" } else { "" };
        let length = length(it.value, largest);
        let _ = writeln!(
            body,
            "<rect{class} x=\"{LEFT}\" y=\"{}\" width=\"{length}\" height=\"12\" rx=\"2\"/>",
            y - 6
        );
        let holds = if it.holds() == Some(true) { "h" } else { "" };
        text(&mut body, LEFT + length + 8, y + 4, holds, &short(it.value));
        y += ROW;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-4 0 {WIDTH} {y}\" width=\"{WIDTH}\" \
         role=\"img\" aria-label=\"{TITLE}\">\n<style>{STYLE}</style>\n{body}</svg>\n"
    )
}

/// The direction in which a figure is better.
fn wanted(of: &BalanceFigure, figures: &[BalanceFigure]) -> &'static str {
    let mut bounds = figures.iter().filter(|it| it.measure == of.measure).map(|it| it.bound);
    match bounds.find(|bound| *bound != Bound::None) {
        Some(Bound::AtLeast(_)) => " (more is better)",
        _ => " (less is better)",
    }
}

/// Length of a bar. A figure above 0 has at least a stub.
fn length(value: f64, largest: f64) -> u32 {
    if value <= 0.0 || largest <= 0.0 {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and LENGTH"
    )]
    let length = ((value / largest).clamp(0.0, 1.0) * f64::from(LENGTH)) as u32;
    length.max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_parts_of_the_longest() {
        let lengths = [0.0, 0.001, 13.0, 26.0, f64::INFINITY].map(|value| length(value, 26.0));
        assert_eq!(lengths, [0, 2, LENGTH / 2, LENGTH, LENGTH]);
    }
}
