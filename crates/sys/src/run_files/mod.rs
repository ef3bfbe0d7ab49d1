//! Files of named runs.
//!
//! A run has three files in a directory that only its user can write to: `NAME.lock`, locked
//! (`flock(2)`) while the supervisor lives, also across its `exec`; `NAME.sock`, its control socket;
//! `NAME.json`, a record of the supervisor that remains readable after a crash. A run that has ended
//! leaves `NAME.ended`, a report about its end, until the next run of the name starts.

mod claim;
mod elsewhere;
mod find;

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use sameport_policy::model::name::RunName;

use crate::users;

pub use claim::{ClaimError, EarlierRun, InheritedClaim, NameClaim};
pub use elsewhere::{SeenSupervisor, list_supervisors, users_with_folders};
pub use find::{
    ConnectError, SupervisorState, connect_supervisor, connect_supervisor_of, list_names,
    list_names_of, read_ended, read_ended_of,
};

/// The directories of named runs, the preferred one first. `runtime` is the value of
/// XDG_RUNTIME_DIR.
///
/// A service and a login shell of one user have different environments, so a search for a run must
/// try all directories.
#[must_use]
pub fn folders(runtime: Option<&Path>) -> Vec<PathBuf> {
    let user = rustix::process::geteuid();
    let runtime = runtime.filter(|folder| folder.is_absolute()).map(|it| it.join("sameport"));
    let machine = user.is_root().then(|| PathBuf::from("/run/sameport"));
    let mut folders: Vec<PathBuf> = runtime.into_iter().chain(machine).collect();
    for folder in usual_folders(user.as_raw()) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// The directories in an order for a process that outlives the sessions of its user: the last ones are those
/// that logind removes at the end of the last session (`pam_systemd(8)`), unless the user lingers
/// (`loginctl(1)`). The first is the one with the record of a killed supervisor of this name, which the next
/// one replaces.
#[must_use]
pub fn lasting_first(name: &RunName, folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let user = users::user_name(uid).unwrap_or_default();
    let lingers = Path::new("/var/lib/systemd/linger").join(user).is_file();
    let mut folders = if lingers { folders } else { in_lasting_order(folders, uid) };
    folders.sort_by_key(|folder| !folder.join(record_file(name)).is_file());
    folders
}

fn in_lasting_order(folders: Vec<PathBuf>, uid: u32) -> Vec<PathBuf> {
    let of_session = format!("/run/user/{uid}");
    let (ends, mut lasts): (Vec<_>, Vec<_>) =
        folders.into_iter().partition(|folder| folder.starts_with(&of_session));
    lasts.extend(ends);
    lasts
}

/// The value of XDG_RUNTIME_DIR or, in a service without it, the first directory of RUNTIME_DIRECTORY
/// (`systemd.exec(5)`, `RuntimeDirectory=`).
///
/// Root uses `/run` as outside of services, where its other commands find the run, unless the service sees
/// it read-only (`ProtectSystem=strict`).
#[must_use]
pub fn runtime_dir(xdg: Option<OsString>, of_service: Option<&OsStr>) -> Option<OsString> {
    let has_run = || {
        rustix::process::geteuid().is_root()
            && rustix::fs::access("/run", rustix::fs::Access::WRITE_OK).is_ok()
    };
    let first = |list: &OsStr| {
        let first = list.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
        (!first.is_empty()).then(|| OsStr::from_bytes(first).to_owned())
    };
    xdg.filter(|folder| !folder.is_empty())
        .or_else(|| of_service.filter(|_| !has_run()).and_then(first))
}

/// The directories of named runs of another user, as far as they follow from the user id.
#[must_use]
pub fn folders_of(uid: u32) -> Vec<PathBuf> {
    let machine = (uid == 0).then(|| PathBuf::from("/run/sameport"));
    machine.into_iter().chain(usual_folders(uid)).collect()
}

/// `/dev/shm` is the directory that a container with a read-only root file system, or without `/tmp`, has.
fn usual_folders(uid: u32) -> [PathBuf; 3] {
    [
        format!("/run/user/{uid}/sameport").into(),
        format!("/tmp/sameport-{uid}").into(),
        format!("/dev/shm/sameport-{uid}").into(),
    ]
}

fn lock_file(name: &RunName) -> String {
    format!("{name}.lock")
}

fn socket_file(name: &RunName) -> String {
    format!("{name}.sock")
}

fn record_file(name: &RunName) -> String {
    format!("{name}.json")
}

fn ended_file(name: &RunName) -> String {
    format!("{name}{ENDED}")
}

/// The suffix of a report about the end of a run.
const ENDED: &str = ".ended";

/// The temporary name of a file that is being written. Names of runs never begin with a dot, and only
/// the holder of the lock writes.
fn unfinished(file: &str) -> String {
    format!(".{file}")
}

/// The address of a socket file, through the descriptor of its directory: an address has 108 bytes,
/// and the path of the directory may be longer.
fn socket_address(folder: &OwnedFd, file: &str) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{file}", folder.as_raw_fd()))
}

#[cfg(test)]
mod end_report_tests;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
