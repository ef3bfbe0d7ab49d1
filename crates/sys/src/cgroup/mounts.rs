//! The mount point of cgroup v2: `/sys/fs/cgroup`, `/sys/fs/cgroup/unified` in addition to version 1, or
//! another directory.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// A mount of the cgroup v2 tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The mount point.
    pub(crate) point: PathBuf,
    /// The cgroup at the mount point: `/` outside of containers.
    pub(crate) root: PathBuf,
}

impl Mount {
    /// The first mount of the whole tree, else of a part. `None`: cgroup v2 is not mounted.
    pub(crate) fn find() -> std::io::Result<Option<Self>> {
        std::fs::read("/proc/self/mountinfo").map(|text| parse(&text))
    }

    /// The directory of a cgroup, given as in `/proc/PID/cgroup`; `None` outside the mount.
    pub(crate) fn folder(&self, cgroup: &Path) -> Option<PathBuf> {
        let below = cgroup.strip_prefix(&self.root).ok()?;
        let outside = |part| matches!(part, std::path::Component::ParentDir);
        (!below.components().any(outside)).then(|| self.point.join(below))
    }

    /// The cgroup of a directory, as in `/proc/PID/cgroup`.
    pub(crate) fn cgroup(&self, folder: &Path) -> Option<PathBuf> {
        folder.strip_prefix(&self.point).ok().map(|below| self.root.join(below))
    }
}

/// See proc_pid_mountinfo(5): the type follows the field `-`.
fn parse(mountinfo: &[u8]) -> Option<Mount> {
    let mut found: Option<Mount> = None;
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let Some(dash) = fields.iter().position(|field| *field == b"-") else { continue };
        if dash < 6 || fields.get(dash + 1) != Some(&&b"cgroup2"[..]) {
            continue;
        }
        let mount = Mount { root: unescaped(fields[3]), point: unescaped(fields[4]) };
        let whole = |mount: &Mount| mount.root == Path::new("/");
        if found.as_ref().is_none_or(|so_far| !whole(so_far) && whole(&mount)) {
            found = Some(mount);
        }
    }
    found
}

/// The kernel escapes space, tab, newline and backslash as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if first == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str =
        "32 31 0:29 / /sys/fs/cgroup/cpu rw shared:9 master:2 - cgroup cgroup rw,cpu\n";

    #[test]
    fn the_mount_is_found_whatever_the_machine() {
        let hybrid = format!("{V1}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let only = "30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let part = "30 1 0:26 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let both = format!("{part}31 1 0:26 / /host/my\\040cgroup\\134s rw - cgroup2 cgroup rw\n");
        let mount =
            |point: &str, root: &str| Some(Mount { point: point.into(), root: root.into() });
        let cases = [
            (hybrid.as_str(), mount("/sys/fs/cgroup/unified", "/")),
            (only, mount("/sys/fs/cgroup", "/")),
            (part, mount("/sys/fs/cgroup", "/docker/c1")),
            (&both, mount("/host/my cgroup\\s", "/")),
            (V1, None),
            ("", None),
            (" - cgroup2", None),
            ("30 1 0:26 / /cgroup2 rw - tmpfs cgroup2 rw\n", None),
            ("no dash at all cgroup2", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn folders_and_cgroups_name_each_other() {
        let mount = Mount { point: "/sys/fs/cgroup".into(), root: "/docker/c1".into() };
        let cases = [
            ("/docker/c1", Some("/sys/fs/cgroup")),
            ("/docker/c1/a/b", Some("/sys/fs/cgroup/a/b")),
            ("/docker/c2", None),
            ("/docker/c1/../c2", None),
            ("/../c2", None),
        ];
        for (cgroup, folder) in cases {
            assert_eq!(mount.folder(Path::new(cgroup)), folder.map(PathBuf::from), "{cgroup}");
            if let Some(folder) = folder {
                assert_eq!(mount.cgroup(Path::new(folder)), Some(cgroup.into()));
            }
        }
        assert_eq!(mount.cgroup(Path::new("/elsewhere")), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text: Vec<u8>) {
            let _ = parse(&text);
        }
    }
}
