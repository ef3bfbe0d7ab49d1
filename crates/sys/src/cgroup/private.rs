//! Private cgroups for the workers of a run.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::dir::{Cgroup, CgroupError, all_folders, folders_below};
use crate::process::identity::ProcessIdentity;

const PREFIX: &str = "sameport-run-";

/// Time until a cgroup is empty after its last process has been reaped.
const PATIENCE: Duration = Duration::from_secs(1);

/// A new cgroup below the caller's own, so that its limits and accounting still apply. Removed on drop if
/// no process is in it.
#[derive(Debug)]
pub struct PrivateCgroup(Cgroup);

impl PrivateCgroup {
    /// Creates the cgroup. Its name contains the pid and start time of the caller, by which [`sweep`]
    /// recognizes that the caller has exited.
    pub fn create() -> Result<Self, CgroupError> {
        // Distinguishes several in one process.
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let owner = ProcessIdentity::current().map_err(system("read", Path::new("/proc/self")))?;
        let folder = Cgroup::own()?.folder().join(format!("{PREFIX}{owner}-{next}"));
        fs::create_dir(&folder).map_err(system("mkdir", &folder))?;
        match Cgroup::open(&folder) {
            Ok(cgroup) => Ok(Self(cgroup)),
            Err(error) => {
                // No process is in it yet.
                let _ = fs::remove_dir(&folder);
                Err(error)
            }
        }
    }

    /// The cgroup.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.0
    }

    /// The file `cgroup.procs`, close-on-exec. A process that writes `0` to it enters the cgroup, with the
    /// children and sockets that it creates from then on.
    pub fn procs(&self) -> io::Result<File> {
        File::options().write(true).open(self.0.folder().join("cgroup.procs"))
    }

    /// Removes the cgroup with its children. Waits up to 1 s for the last process to exit.
    ///
    /// # Errors
    ///
    /// EBUSY: it contains processes.
    pub fn remove(self) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match remove_tree(self.0.folder()) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                result => return result,
            }
        }
    }
}

impl Drop for PrivateCgroup {
    fn drop(&mut self) {
        // On failure a later `sweep` removes it.
        let _ = remove_tree(self.0.folder());
    }
}

/// Removes private cgroups of processes that exited. Those that contain processes stay. Returns the number
/// of removed cgroups.
pub fn sweep() -> Result<usize, CgroupError> {
    let mut removed = 0;
    for folder in all_folders()? {
        let owner = folder.file_name().and_then(|name| owner_of(name.to_str()?));
        if owner.is_some_and(ProcessIdentity::is_gone) && remove_tree(&folder).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

fn owner_of(name: &str) -> Option<ProcessIdentity> {
    let (owner, number) = name.strip_prefix(PREFIX)?.rsplit_once('-')?;
    number.parse::<u32>().ok()?;
    owner.parse().ok()
}

/// Removes the deepest first. A missing cgroup counts as removed.
pub(crate) fn remove_tree(folder: &Path) -> io::Result<()> {
    let mut below = match folders_below(folder) {
        Ok(below) => below,
        Err(CgroupError::System(_, _, error)) if error.kind() == ErrorKind::NotFound => {
            return Ok(());
        }
        Err(_) => vec![],
    };
    below.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for path in below.iter().map(PathBuf::as_path).chain([folder]) {
        match fs::remove_dir(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn system<'a>(call: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CgroupError + 'a {
    move |error| CgroupError::System(call, path.into(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_ours() {
        let owner = ProcessIdentity::current().unwrap();
        assert_eq!(owner_of(&format!("{PREFIX}{owner}-0")), Some(owner));
        for name in [
            "",
            "sameport-run-",
            "sameport-run-1-2-3",
            "sameport-run-1-2-3-x",
            "sameport-run-1-2-3-4-5",
            "sameport-run--1-2-3-4",
            "sameport-run-1-99999999999-3-4",
            "x-sameport-run-1-2-3-4",
            "nginx.service",
        ] {
            assert_eq!(owner_of(name), None, "{name}");
        }
    }
}
