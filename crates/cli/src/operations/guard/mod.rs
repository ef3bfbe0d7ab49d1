//! `guard`: rules for binds to a port, enforced by the kernel.

mod allow;
mod holders;
mod model;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use sameport_policy::guard::GuardPort;
use sameport_policy::guard::reserved_ports::plan;
use sameport_supervisor::guards;
use sameport_supervisor::guards::record;
use sameport_supervisor::guards::record::{AllowEntry, GuardEntry, GuardOrigin, GuardRecord};
use sameport_sys::bpf::AttachError;
use sameport_sys::bpf::guard;
use sameport_sys::bpf::guard::{GuardError, GuardLock};

pub(crate) use model::{
    AllowedNow, Error, GuardEffect, GuardList, GuardRequest, GuardResult, GuardState, LiftedGuards,
    ListedGuard, PortHolder,
};

/// Sets a guard in place of the current one. `confirm` is called where it would lock out processes.
pub(crate) fn set(
    request: &GuardRequest,
    confirm: impl FnOnce(&GuardEffect) -> bool,
) -> Result<GuardResult, Error> {
    require_root()?;
    let here = here()?;
    let allow: Vec<AllowEntry> =
        request.allow.iter().map(allow::resolve).collect::<Result<_, _>>()?;
    let entry = |protocol| {
        let GuardRequest { port, report_only, .. } = request;
        GuardEntry::new(&here, port.number, protocol, *report_only, allow.clone())
    };
    let set: Vec<GuardEntry> = request.port.protocols().iter().map(|it| entry(*it)).collect();
    let effect = holders::effect(&set, allow.is_empty())?;
    if effect.locks_out() && !request.report_only && !confirm(&effect) {
        return Err(Error::LockedOut(effect));
    }
    let mut replaced = Vec::new();
    let mounted = change(Edits::Other, &here, |record| {
        replaced = set.iter().filter_map(|entry| record.put(entry.clone())).collect();
        Ok(())
    })?;
    Ok(GuardResult {
        without_a_cgroup: allow.iter().filter_map(allow::missing_cgroup).collect(),
        caller: holders::may(std::process::id(), &set),
        set,
        replaced,
        effect,
        mounted,
    })
}

/// Ends the guard of a port in this network namespace.
pub(crate) fn off(port: GuardPort) -> Result<Vec<GuardEntry>, Error> {
    require_root()?;
    let here = here()?;
    let mut ended = Vec::new();
    change(Edits::Remove, &here, |record| {
        let protocols = port.protocols().iter();
        ended = protocols.filter_map(|it| record.take(here.network, port.number, *it)).collect();
        if ended.is_empty() { Err(Error::NotGuarded(port)) } else { Ok(()) }
    })?;
    Ok(ended)
}

/// Ends every guard, of every network namespace, in any state.
pub(crate) fn off_all() -> Result<LiftedGuards, Error> {
    require_root()?;
    let here = here()?;
    let lock = GuardLock::take().map_err(|error| Error::File("lock", error))?;
    let text = lock.read().map_err(|error| Error::File("read", error))?;
    let read = GuardRecord::read(&text, &here);
    let unreadable = read.is_err();
    let record = read.unwrap_or_else(|_| GuardRecord::new(&here));
    unreserve(&record, &here)?;
    guard::lift().map_err(|error| Error::Guard(error.into()))?;
    lock.write(None).map_err(|error| Error::File("remove", error))?;
    let elsewhere = record.reserved.iter().filter(|it| it.network != here.network);
    let still_reserved = elsewhere.filter(|_| record.boot == here.boot).map(|it| it.port).collect();
    Ok(LiftedGuards { guards: record.guards.len(), still_reserved, unreadable })
}

/// Enforces the guards of the file: after a boot, a change by hand, the replacement of an executable or an
/// interruption. Returns them.
pub(crate) fn restore() -> Result<Vec<GuardEntry>, Error> {
    require_root()?;
    let here = here()?;
    let mut restored = Vec::new();
    change(Edits::Other, &here, |record| {
        for allow in record.guards.iter_mut().flat_map(|entry| &mut entry.allow) {
            if let AllowEntry::Executable { path, file } = allow {
                *file = guard::inode(Path::new(path)).ok().map(Into::into);
            }
        }
        restored.clone_from(&record.guards);
        Ok(())
    })?;
    Ok(restored)
}

