//! Why the preload library was not written.

use std::path::Path;

use crate::error::{ExitKind, Failure};
use crate::operations::export::ExportError;

/// One line, and the next step.
pub(crate) fn failure(file: &Path, error: &ExportError) -> Failure {
    let file = file.display();
    match error {
        ExportError::NoLibrary(why) => Failure::new(
            ExitKind::MachineCannot,
            format!("this build has no preload library: {why}"),
        )
        .hint("build sameport on the machine that it is for"),
        ExportError::Exists => {
            Failure::new(ExitKind::CouldNotBeDone, format!("{file} is there already"))
                .hint("--force replaces it, --out names another file")
        }
        ExportError::System(error) => {
            Failure::new(ExitKind::CouldNotBeDone, format!("write {file}: {error}"))
                .hint("--out names a file in a directory that exists and that you may write to")
        }
    }
}
