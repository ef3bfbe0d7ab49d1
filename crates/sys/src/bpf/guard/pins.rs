//! The set of guards as pins below `/sys/fs/bpf/sameport/guard`, which outlives its process.
//!
//! A process pins a set in a directory of its own and `settings` last, which marks the set as complete.
//! Then it removes all other sets. The set of a killed process stays in force until the next change, so
//! the guards are never weaker than before.

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
/// The maps of a set; the last one marks it as complete.
const MAPS: [&str; 4] = ["guards", "allow", "names", "settings"];
const SET: &str = "set_";
/// The hooks of a set.
const HOOKS: [&str; 4] = ["bind4", "bind6", "post_bind4", "post_bind6"];

/// The set of guards in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// The mark given to [`enforce`].
    pub mark: u64,
    /// Time of [`enforce`], in whole seconds.
    pub since: SystemTime,
    /// Whether another set exists too: the rest of an interrupted change.
    pub more: bool,
}

/// Enforces these guards and no others from the next bind on, until [`lift`] or reboot. [`in_force`]
/// returns `mark`. Mounts the BPF file system on `/sys/fs/bpf` if it is missing, and returns whether it
/// did.
///
/// A port that is guarded before and after is guarded at every moment. After an error the previous guards
/// are in force.
///
/// # Errors
///
/// See [`GuardError`].
pub fn enforce(guards: &[Guard], mark: u64) -> std::result::Result<bool, GuardError> {
    let cgroup = Cgroup::first()?;
    let mounted = ensure_bpffs()?;
    let ours = own_folder()?;
    let before = sets()?;
    // From an earlier call of this process.
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

/// Removes every guard with its pins. After the return, binds are unchanged.
///
/// # Errors
///
/// [`PinError::NotPermitted`] without root.
pub fn lift() -> PinResult<()> {
    for set in sets()? {
        pin_dir::remove(&set)?;
    }
    pin_dir::remove(Path::new(GUARD))?;
    // Fails if an attachment to a cgroup exists.
    let _ = fs::remove_dir(PIN_ROOT);
    Ok(())
}

/// The set in force; `None` without a complete set.
///
/// # Errors
///
/// [`PinError::NotPermitted`] without root.
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

/// The directories of all sets, complete or not.
fn sets() -> PinResult<Vec<PathBuf>> {
    let is_set = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(SET))
    };
    Ok(pin_dir::list(Path::new(GUARD))?.into_iter().filter(is_set).collect())
}

/// The directory of this process.
fn own_folder() -> PinResult<PathBuf> {
    let owner = ProcessIdentity::current().map_err(failed("read", Path::new("/proc/self")))?;
    Ok(Path::new(GUARD).join(format!("{SET}{owner}")))
}
