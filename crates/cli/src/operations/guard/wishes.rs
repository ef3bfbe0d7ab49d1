//! Whom the words after `--allow` mean on this machine, and what has become of them.

use std::path::{Path, PathBuf};

use sameport_policy::guard::{Inode, Wish, cgroup_path, is_inside_a_unit};
use sameport_sys::bpf::cgroup_bind::{Cgroup, OpenError};
use sameport_sys::bpf::guard;
use sameport_sys::inspect;

use super::record::Allow;
use super::{Error, Now};

/// Finds who is meant.
pub(super) fn found(wish: &Wish) -> Result<Allow, Error> {
    Ok(match wish {
        Wish::User(name) => {
            let uid =
                inspect::user_id(name).or_else(|| name.parse().ok().filter(|it| *it != u32::MAX));
            let uid = uid.ok_or_else(|| Error::NoUser(name.clone()))?;
            Allow::User { name: inspect::user(uid).unwrap_or_else(|| uid.to_string()), uid }
        }
        Wish::Unit(name) => {
            let path = unit(name)?;
            let text = path.to_string_lossy().into_owned();
            let cgroup = cgroup_path(&text).map_err(|why| Error::NotAPath(path.clone(), why))?;
            let unit = path.file_name().map_or_else(|| name.into(), |name| name.to_string_lossy());
            Allow::Unit { unit: unit.into_owned(), cgroup }
        }
        Wish::Cgroup(path) => Allow::Cgroup { cgroup: path.clone() },
        Wish::Executable(path) => {
            let found = executable(path).map_err(|why| Error::NoExecutable(path.clone(), why))?;
            Allow::Executable { path: path.clone(), file: Some(found.into()) }
        }
    })
}

/// The cgroup of a unit of the machine. One that a user, or a container, has given the unit's name is not
/// meant, whether or not the machine's own runs now.
fn unit(name: &str) -> Result<PathBuf, Error> {
    let is_inside = |path: &PathBuf| is_inside_a_unit(&path.to_string_lossy());
    let path = match guard::unit(name) {
        Err(OpenError::SeveralUnits(unit, mut paths)) => {
            paths.retain(|path| !is_inside(path));
            match &mut paths[..] {
                [one] => std::mem::take(one),
                _ => return Err(Error::Unit(OpenError::SeveralUnits(unit, paths))),
            }
        }
        found => found.map_err(Error::Unit)?,
    };
    if is_inside(&path) {
        let why =
            "it is inside another unit, and whoever runs that one may give its cgroups any name";
        return Err(Error::NotAPath(path, why));
    }
    Ok(path)
}

/// The file, if it is one that can be executed.
fn executable(path: &str) -> std::io::Result<Inode> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = std::fs::metadata(path)?;
    if !file.is_file() || file.permissions().mode() & 0o111 == 0 {
        return Err(std::io::Error::other("it cannot be executed"));
    }
    let mut start = [0; 2];
    let read = std::io::Read::read(&mut std::fs::File::open(path)?, &mut start)?;
    if start[..read] == *b"#!" {
        let why = "it is a script, and what executes is its interpreter: name a unit or a user";
        return Err(std::io::Error::other(why));
    }
    guard::inode(Path::new(path))
}

/// The path of the rule's cgroup, if there is no such cgroup now.
pub(super) fn missing_cgroup(allow: &Allow) -> Option<String> {
    match allow {
        Allow::Cgroup { cgroup } if now(allow) == Now::Gone => Some(cgroup.clone()),
        _ => None,
    }
}

/// What has become of what a rule names.
pub(super) fn now(allow: &Allow) -> Now {
    match allow {
        Allow::User { name, uid } => match inspect::user_id(name) {
            Some(now) if now != *uid => Now::Replaced,
            _ => Now::AsItWas,
        },
        Allow::Unit { cgroup, .. } | Allow::Cgroup { cgroup } => {
            match Cgroup::open(Path::new(cgroup)) {
                Err(OpenError::NotFound(_)) => Now::Gone,
                _ => Now::AsItWas,
            }
        }
        Allow::Executable { path, file } => {
            match (guard::inode(Path::new(path)), file.map(Inode::from)) {
                (Ok(found), Some(file)) if file.is(&found) => Now::AsItWas,
                (Ok(_), _) => Now::Replaced,
                (Err(_), _) => Now::Gone,
            }
        }
    }
}
