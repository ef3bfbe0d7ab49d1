//! The file of services: found, read once into memory, parsed, and compared with the machine.
//!
//! `sameport_policy::services` decides; here are the files that it refers to.

mod file_error;
mod programs;
mod toml_tree;

use std::env;
use std::path::{Path, PathBuf};

use sameport_policy::services::context::FileContext;
use sameport_policy::services::tree::{FileEntry, FileLines, FilePosition, FileValue};
use sameport_policy::services::trust::{FileOwnership, distrust};
use sameport_policy::services::{ServiceFault, ServiceFile, env_file, procfile};
use sameport_sys::text_file;

pub(crate) use file_error::{FileError, advice};

/// The files that are looked for, in this order.
pub(crate) const FILE_NAMES: [&str; 2] = ["sameport.toml", "Procfile"];

/// The file of variables beside a Procfile.
const PROCFILE_VARIABLES: &str = ".env";

/// The longest file: a thousand services with a kilobyte each.
pub(crate) const MOST_BYTES: usize = 1 << 20;

/// Why there are no services.
#[derive(Debug)]
pub(crate) enum ServicesError {
    /// The current directory has none of the files.
    NoFile,
    /// The current directory is not known.
    NoDirectory(std::io::Error),
    /// The file cannot be read, or must not be.
    Unreadable(PathBuf, FileError),
    /// What is wrong in the file, as the user names it.
    Faults(PathBuf, Vec<ServiceFault>),
}

/// Reads the file, or the one of the directory. A relative path is relative to the directory. Nothing is started
/// or changed.
///
/// # Errors
///
/// See [`ServicesError`]. All mistakes of the file are in it.
pub(crate) fn read(file: Option<&Path>, directory: &Path) -> Result<ServiceFile, ServicesError> {
    let shown = match file {
        Some(file) => file.to_owned(),
        None => FILE_NAMES
            .iter()
            .map(PathBuf::from)
            .find(|file| directory.join(file).symlink_metadata().is_ok())
            .ok_or(ServicesError::NoFile)?,
    };
    let path = std::path::absolute(directory.join(&shown)).map_err(ServicesError::NoDirectory)?;
    let content =
        trusted(&path).map_err(|error| ServicesError::Unreadable(shown.clone(), error))?;
    let variable = |name: &str| env::var(name).ok();
    let load = |path: &Path| {
        let content = trusted(path).map_err(|error| advice(path, &error))?;
        decode(&content)
            .map(str::to_owned)
            .map_err(|fault| (format!("line {}: {}", fault.at.line, fault.message), fault.hint))
    };
    let context = FileContext { path: &path, variable: &variable, load: &load };
    let read =
        decode(&content).map_err(|fault| vec![fault]).and_then(|text| match is_procfile(&path) {
            true => read_procfile(text, &context),
            false => read_toml(text, &context),
        });
    read.map_err(|faults| ServicesError::Faults(shown, faults))
}

/// Whether a file is a Procfile by its name: `Procfile`, `Procfile.dev`.
fn is_procfile(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.is_some_and(|name| name == "Procfile" || name.starts_with("Procfile."))
}

fn read_toml(text: &str, context: &FileContext<'_>) -> Result<ServiceFile, Vec<ServiceFault>> {
    let root = toml_tree::parse(text)?;
    let file = sameport_policy::services::read::read(&root, context)?;
    let faults = programs::faults(&file, &|service, key| place(&root, service, key));
    if faults.is_empty() { Ok(file) } else { Err(faults) }
}

fn read_procfile(text: &str, context: &FileContext<'_>) -> Result<ServiceFile, Vec<ServiceFault>> {
    let beside = context.directory().join(PROCFILE_VARIABLES);
    let variables = match beside.symlink_metadata() {
        Err(_) => Vec::new(),
        Ok(_) => {
            let at = FilePosition { line: 1, column: 1 };
            let content = (context.load)(&beside).map_err(|(message, hint)| {
                vec![ServiceFault {
                    file: Some(PROCFILE_VARIABLES.to_owned()),
                    hint,
                    ..ServiceFault::new(at, message)
                }]
            })?;
            env_file::read(&content, PROCFILE_VARIABLES)?
        }
    };
    procfile::read(text, context.path, &variables, context.variable)
}

/// The place of a key of a service, else of the service.
fn place(root: &[FileEntry], service: &str, key: &str) -> FilePosition {
    let found = root.iter().find(|entry| entry.key == service);
    let Some(FileEntry { at, node, .. }) = found else {
        return FilePosition { line: 1, column: 1 };
    };
    let FileValue::Table(entries) = &node.value else { return *at };
    entries.iter().find(|entry| entry.key == key).map_or(*at, |entry| entry.node.at)
}

/// The content of a file that this user may act on.
fn trusted(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = text_file::read(path, MOST_BYTES).map_err(FileError::Text)?;
    let ownership = FileOwnership {
        reader: sameport_sys::effective_user(),
        owner: file.owner,
        group: file.group,
        mode: file.mode,
        link_owner: file.link_owner,
    };
    match distrust(&ownership) {
        None => Ok(file.content),
        Some(distrust) => Err(FileError::NotTrusted(distrust)),
    }
}

/// The text of a file, without a byte order mark.
fn decode(content: &[u8]) -> Result<&str, ServiceFault> {
    let text = std::str::from_utf8(content).map_err(|error| {
        let valid = content.get(..error.valid_up_to()).unwrap_or_default();
        let before = String::from_utf8_lossy(valid);
        let at = FileLines::of(&before).position(before.len());
        let byte = content.get(error.valid_up_to()).copied().unwrap_or_default();
        ServiceFault::new(at, format!("the byte 0x{byte:02x} is not UTF-8"))
            .hint("save the file as UTF-8: `iconv -f latin1 -t utf-8` converts an old one")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

#[cfg(test)]
mod tests;
