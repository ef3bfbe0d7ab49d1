//! The last 1,024 refused binds, as recorded by the programs.

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

/// A bind that a guard refused, or reported only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardDenial {
    /// Serial number, from 1 since the first guard was set.
    pub number: u64,
    /// Time of the bind.
    pub at: SystemTime,
    /// The cookie of the network namespace.
    pub network: u64,
    /// The requested address; for port 0, the one that the kernel assigned.
    pub ip: IpAddr,
    /// The guarded port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The bind was allowed and only reported.
    pub report_only: bool,
    /// Pid of the caller in the initial pid namespace.
    pub pid: u32,
    /// The calling thread's name, at most 15 bytes.
    pub program: String,
    /// Real user id of the caller in the initial user namespace.
    pub uid: u32,
    /// Path of its cgroup; `None` if the cgroup was removed.
    pub cgroup: Option<PathBuf>,
}

/// The last refused or reported binds, up to 1,024, oldest first. Empty without a guard.
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
    // Number 0: the event is being written, or never was.
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

/// The paths of all cgroups by id.
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

/// Time since boot including suspend, by the clock of the programs, to 10 ms. Zero if unreadable.
fn since_the_start() -> Duration {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = uptime.split(' ').next().and_then(|seconds| seconds.parse().ok());
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}
