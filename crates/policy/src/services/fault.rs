//! What is wrong in a file of services.

use std::fmt;

use super::tree::FilePosition;

/// One mistake. `Display` is `12:3: MESSAGE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceFault {
    /// The file, if it is not the file of services itself.
    pub file: Option<String>,
    /// The place.
    pub at: FilePosition,
    /// The message: one line, lower case.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

impl ServiceFault {
    /// A mistake in the file of services.
    #[must_use]
    pub fn new(at: FilePosition, message: impl Into<String>) -> Self {
        Self { file: None, at, message: message.into(), hint: None }
    }

    /// The mistake with its next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The mistake in another file.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }
}

impl fmt::Display for ServiceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
        }
        write!(f, "{}: {}", self.at, self.message)
    }
}
