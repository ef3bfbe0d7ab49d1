//! Tables with columns as wide as their content, safe for a terminal.

use super::text::{push_decimal, push_printable, truncate};

/// Rows of cells under a header. All cells are in one buffer: a table may have thousands of rows.
pub(crate) struct Table<const N: usize> {
    text: String,
    /// For each cell its end in `text` and its width in characters.
    cells: Vec<(usize, usize)>,
    widths: [usize; N],
    is_shown: [bool; N],
}

impl<const N: usize> Table<N> {
    /// A column with an empty header is left out.
    pub(crate) fn new(header: [&str; N]) -> Self {
        let mut table = Self {
            text: String::new(),
            cells: Vec::new(),
            widths: [0; N],
            is_shown: header.map(|name| !name.is_empty()),
        };
        header.iter().for_each(|name| table.cell(name));
        table
    }

    /// Appends to the current cell. Control characters are escaped: programs choose their own names.
    pub(crate) fn push(&mut self, text: &str) {
        push_printable(&mut self.text, text);
    }

    /// Appends printable text to the current cell.
    pub(crate) fn push_with(&mut self, write: impl FnOnce(&mut String)) {
        write(&mut self.text);
    }

    /// Appends a number to the current cell.
    pub(crate) fn push_number(&mut self, number: u64) {
        push_decimal(&mut self.text, number);
    }

    /// Ends the current cell.
    pub(crate) fn end_cell(&mut self) {
        let start = self.cells.last().map_or(0, |(end, _)| *end);
        let cell = &self.text[start..];
        let width = if cell.is_ascii() { cell.len() } else { cell.chars().count() };
        let column = self.cells.len() % N;
        self.widths[column] = self.widths[column].max(width);
        self.cells.push((self.text.len(), width));
    }

    pub(crate) fn cell(&mut self, text: &str) {
        self.push(text);
        self.end_cell();
    }

    /// The text, with two spaces between columns and none at the end of a line. Where it would be wider
    /// than `limit`, the columns in `cut` are truncated in turn, each down to its least width.
    pub(crate) fn render(&self, limit: usize, cut: &[(usize, usize)]) -> String {
        let columns = || (0..N).filter(|column| self.is_shown[*column]);
        let mut widths = self.widths;
        let total = columns().map(|column| widths[column] + 2).sum::<usize>();
        let mut excess = total.saturating_sub(2).saturating_sub(limit);
        for (column, least) in cut.iter().filter(|(column, _)| self.is_shown[*column]) {
            let less = excess.min(widths[*column].saturating_sub(*least));
            widths[*column] -= less;
            excess -= less;
        }
        let mut text = String::with_capacity(self.text.len() * 2);
        let mut start = 0;
        for row in self.cells.chunks_exact(N) {
            // The last column is not padded: one long command must not widen every line.
            let (line, mut gap) = (text.len(), 0);
            for (column, (end, width)) in row.iter().enumerate() {
                let cell = &self.text[start..*end];
                start = *end;
                if !self.is_shown[column] {
                    continue;
                }
                let column_width = widths[column];
                if *width == 0 {
                    gap += column_width + 2;
                    continue;
                }
                push_spaces(&mut text, gap);
                if *width <= column_width {
                    text.push_str(cell);
                    gap = column_width - width + 2;
                } else {
                    text.push_str(&truncate(cell, column_width));
                    gap = 2;
                }
            }
            let end = line + text[line..].trim_end().len();
            text.truncate(end);
            text.push('\n');
        }
        text
    }
}

fn push_spaces(text: &mut String, mut count: usize) {
    const SPACES: &str = "                                                                ";
    while count > SPACES.len() {
        text.push_str(SPACES);
        count -= SPACES.len();
    }
    text.push_str(&SPACES[..count]);
}

/// A table of strings.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    table_within(None, header, rows)
}

/// A table of strings that fits a terminal of this width by cutting its last column.
pub(crate) fn table_within<const N: usize>(
    width: Option<usize>,
    header: [&str; N],
    rows: &[[String; N]],
) -> String {
    const LEAST: usize = 12;
    let mut table = Table::new(header);
    rows.iter().flatten().for_each(|cell| table.cell(cell));
    table.render(width.unwrap_or(usize::MAX), &[(N - 1, LEAST)])
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
        let mut table = Table::new(["A", "B", "C"]);
        ["tcp", "a long address", "a long name"].into_iter().for_each(|cell| table.cell(cell));
        let within = |limit| table.render(limit, &[(2, 4), (1, 12)]);
        assert_eq!(within(32), "A    B               C\ntcp  a long address  a long name\n");
        assert_eq!(within(28), "A    B               C\ntcp  a long address  a long…\n");
        assert_eq!(within(24), "A    B              C\ntcp  a long addre…  a l…\n");
        assert_eq!(within(0), "A    B             C\ntcp  a long addr…  a l…\n");
        let mut without = Table::new(["A", "", "C"]);
        ["tcp", "a long address", "a long name"].into_iter().for_each(|cell| without.cell(cell));
        assert_eq!(without.render(usize::MAX, &[]), "A    C\ntcp  a long name\n");
    }

    #[test]
    fn a_command_of_any_length_is_printed() {
        let long = "x".repeat(100_000);
        let rows = [row(["a", &long, &long]), row(["b", "c", "d"])];
        let wide = table(["A", "B", "C"], &rows);
        let lines: Vec<usize> = wide.lines().map(str::len).collect();
        assert_eq!(lines, [100_006, 200_005, 100_006]);
    }

    #[test]
    fn a_name_cannot_control_the_terminal() {
        let rows = [row(["\u{1b}[2Ja", "b\nc", "\u{202e}d é"])];
        let expected = "A           B     C\n\\u{1b}[2Ja  b\\nc  \\u{202e}d é\n";
        assert_eq!(table(["A", "B", "C"], &rows), expected);
    }
}
