//! Loads `bind.bpf.o` and `source.bpf.o` and fills their maps.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::maps::{Array, HashMap, MapError};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use sameport_policy::bind::keys;
use sameport_policy::bind::verdict::PortSet;

use super::layout;
use super::layout::RawSettings;
use super::settings::AttachSettings;
use crate::bpf::attach_error::AttachError;
use crate::bpf::programs::map_mut;

static BIND: &[u8] = include_bytes_aligned!("../../../bpf/bind.bpf.o");
static SOURCE: &[u8] = include_bytes_aligned!("../../../bpf/source.bpf.o");

/// Size of the map `place` in bytes. Longer paths are truncated.
const PATH: usize = 4096;

/// Loads `bind.bpf.o` with these settings, without attaching it.
pub(super) fn bind(
    path: &Path,
    settings: &AttachSettings,
    fixed: RawSettings,
) -> Result<Ebpf, AttachError> {
    AttachError::check_filter()?;
    let ports = match &settings.ports {
        PortSet::All => None,
        PortSet::Only(ports) => Some(ports),
    };
    // The kernel rejects a map without entries.
    let size = |entries: usize| u32::try_from(entries.max(1)).unwrap_or(u32::MAX);
    let mut object = EbpfLoader::new()
        .btf(None)
        .map_max_entries("ports", size(ports.map_or(0, std::collections::BTreeSet::len)))
        .map_max_entries("rules", size(settings.rules.len()))
        .map_max_entries("counts", size(1 + settings.rules.len()))
        .load(BIND)
        .map_err(|error| AttachError::loading(&error))?;

    let fill = |error: MapError| AttachError::system("bpf(BPF_MAP_UPDATE_ELEM)", &error);
    let mut table: HashMap<_, keys::RuleKey, keys::RuleTarget> = map_mut(&mut object, "rules")?;
    for (place, rule) in (0..).zip(&settings.rules) {
        let key = keys::key(rule);
        // The first rule for an address applies.
        if table.get(&key, 0).is_err() {
            table.insert(key, keys::target(rule, place), 0).map_err(fill)?;
        }
    }
    let mut table: HashMap<_, u16, u8> = map_mut(&mut object, "ports")?;
    for shared in ports.into_iter().flatten() {
        let others = table.get(&shared.port, 0).ok();
        let value = keys::port_value(shared.protocol, others);
        table.insert(shared.port, value, 0).map_err(fill)?;
    }
    let mut written = [0; PATH];
    let path = path.as_os_str().as_bytes();
    let length = path.len().min(PATH - 1);
    written[..length].copy_from_slice(&path[..length]);
    let mut place: Array<_, [u8; PATH]> = map_mut(&mut object, "place")?;
    place.set(0, written, 0).map_err(fill)?;
    let mut first: Array<_, [u8; 24]> = map_mut(&mut object, "settings")?;
    first.set(0, fixed.bytes(), 0).map_err(fill)?;
    Ok(object)
}

/// Loads `source.bpf.o` with this source address, without attaching it.
pub(super) fn source(
    from: std::net::SocketAddr,
    network: Option<u64>,
) -> Result<Ebpf, AttachError> {
    let mut object =
        EbpfLoader::new().btf(None).load(SOURCE).map_err(|error| AttachError::loading(&error))?;
    let mut source: Array<_, [u8; 32]> = map_mut(&mut object, "source")?;
    source
        .set(0, layout::source(from, network), 0)
        .map_err(|error| AttachError::system("bpf(BPF_MAP_UPDATE_ELEM)", &error))?;
    Ok(object)
}
