//! Probes for the preload and the cgroup interposer.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use sameport_policy::bind::verdict::PortSet;
use sameport_policy::capability::question::ProbeAnswer;

use super::answer::{NOT_PERMITTED, usable};
use crate::bpf::cgroup_bind;
use crate::bpf::cgroup_bind::{AttachSettings, AttachedPrograms, attach};
use crate::bpf::{AttachError, PinError};
use crate::cgroup;
use crate::cgroup::{CgroupError, PrivateCgroup};
use crate::preload;

/// The answers that need a cgroup.
pub(super) struct CgroupTrial {
    pub(super) own: ProbeAnswer,
    pub(super) programs: ProbeAnswer,
}

/// Creates a cgroup, attaches the programs to it, and removes both.
pub(super) fn cgroup() -> CgroupTrial {
    let private = match PrivateCgroup::create() {
        Ok(private) => private,
        Err(error) => {
            let programs = ProbeAnswer::Unknown(format!("no cgroup to try it on: {error}"));
            return CgroupTrial { own: no_cgroup(error), programs };
        }
    };
    let settings =
        AttachSettings { ports: PortSet::All, rules: Vec::new(), source: None, network: None };
    let programs = attached(attach(private.cgroup(), &settings).map(drop));
    let own = ProbeAnswer::Yes("made one, and removed it".into());
    let removed = private.remove();
    match removed {
        Ok(()) => CgroupTrial { own, programs },
        Err(error) => {
            CgroupTrial { own: ProbeAnswer::Unknown(format!("rmdir: {error}")), programs }
        }
    }
}

fn no_cgroup(error: CgroupError) -> ProbeAnswer {
    match error {
        CgroupError::System(call, path, why) => {
            usable::<()>(&format!("{call} {}", path.display()), Err(why), |()| String::new())
        }
        other => ProbeAnswer::No(other.to_string()),
    }
}

fn attached(result: Result<(), AttachError>) -> ProbeAnswer {
    match result {
        Ok(()) => ProbeAnswer::Yes("attached to a cgroup of their own, and removed".into()),
        Err(error @ AttachError::NotPermitted(..)) => {
            ProbeAnswer::No(format!("{NOT_PERMITTED}: {error}"))
        }
        Err(
            error @ (AttachError::Kernel(_) | AttachError::LockedDown | AttachError::Exclusive),
        ) => ProbeAnswer::No(error.to_string()),
        Err(AttachError::System(call, why)) => usable::<()>(call, Err(why), |()| String::new()),
    }
}

/// The root cgroup: programs that are attached there act on every process.
pub(super) fn first_cgroup() -> ProbeAnswer {
    match cgroup::Cgroup::first() {
        Ok(cgroup) => ProbeAnswer::Yes(cgroup.folder().display().to_string()),
        Err(error @ (CgroupError::NotMounted | CgroupError::NotTheFirst(_))) => {
            ProbeAnswer::No(error.to_string())
        }
        Err(CgroupError::System(call, path, why)) => {
            usable::<()>(&format!("{call} {}", path.display()), Err(why), |()| String::new())
        }
        Err(error) => ProbeAnswer::Unknown(error.to_string()),
    }
}

/// Whether this user can write to the BPF file system or, if it is not mounted, to its mount point.
pub(super) fn bpffs() -> ProbeAnswer {
    /// BPF_FS_MAGIC, see statfs(2).
    const BPF_FS: rustix::fs::FsWord = 0xcafe_4a11;
    let folder = Path::new("/sys/fs/bpf");
    let shown = folder.display();
    let kind = match rustix::fs::statfs(folder) {
        Ok(found) => found.f_type,
        Err(errno) => {
            return usable::<()>(&format!("statfs {shown}"), Err(errno.into()), |()| String::new());
        }
    };
    let may_write = rustix::fs::accessat(CWD, folder, Access::WRITE_OK, AtFlags::EACCESS);
    let detail = if kind == BPF_FS {
        shown.to_string()
    } else {
        format!("nothing is mounted on {shown}; attach mounts it")
    };
    usable(&format!("write to {shown}"), may_write.map_err(Into::into), |()| detail)
}

