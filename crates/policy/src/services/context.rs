//! What a file of services refers to: its place, the environment of the caller, and env files.

use std::path::Path;

/// Why an env file is not read: the message and the next step.
pub type LoadFault = (String, Option<String>);

/// What a file of services refers to.
pub struct FileContext<'a> {
    /// The file, an absolute path.
    pub path: &'a Path,
    /// A variable of the caller. `None`: it is not set, or not UTF-8.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Reads an env file.
    pub load: &'a dyn Fn(&Path) -> Result<String, LoadFault>,
}

impl FileContext<'_> {
    /// The directory of the file.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(self.path)
    }
}
