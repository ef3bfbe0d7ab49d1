//! A cgroup of our own, for the workers of one `run`.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::dir::{Cgroup, CgroupError, all_folders, folders_below};
use crate::process::identity::ProcessIdentity;

const PREFIX: &str = "sameport-run-";

/// How long a cgroup may take to be empty after its last process has been reaped.
const PATIENCE: Duration = Duration::from_secs(1);

/// A fresh cgroup below our own, so that limits and accounts stay what they were. Removed when
/// dropped, if nobody is left in it.
#[derive(Debug)]
pub struct PrivateCgroup(Cgroup);

impl PrivateCgroup {
    /// Makes it. Its name holds our pid and when we were started, by which [`sweep`] can tell that
    /// we are gone.
    pub fn create() -> Result<Self, CgroupError> {
        // Several in one process need different names.
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let owner = ProcessIdentity::current().map_err(system("read", Path::new("/proc/self")))?;
        let folder = Cgroup::own()?.folder().join(format!("{PREFIX}{owner}-{next}"));
        fs::create_dir(&folder).map_err(system("mkdir", &folder))?;
        match Cgroup::open(&folder) {
            Ok(cgroup) => Ok(Self(cgroup)),
            Err(error) => {
                // Nothing can be in it yet.
                let _ = fs::remove_dir(&folder);
                Err(error)
            }
        }
    }

    /// The cgroup, to attach to.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.0
    }

    /// A process that writes `0` here moves in, with every child that it starts from then on and
    /// every socket that it creates. Close-on-exec.
    pub fn procs(&self) -> io::Result<File> {
        File::options().write(true).open(self.0.folder().join("cgroup.procs"))
    }

    /// Removes it, with the cgroups that its processes made in it. Waits at most a second for the
    /// last one to be gone.
    ///
    /// # Errors
    ///
    /// EBUSY: processes live in it still.
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
        // What is left is for the next start to sweep.
        let _ = remove_tree(self.0.folder());
    }
}

/// Removes the cgroups of runs that ended without doing so. Those in which processes live on stay:
/// they are nobody's, and harmless. Gives how many were removed.
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

/// The deepest first. Already gone is removed.
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
