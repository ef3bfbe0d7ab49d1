//! A chart of the losses for the documentation: SVG, readable on light and dark backgrounds.

use std::fmt::Write as _;

use super::measured::RestartFigures;

const WIDTH: u32 = 760;
/// Left edge of the bars.
const LEFT: u32 = 136;
/// Length of the longest bar.
const LENGTH: u32 = 480;
/// The axis: from a tenth to a thousand.
const DECADES: u32 = 4;
const ROW: u32 = 20;
const HEADING: u32 = 36;
const TOP: u32 = 44;

const TITLE: &str = "Connections lost by each restart, or kill: less is better (logarithmic scale)";

pub(crate) const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#24292f}\
.h{font-weight:600}.s{font-size:11px;fill:#6e7781}.e{text-anchor:end}.m{text-anchor:middle}\
line{stroke:#d0d7de}rect{fill:#bc4c00}.o{fill:#1a7f37}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#8d96a0}line{stroke:#30363d}\
rect{fill:#f0883e}.o{fill:#3fb950}}";

/// Draws one bar per variant, below a heading per event.
pub(crate) fn of(measured: &[RestartFigures]) -> String {
    let mut body = String::new();
    let mut y = TOP;
    let mut heading = String::new();
    for it in measured {
        let what = it.what();
        if it.failed.is_some() {
            continue;
        }
        if what != heading {
            y += HEADING;
            text(&mut body, 0, y - 16, "h", &what);
            heading = what;
        }
        let ours = if it.variant.is_ours() { "sameport, " } else { "" };
        text(&mut body, LEFT - 8, y + 4, "e", &format!("{ours}{}", it.variant.name()));
        let lost = it.lost_each_time;
        let class = if it.variant.is_ours() { " class=\"o\"" } else { "" };
        let length = length(lost);
        let _ = writeln!(
            body,
            "<rect{class} x=\"{LEFT}\" y=\"{}\" width=\"{length}\" height=\"12\" rx=\"2\"/>",
            y - 6
        );
        text(&mut body, LEFT + length + 8, y + 4, if it.lost() == 0 { "h" } else { "" }, &said(it));
        y += ROW;
    }
    let mut scale = String::new();
    text(&mut scale, 0, 16, "h", TITLE);
    for decade in 0..=DECADES {
        let x = LEFT + LENGTH * decade / DECADES;
        let number = match decade {
            0 => "0.1".to_owned(),
            _ => grouped(10_u64.pow(decade - 1)),
        };
        text(&mut scale, x, TOP - 4, "s m", &number);
        let _ = writeln!(scale, "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{y}\"/>", TOP + 2);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-4 0 {WIDTH} {y}\" width=\"{WIDTH}\" \
         role=\"img\" aria-label=\"{TITLE}\">\n<style>{STYLE}</style>\n\
         {scale}{body}</svg>\n"
    )
}

pub(crate) fn text(into: &mut String, x: u32, y: u32, class: &str, text: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ = writeln!(into, "<text{class} x=\"{x}\" y=\"{y}\">{text}</text>");
}

/// Length of a bar on the logarithmic axis. A tenth has length 0; smaller values have a stub.
fn length(lost: f64) -> u32 {
    if lost <= 0.0 {
        return 0;
    }
    let share = ((lost.log10() + 1.0) / f64::from(DECADES)).clamp(0.0, 1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and LENGTH"
    )]
    let length = (share * f64::from(LENGTH)) as u32;
    length.max(2)
}

fn said(it: &RestartFigures) -> String {
    if it.lost() == 0 {
        return format!("0 of {}", grouped(it.connections));
    }
    let lost = it.lost_each_time;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no more than there were connections"
    )]
    let lost = if lost < 10.0 { format!("{lost:.1}") } else { grouped(lost.round() as u64) };
    // A supervisor cannot prevent this loss.
    if it.reset_in_hand == it.lost() { lost + ", all in hand" } else { lost }
}

/// The number with a comma before every three digits.
fn grouped(number: u64) -> String {
    if number < 1000 {
        return number.to_string();
    }
    format!("{},{:03}", grouped(number / 1000), number % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_logarithms_and_numbers_have_commas() {
        let lengths = [0.0, 0.05, 0.1, 1.0, 1000.0, 1e9].map(length);
        assert_eq!([7, 1000, 1_234_567].map(grouped), ["7", "1,000", "1,234,567"]);
        assert_eq!(lengths, [0, 2, 2, LENGTH / DECADES, LENGTH, LENGTH]);
    }
}
