//! The name of a run, read strictly: it becomes a part of file names.

use std::fmt;
use std::str::FromStr;

/// The longest name, in bytes.
const LONGEST: usize = 64;

/// How much of a wrong name is repeated in the error.
const SHOWN: usize = 60;

/// A name: 1 to 64 ASCII letters, digits, `.`, `_` and `-`, the first one neither `.` nor `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunName(String);

impl RunName {
    /// The name as it was written.
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

    /// Reads a name.
    ///
    /// # Errors
    /// A [`NameError`] that says what to write instead.
    fn from_str(text: &str) -> Result<Self, RunNameError> {
        let shown = || text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match text.chars().find(|c| !fits(*c)) {
            _ if text.is_empty() => Err(RunNameError::Empty),
            _ if text.len() > LONGEST => Err(RunNameError::TooLong(text.len())),
            Some(c) => Err(RunNameError::Character(shown(), c)),
            None if text.starts_with(['.', '-']) => Err(RunNameError::First(shown())),
            None => Ok(Self(text.to_owned())),
        }
    }
}

/// Why a text is no name. `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunNameError {
    /// Nothing was written.
    Empty,
    /// This many bytes.
    TooLong(usize),
    /// It has this character, which no name has.
    Character(String, char),
    /// It begins with `.` or `-`.
    First(String),
}

impl fmt::Display for RunNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name has 1 to 64 characters"),
            Self::TooLong(bytes) => write!(f, "a name has 1 to {LONGEST} characters, not {bytes}"),
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
