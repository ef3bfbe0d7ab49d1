//! `preload`: writes the preload library to a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The reason why the library was not written.
#[derive(Debug)]
pub(crate) enum ExportError {
    /// This build has no library, for this reason.
    NoLibrary(&'static str),
    /// The file exists.
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
        ExportError::System(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"))
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
        // The link under its own name remains, or writing failed.
        let _ = std::fs::remove_file(&aside);
    }
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists if !force => ExportError::Exists,
        _ => ExportError::System(error),
    })
}

/// A temporary name in the directory of the file.
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
