//! What is attached, read from the pins by any process that may.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aya::maps::{Array, HashMap, Map, MapData};
use sameport_policy::bind::keys;
use sameport_policy::bind::keys::{RuleKey, RuleTarget};
use sameport_policy::bind::verdict::PortSet;

use super::attachment::{AttachSettings, SourceOutcome};
use super::calls;
use super::layout;
use super::layout::RawSettings;
use super::object::counts;
use super::pins::{LINK, PinResult, failed, folders, from_aya};
use crate::cgroup::dir::{Cgroup, folders_below};

/// What is attached to a cgroup, as any process can read it that may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedPrograms {
    /// The cgroup's number.
    pub id: u64,
    /// Its path when it was attached to.
    pub path: PathBuf,
    /// Whether the cgroup still exists.
    pub exists: bool,
    /// When, to the second.
    pub since: SystemTime,
    /// What the programs do.
    pub settings: AttachSettings,
    /// How many binds were shared.
    pub shared: u64,
    /// How often each rule was the one to follow, in their order.
    pub hits: Vec<u64>,
    /// What came of the source address.
    pub sourced: SourceOutcome,
}

/// Everything that is attached, by the cgroups' paths.
///
/// # Errors
///
/// [`super::PinError::NotPermitted`]: only root may read it.
pub fn list_attached() -> PinResult<Vec<AttachedPrograms>> {
    let mut found = Vec::new();
    for (id, path) in folders()? {
        match read(id, &path) {
            Ok(attached) => found.push(attached),
            // Detached meanwhile.
            Err(_) if !path.exists() => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|a, b| (&a.path, a.id).cmp(&(&b.path, b.id)));
    Ok(found)
}

/// The numbers of all cgroups that an attachment acts in, each with the paths of those that are
/// attached to: a cgroup's programs run for those below it too. Where nothing is attached it costs
/// one look for a folder.
///
/// # Errors
///
/// [`super::PinError::NotPermitted`]: only root may read it.
pub fn cgroups_in_effect() -> PinResult<BTreeMap<u64, Vec<PathBuf>>> {
    let mut reached = BTreeMap::<_, Vec<_>>::new();
    for AttachedPrograms { id, path, .. } in
        list_attached()?.into_iter().filter(|attached| attached.exists)
    {
        reached.entry(id).or_default().push(path.clone());
        // Another one may have its path by now; one without a path has nothing below it.
        let Ok(top) = Cgroup::open(&path) else { continue };
        let below = if top.id() == id { folders_below(top.folder()) } else { continue };
        let below = below.unwrap_or_default().into_iter();
        for id in below.filter_map(|folder| Some(fs::metadata(folder).ok()?.ino())) {
            reached.entry(id).or_default().push(path.clone());
        }
    }
    Ok(reached)
}

/// What is in the folder of a cgroup.
pub(super) fn read(id: u64, folder: &Path) -> PinResult<AttachedPrograms> {
    let fixed: [u8; 24] = read_single(folder, "settings")?;
    let fixed = RawSettings::read(&fixed);
    let place: [u8; 4096] = read_single(folder, "place")?;
    let length = place.iter().position(|byte| *byte == 0).unwrap_or(place.len());
    let path = PathBuf::from(OsString::from_vec(place[..length].to_vec()));
    let numbers = counts(&pinned_map(folder, "counts")?);
    let source = folder.join("source").exists();
    let from: Option<SocketAddr> = if source {
        let bytes: [u8; 32] = read_single(folder, "source")?;
        Some(layout::read_source(&bytes))
    } else {
        None
    };
    let sourced = if source { counts(&pinned_map(folder, "given")?) } else { vec![] };
    let ports = if fixed.every_port {
        PortSet::All
    } else {
        PortSet::Only(
            read_hash::<u16, u8>(folder, "ports")?.into_iter().map(|(port, _)| port).collect(),
        )
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
        exists: is_at_a_cgroup(folder)?,
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

/// Whether the links still hold on to a cgroup: the kernel lets go of one that is removed.
fn is_at_a_cgroup(folder: &Path) -> PinResult<bool> {
    link_has_cgroup(&folder.join(format!("{LINK}bind4")))
}

/// Whether the link that is pinned there holds on to a cgroup.
pub(crate) fn link_has_cgroup(path: &Path) -> PinResult<bool> {
    let link = calls::pinned(path).map_err(failed("bpf(BPF_OBJ_GET)", path))?;
    let info = format!("/proc/self/fdinfo/{}", link.as_raw_fd());
    let text = fs::read_to_string(&info).map_err(failed("read", Path::new(&info)))?;
    Ok(!text.lines().any(|line| line.split_whitespace().eq(["cgroup_id:", "0"])))
}

pub(crate) fn pinned_map(folder: &Path, name: &str) -> PinResult<Map> {
    let path = folder.join(name);
    MapData::from_pin(&path)
        .and_then(Map::from_map_data)
        .map_err(|error| from_aya("bpf(BPF_OBJ_GET)", &path, &error))
}

/// The only value of a map.
pub(crate) fn read_single<V: aya::Pod>(folder: &Path, name: &str) -> PinResult<V> {
    let map = pinned_map(folder, name)?;
    Array::<_, V>::try_from(map)
        .and_then(|array| array.get(&0, 0))
        .map_err(|error| from_aya("bpf(BPF_MAP_LOOKUP_ELEM)", &folder.join(name), &error))
}

fn read_hash<K: aya::Pod, V: aya::Pod>(folder: &Path, name: &str) -> PinResult<Vec<(K, V)>> {
    let map = pinned_map(folder, name)?;
    HashMap::<_, K, V>::try_from(map)
        .and_then(|table| table.iter().collect())
        .map_err(|error| from_aya("bpf(BPF_MAP_LOOKUP_ELEM)", &folder.join(name), &error))
}
