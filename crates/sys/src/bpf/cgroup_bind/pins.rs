//! Attachments that outlive who made them, as files below `/sys/fs/bpf/sameport`: a folder a cgroup,
//! named after its number, with the links and the maps. The links are what keeps the programs at
//! the cgroup; there is no daemon.
//!
//! A folder is made beside its place and renamed into it, and renamed away before it is taken
//! apart, so that one with a cgroup's number is always whole. What a killed process leaves beside
//! is cleared by the next one ([`clear_leftovers`]).

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use super::attached::{AttachedPrograms, read};
use super::attachment::{Attachment, cause};
use super::calls;
use crate::cgroup::dir::Cgroup;
use crate::process::identity::ProcessIdentity;

const BPFFS: &str = "/sys/fs/bpf";
pub(crate) const OURS: &str = "/sys/fs/bpf/sameport";

/// The maps that are pinned, by the names that they have in `bpf/`.
const MAPS: [&str; 5] = ["settings", "ports", "rules", "counts", "place"];
/// Those that there are only with a source address.
const SOURCE_MAPS: [&str; 2] = ["source", "given"];
/// Before the name of the program whose link it is.
pub(crate) const LINK: &str = "link_";

/// What [`clear_leftovers`] removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedPins {
    /// The attachment of a cgroup that is gone.
    Cgroup(PathBuf),
    /// The unfinished work of a process that is gone.
    Process,
}

/// Why pins could not be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// This user may not.
    #[error("{0} {path}: {2}", path = .1.display())]
    NotPermitted(&'static str, PathBuf, io::Error),
    /// The folder for the BPF file system is missing, or something else is in it.
    #[error("no BPF file system can be mounted on {BPFFS}: {0}")]
    NoFileSystem(io::Error),
    /// We are attached to this cgroup already.
    #[error("already attached")]
    Already,
    /// We are not attached to this cgroup.
    #[error("not attached")]
    NotAttached,
    /// The system said no.
    #[error("{0} {path}: {2}", path = .1.display())]
    System(&'static str, PathBuf, io::Error),
}

pub(crate) type PinResult<T> = std::result::Result<T, PinError>;

impl Attachment {
    /// Keeps the programs at the cgroup after this process has ended, until [`detach`]. Mounts the
    /// BPF file system if nothing is on `/sys/fs/bpf`, as bpftool(8) does, and says so by `true`.
    ///
    /// # Errors
    ///
    /// [`PinError::Already`], and the attachment that was there stays as it was.
    pub fn pin(self) -> PinResult<bool> {
        let mounted = provide_file_system()?;
        let place = folder(self.cgroup);
        if place.exists() {
            return Err(PinError::Already);
        }
        let aside = aside("new", self.cgroup)?;
        create_folder(&aside)?;
        let result = self.pin_into(&aside).and_then(|()| {
            rustix::fs::renameat_with(CWD, &aside, CWD, &place, RenameFlags::NOREPLACE).map_err(
                |errno| match errno {
                    rustix::io::Errno::EXIST => PinError::Already,
                    errno => failed("rename", &place)(errno.into()),
                },
            )
        });
        if result.is_err() {
            take_apart(&aside)?;
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
            let path = folder.join(format!("{LINK}{name}"));
            link.pin(&path).map_err(|error| from_aya("bpf(BPF_OBJ_PIN)", &path, &error))?;
        }
        Ok(())
    }
}

/// Whether we are attached to this cgroup.
pub fn is_attached(cgroup: &Cgroup) -> PinResult<bool> {
    let place = folder(cgroup.id());
    place.try_exists().map_err(|error| failed("stat", &place)(error))
}

/// Takes everything of ours away from a cgroup. When it returns, the next bind there is as if we
/// had never been; sockets that were shared stay so.
pub fn detach(cgroup: &Cgroup) -> PinResult<()> {
    detach_by_id(cgroup.id())
}

/// The same for one that [`super::attached`] has told of, whether its cgroup exists or not.
pub fn detach_recorded(attached: &super::AttachedPrograms) -> PinResult<()> {
    detach_by_id(attached.id)
}

/// The same for every cgroup, those that are gone included. Gives how many there were.
pub fn detach_all() -> PinResult<usize> {
    let mut detached = 0;
    for (id, _) in folders()? {
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
    take_apart(&aside)?;
    // The last one out. Whoever is coming in makes it again.
    let _ = fs::remove_dir(OURS);
    Ok(())
}

/// Removes what is of no use any more: attachments of cgroups that are gone, and what processes
/// left that were killed at work. Never anything of others.
pub fn clear_leftovers() -> PinResult<Vec<RemovedPins>> {
    let mut cleared = Vec::new();
    for path in entries(Path::new(OURS))? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Ok(id) = name.parse() {
            if let Ok(AttachedPrograms { exists: false, path, .. }) = read(id, &path) {
                match detach_by_id(id) {
                    Ok(()) => cleared.push(RemovedPins::Cgroup(path)),
                    // Another one was faster.
                    Err(PinError::NotAttached) => {}
                    Err(error) => return Err(error),
                }
            }
        } else if owner_of(name).is_some_and(ProcessIdentity::is_gone) {
            take_apart(&path)?;
            cleared.push(RemovedPins::Process);
        }
    }
    let _ = fs::remove_dir(OURS);
    Ok(cleared)
}

fn folder(id: u64) -> PathBuf {
    Path::new(OURS).join(id.to_string())
}

/// A folder that only we use. No dots: this file system refuses them.
fn aside(what: &str, id: u64) -> PinResult<PathBuf> {
    let owner = ProcessIdentity::ourselves().map_err(failed("read", Path::new("/proc/self")))?;
    Ok(Path::new(OURS).join(format!("{what}_{id}_{owner}")))
}

fn owner_of(name: &str) -> Option<ProcessIdentity> {
    let (what, rest) = name.split_once('_')?;
    let (id, owner) = rest.split_once('_')?;
    id.parse::<u64>().ok()?;
    if ["new", "old"].contains(&what) { owner.parse().ok() } else { None }
}

/// Whether it had to be mounted.
pub(crate) fn provide_file_system() -> PinResult<bool> {
    // Of statfs(2).
    const BPF_FS: rustix::fs::FsWord = 0xcafe_4a11;
    let kind = |path| rustix::fs::statfs(path).map(|found| found.f_type).map_err(io::Error::from);
    if kind(BPFFS).map_err(PinError::NoFileSystem)? == BPF_FS {
        return Ok(false);
    }
    if !entries(Path::new(BPFFS))?.is_empty() {
        return Err(PinError::NoFileSystem(ErrorKind::DirectoryNotEmpty.into()));
    }
    calls::mount_bpffs(c"/sys/fs/bpf").map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => PinError::NotPermitted("mount", BPFFS.into(), error),
        _ => PinError::NoFileSystem(error),
    })?;
    Ok(true)
}

