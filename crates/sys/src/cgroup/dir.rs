//! Finding a cgroup (version 2) by its path or by its systemd unit.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::mounts::Mount;

/// Limit of cgroups that a search visits.
pub(crate) const MOST: usize = 200_000;

/// A cgroup, opened.
#[derive(Debug)]
pub struct Cgroup {
    folder: File,
    path: PathBuf,
    mounted_at: PathBuf,
    id: u64,
}

/// Why a cgroup could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// cgroup v2 is not mounted in the mount namespace of the process.
    #[error("cgroup v2 is not mounted")]
    NotMounted,
    /// The folder is a cgroup of version 1.
    #[error("{} is a cgroup of version 1", .0.display())]
    Version1(PathBuf),
    /// There is no such cgroup.
    #[error("there is no cgroup {}", .0.display())]
    NotFound(PathBuf),
    /// The path is not a cgroup.
    #[error("{} is not a cgroup", .0.display())]
    NotACgroup(PathBuf),
    /// The unit has no running process.
    #[error("unit {0} is not running")]
    UnitNotRunning(String),
    /// The text is not a unit name.
    #[error("{0:?} is not the name of a unit")]
    NotAUnit(String),
    /// Several units have this name, of different users.
    #[error("{several} cgroups are of unit {0}", several = .1.len())]
    SeveralUnits(String, Vec<PathBuf>),
    /// The mount shows only a part of the tree of cgroups.
    #[error("{} is not the root cgroup of this machine", .0.display())]
    NotTheFirst(PathBuf),
    /// Another error.
    #[error("{0} {path}: {2}", path = .1.display())]
    System(&'static str, PathBuf, io::Error),
}

impl Cgroup {
    /// Opens a cgroup by its path as `/proc/PID/cgroup` writes it (`/my/app`), or by its folder
    /// (`/sys/fs/cgroup/my/app`).
    pub fn open(path: &Path) -> Result<Self, CgroupError> {
        let mount = mount()?;
        if mount.cgroup(path).is_none()
            && let Some(folder) = mount.folder(path)
            && folder.is_dir()
        {
            return Self::at(&mount, folder);
        }
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Self::at(&mount, path.to_owned()),
            Ok(_) => Err(CgroupError::NotACgroup(path.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(CgroupError::NotFound(path.into()))
            }
            Err(error) => Err(CgroupError::System("stat", path.into(), error)),
        }
    }

    /// Opens the cgroup of a running systemd unit, by the name of its directory; `nginx` means
    /// `nginx.service`.
    pub fn of_unit(name: &str) -> Result<Self, CgroupError> {
        let unit = unit_name(name).ok_or_else(|| CgroupError::NotAUnit(name.into()))?;
        let mount = mount()?;
        let usual = mount.point.join("system.slice").join(&unit);
        let mut found = vec![usual];
        if !found[0].is_dir() {
            found = folders_below(&mount.point)?;
            found.retain(|folder| folder.file_name() == Some(unit.as_ref()));
        }
        found.retain(|folder| is_populated(folder));
        match &found[..] {
            [] => Err(CgroupError::UnitNotRunning(unit)),
            [one] => Self::at(&mount, one.clone()),
            _ => {
                let name = |folder: PathBuf| mount.cgroup(&folder).unwrap_or(folder);
                Err(CgroupError::SeveralUnits(unit, found.into_iter().map(name).collect()))
            }
        }
    }

    /// The root cgroup, which contains every process of the machine.
    ///
    /// # Errors
    /// [`CgroupError::NotTheFirst`] if only a part of the tree is visible, as in most containers.
    pub fn first() -> Result<Self, CgroupError> {
        let mount = mount()?;
        // Every cgroup except the root has this file.
        let is_first = !mount.point.join("cgroup.events").exists();
        if !is_first || mount.root != Path::new("/") {
            return Err(CgroupError::NotTheFirst(mount.point));
        }
        Self::at(&mount, mount.point.clone())
    }

    /// The cgroup of this process.
    pub(crate) fn own() -> Result<Self, CgroupError> {
        const OWN: &str = "/proc/self/cgroup";
        let mount = mount()?;
        let text = fs::read_to_string(OWN)
            .map_err(|error| CgroupError::System("read", OWN.into(), error))?;
        let own = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        let own = Path::new(own);
        let folder = mount.folder(own).ok_or_else(|| CgroupError::NotFound(own.into()))?;
        Self::at(&mount, folder)
    }

