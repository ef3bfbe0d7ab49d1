//! Unit files: where a manager reads them, and writing one as a whole. systemd.unit(5), "Unit File Load Path".

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use sameport_policy::service_unit::UnitScope;

/// The directory of the units that an administrator writes.
pub const SYSTEM_UNITS: &str = "/etc/systemd/system";

/// More directories of the manager of the system, and the one whose scripts a generator makes units of.
const OTHER_SYSTEM_UNITS: [&str; 10] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// More directories of the manager of a user.
const OTHER_USER_UNITS: [&str; 5] = [
    "/etc/systemd/user",
    "/run/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
    "/usr/local/share/systemd/user",
];

/// The largest unit file that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// What is at the path of a unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitFile {
    /// Nothing.
    Absent,
    /// A file with this text.
    Text(Vec<u8>),
    /// A symbolic link (a masked or linked unit), a directory, or a file too large for a unit.
    Other,
}

/// Reads the file at a path, and follows no link.
///
/// # Errors
///
/// Those of `lstat(2)`, `open(2)` and `read(2)`, as EACCES.
pub fn read(path: &Path) -> io::Result<UnitFile> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(UnitFile::Absent),
        found => found?,
    };
    if !found.is_file() || found.len() > LARGEST {
        return Ok(UnitFile::Other);
    }
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text)?;
    Ok(UnitFile::Text(text))
}

/// Writes a file as a whole: a reader sees the old text or the new one, also after a crash. Mode 0644.
///
/// # Errors
///
/// Those of `mkdir(2)`, `open(2)`, `write(2)`, `fsync(2)` and `rename(2)`, as EROFS and ENOSPC. The old file
/// stays then.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A manager reads no file whose name ends so.
    let new = dir.join(format!(".#{name}.{}", std::process::id()));
    let written = write_new(&new, text).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    // The file is there; not every file system can sync a directory.
    let _ = File::open(dir).and_then(|dir| dir.sync_all());
    Ok(())
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // The rest of a killed process with the same pid.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    // The umask of a caller must not hide the unit from those who read units.
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Removes a file, and its directory if that is a drop-in directory without other files.
///
/// # Errors
///
/// Those of `unlink(2)`.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    if let Some(dir) = path.parent().filter(|dir| dir.extension().is_some_and(|kind| kind == "d")) {
        // ENOTEMPTY: it has files of others.
        let _ = fs::remove_dir(dir);
    }
    Ok(())
}

/// A unit of this name in another directory of the manager, which a new one would hide.
#[must_use]
pub fn elsewhere(scope: UnitScope, file: &str) -> Option<PathBuf> {
    let folders: &[&str] = match scope {
        UnitScope::System => &OTHER_SYSTEM_UNITS,
        UnitScope::User => &OTHER_USER_UNITS,
    };
    folders.iter().map(|dir| Path::new(dir).join(file)).find(|path| path.symlink_metadata().is_ok())
}

/// Who other than root and `user` can replace a file that a service executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changer {
    /// This user owns the file or a directory above it.
    User(u32),
    /// A group, or every user.
    Others,
}

/// Whether a user other than root and `user` can replace the file. Links are followed, as by `execve(2)`.
///
/// # Errors
///
/// Those of `realpath(3)` and `stat(2)`.
pub fn changer(path: &Path, user: u32) -> io::Result<Option<Changer>> {
    const STICKY: u32 = 0o1000;
    const OF_OTHERS: u32 = 0o022;
    let real = fs::canonicalize(path)?;
    for part in real.ancestors() {
        let found = fs::metadata(part)?;
        if found.uid() != 0 && found.uid() != user {
            return Ok(Some(Changer::User(found.uid())));
        }
        let is_protected = found.is_dir() && found.mode() & STICKY != 0;
        if found.mode() & OF_OTHERS != 0 && !is_protected {
            return Ok(Some(Changer::Others));
        }
    }
    Ok(None)
}

/// The first directory on the way to a file, or the file itself, that a user with these groups may not enter or
/// execute by its mode. Access control lists are not read.
#[must_use]
pub fn closed_to(path: &Path, user: u32, groups: &[u32]) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    let parts: Vec<&Path> = real.ancestors().collect();
    let is_closed = |part: &&Path| {
        let Ok(found) = fs::metadata(part) else { return false };
        let bit = match (found.uid() == user, groups.contains(&found.gid())) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        user != 0 && found.mode() & bit == 0
    };
    parts.into_iter().rev().find(is_closed).map(Path::to_owned)
}

/// `systemctl WORDS`, for this manager; its messages go to stderr.
///
/// # Errors
///
/// Those of starting it.
pub fn systemctl(scope: UnitScope, words: &[&str]) -> io::Result<ExitStatus> {
    let mut command = Command::new("systemctl");
    command.args(scope.option().split_whitespace()).args(words).stdin(Stdio::null());
    command.status()
}

/// Whether a unit runs and whether a boot starts it: ActiveState and UnitFileState. Empty if the manager does not
/// answer.
#[must_use]
pub fn state(scope: UnitScope, unit: &str) -> (String, String) {
    let mut command = Command::new("systemctl");
    command.args(scope.option().split_whitespace());
    command.args(["show", "--no-pager", "--property=ActiveState,UnitFileState", "--", unit]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).env("LC_ALL", "C").output();
    let text =
        output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().to_owned()
    };
    (value("ActiveState"), value("UnitFileState"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_written_whole_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.service.d/50-x.conf");
        assert_eq!(read(&path).unwrap(), UnitFile::Absent);
        for text in ["one\n", "two\n"] {
            write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap(), UnitFile::Text(text.into()));
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        remove(&path).unwrap();
        assert!(!path.parent().unwrap().exists() && dir.path().exists());
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.service");
        symlink("/dev/null", &path).unwrap();
        assert_eq!(read(&path).unwrap(), UnitFile::Other);
        assert_eq!(read(dir.path()).unwrap(), UnitFile::Other);
        // A directory stays, and nothing else is left.
        let folder = dir.path().join("folder.service");
        fs::create_dir(&folder).unwrap();
        assert!(write(&folder, "x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_directory_of_another_user_is_closed() {
        let own = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(dir.path()).unwrap().join("program");
        fs::write(&path, "").unwrap();
        let parent = path.parent().unwrap().to_owned();
        let closed = |user: u32, groups: &[u32], modes: [u32; 2]| {
            for (path, mode) in [(&parent, modes[0]), (&path, modes[1])] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
            closed_to(&path, user, groups)
        };
        let other = own + 4321;
        assert_eq!(closed(other, &[], [0o700, 0o755]), Some(parent.clone()));
        assert_eq!(closed(other, &[group], [0o710, 0o755]), None);
        assert_eq!(closed(other, &[], [0o755, 0o644]), Some(path.clone()));
        assert_eq!(closed(0, &[], [0o700, 0o644]), None);
    }

    #[test]
    fn who_can_replace_a_file() {
        let own = rustix::process::geteuid().as_raw();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(changer(&path, own).unwrap(), None);
        if own != 0 {
            assert_eq!(changer(&path, 0).unwrap(), Some(Changer::User(own)));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o775)).unwrap();
        assert_eq!(changer(&path, own).unwrap(), Some(Changer::Others));
        assert!(changer(&dir.path().join("none"), own).is_err());
    }
}
