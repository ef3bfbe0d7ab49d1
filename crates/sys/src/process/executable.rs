//! What a program file would gain by being executed, and would lose under `no_new_privs`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A privilege that a program file grants to whoever executes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileCapability {
    /// The set-user-ID bit, of another user than the caller.
    UserId,
    /// The set-group-ID bit, of another group than the caller's.
    GroupId,
    /// File capabilities (`security.capability`).
    Capabilities,
}

/// What executing this file would grant the caller, if anything. A file that cannot be looked at
/// grants nothing that we know of; executing it will say why.
#[must_use]
pub fn file_capability(program: &Path) -> Option<FileCapability> {
    const SET_USER_ID: u32 = 0o4000;
    // Without the group's execute bit, the set-group-ID bit means mandatory locking.
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

/// The file that `execvp(3)` would execute for this name: itself if it has a slash, else the first
/// executable one in the search path.
#[must_use]
pub fn find_in_path(program: &OsStr, search_path: Option<&OsStr>) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(program));
    }
    // What glibc uses when PATH is not set.
    let path = search_path.unwrap_or(OsStr::new("/bin:/usr/bin"));
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|file| {
        std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
    })
}

/// Whether this process may put a filter on its children without `no_new_privs`: CAP_SYS_ADMIN.
#[must_use]
pub fn has_cap_sys_admin() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
}
