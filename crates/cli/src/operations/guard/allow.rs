//! The values of `--allow` on this machine, and their current state.

use std::path::{Path, PathBuf};

use sameport_policy::guard::{AllowSpec, FileId, cgroup_path, is_below_unit};
use sameport_supervisor::guards::record::AllowEntry;
use sameport_sys::bpf::guard;
use sameport_sys::cgroup::{Cgroup, CgroupError};
use sameport_sys::users;

use super::model::{AllowedNow, Error};

/// Resolves a value of `--allow`.
pub(super) fn resolve(spec: &AllowSpec) -> Result<AllowEntry, Error> {
    Ok(match spec {
        AllowSpec::User(name) => {
            let uid =
                users::user_id(name).or_else(|| name.parse().ok().filter(|it| *it != u32::MAX));
            let uid = uid.ok_or_else(|| Error::NoUser(name.clone()))?;
            AllowEntry::User { name: users::user_name(uid).unwrap_or_else(|| uid.to_string()), uid }
        }
        AllowSpec::Unit(name) => {
            let path = unit(name)?;
            let text = path.to_string_lossy().into_owned();
            let cgroup = cgroup_path(&text).map_err(|why| Error::NotAPath(path.clone(), why))?;
            let unit = path.file_name().map_or_else(|| name.into(), |name| name.to_string_lossy());
            AllowEntry::Unit { unit: unit.into_owned(), cgroup }
        }
        AllowSpec::Cgroup(path) => AllowEntry::Cgroup { cgroup: path.clone() },
        AllowSpec::Executable(path) => {
            let found = executable(path).map_err(|why| Error::NoExecutable(path.clone(), why))?;
            AllowEntry::Executable { path: path.clone(), file: Some(found.into()) }
        }
    })
}

/// The cgroup of a unit of the machine. A cgroup of the same name inside another unit, which a user or a
/// container created, does not count, whether the machine's unit runs or not.
fn unit(name: &str) -> Result<PathBuf, Error> {
    let is_inside = |path: &PathBuf| is_below_unit(&path.to_string_lossy());
    let path = match guard::unit(name) {
        Err(CgroupError::SeveralUnits(unit, mut paths)) => {
            paths.retain(|path| !is_inside(path));
            match &mut paths[..] {
                [one] => std::mem::take(one),
                _ => return Err(Error::Unit(CgroupError::SeveralUnits(unit, paths))),
            }
        }
        found => found.map_err(Error::Unit)?,
    };
    if is_inside(&path) {
        let why = "it is inside another unit, whose user may give cgroups any name";
        return Err(Error::NotAPath(path, why));
    }
    Ok(path)
}

/// The file, if it is one that can be executed.
fn executable(path: &str) -> std::io::Result<FileId> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = std::fs::metadata(path)?;
    if !file.is_file() || file.permissions().mode() & 0o111 == 0 {
        return Err(std::io::Error::other("not executable"));
    }
    let mut start = [0; 2];
    let read = std::io::Read::read(&mut std::fs::File::open(path)?, &mut start)?;
    if start[..read] == *b"#!" {
        let why = "a script, which its interpreter executes: name a unit or a user";
        return Err(std::io::Error::other(why));
    }
    guard::inode(Path::new(path))
}

/// The path of the rule's cgroup, if it does not exist.
pub(super) fn missing_cgroup(allow: &AllowEntry) -> Option<String> {
    match allow {
        AllowEntry::Cgroup { cgroup } if now(allow) == AllowedNow::Gone => Some(cgroup.clone()),
        _ => None,
    }
}

/// The state of the object of a rule.
pub(super) fn now(allow: &AllowEntry) -> AllowedNow {
    match allow {
        AllowEntry::User { name, uid } => match users::user_id(name) {
            Some(now) if now != *uid => AllowedNow::Replaced,
            _ => AllowedNow::AsItWas,
        },
        AllowEntry::Unit { cgroup, .. } | AllowEntry::Cgroup { cgroup } => {
            match Cgroup::open(Path::new(cgroup)) {
                Err(CgroupError::NotFound(_)) => AllowedNow::Gone,
                _ => AllowedNow::AsItWas,
            }
        }
        AllowEntry::Executable { path, file } => {
            match (guard::inode(Path::new(path)), file.map(FileId::from)) {
                (Ok(found), Some(file)) if file.matches(&found) => AllowedNow::AsItWas,
                (Ok(_), _) => AllowedNow::Replaced,
                (Err(_), _) => AllowedNow::Gone,
            }
        }
    }
}
