//! A parsed TOML file as plain values with their places, independent of the parser.

use std::fmt;

/// Characters of a wrong text that a message quotes.
const QUOTED: usize = 60;

/// A place in a file. Both numbers count from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePosition {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A text and the places where its lines begin: a file can have a place for every few bytes.
#[derive(Debug)]
pub struct FileLines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> FileLines<'a> {
    /// The lines of a text.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        let later = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(later).collect() }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The place of a byte; behind the end of the text: the end.
    #[must_use]
    pub fn position(&self, byte: usize) -> FilePosition {
        let mut end = byte.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let line = self.starts.partition_point(|start| *start <= end);
        let start = self.starts[line - 1];
        FilePosition { line, column: self.text[start..end].chars().count() + 1 }
    }
}

impl fmt::Display for FilePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A key of a table, and what it is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// The key.
    pub key: String,
    /// The place of the key.
    pub at: FilePosition,
    /// The value.
    pub node: FileNode,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNode {
    /// The place of its first character.
    pub at: FilePosition,
    /// The value.
    pub value: FileValue,
}

/// A value of TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileValue {
    /// A string.
    Text(String),
    /// A whole number that fits.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
    /// An array.
    List(Vec<FileNode>),
    /// A table. Its entries are in the order of the file.
    Table(Vec<FileEntry>),
    /// A float, a date, a time or a whole number that does not fit, as text.
    Other(String),
}

impl fmt::Display for FileValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Integer(number) => number.fmt(f),
            Self::Boolean(is) => is.fmt(f),
            Self::List(_) => f.write_str("an array"),
            Self::Table(_) => f.write_str("a table"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// A text of the user for a message: in quotes, escaped, and cut.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars().take(QUOTED) {
        match c {
            '"' | '\'' => quoted.push(c),
            _ => quoted.extend(c.escape_debug()),
        }
    }
    quoted.push_str(if text.chars().nth(QUOTED).is_some() { "…\"" } else { "\"" });
    quoted
}
