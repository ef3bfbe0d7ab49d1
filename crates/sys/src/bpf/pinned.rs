//! Reading pinned maps and links.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData};

use super::pin_dir::{PinResult, failed, from_aya};
use super::syscall;

/// Whether the link that is pinned at this path is still attached: the kernel detaches the links of a
/// removed cgroup.
pub(crate) fn link_has_cgroup(path: &Path) -> PinResult<bool> {
    let link = syscall::open_pinned(path).map_err(failed("bpf(BPF_OBJ_GET)", path))?;
    let info = format!("/proc/self/fdinfo/{}", link.as_raw_fd());
    let text = fs::read_to_string(&info).map_err(failed("read", Path::new(&info)))?;
    Ok(!text.lines().any(|line| line.split_whitespace().eq(["cgroup_id:", "0"])))
}

/// Opens the map that is pinned under this name.
pub(crate) fn open_map(dir: &Path, name: &str) -> PinResult<Map> {
    let path = dir.join(name);
    MapData::from_pin(&path)
        .and_then(Map::from_map_data)
        .map_err(|error| from_aya("bpf(BPF_OBJ_GET)", &path, &error))
}

/// The value of an array map with one entry.
pub(crate) fn read_single<V: aya::Pod>(dir: &Path, name: &str) -> PinResult<V> {
    let map = open_map(dir, name)?;
    Array::<_, V>::try_from(map)
        .and_then(|array| array.get(&0, 0))
        .map_err(|error| from_aya("bpf(BPF_MAP_LOOKUP_ELEM)", &dir.join(name), &error))
}

/// Every entry of a hash map.
pub(crate) fn read_hash<K: aya::Pod, V: aya::Pod>(
    dir: &Path,
    name: &str,
) -> PinResult<Vec<(K, V)>> {
    let map = open_map(dir, name)?;
    HashMap::<_, K, V>::try_from(map)
        .and_then(|table| table.iter().collect())
        .map_err(|error| from_aya("bpf(BPF_MAP_LOOKUP_ELEM)", &dir.join(name), &error))
}

/// Every entry of an array map of counters. Empty for another type of map.
pub(crate) fn read_counts(map: &Map) -> Vec<u64> {
    let counts: Result<Array<&MapData, u64>, _> = map.try_into();
    counts.map(|counts| counts.iter().map(|count| count.unwrap_or(0)).collect()).unwrap_or_default()
}
