//! Reading attachments from their pins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sameport_policy::bind::keys;
use sameport_policy::bind::keys::{RuleKey, RuleTarget};
use sameport_policy::bind::verdict::{PortSet, SharedPort};

use super::layout;
use super::layout::RawSettings;
use super::settings::{AttachSettings, SourceOutcome};
use crate::bpf::pin_dir::{self, LINK_PREFIX, PIN_ROOT, PinResult};
use crate::bpf::pinned::{link_has_cgroup, open_map, read_counts, read_hash, read_single};
use crate::cgroup::Cgroup;
use crate::cgroup::dir::folders_below;

/// An attachment to a cgroup, read from its pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedPrograms {
    /// The cgroup's id.
    pub id: u64,
    /// The cgroup's path at the time of attaching.
    pub path: PathBuf,
    /// Whether the cgroup still exists.
    pub exists: bool,
    /// Time of attaching, in whole seconds.
    pub since: SystemTime,
    /// The settings of the programs.
    pub settings: AttachSettings,
    /// Number of shared binds.
    pub shared: u64,
    /// How often each rule applied, in the order of the rules.
    pub hits: Vec<u64>,
    /// Counters of the source address.
    pub sourced: SourceOutcome,
}

/// Every attachment, ordered by path.
///
/// # Errors
///
/// [`crate::bpf::PinError::NotPermitted`]: only root may read it.
pub fn list_attached() -> PinResult<Vec<AttachedPrograms>> {
    let mut found = Vec::new();
    for (id, path) in cgroup_dirs()? {
        match read(id, &path) {
            Ok(attached) => found.push(attached),
            // Detached during the call.
            Err(_) if !path.exists() => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|a, b| (&a.path, a.id).cmp(&(&b.path, b.id)));
    Ok(found)
}

/// The ids of all cgroups in which an attachment acts, each with the paths of the cgroups of these
/// attachments: programs also run for the cgroups below theirs. Without an attachment this is a single
/// system call.
///
/// # Errors
///
/// [`crate::bpf::PinError::NotPermitted`]: only root may read it.
pub fn cgroups_in_effect() -> PinResult<BTreeMap<u64, Vec<PathBuf>>> {
    let mut reached = BTreeMap::<_, Vec<_>>::new();
    for AttachedPrograms { id, path, .. } in
        list_attached()?.into_iter().filter(|attached| attached.exists)
    {
        reached.entry(id).or_default().push(path.clone());
        // The path may belong to another cgroup now. A removed cgroup has no children.
        let Ok(top) = Cgroup::open(&path) else { continue };
        let below = if top.id() == id { folders_below(top.folder()) } else { continue };
        let below = below.unwrap_or_default().into_iter();
        for id in below.filter_map(|folder| Some(fs::metadata(folder).ok()?.ino())) {
            reached.entry(id).or_default().push(path.clone());
        }
    }
    Ok(reached)
}

/// Reads the pins of one attachment.
pub(super) fn read(id: u64, folder: &Path) -> PinResult<AttachedPrograms> {
    let fixed: [u8; 24] = read_single(folder, "settings")?;
    let fixed = RawSettings::read(&fixed);
    let place: [u8; 4096] = read_single(folder, "place")?;
    let length = place.iter().position(|byte| *byte == 0).unwrap_or(place.len());
    let path = PathBuf::from(OsString::from_vec(place[..length].to_vec()));
    let numbers = read_counts(&open_map(folder, "counts")?);
    let source = folder.join("source").exists();
    let from: Option<SocketAddr> = if source {
        let bytes: [u8; 32] = read_single(folder, "source")?;
        Some(layout::read_source(&bytes))
    } else {
        None
    };
    let sourced = if source { read_counts(&open_map(folder, "given")?) } else { vec![] };
    let ports = if fixed.every_port {
        PortSet::All
    } else {
        let shared = read_hash::<u16, u8>(folder, "ports")?
            .into_iter()
            .map(|(port, value)| SharedPort { port, protocol: keys::protocol_of_value(value) });
        PortSet::Only(shared.collect())
    };
    let mut rules: Vec<_> = read_hash::<RuleKey, RuleTarget>(folder, "rules")?
        .iter()
        .map(|(key, target)| keys::rule(key, target))
        .collect();
    rules.sort_by_key(|(_, place)| *place);
    let hit = |place: u32| numbers.get(1 + place as usize).copied().unwrap_or(0);
    Ok(AttachedPrograms {
        id,
        path,
        exists: link_has_cgroup(&folder.join(format!("{LINK_PREFIX}bind4")))?,
        since: fixed.since,
        shared: numbers.first().copied().unwrap_or(0),
        hits: rules.iter().map(|(_, place)| hit(*place)).collect(),
        sourced: SourceOutcome::read(&sourced),
        settings: AttachSettings {
            ports,
            rules: rules.into_iter().map(|(rule, _)| rule).collect(),
            source: from,
            network: fixed.network,
        },
    })
}

/// The directories of cgroups, each with the number of its cgroup.
pub(super) fn cgroup_dirs() -> PinResult<Vec<(u64, PathBuf)>> {
    let id = |path: &Path| path.file_name()?.to_str()?.parse().ok();
    let dirs = pin_dir::list(Path::new(PIN_ROOT))?.into_iter();
    Ok(dirs.filter_map(|path| Some((id(&path)?, path))).collect())
}