/// The guards, and whether the kernel enforces them.
pub(crate) fn list() -> Result<GuardList, Error> {
    require_root()?;
    let here = here()?;
    let text = GuardLock::read_without_lock().map_err(|error| Error::File("read", error))?;
    let record = GuardRecord::read(&text, &here).map_err(Error::Record)?;
    let in_force = guard::in_force().map_err(|error| Error::Guard(error.into()))?;
    let reserved = guard::reserved().map_err(Error::Reserve)?;
    let state = match in_force {
        None if record.guards.is_empty() => GuardState::InForce,
        Some(it) if it.mark == record::mark(&text) && record.boot == here.boot => {
            match (it.more, record.ports(here.network).is_subset(&reserved)) {
                (true, _) => GuardState::Interrupted,
                (false, true) => GuardState::InForce,
                (false, false) => GuardState::Unreserved,
            }
        }
        _ => GuardState::NotInForce,
    };
    let listed = |entry: GuardEntry| ListedGuard {
        now: entry.allow.iter().map(allow::now).collect(),
        entry,
    };
    Ok(GuardList {
        guards: record.guards.into_iter().map(listed).collect(),
        state,
        locked_down: guard::is_refused_by_lockdown(),
        network: here.network,
        now: SystemTime::now(),
    })
}

/// The binds that were refused or noted.
pub(crate) fn log() -> Result<Vec<guard::GuardDenial>, Error> {
    require_root()?;
    guard::list_denials().map_err(|error| Error::Guard(error.into()))
}

/// Whether a change of the list only removes guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edits {
    Remove,
    Other,
}

/// Changes the list and enforces it; after an error both are as before. Returns whether the BPF file system
/// was mounted.
fn change(
    edits: Edits,
    here: &GuardOrigin,
    edit: impl FnOnce(&mut GuardRecord) -> Result<(), Error>,
) -> Result<bool, Error> {
    let lock = GuardLock::take().map_err(|error| Error::File("lock", error))?;
    let before = lock.read().map_err(|error| Error::File("read", error))?;
    let record = GuardRecord::read(&before, here).map_err(Error::Record)?;
    let mut record = record.brought_to(here).ok_or(Error::Elsewhere)?;
    edit(&mut record)?;
    if record.guards.is_empty() {
        unreserve(&record, here)?;
        guard::lift().map_err(|error| Error::Guard(error.into()))?;
        lock.write(None).map_err(|error| Error::File("remove", error))?;
        return Ok(false);
    }
    let reserved = guard::reserved().map_err(Error::Reserve)?;
    let plan = plan(&reserved, &record.reserved(here.network), &record.ports(here.network));
    record.set_reserved(here.network, &plan.ours);
    let text = record.text();
    lock.write(Some(&text)).map_err(|error| Error::File("write", error))?;
    let done = guard::reserve(&plan.reserved)
        .map_err(Error::Reserve)
        .and_then(|()| guard::enforce(&record.rules(), record::mark(&text)).map_err(Error::Guard));
    let done = match done {
        // No guard can be in force: the list is all there is to change.
        Err(Error::Guard(GuardError::Attach(AttachError::LockedDown)))
            if edits == Edits::Remove && guard::in_force().is_ok_and(|set| set.is_none()) =>
        {
            Ok(false)
        }
        done => done,
    };
    if done.is_err() {
        // Undone as far as possible; the first error is returned.
        let _ = guard::reserve(&reserved);
        let _ = lock.write(Some(before.as_str()).filter(|text| !text.is_empty()));
    }
    done
}

/// Removes the reservations of this network namespace that sameport added.
fn unreserve(record: &GuardRecord, here: &GuardOrigin) -> Result<(), Error> {
    let ours = record.reserved(here.network);
    if ours.is_empty() || record.boot != here.boot {
        return Ok(());
    }
    let now = guard::reserved().map_err(Error::Reserve)?;
    guard::reserve(&plan(&now, &ours, &BTreeSet::new()).reserved).map_err(Error::Reserve)
}

fn require_root() -> Result<(), Error> {
    if sameport_sys::effective_user() == 0 { Ok(()) } else { Err(Error::NotRoot) }
}

fn here() -> Result<GuardOrigin, Error> {
    guards::here().map_err(Error::Look)
}
