//! Columns as wide as what is in them, safe for a terminal.

use std::fmt::Write as _;

/// Lays rows out under a header, two spaces between columns, none at the end of a line. Control
/// characters are shown, not sent: a program may call itself anything.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let header = header.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(&header)
        .chain(rows)
        .map(|row| row.each_ref().map(|cell| printable(cell)))
        .collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a String does not fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What others chose, such as a program's name, without what would steer a terminal.
pub(crate) fn printable(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    for c in cell.chars() {
        if c.is_control() || is_direction_mark(c) {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

/// Characters that turn the text around them, and with it what a person reads.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 3]) -> [String; 3] {
        cells.map(str::to_owned)
    }

    #[test]
    fn columns_fit_their_content() {
        let rows = [row(["tcp", "[::1]:80", "x"]), row(["", "", "yes"]), row(["udp", "a", ""])];
        let expected = "A    BB        C\ntcp  [::1]:80  x\n               yes\nudp  a\n";
        assert_eq!(table(["A", "BB", "C"], &rows), expected);
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let rows = [row(["\u{1b}[2Ja", "b\nc", "\u{202e}d é"])];
        let expected = "A           B     C\n\\u{1b}[2Ja  b\\nc  \\u{202e}d é\n";
        assert_eq!(table(["A", "B", "C"], &rows), expected);
    }
}
