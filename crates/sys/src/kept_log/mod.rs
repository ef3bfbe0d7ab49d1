//! The files with the output of runs in the background, and the pipes through which it comes.
//!
//! A run has a directory that only its user can write to: [`CURRENT`], the file that grows; `log.N`, the files
//! before it, of which the one with the highest number is the newest; [`LOCK`], which every log writer locks
//! while it lives.

mod channel;
mod directory;
mod files;
mod follow;
mod pipe;
mod start;

use std::path::{Path, PathBuf};

use sameport_policy::model::name::RunName;

pub use channel::{PipeReceiver, PipeSender, ReceivedPipe};
pub use directory::{LogDirectory, LogDirectoryError};
pub use files::LogFiles;
pub use follow::LogFollower;
pub use pipe::{OutputPipe, inode_of, is_hung_up, read_end_of, read_pipe};
pub use start::{LogWriterProcess, outlive_the_run};

/// The file that grows.
pub const CURRENT: &str = "current";

/// The file that log writers lock.
pub(crate) const LOCK: &str = "lock";

/// The prefix of the names of full files.
const ROTATED: &str = "log.";

/// The directory with the output of a run of this user. `state` and `home`: the values of XDG_STATE_HOME and
/// HOME, which do not matter to root. `None`: neither is an absolute path.
#[must_use]
pub fn directory(name: &RunName, state: Option<&Path>, home: Option<&Path>) -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(of_root(name));
    }
    let absolute = |path: &&Path| path.is_absolute();
    let state = state.filter(absolute).map(Path::to_owned);
    let usual = || Some(home.filter(absolute)?.join(".local/state"));
    Some(state.or_else(usual)?.join("sameport").join(name.as_str()))
}

/// The directory with the output of a run of another user, as far as it follows from the user's entry in the
/// user database.
#[must_use]
pub fn directory_of(name: &RunName, uid: u32) -> Option<PathBuf> {
    if uid == 0 {
        return Some(of_root(name));
    }
    let home = PathBuf::from(crate::users::Account::by_uid(uid)?.home);
    Some(home.join(".local/state/sameport").join(name.as_str()))
}

fn of_root(name: &RunName) -> PathBuf {
    Path::new("/var/log/sameport").join(name.as_str())
}
