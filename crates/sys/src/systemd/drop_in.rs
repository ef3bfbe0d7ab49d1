//! Drop-in files of units of the system's manager: systemd.unit(5).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::is_booted;

/// How long a drop-in lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropInPlace {
    /// Until a reboot: below `/run`.
    Runtime,
    /// Also after a reboot: below `/etc`.
    Permanent,
}

impl DropInPlace {
    fn dir(self) -> &'static Path {
        Path::new(match self {
            Self::Runtime => "/run/systemd/system",
            Self::Permanent => "/etc/systemd/system",
        })
    }
}

/// Writes a drop-in of a unit, and makes the manager read it. Without a manager that has read it there is no
/// file.
///
/// # Errors
///
/// Those of the file system, as EACCES without root and EROFS, and of `systemctl daemon-reload`.
pub fn write(place: DropInPlace, unit: &str, file: &str, text: &str) -> io::Result<PathBuf> {
    let dir = place.dir().join(format!("{unit}.d"));
    let path = dir.join(file);
    // The manager reads files that end in `.conf`.
    let new = dir.join(format!("{file}.new"));
    fs::create_dir_all(&dir)?;
    let written =
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).and_then(|()| reload());
    if let Err(error) = written {
        let _ = fs::remove_file(&new);
        let _ = remove_at(&path);
        return Err(error);
    }
    Ok(path)
}

/// Removes this drop-in of a unit, and the directory if nothing else is in it. Returns the files.
///
/// # Errors
///
/// Those of the file system, and of `systemctl daemon-reload`.
pub fn remove(unit: &str, file: &str) -> io::Result<Vec<PathBuf>> {
    let places = [DropInPlace::Runtime, DropInPlace::Permanent];
    let path = |place: DropInPlace| place.dir().join(format!("{unit}.d")).join(file);
    remove_files(places.map(path))
}

/// Removes this drop-in of every unit. Returns the files.
///
/// # Errors
///
/// Those of the file system, and of `systemctl daemon-reload`.
pub fn remove_all(file: &str) -> io::Result<Vec<PathBuf>> {
    let places = [DropInPlace::Runtime, DropInPlace::Permanent];
    let entries = places.into_iter().filter_map(|place| fs::read_dir(place.dir()).ok()).flatten();
    let dirs = entries.flatten().map(|entry| entry.path());
    let dirs = dirs.filter(|dir| dir.extension().is_some_and(|kind| kind == "d"));
    remove_files(dirs.map(|dir| dir.join(file)))
}

fn remove_files(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for path in paths {
        if remove_at(&path)? {
            removed.push(path);
        }
    }
    if !removed.is_empty() && is_booted() {
        reload()?;
    }
    Ok(removed)
}

/// Removes a file, and its directory if that is empty. `false`: there is no such file.
fn remove_at(path: &Path) -> io::Result<bool> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
        Ok(()) => true,
    };
    if let Some(dir) = path.parent() {
        // ENOTEMPTY: it has files of others.
        let _ = fs::remove_dir(dir);
    }
    Ok(removed)
}

/// The manager reads its unit files again, which changes no running unit.
fn reload() -> io::Result<()> {
    let mut command = Command::new("systemctl");
    let output = command.arg("daemon-reload").stdin(Stdio::null()).output();
    let output = output.map_err(|error| io::Error::other(format!("systemctl: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("failed");
    Err(io::Error::other(format!("systemctl daemon-reload: {said}")))
}
