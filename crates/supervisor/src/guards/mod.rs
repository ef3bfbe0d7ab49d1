//! The list of guards, which every user can read, and the guard of a port.

pub mod record;

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use sameport_policy::guard::Binder;
use sameport_policy::model::{Protocol, is_private_uid};
use sameport_policy::refusal::{GuardRefusal, RefusedByGuard};
use sameport_sys::bpf::guard;
use sameport_sys::bpf::guard::GuardLock;
use sameport_sys::{effective_user, netns};

use record::{AllowEntry, GuardEntry, GuardOrigin, GuardRecord};

/// This network namespace, boot and time.
///
/// # Errors
///
/// The source of the fact and the error.
pub fn here() -> Result<GuardOrigin, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let look = |source: &'static str| move |error: io::Error| format!("{source}: {error}");
    Ok(GuardOrigin {
        network: netns::own_cookie().map_err(look("getsockopt(SO_NETNS_COOKIE)"))?,
        first: guard::is_initial_netns().map_err(look("/proc/1/net/dev"))?,
        boot: guard::boot_id().map_err(look("/proc/sys/kernel/random/boot_id"))?,
        now: now.as_secs(),
    })
}

/// The guard that refuses binds of a port in this network namespace, from the list. `None` also where the
/// list cannot be read.
#[must_use]
pub fn of_port(port: u16, protocol: Protocol) -> Option<GuardEntry> {
    let text = GuardLock::read_without_lock().ok().filter(|text| !text.is_empty())?;
    let here = here().ok()?;
    let record = GuardRecord::read(&text, &here).ok()?.brought_to(&here)?;
    let is_it = |entry: &GuardEntry| {
        (entry.network, entry.port, entry.protocol()) == (here.network, port, protocol)
    };
    record.guards.into_iter().find(is_it).filter(|entry| !entry.report_only)
}

/// The guard that refuses this process the port. `owner`: the owner of its socket, which is the user of a
/// process that has ended.
pub(crate) fn refused(
    port: u16,
    protocol: Protocol,
    pid: i32,
    owner: u32,
) -> Option<RefusedByGuard> {
    let entry = of_port(port, protocol)?;
    let user = if is_private_uid(owner) { effective_user() } else { owner };
    let (binder, is_known) = match guard::binder(pid) {
        Ok(binder) if binder.executable.is_some() => (binder, true),
        // It has ended: a worker has the cgroup of its supervisor, and an executable of its own.
        _ => {
            let cgroup = guard::binder(std::process::id().cast_signed()).ok()?.cgroup;
            (Binder { uid: user, cgroup, executable: None }, false)
        }
    };
    let names_executables =
        entry.allow.iter().any(|allow| matches!(allow, AllowEntry::Executable { .. }));
    (!entry.rule().allows(&binder)).then(|| RefusedByGuard {
        guard: GuardRefusal {
            port,
            protocol,
            allow: entry.allow.iter().map(AllowEntry::spec).collect(),
            uid: binder.uid,
        },
        is_certain: is_known || !names_executables,
    })
}
