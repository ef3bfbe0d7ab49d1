//! Cgroups of version 2 for a test.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{eventually, is_root, kill, skip};

/// The mount point of cgroup v2, found without the code under test.
pub(crate) fn cgroup2_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    Some(Path::new(mount.split(' ').nth(1)?).to_owned())
}

/// The machine's root cgroup. Skips the test without root, and where the root cgroup is not visible.
pub(crate) fn root_cgroup(test: &str) -> Option<PathBuf> {
    if !is_root() {
        skip(test, "needs root");
        return None;
    }
    let Some(root) = cgroup2_mount() else {
        skip(test, "cgroup v2 is not mounted");
        return None;
    };
    // The root cgroup has no such file.
    if root.join("cgroup.events").exists() {
        skip(test, "the machine's root cgroup is not visible");
        return None;
    }
    Some(root)
}

/// A child of the root cgroup. Dropping it kills its processes and removes it.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// `None` without root, without cgroup v2, or if the name is taken.
    pub(crate) fn create(name: &str) -> Option<Self> {
        let path = cgroup2_mount()?.join(name);
        fs::create_dir(&path).ok().map(|()| Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn move_into(&self, pid: i32) {
        move_process(&self.0, pid);
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let processes = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines().filter_map(|line| line.parse().ok()) {
            kill(pid, libc::SIGKILL);
        }
        remove_cgroup(&self.0);
    }
}

pub(crate) fn move_process(cgroup: &Path, pid: i32) {
    fs::write(cgroup.join("cgroup.procs"), pid.to_string()).unwrap();
}

/// Removes a cgroup once its last process has exited.
pub(crate) fn remove_cgroup(cgroup: &Path) {
    eventually(|| match fs::remove_dir(cgroup) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => None,
        _ => Some(()),
    });
}
