//! Named runs, as files: where the supervisor of each can be asked, and by which sign others know
//! that it lives.
//!
//! Three files a name, in a folder that only this user can write to: `NAME.lock`, locked (flock)
//! for as long as the supervisor lives, across its `exec` too; `NAME.sock`, on which it listens;
//! `NAME.json`, what it wrote about itself for the time after its death.

mod claim;
mod find;

use std::path::{Path, PathBuf};

use sameport_policy::model::name::RunName;

pub use claim::{ClaimError, InheritedClaim, NameClaim};
pub use find::{ConnectError, SupervisorState, connect_supervisor, list_names};

/// The folders of named runs, the preferred one first. `runtime`: the value of XDG_RUNTIME_DIR.
///
/// A service and a login shell of one user have different environments, so whoever looks for a run
/// looks into all of them.
#[must_use]
pub fn folders(runtime: Option<&Path>) -> Vec<PathBuf> {
    let user = rustix::process::geteuid();
    let runtime = runtime.filter(|folder| folder.is_absolute()).map(|it| it.join("sameport"));
    let machine = user.is_root().then(|| PathBuf::from("/run/sameport"));
    let mut folders: Vec<PathBuf> = runtime.into_iter().chain(machine).collect();
    for folder in [format!("/run/user/{user}/sameport"), format!("/tmp/sameport-{user}")] {
        if !folders.iter().any(|known| *known == *folder) {
            folders.push(folder.into());
        }
    }
    folders
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

/// A file while it is being made. No name begins with a dot, and only who has the lock makes it.
fn unfinished(file: &str) -> String {
    format!(".{file}")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
