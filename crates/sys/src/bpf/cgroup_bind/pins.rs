//! Attachments that outlive their process, as pins below `/sys/fs/bpf/sameport`: a directory for each
//! cgroup, named by its id, with the links and maps. The links keep the programs attached, without a
//! daemon.
//!
//! A directory is created under a temporary name and renamed, and renamed again before it is removed, so
//! that a directory named by an id is always complete. [`clear_leftovers`] removes the temporary
//! directories of killed processes.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use super::attached::{AttachedPrograms, cgroup_dirs, read};
use super::attachment::Attachment;
use crate::bpf::pin_dir::{
    self, LINK_PREFIX, PIN_ROOT, PinError, PinResult, ensure_bpffs, failed, from_aya,
};
use crate::cgroup::Cgroup;
use crate::process::identity::ProcessIdentity;

/// The pinned maps, by their names in `bpf/`.
const MAPS: [&str; 5] = ["settings", "ports", "rules", "counts", "place"];
/// The maps of attachments with a source address.
const SOURCE_MAPS: [&str; 2] = ["source", "given"];
/// A leftover that [`clear_leftovers`] removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedPins {
    /// The attachment of a removed cgroup.
    Cgroup(PathBuf),
    /// The temporary directory of a process that exited.
    Process,
}

impl Attachment {
    /// Keeps the programs attached after the process exits, until [`detach`]. Mounts the BPF file system on
    /// `/sys/fs/bpf` if it is missing, as bpftool(8) does, and returns whether it did.
    ///
    /// # Errors
    ///
    /// [`PinError::Already`]; the existing attachment is unchanged.
    pub fn pin(self) -> PinResult<bool> {
        let mounted = ensure_bpffs()?;
        let place = folder(self.cgroup);
        if place.exists() {
            return Err(PinError::Already);
        }
        let aside = aside("new", self.cgroup)?;
        pin_dir::create(&aside)?;
        let result = self.pin_into(&aside).and_then(|()| {
            rustix::fs::renameat_with(CWD, &aside, CWD, &place, RenameFlags::NOREPLACE).map_err(
                |errno| match errno {
                    rustix::io::Errno::EXIST => PinError::Already,
                    errno => failed("rename", &place)(errno.into()),
                },
            )
        });
        if result.is_err() {
            pin_dir::remove(&aside)?;
        }
        result.map(|()| mounted)
    }

    fn pin_into(self, folder: &Path) -> PinResult<()> {
        let Self { links, bind, source, .. } = self;
        let maps = MAPS.iter().map(|name| (bind.map(name), name));
        let of_source = SOURCE_MAPS
            .iter()
            .filter_map(|name| source.as_ref().map(|source| (source.map(name), name)));
        for (map, name) in maps.chain(of_source) {
            let path = folder.join(name);
            let map = map.ok_or_else(|| failed("pin", &path)(ErrorKind::NotFound.into()))?;
            map.pin(&path).map_err(|error| from_aya("bpf(BPF_OBJ_PIN)", &path, &error))?;
        }
        for (name, link) in links {
            let path = folder.join(format!("{LINK_PREFIX}{name}"));
            link.pin(&path).map_err(|error| from_aya("bpf(BPF_OBJ_PIN)", &path, &error))?;
        }
        Ok(())
    }
}

/// Whether sameport is attached to this cgroup.
pub fn is_attached(cgroup: &Cgroup) -> PinResult<bool> {
    let place = folder(cgroup.id());
    place.try_exists().map_err(|error| failed("stat", &place)(error))
}

/// Detaches sameport from a cgroup. After the return, binds are unchanged; shared sockets stay shared.
pub fn detach(cgroup: &Cgroup) -> PinResult<()> {
    detach_by_id(cgroup.id())
}

/// Removes an attachment from [`super::list_attached`], even if its cgroup was removed.
pub fn detach_recorded(attached: &AttachedPrograms) -> PinResult<()> {
    detach_by_id(attached.id)
}

/// Removes every attachment, including those of removed cgroups. Returns their number.
pub fn detach_all() -> PinResult<usize> {
    let mut detached = 0;
    for (id, _) in cgroup_dirs()? {
        match detach_by_id(id) {
            Ok(()) => detached += 1,
            Err(PinError::NotAttached) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(detached)
}

fn detach_by_id(id: u64) -> PinResult<()> {
    let place = folder(id);
    let aside = aside("old", id)?;
    match fs::rename(&place, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(PinError::NotAttached),
        Err(error) => return Err(failed("rename", &place)(error)),
    }
    pin_dir::remove(&aside)?;
    // Fails unless it is empty. A concurrent attach creates it again.
    let _ = fs::remove_dir(PIN_ROOT);
    Ok(())
}

/// Removes attachments of removed cgroups, and temporary directories of processes that exited.
pub fn clear_leftovers() -> PinResult<Vec<RemovedPins>> {
    let mut cleared = Vec::new();
    for path in pin_dir::list(Path::new(PIN_ROOT))? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Ok(id) = name.parse() {
            if let Ok(AttachedPrograms { exists: false, path, .. }) = read(id, &path) {
                match detach_by_id(id) {
                    Ok(()) => cleared.push(RemovedPins::Cgroup(path)),
                    // Another process removed it.
                    Err(PinError::NotAttached) => {}
                    Err(error) => return Err(error),
                }
            }
        } else if owner_of(name).is_some_and(ProcessIdentity::is_gone) {
            pin_dir::remove(&path)?;
            cleared.push(RemovedPins::Process);
        }
    }
    let _ = fs::remove_dir(PIN_ROOT);
    Ok(cleared)
}

fn folder(id: u64) -> PathBuf {
    Path::new(PIN_ROOT).join(id.to_string())
}

/// A temporary directory of this process. bpffs rejects names with a dot.
fn aside(what: &str, id: u64) -> PinResult<PathBuf> {
    let owner = ProcessIdentity::current().map_err(failed("read", Path::new("/proc/self")))?;
    Ok(Path::new(PIN_ROOT).join(format!("{what}_{id}_{owner}")))
}

fn owner_of(name: &str) -> Option<ProcessIdentity> {
    let (what, rest) = name.split_once('_')?;
    let (id, owner) = rest.split_once('_')?;
    id.parse::<u64>().ok()?;
    if ["new", "old"].contains(&what) { owner.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_beside_name_their_maker() {
        let ours = aside("new", 77).unwrap();
        let name = ours.file_name().unwrap().to_str().unwrap();
        assert!(!name.contains('.'), "{name}: this file system refuses dots");
        assert_eq!(owner_of(name), Some(ProcessIdentity::current().unwrap()));
        for name in ["77", "new_77", "new_x_1-2-3", "new_77_1-2", "other_77_1-2-3", "iter_debug"] {
            assert_eq!(owner_of(name), None, "{name}");
        }
    }
}