/// The cgroups to which programs are attached now, by any process.
pub(super) fn attachments() -> ProbeAnswer {
    match cgroup_bind::list_attached() {
        Ok(attached) => listed(&attached),
        Err(error @ PinError::NotPermitted(..)) => {
            ProbeAnswer::Unknown(format!("{NOT_PERMITTED}: {error}"))
        }
        Err(error) => ProbeAnswer::Unknown(error.to_string()),
    }
}

/// Lists the first attachments, with the number of the others.
fn listed(attached: &[AttachedPrograms]) -> ProbeAnswer {
    const LISTED: usize = 4;
    let gone = |one: &AttachedPrograms| if one.exists { "" } else { " (gone)" };
    let name = |one: &AttachedPrograms| format!("{}{}", one.path.display(), gone(one));
    let names: Vec<_> = attached.iter().take(LISTED).map(name).collect();
    match attached.len().checked_sub(LISTED) {
        _ if attached.is_empty() => ProbeAnswer::No("nothing is attached to a cgroup".into()),
        None | Some(0) => ProbeAnswer::Yes(names.join(", ")),
        Some(more) => ProbeAnswer::Yes(format!("{}, and {more} more", names.join(", "))),
    }
}

/// Installs the library in the first suitable directory, and removes it.
pub(super) fn preload_dir(library: &[u8], folders: &[PathBuf]) -> ProbeAnswer {
    match preload::install(library, folders) {
        Ok(placed) => {
            let folder = placed.path().parent().unwrap_or(placed.path());
            ProbeAnswer::Yes(folder.display().to_string())
        }
        Err(error) => ProbeAnswer::No(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_directory_is_found_or_every_refusal_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("inside");
        let found = preload_dir(b"library", std::slice::from_ref(&inside));
        assert_eq!(found, ProbeAnswer::Yes(inside.display().to_string()));
        assert!(!inside.exists(), "it is removed again");

        let none = preload_dir(b"library", &["/proc/nowhere/inside".into(), "/proc/inside".into()]);
        assert!(matches!(none, ProbeAnswer::No(_)), "{none:?}");
        for folder in ["/proc/nowhere/inside: ", "/proc/inside: "] {
            assert!(none.text().contains(folder), "{none:?}");
        }
    }

    #[test]
    fn a_few_attachments_are_listed_and_the_rest_counted() {
        let one = |number: u64, exists| AttachedPrograms {
            id: number,
            path: format!("/{number}").into(),
            exists,
            since: std::time::SystemTime::UNIX_EPOCH,
            settings: AttachSettings {
                ports: PortSet::All,
                rules: vec![],
                source: None,
                network: None,
            },
            shared: 0,
            hits: vec![],
            sourced: cgroup_bind::SourceOutcome::default(),
        };
        let several =
            |count| (1..=count).map(|number| one(number, number != 2)).collect::<Vec<_>>();
        assert!(matches!(listed(&[]), ProbeAnswer::No(_)));
        assert_eq!(listed(&several(1)), ProbeAnswer::Yes("/1".into()));
        assert_eq!(listed(&several(4)), ProbeAnswer::Yes("/1, /2 (gone), /3, /4".into()));
        assert_eq!(
            listed(&several(6)),
            ProbeAnswer::Yes("/1, /2 (gone), /3, /4, and 2 more".into())
        );
    }

    #[test]
    fn errors_of_attaching_have_answers() {
        let error = io::Error::from_raw_os_error;
        let cases = [
            (Ok(()), "yes"),
            (Err(AttachError::NotPermitted("bpf", error(libc::EPERM))), "no"),
            (Err(AttachError::Kernel("unknown program type".into())), "no"),
            (Err(AttachError::Exclusive), "no"),
            (Err(AttachError::System("bpf", error(libc::EINVAL))), "no"),
            (Err(AttachError::System("bpf", error(libc::ENOMEM))), "could not tell"),
        ];
        for (result, expected) in cases {
            let text = format!("{result:?}");
            let answer = attached(result);
            assert_eq!(answer.to_string(), expected, "{text}: {answer:?}");
        }
    }
}
