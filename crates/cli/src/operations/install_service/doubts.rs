//! What a user should know before a service is written.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sameport_policy::service_unit::{ServiceUnit, UnitScope};
use sameport_sys::systemd::unit_files::{self, Changer};
use sameport_sys::users::{Account, effective_uid, user_id};

/// One fact about a service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Another user can replace a program that the service executes.
    Changeable(PathBuf, Changer),
    /// A reboot may remove the file.
    Temporary(PathBuf),
    /// The user of the service may not enter or execute this.
    Closed(PathBuf, String),
    /// There is no such file with variables, and the service does not start without it.
    NoVariables(PathBuf),
    /// The workers are root's.
    Root,
    /// The program was found in a directory that is not in the PATH of services.
    SearchPath(PathBuf),
    /// The manager starts the service at the first login.
    NeedsLinger,
}

/// The directories of programs in a service without a PATH of its own: `systemd.exec(5)`.
const SEARCH_PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Directories that are emptied at a boot.
const TEMPORARY: [&str; 4] = ["/tmp", "/var/tmp", "/run", "/dev/shm"];

/// `program`: the first word of the command, which was found at `found`.
pub(super) fn doubts(unit: &ServiceUnit, program: &OsStr, found: &Path) -> Vec<Doubt> {
    let (scope, executable) = (unit.scope, unit.executable.as_path());
    let mut doubts = Vec::new();
    let user = match (scope, &unit.user) {
        (UnitScope::User, _) => effective_uid(),
        (UnitScope::System, None) => 0,
        (UnitScope::System, Some(spec)) => {
            user_id(&spec.user).or_else(|| spec.user.parse().ok()).unwrap_or(0)
        }
    };
    let paths: BTreeMap<&Path, u32> = [(executable, user), (found, user)].into();
    for (path, user) in paths {
        if TEMPORARY.iter().any(|folder| path.starts_with(folder)) {
            doubts.push(Doubt::Temporary(path.to_owned()));
        }
        if let Ok(Some(changer)) = unit_files::changer(path, user) {
            doubts.push(Doubt::Changeable(path.to_owned(), changer));
        }
    }
    if let Some(spec) = &unit.user {
        let account = Account::by_uid(user);
        let groups = account.map(|account| account.groups(account.gid)).unwrap_or_default();
        let paths = [executable, found, &unit.directory];
        let mut closed: Vec<_> =
            paths.iter().filter_map(|path| unit_files::closed_to(path, user, &groups)).collect();
        closed.dedup();
        doubts.extend(closed.into_iter().map(|path| Doubt::Closed(path, spec.user.clone())));
    }
    let missing = unit.environment_files.iter().filter(|file| !file.exists());
    doubts.extend(missing.map(|file| Doubt::NoVariables(file.clone())));
    let folder = found.parent().and_then(Path::to_str).unwrap_or_default();
    let sets_path = unit.environment.iter().any(|(name, _)| name == "PATH");
    if !program.as_bytes().contains(&b'/') && !SEARCH_PATH.contains(&folder) && !sets_path {
        doubts.push(Doubt::SearchPath(found.to_owned()));
    }
    match scope {
        UnitScope::System if unit.user.is_none() => doubts.push(Doubt::Root),
        UnitScope::User => doubts.push(Doubt::NeedsLinger),
        UnitScope::System => {}
    }
    doubts
}