/// The folder, and those of ours above it, which another process may be removing just now.
pub(crate) fn create_folder(path: &Path) -> PinResult<()> {
    const TRIES: usize = 100;
    let above = path.parent().filter(|above| above.starts_with(OURS)).unwrap_or(Path::new(OURS));
    let mut folders = DirBuilder::new();
    folders.recursive(true).mode(0o755);
    for _ in 1..TRIES {
        match folders.create(above) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(failed("mkdir", above)(error));
            }
            _ => {}
        }
        require_ours(above)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => return result.map_err(failed("mkdir", path)),
        }
    }
    Err(failed("mkdir", path)(ErrorKind::NotFound.into()))
}

/// Removes a folder of pins. A link whose last reference is a descriptor is detached by closing
/// that, at once; by removing its file, a moment later.
pub(crate) fn take_apart(folder: &Path) -> PinResult<()> {
    for path in entries(folder)? {
        let opened = calls::pinned(&path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("unlink", &path)(error));
            }
            _ => drop(opened),
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("rmdir", folder)(error)),
        _ => Ok(()),
    }
}

/// The folders of cgroups, by their number.
pub(super) fn folders() -> PinResult<Vec<(u64, PathBuf)>> {
    let id = |path: &Path| path.file_name()?.to_str()?.parse().ok();
    Ok(entries(Path::new(OURS))?.into_iter().filter_map(|path| Some((id(&path)?, path))).collect())
}

/// That this folder, and those of ours above it, are of nobody else's making. By itself the kernel mounts
/// this file system so that everybody may write to it, and with a link in place of a folder another user
/// could have us remove what it leads to.
pub(crate) fn require_ours(folder: &Path) -> PinResult<()> {
    let above: Vec<_> = folder.ancestors().take_while(|it| it.starts_with(OURS)).collect();
    for folder in above.into_iter().rev() {
        let found = match fs::symlink_metadata(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found.map_err(failed("stat", folder))?,
        };
        let (owner, mode) = (found.uid(), found.mode());
        let why = match () {
            () if !found.is_dir() => "it is no folder, and not of our making".to_owned(),
            () if ![0, crate::effective_user()].contains(&owner) => {
                format!("user {owner} has made it, not root: remove it")
            }
            () if mode & 0o022 != 0 => format!("others may write to it (mode {:o})", mode & 0o777),
            () => continue,
        };
        return Err(failed("trust", folder)(io::Error::other(why)));
    }
    Ok(())
}

/// What is in a folder; nothing if it is not there.
pub(crate) fn entries(folder: &Path) -> PinResult<Vec<PathBuf>> {
    require_ours(folder)?;
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(failed("open", folder)(error)),
    }
}

pub(crate) fn from_aya(
    call: &'static str,
    path: &Path,
    error: &(dyn std::error::Error + 'static),
) -> PinError {
    failed(call, path)(cause(error).unwrap_or_else(|| io::Error::other(error.to_string())))
}

pub(crate) fn failed<'a>(
    call: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> PinError + 'a {
    move |error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => PinError::NotPermitted(call, path.into(), error),
        _ => PinError::System(call, path.into(), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_beside_name_their_maker() {
        let ours = aside("new", 77).unwrap();
        let name = ours.file_name().unwrap().to_str().unwrap();
        assert!(!name.contains('.'), "{name}: this file system refuses dots");
        assert_eq!(owner_of(name), Some(ProcessIdentity::ourselves().unwrap()));
        for name in ["77", "new_77", "new_x_1-2-3", "new_77_1-2", "other_77_1-2-3", "iter_debug"] {
            assert_eq!(owner_of(name), None, "{name}");
        }
    }
}
