//! The name of a run, parsed strictly: it becomes a part of file names.

use std::fmt;
use std::str::FromStr;

/// The longest name, in bytes.
const MAX_BYTES: usize = 64;

/// The number of characters of a wrong name that an error quotes.
const MAX_QUOTED: usize = 60;

/// A name: 1 to 64 ASCII letters, digits, `.`, `_` and `-`; the first is neither `.` nor `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunName(String);

impl RunName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RunName {
    type Err = RunNameError;

    /// Parses a name.
    ///
    /// # Errors
    ///
    /// If the text is not a name. The message names the rule.
    fn from_str(text: &str) -> Result<Self, RunNameError> {
        let quoted = || text.chars().take(MAX_QUOTED).flat_map(char::escape_debug).collect();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match text.chars().find(|c| !fits(*c)) {
            _ if text.is_empty() => Err(RunNameError::Empty),
            _ if text.len() > MAX_BYTES => Err(RunNameError::TooLong(text.len())),
            Some(c) => Err(RunNameError::Character(quoted(), c)),
            None if text.starts_with(['.', '-']) => Err(RunNameError::First(quoted())),
            None => Ok(Self(text.to_owned())),
        }
    }
}

/// Why a text is not a name. `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunNameError {
    /// The text is empty.
    Empty,
    /// The text has this many bytes.
    TooLong(usize),
    /// The text contains this invalid character.
    Character(String, char),
    /// The text begins with `.` or `-`.
    First(String),
}

impl fmt::Display for RunNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name has 1 to 64 characters"),
            Self::TooLong(bytes) => {
                write!(f, "a name has 1 to {MAX_BYTES} characters, not {bytes}")
            }
            Self::Character(text, c) => {
                write!(
                    f,
                    "\"{text}\": a name has no {c:?}, only letters, digits, \".\", \"_\" and \"-\""
                )
            }
            Self::First(text) => {
                write!(f, "\"{text}\": a name begins with a letter, a digit or \"_\"")
            }
        }
    }
}

impl std::error::Error for RunNameError {}
