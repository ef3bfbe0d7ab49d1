//! Program files: search in PATH, and privileges that executing them grants.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A privilege that executing a file grants. `no_new_privs` suppresses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileCapability {
    /// The set-user-ID bit, of a user other than the caller.
    UserId,
    /// The set-group-ID bit, of a group other than the caller's.
    GroupId,
    /// File capabilities (`security.capability`).
    Capabilities,
}

/// The privilege that executing this file grants to the caller. `None` also for a file that cannot
/// be examined: executing it fails with the reason.
#[must_use]
pub fn file_capability(program: &Path) -> Option<FileCapability> {
    const SET_USER_ID: u32 = 0o4000;
    // Without the group's execute bit, the set-group-ID bit requests mandatory locking.
    const SET_GROUP_ID: u32 = 0o2010;
    let file = std::fs::metadata(program).ok()?;
    let is_root = rustix::process::geteuid().is_root();
    if file.mode() & SET_USER_ID != 0 && file.uid() != rustix::process::geteuid().as_raw() {
        return Some(FileCapability::UserId);
    }
    if file.mode() & SET_GROUP_ID == SET_GROUP_ID
        && file.gid() != rustix::process::getegid().as_raw()
    {
        return Some(FileCapability::GroupId);
    }
    let mut value = [0u8; 64];
    let has_capabilities = rustix::fs::getxattr(program, "security.capability", &mut value).is_ok();
    (has_capabilities && !is_root).then_some(FileCapability::Capabilities)
}

/// The file that `execvp(3)` executes for this name: the name itself if it contains a slash, else
/// the first executable file of this name in the search path. `directory`: the working directory of
/// the process that executes it, if not the one of this process.
#[must_use]
pub fn find_in_path(
    program: &OsStr,
    search_path: Option<&OsStr>,
    directory: Option<&Path>,
) -> Option<PathBuf> {
    let from = |path: PathBuf| match directory {
        Some(directory) => directory.join(path),
        None => path,
    };
    if program.as_bytes().contains(&b'/') {
        return Some(from(PathBuf::from(program)));
    }
    // The default of glibc without PATH.
    let path = search_path.unwrap_or(OsStr::new("/bin:/usr/bin"));
    std::env::split_paths(path).map(|folder| from(folder.join(program))).find(|file| {
        std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
    })
}
