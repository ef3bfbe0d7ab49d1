//! Writing the preload library to a file that the user names.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Why it was not written.
#[derive(Debug)]
pub(crate) enum ExportError {
    /// This build has none, for this reason.
    NoLibrary(&'static str),
    /// The file is there already.
    Exists,
    /// The system's error.
    System(io::Error),
}

/// Writes the library. The file is whole or not there: with `force`, the old one is replaced in one
/// step, and programs that have it loaded keep it.
pub(crate) fn export(to: &Path, force: bool) -> Result<(), ExportError> {
    let library =
        sameport_preload::LIBRARY.ok_or(ExportError::NoLibrary(sameport_preload::WHY_NOT))?;
    let aside = aside(to).ok_or_else(|| {
        ExportError::System(io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))
    })?;
    let written = write_new(&aside, library).and_then(|()| {
        if force {
            std::fs::rename(&aside, to)
        } else {
            // Unlike a rename, this fails where there is a file.
            std::fs::hard_link(&aside, to)
        }
    });
    if !force || written.is_err() {
        // It was never there, or its second name is no longer wanted.
        let _ = std::fs::remove_file(&aside);
    }
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists if !force => ExportError::Exists,
        _ => ExportError::System(error),
    })
}

/// A name beside the file that nobody else uses.
fn aside(file: &Path) -> Option<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name()?);
    name.push(format!(".{}", std::process::id()));
    Some(file.with_file_name(name))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o755);
    let mut file: File = options.open(path)?;
    file.write_all(bytes)
}
