//! The set of guards as files below `/sys/fs/bpf/sameport/guard`, so that it outlives who made it.
//!
//! Each process that makes a set has a folder of its own, named after it, in which `settings` comes last:
//! a set that has it is whole. When a set is whole, all others are removed. One that a killed process
//! has left behind refuses what it refuses until then: it is never less than the guards there were.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sameport_policy::guard::Guard;

use super::error::GuardError;
use super::layout;
use super::object;
use super::object::GuardPrograms;
use crate::bpf::pin_dir::{
    self, LINK_PREFIX, PIN_ROOT, PinError, PinResult, ensure_bpffs, failed, from_aya,
};
use crate::bpf::pinned::{link_has_cgroup, read_single};
use crate::cgroup::Cgroup;
use crate::process::identity::ProcessIdentity;

pub(super) const GUARD: &str = "/sys/fs/bpf/sameport/guard";
/// The maps of a set, the one that makes it whole last.
const MAPS: [&str; 4] = ["guards", "allow", "names", "settings"];
const SET: &str = "set_";
/// The hooks that a set is attached to.
const HOOKS: [&str; 4] = ["bind4", "bind6", "post_bind4", "post_bind6"];

/// What the kernel enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// The mark that the set was made with.
    pub mark: u64,
    /// When it was made, to the second.
    pub since: SystemTime,
    /// Whether there is more than that: the rest of a change that was interrupted.
    pub more: bool,
}

/// Has the kernel enforce these guards and no others, from the next bind on, until [`lift`] or until
/// the machine stops. `mark` is for [`in_force`] to tell. Mounts the BPF file system if nothing is on
/// `/sys/fs/bpf`, and says so by `true`.
///
/// A port that was guarded before and is now is so at every moment. On an error everything is as it
/// was.
///
/// # Errors
///
/// See [`Error`].
pub fn enforce(guards: &[Guard], mark: u64) -> std::result::Result<bool, GuardError> {
    let cgroup = Cgroup::first()?;
    let mounted = ensure_bpffs()?;
    let ours = own_folder()?;
    let before = sets()?;
    // Who did the same before in this process.
    if ours.exists() {
        pin_dir::remove(&ours)?;
    }
    pin_dir::create(&ours)?;
    let result = object::set(&cgroup, guards, mark, Path::new(GUARD))
        .map_err(GuardError::from)
        .and_then(|set| Ok(pin(set, &ours)?));
    if let Err(error) = result {
        pin_dir::remove(&ours)?;
        if before.is_empty() {
            lift()?;
        }
        return Err(error);
    }
    for old in before.into_iter().filter(|old| *old != ours) {
        pin_dir::remove(&old)?;
    }
    Ok(mounted)
}

fn pin(set: GuardPrograms, folder: &Path) -> PinResult<()> {
    let GuardPrograms { object, links } = set;
    for (name, link) in links {
        let path = folder.join(format!("{LINK_PREFIX}{name}"));
        link.pin(&path).map_err(|error| from_aya("bpf(BPF_OBJ_PIN)", &path, &error))?;
    }
    for name in MAPS {
        let path = folder.join(name);
        let map =
            object.map(name).ok_or_else(|| failed("pin", &path)(ErrorKind::NotFound.into()))?;
        map.pin(&path).map_err(|error| from_aya("bpf(BPF_OBJ_PIN)", &path, &error))?;
    }
    Ok(())
}

/// Removes every guard, and everything of them. When it returns, the next bind is as if there had never
/// been one.
///
/// # Errors
///
/// [`PinError::NotPermitted`]: only root may.
pub fn lift() -> PinResult<()> {
    for set in sets()? {
        pin_dir::remove(&set)?;
    }
    pin_dir::remove(Path::new(GUARD))?;
    // Unless something is attached to a cgroup.
    let _ = fs::remove_dir(PIN_ROOT);
    Ok(())
}

/// What the kernel enforces; `None`: nothing, or nothing whole.
///
/// # Errors
///
/// [`PinError::NotPermitted`]: only root may read it.
pub fn in_force() -> PinResult<Option<InForce>> {
    let all = sets()?;
    let mut whole = None;
    for set in &all {
        if !set.join("settings").exists() {
            continue;
        }
        let (mark, since) = layout::read_settings(&read_single(set, "settings")?);
        let mut attached = true;
        for hook in HOOKS {
            attached &= match link_has_cgroup(&set.join(format!("{LINK_PREFIX}{hook}"))) {
                Err(PinError::System(_, _, error)) if error.kind() == ErrorKind::NotFound => false,
                holds => holds?,
            };
        }
        if attached {
            whole = Some(InForce { mark, since, more: all.len() > 1 });
        }
    }
    Ok(whole)
}

/// The folders of all sets, whole or not.
fn sets() -> PinResult<Vec<PathBuf>> {
    let is_set = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(SET))
    };
    Ok(pin_dir::list(Path::new(GUARD))?.into_iter().filter(is_set).collect())
}

/// The folder of this process.
fn own_folder() -> PinResult<PathBuf> {
    let owner = ProcessIdentity::current().map_err(failed("read", Path::new("/proc/self")))?;
    Ok(Path::new(GUARD).join(format!("{SET}{owner}")))
}
