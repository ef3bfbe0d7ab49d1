//! A terminal as ratatui draws on it, with the escape sequences of ECMA-48 that every terminal since the VT100
//! has, and the 8 colours.

use std::io::{self, Write};

use ratatui_core::backend::{Backend, ClearType, WindowSize};
use ratatui_core::buffer::Cell;
use ratatui_core::layout::{Position, Size};
use ratatui_core::style::{Color, Modifier};

/// Enters the alternate screen, clears it, hides the cursor.
pub(super) const ENTER: &str = "\x1b[?1049h\x1b[2J\x1b[H\x1b[?25l";
/// Resets the style, shows the cursor, leaves the alternate screen.
pub(super) const LEAVE: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";

/// Writes each frame at once.
pub(super) struct AnsiBackend<W> {
    to: W,
    /// The bytes for the next flush.
    frame: Vec<u8>,
    colors: bool,
    size: fn() -> (usize, usize),
    cursor: Position,
}

impl<W: Write> AnsiBackend<W> {
    /// `size`: columns and rows of the terminal.
    pub(super) fn new(to: W, colors: bool, size: fn() -> (usize, usize)) -> Self {
        Self { to, frame: Vec::new(), colors, size, cursor: Position::ORIGIN }
    }

    fn push(&mut self, text: &str) {
        self.frame.extend_from_slice(text.as_bytes());
    }

    /// The style of a cell, after a reset.
    fn push_style(&mut self, cell: &Cell) {
        self.push("\x1b[0");
        for (modifier, code) in [
            (Modifier::BOLD, ";1"),
            (Modifier::DIM, ";2"),
            (Modifier::UNDERLINED, ";4"),
            (Modifier::REVERSED, ";7"),
        ] {
            if cell.modifier.contains(modifier) {
                self.push(code);
            }
        }
        if self.colors {
            self.push(match cell.fg {
                Color::Red => ";31",
                Color::Green => ";32",
                Color::Yellow => ";33",
                Color::Cyan => ";36",
                _ => "",
            });
        }
        self.push("m");
    }
}

impl<W: Write> Backend for AnsiBackend<W> {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let mut next = None;
        let mut style = None;
        for (x, y, cell) in content {
            if next != Some((x, y)) {
                self.push(&format!("\x1b[{};{}H", y + 1, x + 1));
            }
            // A wide character makes the next position unknown; moving there is always right.
            next = cell.symbol().is_ascii().then_some((x + 1, y));
            let wanted = (cell.fg, cell.modifier);
            if style != Some(wanted) {
                self.push_style(cell);
                style = Some(wanted);
            }
            self.push(cell.symbol());
        }
        self.push("\x1b[0m");
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.push("\x1b[?25l");
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.push("\x1b[?25h");
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(self.cursor)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.cursor = position.into();
        let text = format!("\x1b[{};{}H", self.cursor.y + 1, self.cursor.x + 1);
        self.push(&text);
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        self.push(match region {
            ClearType::All => "\x1b[0m\x1b[2J",
            ClearType::AfterCursor => "\x1b[J",
            ClearType::BeforeCursor => "\x1b[1J",
            ClearType::CurrentLine => "\x1b[2K",
            ClearType::UntilNewLine => "\x1b[K",
        });
        Ok(())
    }

    fn size(&self) -> io::Result<Size> {
        let (columns, rows) = (self.size)();
        let number = |it: usize| u16::try_from(it).unwrap_or(u16::MAX);
        Ok(Size::new(number(columns), number(rows)))
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        let frame = std::mem::take(&mut self.frame);
        self.to.write_all(&frame)?;
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use ratatui_core::buffer::Buffer;
    use ratatui_core::layout::Rect;
    use ratatui_core::style::Style;

    use super::*;

    /// The bytes for these lines: `^` stands for the control sequence introducer.
    fn written(colors: bool, lines: &[(&str, Style)]) -> String {
        let mut bytes = Vec::new();
        let mut backend = AnsiBackend::new(&mut bytes, colors, || (10, 4));
        let mut buffer = Buffer::empty(Rect::new(0, 0, 10, 4));
        for (y, (text, style)) in (0..).zip(lines) {
            buffer.set_string(1, y, text, *style);
        }
        let blank = Buffer::empty(buffer.area);
        backend.draw(blank.diff(&buffer).into_iter()).unwrap();
        backend.flush().unwrap();
        String::from_utf8(bytes).unwrap().replace("\x1b[", "^")
    }

    #[test]
    fn cells_are_written_with_as_few_sequences_as_possible() {
        let plain = Style::new();
        assert_eq!(written(true, &[("ab", plain)]), "^1;2H^0mab^0m");
        let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        assert_eq!(written(true, &[("a", red), ("b", plain)]), "^1;2H^0;1;31ma^2;2H^0mb^0m");
        let blue = Style::new().fg(Color::Blue);
        assert_eq!(written(true, &[("a", blue)]), "^1;2H^0ma^0m");
    }

    #[test]
    fn without_colors_the_other_styles_stay() {
        let style = Style::new()
            .fg(Color::Red)
            .add_modifier(Modifier::REVERSED | Modifier::DIM | Modifier::UNDERLINED);
        assert_eq!(written(false, &[("a", style)]), "^1;2H^0;2;4;7ma^0m");
    }

    #[test]
    fn the_position_after_a_wide_character_is_set_again() {
        assert_eq!(written(true, &[("世a", Style::new())]), "^1;2H^0m世^1;4Ha^0m");
    }
}
