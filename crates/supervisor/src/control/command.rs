//! Looks up the command of an upgrade before a worker ends for it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sameport_sys::process::find_in_path;

use super::protocol::{ControlReply, FaultKind};

/// The file that `execvp(3)` executes for this name in `directory`; `None`: the one of this process.
///
/// # Errors
///
/// `NotFound`: no such file in the search path. `NotExecutable`: not a file, or no execute permission.
pub fn find_executable(
    program: &OsStr,
    search_path: Option<&OsStr>,
    directory: Option<&Path>,
) -> Result<PathBuf, FaultKind> {
    let path = find_in_path(program, search_path, directory).ok_or(FaultKind::NotFound)?;
    match std::fs::metadata(&path) {
        Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FaultKind::NotFound),
        _ => Err(FaultKind::NotExecutable),
    }
}

/// [`find_executable`] with an absolute path, for a supervisor in another directory.
///
/// # Errors
///
/// Those of [`find_executable`].
pub fn find_absolute(program: &OsStr, search_path: Option<&OsStr>) -> Result<PathBuf, FaultKind> {
    let path = find_executable(program, search_path, None)?;
    std::path::absolute(path).map_err(|_| FaultKind::NotFound)
}

/// The reply to a request with a directory that workers cannot enter; `None` if it is one.
pub fn directory_refusal(directory: &Path) -> Option<ControlReply> {
    let error = match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => return None,
        Ok(_) => io::Error::from(io::ErrorKind::NotADirectory),
        Err(error) => error,
    };
    let error = format!("chdir {}: {error}", directory.display());
    Some(ControlReply::failed(error, Some("name a directory that exists: --directory DIR")))
}

/// The reply to a request with a command that cannot start; `None` if it can.
pub fn refusal(
    command: &[OsString],
    search_path: Option<&OsStr>,
    directory: &Path,
) -> Option<ControlReply> {
    let program = command.first().map_or(OsStr::new(""), OsString::as_os_str);
    let fault = find_executable(program, search_path, Some(directory)).err()?;
    let what = match fault {
        FaultKind::NotFound => "command not found",
        _ => "cannot be executed",
    };
    Some(ControlReply::Failed {
        fault,
        error: match program.to_string_lossy() {
            name if name.is_empty() => format!("'': {what}"),
            name => format!("{name}: {what}"),
        },
        hint: Some(format!(
            "it is searched from {}, and in the PATH of the workers",
            directory.display()
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_not_there_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"#!/bin/sh\n").unwrap();
        let fault = |program: &OsStr, search_path: Option<&OsStr>| match refusal(
            &[program.to_owned()],
            search_path,
            Path::new("/"),
        ) {
            Some(ControlReply::Failed { fault, error, .. }) => {
                let name = program.to_string_lossy();
                assert!(error.starts_with(if name.is_empty() { "''" } else { &name }), "{error}");
                Some(fault)
            }
            None => None,
            other => panic!("{other:?}"),
        };
        let folder = Some(dir.path().as_os_str());
        assert_eq!(fault("sh".as_ref(), None), None);
        assert_eq!(fault("sh".as_ref(), folder), Some(FaultKind::NotFound));
        assert_eq!(fault("".as_ref(), None), Some(FaultKind::NotFound));
        assert_eq!(fault("./no/such".as_ref(), None), Some(FaultKind::NotFound));
        assert_eq!(fault("/".as_ref(), None), Some(FaultKind::NotExecutable));
        assert_eq!(fault(file.as_os_str(), None), Some(FaultKind::NotExecutable));
        assert_eq!(fault("file".as_ref(), folder), Some(FaultKind::NotFound));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(fault(file.as_os_str(), None), None);
        assert_eq!(fault("file".as_ref(), folder), None);
        assert!(refusal(&[], None, Path::new("/")).is_some());
    }
}
