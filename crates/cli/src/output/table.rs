//! Columns as wide as what is in them, safe for a terminal.

use std::mem;

use super::text::{printable, truncate};

/// Lays rows out under a header, two spaces between columns, none at the end of a line. A column with
/// an empty header is left out. Control characters are shown, not sent: a program may call itself
/// anything.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    table_within(usize::MAX, &[], header, rows)
}

/// The same, at most this wide as far as that can be had by cutting these columns, each down to its
/// least width, the first of them first. What was cut ends with `…`.
pub(crate) fn table_within<const N: usize>(
    at_most: usize,
    cut: &[(usize, usize)],
    header: [&str; N],
    rows: &[[String; N]],
) -> String {
    let shown: [bool; N] = header.map(|name| !name.is_empty());
    let header = header.map(str::to_owned);
    // A row at a time, twice: there may be many.
    let printed = || {
        let rows = std::iter::once(&header).chain(rows);
        rows.map(|row| row.each_ref().map(|cell| printable(cell)))
    };
    let mut widths = [0; N];
    for row in printed() {
        for (width, cell) in widths.iter_mut().zip(&row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let columns = || (0..N).filter(|column| shown[*column]);
    let wide = columns().map(|column| widths[column]).sum::<usize>() + 2 * columns().count();
    let mut excess = wide.saturating_sub(2).saturating_sub(at_most);
    for (column, least) in cut.iter().filter(|(column, _)| shown[*column]) {
        let less = excess.min(widths[*column].saturating_sub(*least));
        widths[*column] -= less;
        excess -= less;
    }
    let mut text = String::new();
    for row in printed() {
        // The last column is not filled up: it may be very wide, and is told to its end.
        let (mut line, mut gap) = (String::new(), 0);
        for column in columns() {
            let width = widths[column];
            let cell = truncate(&row[column], width);
            line.push_str(&" ".repeat(mem::take(&mut gap)));
            line.push_str(&cell);
            gap = width.saturating_sub(cell.chars().count()) + 2;
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
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
    fn what_does_not_fit_is_cut_where_it_may_be() {
        let rows = [row(["tcp", "a long address", "a long name"])];
        let within = |at_most| table_within(at_most, &[(2, 4), (1, 12)], ["A", "B", "C"], &rows);
        assert_eq!(within(32), "A    B               C\ntcp  a long address  a long name\n");
        assert_eq!(within(28), "A    B               C\ntcp  a long address  a long…\n");
        assert_eq!(within(24), "A    B              C\ntcp  a long addre…  a l…\n");
        assert_eq!(within(0), "A    B             C\ntcp  a long addr…  a l…\n");
        let without = table(["A", "", "C"], &rows);
        assert_eq!(without, "A    C\ntcp  a long name\n");
    }

    #[test]
    fn a_command_of_any_length_is_told() {
        let long = "x".repeat(100_000);
        let rows = [row(["a", &long, &long]), row(["b", "c", "d"])];
        let wide = table(["A", "B", "C"], &rows);
        let lines: Vec<usize> = wide.lines().map(str::len).collect();
        assert_eq!(lines, [100_006, 200_005, 100_006]);
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let rows = [row(["\u{1b}[2Ja", "b\nc", "\u{202e}d é"])];
        let expected = "A           B     C\n\\u{1b}[2Ja  b\\nc  \\u{202e}d é\n";
        assert_eq!(table(["A", "B", "C"], &rows), expected);
    }
}
