//! A text that replaces the one before on the terminal.

use std::io::{self, IsTerminal as _};

use super::stdout;
use super::text::truncate;

/// Whether stdout is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether stdout is a terminal that shows colours, and NO_COLOR is not set.
pub(crate) fn stdout_is_coloured() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// The width of the terminal; `None` for a pipe or a file, where nothing is left out of a table.
pub(crate) fn width() -> Option<usize> {
    is_terminal().then(|| size().0)
}

/// Shows the part of the text that fits the terminal.
///
/// # Errors
///
/// Those of write(2), also for a closed terminal.
pub(crate) fn show(text: &str) -> io::Result<()> {
    stdout::line(&frame(text, size()))
}

/// Each line replaces the one before, which avoids flicker.
fn frame(text: &str, (columns, rows): (usize, usize)) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // The cursor is on the row after the last.
    let height = rows.saturating_sub(1).max(1);
    let shown = if lines.len() > height { height - 1 } else { lines.len() };
    let mut frame = "\u{1b}[H".to_owned();
    let rest = lines.len() - shown;
    let more = (rest > 0).then(|| format!("… and {rest} more lines"));
    for line in lines[..shown].iter().copied().chain(more.as_deref()) {
        frame.push_str(&truncate(line, columns));
        frame.push_str("\u{1b}[K\r\n");
    }
    frame.push_str("\u{1b}[J");
    frame
}

/// The columns and rows of the terminal; 80 and 24 if it does not know.
#[cfg(target_os = "linux")]
pub(crate) fn size() -> (usize, usize) {
    sameport_sys::terminal::size(io::stdout()).unwrap_or((80, 24))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn size() -> (usize, usize) {
    (80, 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_terminal() {
        let show = |text, size| frame(text, size).replace("\u{1b}[", "^").replace("\r\n", "|");
        assert_eq!(show("ab\nc\n", (80, 24)), "^Hab^K|c^K|^J");
        assert_eq!(show("", (80, 24)), "^H^J");
        assert_eq!(show("abcdef\n", (4, 24)), "^Habc…^K|^J");
        assert_eq!(show("a\nb\nc\n", (80, 4)), "^Ha^K|b^K|c^K|^J");
        assert_eq!(show("a\nb\nc\nd\n", (80, 4)), "^Ha^K|b^K|… and 2 more lines^K|^J");
        assert_eq!(show("a\nb\n", (80, 1)), "^H… and 2 more lines^K|^J");
    }
}
