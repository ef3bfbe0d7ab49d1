//! Who was refused, as the programs have noted it: the last thousand, whether or not anybody looks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aya::maps::Array;
use sameport_policy::addr::Protocol;

use super::layout;
use super::layout::RawDenial;
use super::pins::GUARD;
use crate::bpf::pin_dir::{PinResult, from_aya, require_trusted};
use crate::bpf::pinned::open_map;
use crate::cgroup::dir;

/// A bind that a guard has refused, or would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardDenial {
    /// Counted from 1 since the first guard was set.
    pub number: u64,
    /// When.
    pub at: SystemTime,
    /// The cookie of the network namespace.
    pub network: u64,
    /// The address that was to be bound. With port 0 asked for: the one that the kernel picked.
    pub ip: IpAddr,
    /// The guarded port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// It was let through, and only noted.
    pub report_only: bool,
    /// Who called, in the machine's first pid namespace.
    pub pid: u32,
    /// The calling thread's name, at most 15 bytes.
    pub program: String,
    /// Its real user, in the first user namespace.
    pub uid: u32,
    /// The path of its cgroup; `None` if that is gone.
    pub cgroup: Option<PathBuf>,
}

/// The last binds that were refused, or noted, at most 1,024, oldest first. Nothing where there is no
/// guard.
///
/// # Errors
///
/// [`crate::bpf::PinError::NotPermitted`]: only root may read it.
pub fn list_denials() -> PinResult<Vec<GuardDenial>> {
    let folder = Path::new(GUARD);
    require_trusted(folder)?;
    if !folder.join("refused").exists() {
        return Ok(vec![]);
    }
    let wrong = |error: aya::maps::MapError| {
        from_aya("bpf(BPF_MAP_LOOKUP_ELEM)", &folder.join("refused"), &error)
    };
    let events: Array<_, RawDenial> = open_map(folder, "refused")?.try_into().map_err(wrong)?;
    let mut written = Vec::new();
    for event in events.iter() {
        written.push(layout::written(&event.map_err(wrong)?));
    }
    // The first bytes of an event that is being written say 0.
    written.retain(|event| event.number != 0);
    written.sort_by_key(|event| event.number);

    let paths = if written.is_empty() { HashMap::new() } else { paths() };
    let (now, up) = (SystemTime::now(), since_the_start());
    let refusals = written.into_iter().map(|event| GuardDenial {
        number: event.number,
        at: now.checked_sub(up.saturating_sub(event.time)).unwrap_or(now),
        network: event.network,
        ip: event.ip,
        port: event.port,
        protocol: event.protocol,
        report_only: event.report_only,
        pid: event.pid,
        program: event.program,
        uid: event.uid,
        cgroup: paths.get(&event.cgroup).cloned(),
    });
    Ok(refusals.collect())
}

/// The paths of all cgroups, by their numbers.
fn paths() -> HashMap<u64, PathBuf> {
    let Ok(first) = crate::cgroup::Cgroup::first() else { return HashMap::new() };
    let top = first.folder().to_owned();
    let below = dir::folders_below(&top).unwrap_or_default();
    let all = below.into_iter().chain([top.clone()]);
    let named = all.filter_map(|folder| {
        let number = std::fs::metadata(&folder).ok()?.ino();
        Some((number, Path::new("/").join(folder.strip_prefix(&top).ok()?)))
    });
    named.collect()
}

/// How long the machine has been running, sleep included, by the programs' clock to 10 ms. Zero where
/// it is not told.
fn since_the_start() -> Duration {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = uptime.split(' ').next().and_then(|seconds| seconds.parse().ok());
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}
