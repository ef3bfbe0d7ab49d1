//! `bpf/guard.bpf.c`: loaded, its maps filled from a list of guards, and attached.

use std::path::Path;
use std::time::SystemTime;

use aya::maps::{Array, HashMap};
use aya::programs::links::FdLink;
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use sameport_policy::guard;
use sameport_policy::guard::{AllowRule, Guard};

use super::layout;
use crate::bpf::attach_error::AttachError;
use crate::bpf::programs::{attach, map_mut};
use crate::cgroup::Cgroup;
use crate::proc::sysctl;

static GUARD: &[u8] = include_bytes_aligned!("../../../bpf/guard.bpf.o");

/// The programs at a cgroup, until this is dropped.
pub(super) struct GuardPrograms {
    pub(super) object: Ebpf,
    pub(super) links: Vec<(String, FdLink)>,
}

/// Whether the kernel is locked down so that no new guard can be enforced: the programs read kernel memory.
/// Guards in force stay.
#[must_use]
pub fn is_refused_by_lockdown() -> bool {
    sysctl::is_confidential()
}

/// Attaches these guards at a cgroup, beside whatever is there. The list of refusals is the one that is
/// pinned in `log`, or made there.
pub(super) fn set(
    cgroup: &Cgroup,
    guards: &[Guard],
    mark: u64,
    log: &Path,
) -> Result<GuardPrograms, AttachError> {
    if is_refused_by_lockdown() {
        return Err(AttachError::LockedDown);
    }
    let types = Btf::from_sys_fs().map_err(|error| {
        let why = "this kernel does not tell how its structures are laid out";
        AttachError::Kernel(format!("/sys/kernel/btf/vmlinux: {error}: {why}"))
    })?;
    let paths = guards.iter().flat_map(|guard| &guard.allow).filter_map(|allowed| match allowed {
        AllowRule::Cgroup(path) => Some(path.as_str()),
        _ => None,
    });
    AttachError::check_filter()?;
    let (steps, ends) = guard::cgroup_steps(paths);
    // A map has room for one at least.
    let room = |wanted: usize| u32::try_from(wanted.max(1)).unwrap_or(u32::MAX);
    let mut object = EbpfLoader::new()
        .btf(Some(&types))
        .default_map_pin_directory(log)
        .map_max_entries("guards", room(guards.len()))
        .map_max_entries("allow", room(guards.iter().map(|guard| guard.allow.len()).sum()))
        .map_max_entries("names", room(steps.len()))
        .load(GUARD)
        .map_err(|error| AttachError::loading(&error))?;

    let fill = |error: aya::maps::MapError| AttachError::system("bpf(BPF_MAP_UPDATE_ELEM)", &error);
    let mut table: HashMap<_, layout::RawName, u32> = map_mut(&mut object, "names")?;
    for step in &steps {
        table.insert(layout::name(step), step.to, 0).map_err(fill)?;
    }
    let mut table: HashMap<_, layout::RawAllowed, u64> = map_mut(&mut object, "allow")?;
    let mut ends = ends.into_iter();
    for (number, guard) in (0..).zip(guards) {
        for allowed in &guard.allow {
            let place = matches!(allowed, AllowRule::Cgroup(_)).then(|| ends.next()).flatten();
            if let Some((key, value)) = layout::allowed(number, allowed, place.unwrap_or(0)) {
                table.insert(key, value, 0).map_err(fill)?;
            }
        }
    }
    let mut table: HashMap<_, layout::RawPort, layout::RawGuard> = map_mut(&mut object, "guards")?;
    for (number, guard) in (0..).zip(guards) {
        table.insert(layout::port(guard), layout::value(guard, number), 0).map_err(fill)?;
    }
    let mut settings: Array<_, layout::RawGuardSettings> = map_mut(&mut object, "settings")?;
    settings.set(0, layout::settings(mark, SystemTime::now()), 0).map_err(fill)?;
    let links = attach(&mut object, cgroup)?;
    Ok(GuardPrograms { object, links })
}
