//! How the program of a worker is executed: its user, its directory, its environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use sameport_policy::launch::{UserSpec, numeric_id};
use sameport_sys::process;
use sameport_sys::process::{Credentials, SpawnOptions};
use sameport_sys::users;
use sameport_sys::users::Account;

/// The options of an execution. The default changes nothing: the worker is what the supervisor is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaunchOptions {
    /// The user (`--user`).
    pub user: Option<WorkerUser>,
    /// The working directory, an absolute path (`--directory`). Each start resolves it again, so that a
    /// symbolic link leads to its present target.
    pub directory: Option<PathBuf>,
    /// Variables to set (`--env`), the later of one name counts.
    pub environment: Vec<(OsString, OsString)>,
}

/// The user of the workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerUser {
    credentials: Credentials,
    /// HOME, LOGNAME, USER and SHELL, as systemd sets them for `User=`.
    environment: Vec<(OsString, OsString)>,
}

/// Why workers cannot run as a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserError {
    /// This process has no CAP_SETUID and CAP_SETGID.
    NotPermitted,
    /// The user database has no such user.
    NoSuchUser(String),
    /// The group database has no such group.
    NoSuchGroup(String),
    /// The database has no user with this id, and so no group of it.
    NoGroupOf(u32),
}

impl WorkerUser {
    /// The user id.
    pub(crate) fn uid(&self) -> u32 {
        self.credentials.uid()
    }

    /// Looks the user and the group up, as `getpwnam(3)` and `getgrnam(3)` do. An id needs no entry if
    /// the group is named too.
    ///
    /// # Errors
    ///
    /// See [`UserError`].
    pub fn find(spec: &UserSpec) -> Result<Self, UserError> {
        let UserSpec { user, group } = spec;
        let id = numeric_id(user);
        let account = Account::by_name(user).or_else(|| Account::by_uid(id?));
        let no_user = || UserError::NoSuchUser(user.clone());
        let uid = account.as_ref().map(|account| account.uid).or(id).ok_or_else(no_user)?;
        let gid = match group {
            Some(group) => users::group_id(group)
                .or_else(|| numeric_id(group))
                .ok_or_else(|| UserError::NoSuchGroup(group.clone()))?,
            None => account.as_ref().map(|it| it.gid).ok_or(UserError::NoGroupOf(uid))?,
        };
        let groups = account.as_ref().map_or_else(|| vec![gid], |account| account.groups(gid));
        let credentials = Credentials::new(uid, gid, &groups).ok_or_else(no_user)?;
        if !process::may_change_user() {
            return Err(UserError::NotPermitted);
        }
        let environment = match account {
            None => vec![("HOME".into(), "/".into())],
            Some(account) => {
                let name = OsStr::from_bytes(account.name.as_bytes());
                vec![
                    ("HOME".into(), account.home),
                    ("LOGNAME".into(), name.into()),
                    ("USER".into(), name.into()),
                    ("SHELL".into(), account.shell),
                ]
            }
        };
        Ok(Self { credentials, environment })
    }
}

impl LaunchOptions {
    /// The value that `--env` sets, if it does.
    pub fn variable(&self, name: &str) -> Option<&OsString> {
        self.environment.iter().rev().find(|(set, _)| set == name).map(|(_, value)| value)
    }

    /// Adds these options to those of a start, whose own variables keep their values.
    pub(crate) fn apply(&self, options: &mut SpawnOptions<'_>) {
        // The supervisor reports to the watchdog, and a worker that did would hide that it is blocked.
        let watchdog = ["WATCHDOG_USEC", "WATCHDOG_PID"].map(|name| (name.into(), None));
        let mut variables: Vec<(OsString, Option<OsString>)> = watchdog.into();
        if let Some(WorkerUser { credentials, environment }) = &self.user {
            options.user = Some(credentials.clone());
            // The directory of the supervisor's user, which the worker's cannot enter.
            variables.push(("XDG_RUNTIME_DIR".into(), None));
            variables.extend(environment.iter().cloned().map(|(name, value)| (name, Some(value))));
        }
        if let Some(directory) = &self.directory {
            options.directory = Some(directory.clone());
            // The inherited value names another directory. Programs that want the path with its
            // symbolic links compare the value with ".".
            variables.push(("PWD".into(), Some(directory.into())));
        }
        variables.extend(self.environment.iter().cloned().map(|(name, value)| (name, Some(value))));
        options.environment.splice(0..0, variables);
    }

    /// The options of an upgrade: another directory, and more variables.
    pub(crate) fn changed(
        &self,
        directory: Option<PathBuf>,
        environment: Vec<(OsString, OsString)>,
    ) -> Self {
        let mut changed = self.clone();
        changed.directory = directory.or(changed.directory);
        changed.environment.retain(|(set, _)| environment.iter().all(|(name, _)| name != set));
        changed.environment.extend(environment);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        list.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn an_upgrade_changes_what_it_names() {
        let before = LaunchOptions {
            directory: Some("/srv/v1".into()),
            environment: variables(&[("A", "1"), ("B", "1")]),
            ..LaunchOptions::default()
        };
        let after = before.changed(None, variables(&[("B", "2"), ("C", "2")]));
        assert_eq!(after.directory, before.directory);
        assert_eq!(after.environment, variables(&[("A", "1"), ("B", "2"), ("C", "2")]));
        let moved = after.changed(Some("/srv/v2".into()), Vec::new());
        assert_eq!(moved.directory, Some("/srv/v2".into()));
        assert_eq!(moved.environment, after.environment);
        assert_eq!(moved.variable("B"), Some(&"2".into()));
        assert_eq!(moved.variable("D"), None);
    }

    #[test]
    fn variables_of_the_start_itself_come_last() {
        let launch = LaunchOptions {
            directory: Some("/srv".into()),
            environment: variables(&[("A", "1")]),
            ..LaunchOptions::default()
        };
        let own = |name: &str, value: &str| (name.into(), Some(value.into()));
        let mut options =
            SpawnOptions { environment: vec![own("A", "2")], ..SpawnOptions::default() };
        launch.apply(&mut options);
        let watchdog = [("WATCHDOG_USEC".into(), None), ("WATCHDOG_PID".into(), None)];
        let expected = [own("PWD", "/srv"), own("A", "1"), own("A", "2")];
        assert_eq!(options.environment, [&watchdog[..], &expected].concat());
        assert_eq!(options.directory, launch.directory);
    }

    #[test]
    fn users_are_found_by_name_and_id() {
        let find = |text: &str| WorkerUser::find(&text.parse().unwrap());
        let unknown = "no such".replace(' ', "-");
        assert_eq!(find(&unknown), Err(UserError::NoSuchUser(unknown.clone())));
        let group = find(&format!("root:{unknown}"));
        assert_eq!(group, Err(UserError::NoSuchGroup(unknown)));
        assert_eq!(find("3999999999"), Err(UserError::NoGroupOf(3_999_999_999)));
        if process::may_change_user() {
            assert_eq!(find("0"), find("root"));
            assert_eq!(find("3999999999:7").unwrap().environment, variables(&[("HOME", "/")]));
        }
    }
}
