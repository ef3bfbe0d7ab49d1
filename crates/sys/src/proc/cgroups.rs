//! Paths of cgroups (version 2) by id.
//!
//! sock_diag reports a socket's cgroup by its id, the inode number of the cgroup's directory. Every user
//! can list these directories, so this needs no privilege. Source: `sock_diag_put_cgroup_id`
//! in net/ipv4/inet_diag.c; cgroup_id in include/linux/cgroup.h.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::cgroup::dir::MOST;
use crate::cgroup::mounts::Mount;
use crate::int_hash::{IntMap, IntSet};

/// The paths of the existing, visible cgroups among these, by id. The paths in `likely` are tried first;
/// the tree is walked for the remaining ids only.
pub(crate) fn paths(
    mut wanted: IntSet<u64>,
    likely: impl IntoIterator<Item = String>,
) -> IntMap<u64, String> {
    let mut found = IntMap::default();
    let Some(mount) = Mount::find().ok().flatten().filter(|_| !wanted.is_empty()) else {
        return found;
    };
    for path in likely {
        if let Some(folder) = mount.folder(Path::new(&path))
            && let Some(number) = number(&folder)
            && wanted.remove(&number)
        {
            found.insert(number, path);
        }
    }
    let mut next = vec![mount.point.clone()];
    let mut looked_at = 0;
    while let Some(folder) = next.pop()
        && !wanted.is_empty()
        && looked_at < MOST
    {
        looked_at += 1;
        if let Some(number) = number(&folder)
            && wanted.remove(&number)
            && let Some(path) = mount.cgroup(&folder)
        {
            found.insert(number, path.to_string_lossy().into_owned());
        }
        next.extend(below(&folder));
    }
    found
}

fn number(folder: &Path) -> Option<u64> {
    Some(std::fs::metadata(folder).ok()?.ino())
}

/// Removed and unreadable cgroups are left out.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_guess_and_by_walk() {
        let Some(mount) = Mount::find().unwrap() else { return };
        let top = number(&mount.point).unwrap();
        let root = mount.root.to_string_lossy().into_owned();
        let expected = IntMap::from_iter([(top, root.clone())]);
        for likely in [vec![], vec![root], vec!["/no such cgroup".into(), "/../..".into()]] {
            assert_eq!(paths(IntSet::from_iter([top, u64::MAX]), likely), expected);
        }
        assert_eq!(paths(IntSet::default(), []), IntMap::default());
    }
}