    fn at(mount: &Mount, folder: PathBuf) -> Result<Self, CgroupError> {
        // Magic numbers of statfs(2).
        const CGROUP: rustix::fs::FsWord = 0x0027_e0eb;
        const CGROUP2: rustix::fs::FsWord = 0x6367_7270;
        let system = |call| {
            let folder = folder.clone();
            move |error: io::Error| CgroupError::System(call, folder, error)
        };
        let opened = File::open(&folder).map_err(system("open"))?;
        let kind = rustix::fs::fstatfs(&opened).map_err(|e| system("statfs")(e.into()))?.f_type;
        match kind {
            CGROUP2 => {}
            CGROUP => return Err(CgroupError::Version1(folder)),
            _ => return Err(CgroupError::NotACgroup(folder)),
        }
        let id = opened.metadata().map_err(system("stat"))?.ino();
        let path = mount.cgroup(&folder).unwrap_or_else(|| folder.clone());
        Ok(Self { folder: opened, path, mounted_at: folder, id })
    }

    /// The path, as in `/proc/PID/cgroup`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id, unique since boot.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The directory in the file system.
    pub(crate) fn folder(&self) -> &Path {
        &self.mounted_at
    }

    pub(crate) fn descriptor(&self) -> &File {
        &self.folder
    }
}

fn mount() -> Result<Mount, CgroupError> {
    const MOUNTS: &str = "/proc/self/mountinfo";
    Mount::find()
        .map_err(|error| CgroupError::System("read", MOUNTS.into(), error))?
        .ok_or(CgroupError::NotMounted)
}

/// The full name of a unit, as systemctl(1) completes it. `None` for an impossible name.
#[must_use]
pub fn unit_name(name: &str) -> Option<String> {
    const KINDS: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];
    let fits = !name.is_empty() && name.len() < 256 && !name.contains(['/', '\0', '\n']);
    let is_whole = KINDS.iter().any(|kind| name.ends_with(kind));
    (fits && !name.starts_with('.'))
        .then(|| if is_whole { name.to_owned() } else { format!("{name}.service") })
}

/// Whether a process is in the cgroup or below. True if that cannot be read.
fn is_populated(folder: &Path) -> bool {
    let events = fs::read_to_string(folder.join("cgroup.events"));
    events.map_or(true, |events| !events.lines().any(|line| line == "populated 0"))
        && folder.is_dir()
}

/// Every cgroup below this directory. Removed and unreadable cgroups are left out.
pub(crate) fn folders_below(top: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    fs::read_dir(top).map_err(|error| CgroupError::System("open", top.into(), error))?;
    let mut found = Vec::new();
    let mut next = vec![top.to_owned()];
    while let Some(folder) = next.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if found.len() < MOST && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(entry.path());
                next.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Every visible cgroup.
pub(crate) fn all_folders() -> Result<Vec<PathBuf>, CgroupError> {
    folders_below(&mount()?.point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_as_systemctl_does() {
        let cases = [
            ("nginx", Some("nginx.service")),
            ("nginx.service", Some("nginx.service")),
            ("app@1", Some("app@1.service")),
            ("php8.2-fpm", Some("php8.2-fpm.service")),
            ("user.slice", Some("user.slice")),
            ("session-2.scope", Some("session-2.scope")),
            ("", None),
            ("..", None),
            ("a/b", None),
            ("a\n", None),
        ];
        for (name, expected) in cases {
            assert_eq!(unit_name(name).as_deref(), expected, "{name:?}");
        }
    }

    #[test]
    fn what_is_no_cgroup_is_said_to_be_none() {
        let open = |path: &str| Cgroup::open(Path::new(path)).unwrap_err();
        // Without cgroup v2 every call fails alike.
        if matches!(Mount::find(), Ok(None)) {
            assert!(matches!(open("/"), CgroupError::NotMounted));
            return;
        }
        assert!(matches!(open("/no such cgroup"), CgroupError::NotFound(_)));
        assert!(matches!(open("/proc/self/stat"), CgroupError::NotACgroup(_)));
        assert!(matches!(open("/etc"), CgroupError::NotACgroup(_)));
        let unit = Cgroup::of_unit("no-such-unit-of-sameport").unwrap_err();
        assert!(matches!(unit, CgroupError::UnitNotRunning(_)), "{unit}");
        assert!(matches!(Cgroup::of_unit("a/b"), Err(CgroupError::NotAUnit(_))));
    }
}
