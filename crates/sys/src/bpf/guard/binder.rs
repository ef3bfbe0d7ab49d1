//! The facts that allow rules test: user, cgroup and executable of a process, and the identity of a file.

#![expect(unsafe_code, reason = "FS_IOC_GETVERSION has no safe wrapper here")]

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sameport_policy::guard::{Binder, FileId};

use crate::cgroup::{Cgroup, CgroupError};

/// The facts about a process that a guard tests.
///
/// # Errors
/// `NotFound` if it exited; another error if it cannot be read.
pub fn binder(pid: i32) -> io::Result<Binder> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let uid = uid.and_then(|ids| ids.split_whitespace().next()?.parse().ok());
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let cgroup = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(Binder {
        uid: uid.ok_or(io::ErrorKind::InvalidData)?,
        cgroup: cgroup.map(str::to_owned),
        // Kernel threads have none.
        executable: inode(Path::new(&format!("/proc/{pid}/exe"))).ok(),
    })
}

/// The path of the cgroup of a running systemd unit. `nginx` means `nginx.service`.
///
/// # Errors
/// See [`CgroupError`].
pub fn unit(name: &str) -> Result<PathBuf, CgroupError> {
    Cgroup::of_unit(name).map(|cgroup| cgroup.path().to_owned())
}

/// The identity of a file in the kernel.
///
/// # Errors
/// The file cannot be opened.
pub fn inode(path: &Path) -> io::Result<FileId> {
    let file = File::open(path)?;
    let number = file.metadata()?.ino();
    Ok(FileId { device: device(&file)?, inode: number, generation: generation(&file) })
}

/// The device number of the file system, from its mount: `stat` returns another number on btrfs and
/// overlayfs.
fn device(file: &File) -> io::Result<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let found = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let id = fields.next()?;
        let (major, minor) = fields.nth(1)?.split_once(':')?;
        let number = major.parse::<u64>().ok()? << 20 | minor.parse::<u64>().ok()?;
        (Some(id) == mount).then_some(number)
    });
    // The file is in another mount namespace, such as the executable of a container.
    Ok(found.unwrap_or_else(|| {
        let number = file.metadata().map_or(0, |file| file.dev());
        u64::from(rustix::fs::major(number)) << 20 | u64::from(rustix::fs::minor(number))
    }))
}

/// The inode generation; `None` if the file system does not report it.
fn generation(file: &File) -> Option<u32> {
    let mut generation: libc::c_long = 0;
    // SAFETY: the kernel writes an int or a long through the pointer, which is to a long.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETVERSION, &raw mut generation) };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the kernel's is u32"
    )]
    let generation = generation as u32;
    (result == 0).then_some(generation)
}
