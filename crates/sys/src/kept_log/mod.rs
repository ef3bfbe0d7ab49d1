//! The files with the output of runs in the background, and the pipes through which it comes.
//!
//! A run has a directory that only its user can write to: [`CURRENT`], the file that grows; `log.N`, the files
//! before it, of which the one with the highest number is the newest; the file `lock`, which every log writer locks
//! while it runs.

mod channel;
mod directory;
mod files;
mod follow;
mod pipe;
mod start;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
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

/// The values of environment variables that name directories.
#[derive(Debug, Clone, Default)]
pub struct LogVariables {
    /// LOGS_DIRECTORY, a list with colons: the directories of `LogsDirectory=`, `systemd.exec(5)`.
    pub of_service: Option<OsString>,
    /// XDG_STATE_HOME.
    pub state: Option<OsString>,
    /// HOME.
    pub home: Option<OsString>,
}

/// The directory with the output of a run of this user: in the first of LOGS_DIRECTORY, else for root in `/var/log`, for
/// other users in XDG_STATE_HOME or `.local/state` of HOME. `None`: a user without an absolute path in these.
#[must_use]
pub fn directory(name: &RunName, variables: &LogVariables) -> Option<PathBuf> {
    let absolute = |path: &OsStr| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let first = |list: &OsStr| {
        absolute(OsStr::from_bytes(list.as_bytes().split(|byte| *byte == b':').next()?))
    };
    let LogVariables { of_service, state, home } = variables;
    let base = of_service.as_deref().and_then(first);
    if base.is_none() && rustix::process::geteuid().is_root() {
        return Some(of_root(name));
    }
    let state = || state.as_deref().and_then(absolute);
    let usual = || Some(home.as_deref().and_then(absolute)?.join(".local/state"));
    Some(base.or_else(state).or_else(usual)?.join("sameport").join(name.as_str()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_follows_the_variables() {
        let name: RunName = "web".parse().unwrap();
        let of = |of_service: &str, state: &str, home: &str| {
            let [of_service, state, home] =
                [of_service, state, home].map(|value| (!value.is_empty()).then(|| value.into()));
            directory(&name, &LogVariables { of_service, state, home })
        };
        assert_eq!(of("/l:/m", "/s", "/h"), Some("/l/sameport/web".into()));
        let root = rustix::process::geteuid().is_root().then(|| of_root(&name));
        let of_user = |path: &str| root.clone().or_else(|| Some(path.into()));
        assert_eq!(of("", "/s", "/h"), of_user("/s/sameport/web"));
        assert_eq!(of("l", "/s", "/h"), of_user("/s/sameport/web"));
        assert_eq!(of(":/m", "s", "/h"), of_user("/h/.local/state/sameport/web"));
        assert_eq!(of("", "s", "h"), root);
        assert_eq!(of("", "", ""), root);
    }
}
